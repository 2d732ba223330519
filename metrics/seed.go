package metrics

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-sync/skerry/seed"
)

var (
	seedRequests = newDesc(
		counter, "seed_requests_total", "Requests to the seed that have been answered.", "op", "code",
	)
	seedRegistrations = newDesc(gauge, "seed_registrations", "Registrations of replicas.", "state")
	seedIdentities    = newDesc(gauge, "seed_identities", "Identities that have used the seed.")
	seedBytes         = newDesc(gauge, "seed_charged_bytes", "Bytes charged to identities, together.")
)

// loadEvery is how old what is shown of a seed's load may be, and loadTime how long a count of it
// may take before the last one is shown again.
const (
	loadEvery = time.Minute
	loadTime  = 5 * time.Second
)

// Seed collects what a seed counts.
type Seed struct {
	s *seed.Seed

	mu      sync.Mutex
	load    seed.Load
	counted bool // load has been counted: nothing is shown of what is not known
	next    time.Time
}

var _ prometheus.Collector = (*Seed)(nil)

// NewSeed returns a collector for s.
func NewSeed(s *seed.Seed) *Seed { return &Seed{s: s} }

// Describe implements prometheus.Collector.
func (c *Seed) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []desc{seedRequests, seedRegistrations, seedIdentities, seedBytes} {
		out <- d.Desc
	}
}

// Collect implements prometheus.Collector.
func (c *Seed) Collect(out chan<- prometheus.Metric) {
	put := func(d desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d.Desc, d.kind, v, labels...)
	}
	for asked, count := range c.s.Requests() {
		code := string(asked.Code)
		if code == "" {
			code = "OK"
		}
		put(seedRequests, float64(count), asked.Op, code)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if start := time.Now(); start.After(c.next) {
		ctx, cancel := context.WithTimeout(context.Background(), loadTime)
		l, err := c.s.Load(ctx)
		cancel()
		if err == nil {
			c.load, c.counted = l, true
		}
		c.next = start.Add(max(loadEvery, totalsShare*time.Since(start)))
	}
	if !c.counted {
		return
	}
	put(seedRegistrations, float64(c.load.Registrations-c.load.Ended), "kept")
	put(seedRegistrations, float64(c.load.Ended), "grace")
	put(seedIdentities, float64(c.load.Identities))
	put(seedBytes, float64(c.load.Bytes))
}
