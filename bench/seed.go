package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/seed"
	"github.com/skerry-sync/skerry/ticket"
)

// SeedLoad says what a seed is to bear.
type SeedLoad struct {
	Command    string        // the program whose "seed serve" is measured, in a process of its own
	Registered int           // replicas that are registered and at rest
	Devices    int           // connected at once, each with a replica of its own
	Every      time.Duration // each sets an entry and runs a session this often
	Time       time.Duration // how long
	Wakes      int           // how often a device that slept comes back
}

// SeedResult is the outcome of Seed.
type SeedResult struct {
	Registered       int     `json:"registered"`
	RegisteredSecond float64 `json:"registered_per_s"`
	EmptyMiB         float64 `json:"empty_rss_mib"` // a seed without registrations
	FullMiB          float64 `json:"full_rss_mib"`  // with them, after a look at some
	// likewise, with a tenth of them: what is cached has reached its size
	TenthMiB  float64 `json:"tenth_rss_mib"`
	BytesEach float64 `json:"rss_bytes_each"` // for each of the others
	// a session for a registered replica, there and back
	FoundMillis    float64 `json:"found_median_ms"`
	FoundP99Millis float64 `json:"found_p99_ms"`
	// both take a fixed time, by which nobody can tell them apart
	NoneMillis float64 `json:"not_found_median_ms"`

	Devices    int     `json:"devices"`
	Sessions   int64   `json:"sessions"`
	Failed     int64   `json:"sessions_failed"`
	Missing    int     `json:"entries_missing"` // at the seed, at the end
	Cores      float64 `json:"seed_cores"`
	PeakMiB    float64 `json:"seed_peak_rss_mib"`
	SessionMS  float64 `json:"session_median_ms"`
	SessionP99 float64 `json:"session_p99_ms"`

	// from the start of a node to the content of what was written meanwhile
	WakeMillis      float64 `json:"wake_median_ms"`
	WakeWorstMillis float64 `json:"wake_worst_ms"`
}

// Seed measures a seed in a process of its own. It needs Linux's /proc.
func Seed(ctx context.Context, cfg Config, load SeedLoad) (res SeedResult, err error) {
	dir, remove, err := workDir(cfg)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	res.Registered, res.Devices = load.Registered, load.Devices
	at := filepath.Join(dir, "seed")
	empty, err := startSeed(ctx, load.Command, filepath.Join(dir, "empty"))
	if err != nil {
		return res, err
	}
	rest(ctx, 2*time.Second)
	_, res.EmptyMiB, err = empty.usage()
	if err = errors.Join(err, empty.stop()); err != nil {
		return res, err
	}
	var some []replica.ID
	tenth := load.Registered / 10
	if tenth > 0 {
		if some, err = fillSeed(ctx, cfg, at, tenth, &res); err != nil {
			return res, err
		}
		s, err := startSeed(ctx, load.Command, at)
		if err != nil {
			return res, err
		}
		err = lookAt(ctx, filepath.Join(dir, "asking first"), s, some, &res)
		if err == nil {
			_, res.TenthMiB, err = s.usage()
		}
		if err = errors.Join(err, s.stop()); err != nil {
			return res, err
		}
		if some, err = fillSeed(ctx, cfg, at, load.Registered-tenth, &res); err != nil {
			return res, err
		}
	}
	s, err := startSeed(ctx, load.Command, at)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if len(some) > 0 {
		if err := lookAt(ctx, filepath.Join(dir, "asking"), s, some, &res); err != nil {
			return res, err
		}
		if _, res.FullMiB, err = s.usage(); err != nil {
			return res, err
		}
		res.BytesEach = (res.FullMiB - res.TenthMiB) * (1 << 20) / float64(load.Registered-tenth)
	}
	if load.Devices > 0 {
		if err := bearDevices(ctx, cfg, dir, s, load, &res); err != nil {
			return res, err
		}
	}
	if load.Wakes > 0 {
		err = wakes(ctx, dir, s, load.Wakes, &res)
	}
	return res, err
}

// seedProcess is a running seed.
type seedProcess struct {
	cmd  *exec.Cmd
	at   peer.AddrInfo
	done chan error
}

func startSeed(ctx context.Context, command, dir string) (*seedProcess, error) {
	cmd := exec.CommandContext(
		ctx, command, "--dir", dir, "--json", "seed", "serve", "--no-discovery", "--no-console",
		"--listen", "/ip4/127.0.0.1/tcp/0", "--replicas", "1000000", "--quota", "1TiB",
	)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a seed: %w", err)
	}
	s := &seedProcess{cmd: cmd, done: make(chan error, 1)}
	lines := bufio.NewScanner(out)
	var ready struct {
		Addrs []string `json:"addrs"`
	}
	if !lines.Scan() {
		return nil, errors.Join(errors.New("start a seed: it ended at once"), cmd.Wait())
	}
	err = json.Unmarshal(lines.Bytes(), &ready)
	go func() {
		for lines.Scan() { // it must not wait for a reader
		}
		s.done <- cmd.Wait()
	}()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a seed: %w", err), s.stop())
	}
	var addrs []ma.Multiaddr
	for _, text := range ready.Addrs {
		m, err := ma.NewMultiaddr(text)
		if err != nil {
			return nil, errors.Join(err, s.stop())
		}
		addrs = append(addrs, m)
	}
	s.at = (&ticket.Blob{Addrs: addrs}).Peers()[0]
	return s, nil
}

