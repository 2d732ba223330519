// Package metrics shows what a node, and a seed upon it, count, in the form that Prometheus reads
// (text exposition format 0.0.4). deploy/grafana.json shows them to people.
//
// What belongs here: names of metrics, and how they are served. What never belongs here: counting
// itself, which is done where things happen.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/skerry-sync/skerry/internal/netaddr"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/session"
)

// Totals cost time that grows with what the node holds, so they are counted in the background: this
// often, and at most a fiftieth of the time.
const (
	totalsEvery = time.Minute
	totalsShare = 50
)

// NewRegistry returns a registry with the metrics of the process: go_* and process_*.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}

// Node collects what a node counts.
type Node struct {
	n *node.Node

	mu      sync.Mutex
	totals  node.Totals
	counted bool
}

var _ prometheus.Collector = (*Node)(nil)

// NewNode returns a collector for n. Totals are shown once Count has run.
func NewNode(n *node.Node) *Node { return &Node{n: n} }

type desc struct {
	*prometheus.Desc
	kind prometheus.ValueType
}

func newDesc(kind prometheus.ValueType, name, help string, labels ...string) desc {
	return desc{prometheus.NewDesc("skerry_"+name, help, labels, nil), kind}
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

var (
	peers    = newDesc(gauge, "peers", "Connected peers.", "transport")
	sessions = newDesc(
		counter, "sessions_total", "Sync sessions that have ended.", "began_by", "outcome",
	)
	sessionSeconds = newDesc(
		counter, "session_seconds_total", "Time that the sessions took which were done.", "began_by",
	)
	syncBytes    = newDesc(counter, "sync_bytes_total", "Bytes of reconciliation.", "direction")
	contentBytes = newDesc(
		counter, "content_bytes_total", "Bytes of the blob protocol.", "direction",
	)
	entriesMoved = newDesc(
		counter, "entries_total", "Entries that sessions have moved.", "direction",
	)
	entriesLost = newDesc(
		counter, "entries_lost_total", "Entries that peers had had before and lacked in a later session.",
	)
	failures = newDesc(
		counter, "verification_failures_total", "Peers found to have sent what did not verify.", "what",
	)
	misses = newDesc(
		counter, "lookup_misses_total", "Lookups of replicas that are not held here.",
	)
	announced = newDesc(
		counter, "announcements_total", "Announcements of replicas in the hash table.",
	)
	searches = newDesc(
		counter, "searches_total", "Searches for holders of replicas in the hash table.",
	)
	falseClaims = newDesc(
		counter, "false_claims_total", "Peers that claimed there to hold a replica and did not.",
	)
	queues     = newDesc(gauge, "queue_length", "What is being worked on, or waits.", "queue")
	tableNodes = newDesc(gauge, "hash_table_nodes", "Nodes of the hash table that are known.")
	reachable  = newDesc(
		gauge, "reachable", "Whether others have been seen to reach this node directly.",
	)
	relayPlaces = newDesc(
		gauge, "relay_addresses", "Addresses at relays through which this node is reached.",
	)
	topics       = newDesc(gauge, "active_topics", "Replicas whose topics this node listens to.")
	storageBytes = newDesc(gauge, "storage_bytes", "Bytes of content files on the disk.")
	replicas     = newDesc(gauge, "replicas", "Replicas that are held.")
	entriesHeld  = newDesc(gauge, "entries", "Entries in them.")
	blobs        = newDesc(gauge, "blobs", "Blobs in the store.", "state")
	blobBytes    = newDesc(gauge, "blob_bytes", "Bytes of content in the store.")
	wanted       = newDesc(
		gauge, "wanted_content", "Pieces of content that entries point at and that are not here yet.",
	)
)

var all = []desc{
	peers, sessions, sessionSeconds, syncBytes, contentBytes, entriesMoved, entriesLost, failures,
	misses, announced, searches, falseClaims, queues, tableNodes, reachable, relayPlaces, topics,
	storageBytes, replicas, entriesHeld, blobs, blobBytes, wanted,
}

// Describe implements prometheus.Collector.
func (c *Node) Describe(out chan<- *prometheus.Desc) {
	for _, d := range all {
		out <- d.Desc
	}
}

// Collect implements prometheus.Collector.
func (c *Node) Collect(out chan<- prometheus.Metric) {
	put := func(d desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d.Desc, d.kind, v, labels...)
	}
	s := c.n.Stats()
	for transport, count := range s.Peers {
		put(peers, float64(count), transport)
	}
	for by, x := range map[string]session.Outcomes{"this_node": s.Began, "peer": s.Asked} {
		for outcome, count := range x.Ended {
			put(sessions, float64(count), by, outcome)
		}
		put(sessionSeconds, x.Time.Seconds(), by)
	}
	for _, x := range []struct {
		d              desc
		sent, received uint64
	}{
		{syncBytes, s.SyncSent, s.SyncReceived}, {contentBytes, s.ContentSent, s.ContentGot},
		{entriesMoved, s.EntriesSent, s.EntriesGot},
	} {
		put(x.d, float64(x.sent), "sent")
		put(x.d, float64(x.received), "received")
	}
	put(entriesLost, float64(s.EntriesLost))
	put(failures, float64(s.WrongContent), "content")
	put(failures, float64(s.WrongEntries), "entries")
	put(misses, float64(s.Misses))
	put(announced, float64(s.Announced))
	put(searches, float64(s.Searches))
	put(falseClaims, float64(s.FalseClaims))
	for queue, length := range s.Queues {
		put(queues, float64(length), queue)
	}
	put(tableNodes, float64(s.TableSize))
	is := 0.0
	if s.Reachable {
		is = 1
	}
	put(reachable, is)
	put(relayPlaces, float64(s.RelayedPlaces))
	put(topics, float64(s.ActiveTopics))
	put(storageBytes, float64(s.StorageUsed))
	c.mu.Lock()
	t, counted := c.totals, c.counted
	c.mu.Unlock()
	if !counted {
		return
	}
	put(replicas, float64(t.Replicas))
	put(entriesHeld, float64(t.Entries))
	put(blobs, float64(t.Blobs), "complete")
	put(blobs, float64(t.PartialBlobs), "partial")
	put(blobBytes, float64(t.BlobBytes))
	put(wanted, float64(t.Wanted))
}

