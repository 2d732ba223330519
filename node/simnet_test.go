package node

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/node/link"
)

// simNet is a network in memory: nodes dial, open streams and gossip, with latency; messages of
// gossip get lost, and links are cut.
type simNet struct {
	mu    sync.Mutex
	rng   *rand.Rand
	ends  map[peer.ID]*simEnd
	cut   map[[2]peer.ID]bool // pairs that cannot reach each other
	loss  float64             // of gossip
	opens map[string]int      // streams until now, by protocol
	nets  map[peer.ID]string  // from where nodes are connected
	delay time.Duration       // one way, at most
	mesh  int                 // to how many at most gossip is passed on: to those who listened first
	pipe  func() (net.Conn, net.Conn)
}

func newSimNet(seed uint64) *simNet {
	return &simNet{
		rng: rand.New(rand.NewPCG(seed, 1)), ends: map[peer.ID]*simEnd{}, cut: map[[2]peer.ID]bool{},
		opens: map[string]int{},
		nets:  map[peer.ID]string{}, delay: 50 * time.Millisecond, pipe: simPipe,
	}
}

func pairOf(a, b peer.ID) [2]peer.ID {
	if a > b {
		a, b = b, a
	}
	return [2]peer.ID{a, b}
}

func (s *simNet) latency() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.rng.Int64N(int64(s.delay)))
}

func (s *simNet) lost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.Float64() < s.loss
}

// simEnd is the network of one node.
type simEnd struct {
	s        *simNet
	id       peer.ID
	ctx      context.Context
	cancel   context.CancelFunc
	work     sync.WaitGroup
	handlers map[string]func(link.Stream)
	changed  func(peer.ID, bool)
	links    map[peer.ID]map[net.Conn]bool // connected peers, with the open streams
	topics   map[string]func(context.Context, peer.ID, []byte) link.Verdict
	joined   map[string]time.Time // when
	seen     map[string]bool
}

func (s *simNet) end(id peer.ID) *simEnd {
	e := &simEnd{
		s: s, id: id, handlers: map[string]func(link.Stream){}, links: map[peer.ID]map[net.Conn]bool{},
		topics: map[string]func(context.Context, peer.ID, []byte) link.Verdict{}, seen: map[string]bool{},
		joined: map[string]time.Time{},
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

func (e *simEnd) ID() peer.ID { return e.id }

func (e *simEnd) Addrs() []ma.Multiaddr {
	a, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/1/p2p/" + e.id.String())
	if err != nil {
		panic(err)
	}
	return []ma.Multiaddr{a}
}

func (e *simEnd) Handle(protocol string, fn func(link.Stream)) { e.handlers[protocol] = fn }

func (e *simEnd) Start(changed func(peer.ID, bool)) error {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	e.changed = changed
	e.s.ends[e.id] = e
	return nil
}

func (e *simEnd) Connect(ctx context.Context, p peer.AddrInfo) error {
	time.Sleep(e.s.latency())
	e.s.mu.Lock()
	to := e.s.ends[p.ID]
	if to == nil || e.s.cut[pairOf(e.id, p.ID)] || e.s.ends[e.id] != e {
		e.s.mu.Unlock()
		return &link.UnreachableError{Peer: p.ID, Err: errors.New("no way there")}
	}
	if e.links[p.ID] != nil {
		e.s.mu.Unlock()
		return nil
	}
	e.links[p.ID], to.links[e.id] = map[net.Conn]bool{}, map[net.Conn]bool{}
	e.s.mu.Unlock()
	e.changed(p.ID, true)
	to.changed(e.id, true)
	return nil
}

func (e *simEnd) Open(ctx context.Context, p peer.ID, protocol string) (link.Stream, error) {
	time.Sleep(e.s.latency())
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	to := e.s.ends[p]
	if to == nil || e.links[p] == nil || to.handlers[protocol] == nil {
		return nil, &link.UnreachableError{Peer: p, Err: errors.New("not connected")}
	}
	e.s.opens[protocol]++
	ours, theirs := e.s.pipe()
	e.links[p][ours], to.links[e.id][theirs] = true, true
	to.work.Go(func() {
		defer to.closed(e.id, theirs)
		to.handlers[protocol](&simStream{Conn: theirs, e: to, remote: e.id})
	})
	return &simStream{Conn: ours, e: e, remote: p}, nil
}

func (e *simEnd) closed(p peer.ID, c net.Conn) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	delete(e.links[p], c)
}

// simStream delays what is written.
type simStream struct {
	net.Conn
	e      *simEnd
	remote peer.ID
}

func (s *simStream) Write(b []byte) (int, error) {
	time.Sleep(s.e.s.latency() / 8)
	return s.Conn.Write(b)
}

func (s *simStream) Close() error      { s.e.closed(s.remote, s.Conn); return s.Conn.Close() }
func (s *simStream) Reset() error      { return s.Close() }
func (s *simStream) CloseWrite() error { return nil }
func (s *simStream) Remote() peer.ID   { return s.remote }

func (s *simStream) Origin() string { return s.e.Origin(s.remote) }
func (s *simStream) Relayed() bool  { return false }

// Origin implements Network.
func (e *simEnd) Origin(p peer.ID) string {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	return e.s.nets[p]
}

func (e *simEnd) Peers() (out []link.Peer) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	for _, p := range slices.Sorted(maps.Keys(e.links)) {
		out = append(out, link.Peer{ID: p})
	}
	return out
}