func (s *seedProcess) stop() error {
	err := s.cmd.Process.Signal(syscall.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	return errors.Join(err, <-s.done)
}

// usage returns the processor time that the seed has used, and the MiB that it has in memory.
func (s *seedProcess) usage() (cpu time.Duration, mib float64, err error) {
	at := func(name string) string { return fmt.Sprintf("/proc/%d/%s", s.cmd.Process.Pid, name) }
	stat, err := os.ReadFile(at("stat"))
	if err != nil {
		return 0, 0, fmt.Errorf("usage of the seed (this needs Linux): %w", err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 22 {
		return 0, 0, errors.New("usage of the seed: /proc is not as expected")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	pages, err3 := strconv.ParseInt(fields[21], 10, 64)
	const tick = 10 * time.Millisecond // USER_HZ is 100 wherever Go runs
	return time.Duration(user+system) * tick, float64(pages) * float64(
		os.Getpagesize(),
	) / (1 << 20), errors.Join(err1, err2, err3)
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// fillSeed registers replicas as requests would, ten for each identity, without their signatures;
// and returns some of them.
func fillSeed(
	ctx context.Context, cfg Config, dir string, count int, res *SeedResult,
) (some []replica.ID, err error) {
	cfg.Note("registering %d replicas", count)
	limits := seed.DefaultLimits
	reg := seed.NewRegistry(limits, nil)
	n, err := node.Open(ctx, node.Config{Dir: dir, Host: reg})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	start := time.Now()
	const each = 10
	work, workCtx := errgroup.WithContext(ctx)
	work.SetLimit(256) // they share what is waited for: the disk
	for first := 0; first < count && workCtx.Err() == nil; first += each {
		var who identity.ID
		var device [32]byte
		_, _ = rand.Read(who[:]) // never fails
		_, _ = rand.Read(device[:])
		secret := replica.NewSecretKey()
		if first%max(each, count/1000/each*each) == 0 {
			some = append(some, secret.Replica())
		}
		work.Go(func() error {
			for i := range min(each, count-first) {
				id := secret.Replica()
				if i > 0 {
					_, _ = rand.Read(id[:])
				}
				addr, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/127.0.0.1/tcp/1/p2p/%s", peerOf(device)))
				if err != nil {
					return err
				}
				t := &ticket.Doc{Capability: replica.Sync, Replica: id, Addrs: []ma.Multiaddr{addr}}
				text, err := t.Text()
				if err != nil {
					return err
				}
				_, err = reg.RegisterFrom(workCtx, n.Store(), who, id, text, "", "", time.Now())
				if err != nil {
					return err
				}
				if _, err := n.Keep(workCtx, t, "seed-"+id.String()[:20]); err != nil {
					return err
				}
				if err := reg.Charged(workCtx, n.Store(), id); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	res.RegisteredSecond = float64(count) / time.Since(start).Seconds()
	return some, nil
}

// peerOf is the id of a peer with an Ed25519 key.
func peerOf(key [32]byte) peer.ID {
	return peer.ID(append([]byte{0x00, 0x24, 0x08, 0x01, 0x12, 0x20}, key[:]...))
}

// maxNone is how often the seed is asked for what it does not have: who asks for too much of that
// is not answered.
const maxNone = 256

// lookAt asks the seed for registered replicas, and for others.
func lookAt(
	ctx context.Context, dir string, s *seedProcess, some []replica.ID, res *SeedResult,
) (err error) {
	n, err := online(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	ask := func(id replica.ID) (time.Duration, error) {
		r, err := n.Keep(ctx, &ticket.Doc{Replica: id, Capability: replica.Sync}, "")
		if err == nil {
			err = n.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{s.at})
		}
		if err != nil {
			return 0, err
		}
		start := time.Now()
		got, err := n.SyncNow(ctx, id, s.at.ID, nil)
		took := time.Since(start)
		if err == nil && len(got) == 1 {
			err = got[0].Err
		}
		return took, err
	}
	var found, none []time.Duration
	for i, id := range some {
		d, err := ask(id)
		if err != nil {
			return fmt.Errorf("a registered replica: %w", err)
		}
		if i > 0 { // with the first, a connection is made
			found = append(found, d)
		}
		if i >= maxNone {
			continue
		}
		var other replica.ID
		_, _ = rand.Read(other[:]) // never fails
		e, err := ask(other)
		if !errors.Is(err, contacts.ErrNotShared) {
			return fmt.Errorf("a replica that is not registered was answered: %w", err)
		}
		none = append(none, e)
	}
	res.FoundMillis, res.FoundP99Millis = quantile(found, 0.5), quantile(found, 0.99)
	res.NoneMillis = quantile(none, 0.5)
	return nil
}

// quantile is in milliseconds; the slice is sorted by it.
func quantile(all []time.Duration, q float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return float64(all[min(len(all)-1, int(q*float64(len(all))))].Microseconds()) / 1000
}