// Count counts the totals, once.
func (c *Node) Count(ctx context.Context) error {
	t, err := c.n.Totals(ctx)
	if err != nil {
		return fmt.Errorf("count what the node holds: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.totals, c.counted = t, true
	return nil
}

// Run counts the totals again and again, until ctx ends.
func (c *Node) Run(ctx context.Context, log *slog.Logger) {
	for {
		start := time.Now()
		if err := c.Count(ctx); err != nil && ctx.Err() == nil {
			log.Warn("metrics", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(totalsEvery, totalsShare*time.Since(start))):
		}
	}
}

// Listener serves metrics over HTTP.
type Listener struct {
	URL  string // of the metrics
	srv  *http.Server
	stop context.CancelFunc
	work sync.WaitGroup
	err  error
}

// Listen serves what a registry collects, and those of a node, at an address; a port alone is on
// the loopback interface.
func Listen(
	ctx context.Context, r *prometheus.Registry, n *node.Node, addr string, log *slog.Logger,
) (*Listener, error) {
	if !strings.Contains(addr, ":") {
		addr = ":" + addr
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("metrics address %q: %w", addr, err)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	c := NewNode(n)
	if err := r.Register(c); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle(
		"GET /metrics",
		promhttp.HandlerFor(
			r,
			promhttp.HandlerOpts{
				ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), MaxRequestsInFlight: 4,
			},
		),
	)
	l := &Listener{URL: "http://" + ln.Addr().String() + "/metrics"}
	l.srv = &http.Server{
		Handler: netaddr.Local(ln.Addr(), mux), ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	ctx, l.stop = context.WithCancel(ctx)
	l.work.Go(func() { l.err = l.srv.Serve(netaddr.Limit(ln, netaddr.MaxScrapeConns)) })
	l.work.Go(func() { c.Run(ctx, log) })
	return l, nil
}

// Close ends all requests and waits for what runs.
func (l *Listener) Close() error {
	l.stop()
	err := l.srv.Close()
	if l.work.Wait(); !errors.Is(l.err, http.ErrServerClosed) {
		err = errors.Join(err, l.err)
	}
	return err
}