func (e *simEnd) Connected(p peer.ID) bool {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	_, ok := e.links[p]
	return ok
}

func (e *simEnd) KnownAddrs(peer.ID) []ma.Multiaddr { return nil }

func (e *simEnd) Join(
	topic string, take func(context.Context, peer.ID, []byte) link.Verdict,
) error {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	e.topics[topic], e.joined[topic] = take, time.Now()
	return nil
}

func (e *simEnd) Part(topic string) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	delete(e.topics, topic)
}

func (e *simEnd) Listeners(topic string) (out []peer.ID) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	for p := range e.links {
		if to := e.s.ends[p]; to != nil && to.topics[topic] != nil {
			out = append(out, p)
		}
	}
	return out
}

func (e *simEnd) Publish(_ context.Context, topic string, msg []byte) error {
	e.firstTime(msg)
	for _, p := range e.Listeners(topic) {
		e.pass(p, topic, msg)
	}
	return nil
}

// pass delivers a message to a peer after a while, or loses it; who accepts it passes it on to
// those who have not got it from here.
func (e *simEnd) pass(p peer.ID, topic string, msg []byte) {
	if e.s.lost() {
		return
	}
	wait := e.s.latency()
	e.s.mu.Lock()
	to := e.s.ends[p]
	e.s.mu.Unlock()
	if to == nil {
		return
	}
	to.work.Go(func() {
		select {
		case <-time.After(wait):
		case <-to.ctx.Done():
			return
		}
		to.s.mu.Lock()
		take, linked := to.topics[topic], to.links[e.id] != nil
		to.s.mu.Unlock()
		if take == nil || !linked || !to.firstTime(msg) || take(to.ctx, e.id, msg) != link.Accept {
			return
		}
		for _, q := range to.meshOf(topic) {
			if q != e.id {
				to.pass(q, topic, msg)
			}
		}
	})
}

// meshOf returns those to whom a message of a topic is passed on.
func (e *simEnd) meshOf(topic string) []peer.ID {
	all := e.Listeners(topic)
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	if e.s.mesh == 0 || len(all) <= e.s.mesh {
		return all
	}
	slices.SortFunc(all, func(p, q peer.ID) int {
		return e.s.ends[p].joined[topic].Compare(e.s.ends[q].joined[topic])
	})
	return all[:e.s.mesh]
}

// firstTime reports whether a message has not come before.
func (e *simEnd) firstTime(msg []byte) bool {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	first := !e.seen[string(msg)]
	e.seen[string(msg)] = true
	return first
}

// unlink breaks the connection of two nodes, with all streams.
func (s *simNet) unlink(a, b *simEnd) {
	s.mu.Lock()
	if a.links[b.id] == nil {
		s.mu.Unlock()
		return
	}
	conns := append(
		slices.Collect(maps.Keys(a.links[b.id])), slices.Collect(maps.Keys(b.links[a.id]))...,
	)
	delete(a.links, b.id)
	delete(b.links, a.id)
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
	a.changed(b.id, false)
	b.changed(a.id, false)
}

func (e *simEnd) Close() error {
	e.cancel()
	e.s.mu.Lock()
	delete(e.s.ends, e.id)
	var others []*simEnd
	for p := range e.links {
		others = append(others, e.s.ends[p])
	}
	e.s.mu.Unlock()
	for _, o := range others {
		if o != nil {
			e.s.unlink(e, o)
		}
	}
	e.work.Wait()
	return nil
}

func (e *simEnd) Announce(context.Context, [32]byte) error { return link.ErrNoTable }

func (e *simEnd) Find(context.Context, [32]byte) ([]peer.AddrInfo, error) {
	return nil, link.ErrNoTable
}

func (e *simEnd) Keep(peer.ID, link.Trust) {}

func (e *simEnd) Drop() {
	e.s.mu.Lock()
	var others []*simEnd
	for p := range e.links {
		if o := e.s.ends[p]; o != nil {
			others = append(others, o)
		}
	}
	e.s.mu.Unlock()
	for _, o := range others {
		e.s.unlink(e, o)
	}
}

func (e *simEnd) Situation() link.Situation { return link.Situation{} }

var _ link.Network = (*simEnd)(nil)
