package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/seed"
	"github.com/skerry-sync/skerry/ticket"
	"github.com/skerry-sync/skerry/vault"
)

// device is a node with a replica that is registered at a seed.
type device struct {
	n      *node.Node
	r      replica.Replica
	author replica.SecretKey
	count  int
}

func newDevice(
	ctx context.Context, dir string, opt pebble.Options, s *seedProcess,
) (d *device, err error) {
	n, err := onlineWith(ctx, node.Config{Dir: dir, Store: opt})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	r, err := n.CreateReplica(ctx, "mine", true)
	if err != nil {
		return nil, err
	}
	author, err := n.Authors().DefaultKey(ctx)
	if err != nil {
		return nil, err
	}
	key, err := identity.NewKey(identity.Wallet)
	if err != nil {
		return nil, err
	}
	t, err := n.Ticket(ctx, r, replica.Sync)
	if err != nil {
		return nil, err
	}
	text, err := t.Text()
	if err != nil {
		return nil, err
	}
	sign := func(what vault.ToSign) (vault.Signed, error) {
		m, err := what.Message(identity.IDOf(key.Public(), key.Nonce()))
		if err != nil {
			return vault.Signed{}, err
		}
		sig, err := key.Sign(m)
		return vault.Signed{Signature: sig, Nonce: key.Nonce()}, err
	}
	who := identity.IDOf(key.Public(), key.Nonce())
	req, err := seed.NewRegister(who, s.at.ID.String(), r.ID, text, n.ID().String(), time.Now(), sign)
	if err != nil {
		return nil, err
	}
	if _, err := (seed.Client{Node: n, At: s.at}).Register(ctx, req); err != nil {
		return nil, err
	}
	return &device{n: n, r: r, author: author}, n.AddSeed(ctx, r.ID, s.at)
}

// set writes an entry with some content.
func (d *device) set(ctx context.Context) error {
	d.count++
	_, err := d.n.ReplicaOf(d.r.ID).Apply(ctx, node.WriteOptions{As: d.author}, node.Change{
		Key:   fmt.Appendf(nil, "entry %d", d.count),
		Value: fmt.Appendf(nil, "the value of entry %d on device %s", d.count, d.n.ID()),
	})
	return err
}

// bearDevices connects devices and has each set an entry and run a session at intervals.
func bearDevices(
	ctx context.Context, cfg Config, dir string, s *seedProcess, load SeedLoad, res *SeedResult,
) (err error) {
	cfg.Note("connecting %d devices", load.Devices)
	devices := make([]*device, load.Devices)
	defer func() {
		for _, d := range devices {
			if d != nil {
				err = errors.Join(err, d.n.Close())
			}
		}
	}()
	joining, joinCtx := errgroup.WithContext(ctx)
	joining.SetLimit(8)
	for i := range devices {
		joining.Go(func() (err error) {
			devices[i], err = newDevice(
				joinCtx, filepath.Join(dir, fmt.Sprint("device", i)), pebble.Options{FS: vfs.NewMem()}, s,
			)
			return err
		})
	}
	if err := joining.Wait(); err != nil {
		return err
	}
	rest(ctx, 5*time.Second)
	runtime.GC()
	cfg.Note("each sets an entry and runs a session every %s, for %s", load.Every, load.Time)
	before, _, err := s.usage()
	if err != nil {
		return err
	}
	var failed, sessions atomic.Int64
	times := make([][]time.Duration, len(devices))
	start := time.Now()
	var work errgroup.Group
	for i, d := range devices {
		work.Go(func() error {
			for at := load.Every * time.Duration(i) / time.Duration(len(devices)); at < load.Time &&
				ctx.Err() == nil; at += load.Every {
				rest(ctx, time.Until(start.Add(at)))
				if err := d.set(ctx); err != nil {
					return err
				}
				began := time.Now()
				got, err := d.n.SyncNow(ctx, d.r.ID, s.at.ID, nil)
				times[i] = append(times[i], time.Since(began))
				sessions.Add(1)
				if err == nil && len(got) == 1 {
					err = got[0].Err
				}
				if err != nil {
					failed.Add(1)
					cfg.Note("device %d: %v", i, err)
				}
			}
			return nil
		})
	}
	peak := make(chan float64, 1)
	watching, stop := context.WithCancel(ctx)
	go func() {
		most := 0.0
		for watching.Err() == nil {
			if _, mib, err := s.usage(); err == nil {
				most = max(most, mib)
			}
			rest(watching, 500*time.Millisecond)
		}
		peak <- most
	}()
	err = work.Wait()
	stop()
	res.PeakMiB = <-peak
	if err != nil {
		return err
	}
	after, _, err := s.usage()
	if err != nil {
		return err
	}
	res.Cores = (after - before).Seconds() / time.Since(start).Seconds()
	res.Sessions, res.Failed = sessions.Load(), failed.Load()
	all := slices.Concat(times...)
	res.SessionMS, res.SessionP99 = quantile(all, 0.5), quantile(all, 0.99)
	// A device that has nothing must get all of it from the seed: of ten, all of the content.
	for i := 0; i < len(devices); i += max(1, len(devices)/10) {
		if err := devices[i].n.Blobs().Sync(ctx); err != nil {
			return err
		}
		missing, err := devices[i].missingAt(ctx, filepath.Join(dir, fmt.Sprint("check", i)), s)
		if err != nil {
			return err
		}
		res.Missing += missing
	}
	return nil
}

