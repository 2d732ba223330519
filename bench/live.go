package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// group is some nodes in this process, each connected to all others.
type group []*node.Node

func newGroup(ctx context.Context, dir string, size int) (g group, err error) {
	for i := range size {
		n, err := online(ctx, filepath.Join(dir, fmt.Sprint("member", i)))
		if err != nil {
			return nil, errors.Join(err, g.close())
		}
		g = append(g, n)
	}
	return g, nil
}

func (g group) close() (err error) {
	for _, n := range g {
		err = errors.Join(err, n.Close())
	}
	return err
}

// LiveResult is the outcome of Live.
type LiveResult struct {
	Nodes        int     `json:"nodes"`
	Samples      int     `json:"samples"`
	MedianMillis float64 `json:"median_ms"` // from set to stored, verified, at one of the others
	LastMillis   float64 `json:"last_median_ms"`
	P99Millis    float64 `json:"p99_ms"`
}

// withGroup gives fn some nodes, and removes them afterwards.
func withGroup(ctx context.Context, cfg Config, nodes int, fn func(g group) error) (err error) {
	dir, remove, err := workDir(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	g, err := newGroup(ctx, dir, nodes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	return fn(g)
}

// Live times entries from set to stored at each of the other nodes, which are all connected.
func Live(ctx context.Context, cfg Config, nodes int) (res LiveResult, err error) {
	err = withGroup(ctx, cfg, nodes, func(g group) error {
		res, err = spread(ctx, cfg, g)
		return err
	})
	return res, err
}

func spread(ctx context.Context, cfg Config, g group) (res LiveResult, err error) {
	nodes := len(g)
	r, err := g[0].CreateReplica(ctx, "bench", false)
	if err != nil {
		return res, err
	}
	for i, n := range g {
		for _, to := range g[:i] {
			t, err := to.Ticket(ctx, r, replica.Write)
			if err != nil {
				return res, err
			}
			if _, err := n.Join(ctx, t, "bench"); err != nil {
				return res, err
			}
		}
	}
	const samples = 200
	cfg.Note("timing %d entries from set to stored at %d peers", samples, nodes-1)
	value := newShortValue("value")
	as := node.WriteOptions{As: replica.NewSecretKey()}
	var subs []*replica.Subscription
	for _, n := range g[1:] {
		sub := n.Replicas().Subscribe(r.ID)
		defer sub.Close()
		subs = append(subs, sub)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	var each, last []time.Duration
	const warmUp = 20
	for i := range samples + warmUp {
		key := fmt.Appendf(nil, "live/%d", i)
		start := time.Now()
		if _, err := g[0].ReplicaOf(r.ID).Apply(ctx, as, value.at(key)); err != nil {
			return res, err
		}
		times := make(chan time.Duration, len(subs))
		failed := make(chan error, len(subs))
		for _, sub := range subs {
			go func() {
				for {
					events, _, err := sub.Next(ctx)
					if err != nil {
						failed <- fmt.Errorf("a live entry did not arrive: %w", err)
						return
					}
					if slices.ContainsFunc(events, func(e replica.Event) bool {
						return string(e.Entry.Key) == string(key)
					}) {
						times <- time.Since(start)
						return
					}
				}
			}()
		}
		var slowest time.Duration
		for range subs {
			select {
			case t := <-times:
				if slowest = max(slowest, t); i >= warmUp {
					each = append(each, t)
				}
			case err := <-failed:
				return res, err
			}
		}
		if i >= warmUp {
			last = append(last, slowest)
		}
	}
	slices.Sort(each)
	slices.Sort(last)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return LiveResult{
		nodes, samples, ms(each[len(each)/2]), ms(last[len(last)/2]), ms(each[len(each)*99/100]),
	}, nil
}

// IdleResult is the outcome of Idle.
type IdleResult struct {
	Nodes      int     `json:"nodes"`
	Replicas   int     `json:"replicas"`
	Seconds    float64 `json:"seconds"`
	CPUPercent float64 `json:"cpu_percent"`  // of one core, all nodes together
	PerNode    float64 `json:"node_percent"` // of one core, each
	HeapMiB    float64 `json:"heap_mib"`     // in use after a collection, all nodes together
	// from the first connection until all know that they hold the same
	SetupMillis float64 `json:"compare_ms"`
	FirstCPU    float64 `json:"first_seconds"` // CPU seconds of that
}

// Idle makes nodes that all hold the same replicas, and measures what they use of the processors
// while nothing happens.
func Idle(
	ctx context.Context, cfg Config, nodes, replicas int, wait time.Duration,
) (res IdleResult, err error) {
	err = withGroup(ctx, cfg, nodes, func(g group) error {
		res, err = idle(ctx, cfg, g, replicas, wait)
		return err
	})
	return res, err
}

func idle(
	ctx context.Context, cfg Config, g group, replicas int, wait time.Duration,
) (res IdleResult, err error) {
	nodes := len(g)
	cfg.Note("making %d replicas at %d nodes", replicas, nodes)
	keys := make([]replica.SecretKey, replicas)
	ids := make([]replica.ID, replicas)
	for i := range keys {
		keys[i] = replica.NewSecretKey()
		ids[i] = keys[i].Replica()
	}
	var joining errgroup.Group
	for _, n := range g {
		joining.Go(func() error {
			for i, key := range keys {
				doc := &ticket.Doc{Replica: ids[i], Capability: replica.Write, Secret: key}
				if _, err := n.Keep(ctx, doc, fmt.Sprint("r", i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := joining.Wait(); err != nil {
		return res, err
	}
	start, cpu := time.Now(), cpuTime()
	for _, n := range g {
		var others []peer.AddrInfo
		for _, to := range g {
			if to != n {
				others = append(others, (&ticket.Blob{Addrs: to.Addrs()}).Peers()...)
			}
		}
		if err := n.Remember(ctx, ids, others); err != nil {
			return res, err
		}
	}
	for {
		known := 0
		for _, n := range g {
			known += n.Sharing()
		}
		if known == nodes*(nodes-1)*replicas {
			break
		}
		select {
		case <-ctx.Done():
			return res, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if time.Since(start) > 5*time.Minute {
			return res, fmt.Errorf(
				"only %d of %d shared replicas are known after five minutes", known, nodes*(nodes-1)*replicas,
			)
		}
	}
	res.SetupMillis, res.FirstCPU = float64(time.Since(start).Milliseconds()), seconds(cpuTime()-cpu)
	runtime.GC()
	cfg.Note("doing nothing for %s", wait)
	start, cpu = time.Now(), cpuTime()
	select {
	case <-ctx.Done():
		return res, ctx.Err()
	case <-time.After(wait):
	}
	used, took := cpuTime()-cpu, time.Since(start)
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	res.Nodes, res.Replicas, res.Seconds = nodes, replicas, seconds(took)
	res.CPUPercent = 100 * used.Seconds() / took.Seconds()
	res.PerNode, res.HeapMiB = res.CPUPercent/float64(nodes), float64(mem.HeapAlloc>>20)
	return res, nil
}
