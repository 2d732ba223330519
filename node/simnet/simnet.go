// Package simnet is a network in memory, for tests: nodes dial, open streams and gossip in it, with
// latency; messages of gossip get lost, and links are cut. In a bubble of testing/synctest its time
// is simulated, too.
//
// What belongs here: what a [link.Network] does, and trouble that a test makes for it. What never
// belongs here: nodes, or what they say to each other. The program never links it. Start at [New].
package simnet

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

// Net is a network. What its exported fields say is set before the first end starts.
type Net struct {
	Delay time.Duration // one way, at most; 50 ms unless set
	// Mesh is to how many at most a message of gossip is passed on: to those who listened first. 0 is
	// to all.
	Mesh int
	Pipe func() (net.Conn, net.Conn) // what streams are made of, unless set streams with a window

	mu    sync.Mutex
	rng   *rand.Rand
	ends  map[peer.ID]*End
	cut   map[[2]peer.ID]bool // pairs that cannot reach each other
	loss  float64             // of gossip
	opens map[string]int      // streams until now, by protocol
	nets  map[peer.ID]string  // from where nodes are connected
}

// New returns a network whose latency and losses follow from a seed. It loses nothing yet.
func New(seed uint64) *Net {
	return &Net{
		Delay: 50 * time.Millisecond, Pipe: newPipe,
		rng: rand.New(rand.NewPCG(seed, 1)), ends: map[peer.ID]*End{}, cut: map[[2]peer.ID]bool{},
		opens: map[string]int{}, nets: map[peer.ID]string{},
	}
}

// Lose has a share of gossip's messages get lost: 0 none, 1 all.
func (s *Net) Lose(share float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loss = share
}

// Cut says whether two nodes are kept from reaching each other. It breaks no connection: see
// [Net.Unlink].
func (s *Net) Cut(a, b peer.ID, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut[pairOf(a, b)] = is
}

// Heal lets all nodes reach each other.
func (s *Net) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.cut)
}

// Place says from where a node is connected: what [link.Network] calls its origin.
func (s *Net) Place(p peer.ID, origin string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nets[p] = origin
}

// Opened returns how many streams were opened, by protocol, since the network was made or the last
// call of ForgetOpened.
func (s *Net) Opened() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.opens)
}

// ForgetOpened has Opened begin to count anew.
func (s *Net) ForgetOpened() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.opens)
}

// Intercept has a node that has started answer a protocol by what instead returns, which is given
// what answered until now, or nil.
func (s *Net) Intercept(
	p peer.ID, protocol string, instead func(serve func(link.Stream)) func(link.Stream),
) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.ends[p]
	e.handlers[protocol] = instead(e.handlers[protocol])
}

func pairOf(a, b peer.ID) [2]peer.ID {
	if a > b {
		a, b = b, a
	}
	return [2]peer.ID{a, b}
}

func (s *Net) latency() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.rng.Int64N(int64(s.Delay)))
}

func (s *Net) lost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.Float64() < s.loss
}