// missingAt counts what a new device, with the seed alone, does not get.
func (d *device) missingAt(
	ctx context.Context, dir string, s *seedProcess,
) (missing int, err error) {
	n, err := online(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, n.Close(), os.RemoveAll(dir)) }()
	addrs, err := peer.AddrInfoToP2pAddrs(&s.at)
	if err != nil {
		return 0, err
	}
	if _, err := n.Join(
		ctx, &ticket.Doc{Capability: replica.Sync, Replica: d.r.ID, Addrs: addrs}, "r",
	); err != nil {
		return 0, err
	}
	missing = d.count
	for e, err := range n.Replicas().Entries(ctx, d.r.ID, replica.Query{}) {
		if err != nil {
			return 0, err
		}
		waiting, cancel := context.WithTimeout(ctx, 20*time.Second)
		err = n.WaitContent(waiting, e.Hash, e.Size)
		cancel()
		if err == nil {
			missing--
		}
	}
	return missing, ctx.Err()
}

// wakes has a device sleep while another writes, and comes back.
func wakes(
	ctx context.Context, dir string, s *seedProcess, times int, res *SeedResult,
) (err error) {
	writer, err := newDevice(ctx, filepath.Join(dir, "writer"), pebble.Options{}, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, writer.n.Close()) }()
	t, err := writer.n.Ticket(ctx, writer.r, replica.Write)
	if err != nil {
		return err
	}
	addrs, err := peer.AddrInfoToP2pAddrs(&s.at)
	if err != nil {
		return err
	}
	t.Addrs = addrs // the seed alone
	at := filepath.Join(dir, "sleeper")
	var all []time.Duration
	for i := range times + 1 {
		for range 10 {
			if err := writer.set(ctx); err != nil {
				return err
			}
		}
		if _, err := writer.n.SyncNow(ctx, writer.r.ID, s.at.ID, nil); err != nil {
			return err
		}
		rest(ctx, 500*time.Millisecond) // the seed fetches the content
		start := time.Now()
		n, err := online(ctx, at)
		if err != nil {
			return err
		}
		if i == 0 {
			_, err = n.Join(ctx, t, "r")
		}
		for limit := start.Add(time.Minute); err == nil; {
			var have int
			if have, err = complete(ctx, n, writer.r.ID); err != nil || have == writer.count {
				break
			}
			if err = wait(ctx, limit); err != nil {
				err = fmt.Errorf("%d of %d entries: %w", have, writer.count, err)
			}
		}
		took := time.Since(start)
		if err = errors.Join(err, n.Close()); err != nil {
			return err
		}
		if i > 0 {
			all = append(all, took)
		}
	}
	res.WakeMillis, res.WakeWorstMillis = quantile(all, 0.5), quantile(all, 1)
	return nil
}

// complete counts the entries whose content is there.
func complete(ctx context.Context, n *node.Node, id replica.ID) (count int, err error) {
	for e, err := range n.Replicas().Entries(ctx, id, replica.Query{}) {
		if err != nil {
			return count, err
		}
		ok, err := n.Blobs().Has(ctx, e.Hash)
		if err != nil {
			return count, err
		}
		if ok {
			count++
		}
	}
	return count, nil
}
