// Package meter shows what a server of collections counts, in the form that Prometheus reads.
//
// What belongs here: names of metrics. What never belongs here: counting itself, which is done
// where things happen, and serving the metrics, which is done with those of the node.
package meter

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/queue"
	"github.com/skerry-sync/skerry/collections/remote"
)

// Meter collects what a server counts. Its methods may be called by several goroutines at once.
type Meter struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	// Queue and Remotes, unless nil, tell of the queue of writes and of other servers.
	Queue   func() queue.Stats
	Remotes func() []remote.Status
}

var _ prometheus.Collector = (*Meter)(nil)

// New returns a Meter, whose Observe a server must be given.
func New() *Meter {
	return &Meter{
		requests: prometheus.NewCounterVec(
			prometheus.CounterOpts{
				Name: "skerry_collections_requests_total", Help: "Requests that were answered.",
			},
			[]string{"collection", "action", "status"},
		),
		seconds: prometheus.NewHistogramVec(
			prometheus.HistogramOpts{
				Name: "skerry_collections_request_seconds", Help: "Time that answering took.",
				Buckets: []float64{.0001, .0003, .001, .003, .01, .03, .1, .3, 1, 3, 10},
			}, []string{"action"},
		),
	}
}

// Observe counts a request.
func (m *Meter) Observe(o *collections.Observation) {
	name, action := "", o.Action
	if o.Collection != nil {
		if name = o.Collection.Name; o.Collection.Namespace != "" {
			name = o.Collection.Namespace + "/" + name
		}
	}
	if action == "" {
		action = "other"
	}
	m.requests.WithLabelValues(name, action, strconv.Itoa(o.Status)).Inc()
	m.seconds.WithLabelValues(action).Observe(o.Took.Seconds())
}

var (
	queueMessages = prometheus.NewDesc(
		"skerry_collections_queue_messages_total", "Writes that were to be announced.",
		[]string{"outcome"}, nil,
	)
	queueWaiting = prometheus.NewDesc(
		"skerry_collections_queue_waiting", "Writes that wait to be announced.", nil, nil,
	)
	remoteSynced = prometheus.NewDesc(
		"skerry_collections_remote_synced_seconds",
		"When a collection was last in step with the other server, in Unix seconds.",
		[]string{"collection"}, nil,
	)
	remoteFailing = prometheus.NewDesc(
		"skerry_collections_remote_failing", "Whether the last sync with the other server failed.",
		[]string{"collection"}, nil,
	)
)

// Describe implements prometheus.Collector.
func (m *Meter) Describe(to chan<- *prometheus.Desc) {
	m.requests.Describe(to)
	m.seconds.Describe(to)
	for _, d := range []*prometheus.Desc{queueMessages, queueWaiting, remoteSynced, remoteFailing} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Meter) Collect(to chan<- prometheus.Metric) {
	m.requests.Collect(to)
	m.seconds.Collect(to)
	if m.Queue != nil {
		s := m.Queue()
		for outcome, n := range map[string]int64{
			"published": s.Published, "failed": s.Failed, "dropped": s.Dropped,
		} {
			to <- prometheus.MustNewConstMetric(queueMessages, prometheus.CounterValue, float64(n), outcome)
		}
		to <- prometheus.MustNewConstMetric(queueWaiting, prometheus.GaugeValue, float64(s.Waiting))
	}
	if m.Remotes == nil {
		return
	}
	for _, r := range m.Remotes() {
		synced, failing := 0.0, 0.0
		if !r.Synced.IsZero() {
			synced = float64(r.Synced.UnixMilli()) / 1000
		}
		if r.Err != nil {
			failing = 1
		}
		to <- prometheus.MustNewConstMetric(remoteSynced, prometheus.GaugeValue, synced, r.Collection)
		to <- prometheus.MustNewConstMetric(remoteFailing, prometheus.GaugeValue, failing, r.Collection)
	}
}