// End is the network of one node. See [link.Network] for its methods.
type End struct {
	s        *Net
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

// End returns the network of a node, which joins the others when it starts.
func (s *Net) End(id peer.ID) *End {
	e := &End{
		s: s, id: id, handlers: map[string]func(link.Stream){}, links: map[peer.ID]map[net.Conn]bool{},
		topics: map[string]func(context.Context, peer.ID, []byte) link.Verdict{}, seen: map[string]bool{},
		joined: map[string]time.Time{},
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// Context is done when the node has closed its network.
func (e *End) Context() context.Context { return e.ctx }

// Net returns the network that the node is a part of.
func (e *End) Net() *Net { return e.s }

func (e *End) ID() peer.ID { return e.id }

func (e *End) Addrs() []ma.Multiaddr {
	a, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/1/p2p/" + e.id.String())
	if err != nil {
		panic(err)
	}
	return []ma.Multiaddr{a}
}

// Handles reports whether the node answers a protocol.
func (e *End) Handles(protocol string) bool { return e.handlers[protocol] != nil }

func (e *End) Handle(protocol string, fn func(link.Stream)) { e.handlers[protocol] = fn }

func (e *End) Start(changed func(peer.ID, bool)) error {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	e.changed = changed
	e.s.ends[e.id] = e
	return nil
}

func (e *End) Connect(ctx context.Context, p peer.AddrInfo) error {
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

func (e *End) Open(ctx context.Context, p peer.ID, protocol string) (link.Stream, error) {
	time.Sleep(e.s.latency())
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	to := e.s.ends[p]
	if to == nil || e.links[p] == nil || to.handlers[protocol] == nil {
		return nil, &link.UnreachableError{Peer: p, Err: errors.New("not connected")}
	}
	e.s.opens[protocol]++
	ours, theirs := e.s.Pipe()
	e.links[p][ours], to.links[e.id][theirs] = true, true
	to.work.Go(func() {
		defer to.closed(e.id, theirs)
		to.handlers[protocol](&stream{Conn: theirs, e: to, remote: e.id})
	})
	return &stream{Conn: ours, e: e, remote: p}, nil
}

func (e *End) closed(p peer.ID, c net.Conn) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	delete(e.links[p], c)
}

// stream delays what is written.
type stream struct {
	net.Conn
	e      *End
	remote peer.ID
}

func (s *stream) Write(b []byte) (int, error) {
	time.Sleep(s.e.s.latency() / 8)
	return s.Conn.Write(b)
}

func (s *stream) Close() error      { s.e.closed(s.remote, s.Conn); return s.Conn.Close() }
func (s *stream) Reset() error      { return s.Close() }
func (s *stream) CloseWrite() error { return nil }
func (s *stream) Remote() peer.ID   { return s.remote }

func (s *stream) Origin() string { return s.e.Origin(s.remote) }
func (s *stream) Relayed() bool  { return false }

// Origin implements Network.
func (e *End) Origin(p peer.ID) string {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	return e.s.nets[p]
}

func (e *End) Peers() (out []link.Peer) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	for _, p := range slices.Sorted(maps.Keys(e.links)) {
		out = append(out, link.Peer{ID: p})
	}
	return out
}

func (e *End) Connected(p peer.ID) bool {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	_, ok := e.links[p]
	return ok
}

func (e *End) KnownAddrs(peer.ID) []ma.Multiaddr { return nil }

func (e *End) Join(
	topic string, take func(context.Context, peer.ID, []byte) link.Verdict,
) error {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	e.topics[topic], e.joined[topic] = take, time.Now()
	return nil
}

func (e *End) Part(topic string) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	delete(e.topics, topic)
}

func (e *End) Listeners(topic string) (out []peer.ID) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	for p := range e.links {
		if to := e.s.ends[p]; to != nil && to.topics[topic] != nil {
			out = append(out, p)
		}
	}
	return out
}

func (e *End) Publish(_ context.Context, topic string, msg []byte) error {
	e.firstTime(msg)
	for _, p := range e.Listeners(topic) {
		e.Pass(p, topic, msg)
	}
	return nil
}

// Pass delivers a message to a peer after a while, or loses it; who accepts it passes it on to
// those who have not got it from here.
func (e *End) Pass(p peer.ID, topic string, msg []byte) {
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
				to.Pass(q, topic, msg)
			}
		}
	})
}

// meshOf returns those to whom a message of a topic is passed on.
func (e *End) meshOf(topic string) []peer.ID {
	all := e.Listeners(topic)
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	if e.s.Mesh == 0 || len(all) <= e.s.Mesh {
		return all
	}
	slices.SortFunc(all, func(p, q peer.ID) int {
		return e.s.ends[p].joined[topic].Compare(e.s.ends[q].joined[topic])
	})
	return all[:e.s.Mesh]
}

// firstTime reports whether a message has not come before.
func (e *End) firstTime(msg []byte) bool {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	first := !e.seen[string(msg)]
	e.seen[string(msg)] = true
	return first
}

// Unlink breaks the connection of two nodes, with all streams.
func (s *Net) Unlink(a, b *End) {
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

func (e *End) Close() error {
	e.cancel()
	e.s.mu.Lock()
	delete(e.s.ends, e.id)
	var others []*End
	for p := range e.links {
		others = append(others, e.s.ends[p])
	}
	e.s.mu.Unlock()
	for _, o := range others {
		if o != nil {
			e.s.Unlink(e, o)
		}
	}
	e.work.Wait()
	return nil
}

func (e *End) Announce(context.Context, [32]byte) error { return link.ErrNoTable }

func (e *End) Find(context.Context, [32]byte) ([]peer.AddrInfo, error) {
	return nil, link.ErrNoTable
}

func (e *End) Keep(peer.ID, link.Trust) {}

func (e *End) Drop() {
	e.s.mu.Lock()
	var others []*End
	for p := range e.links {
		if o := e.s.ends[p]; o != nil {
			others = append(others, o)
		}
	}
	e.s.mu.Unlock()
	for _, o := range others {
		e.s.Unlink(e, o)
	}
}

func (e *End) Situation() link.Situation { return link.Situation{} }

var _ link.Network = (*End)(nil)
