// Package admission bounds what peers can take of a node: open streams and memory.
//
// A node answers anybody. A peer that has proved nothing, a stranger, costs its owner nothing: one
// host can make any number of identities. So this package counts what each peer holds, what all
// strangers from one IP network hold, and what all strangers hold together, and refuses what is
// beyond the limits. Known peers, which hold a replica in common with the node, are counted apart:
// strangers cannot take their places.
//
// The package knows peers, networks, bytes and names of protocols. It does no I/O, never waits, and
// does not know what a protocol says. Start at [Room.Enter].
package admission

import (
	"fmt"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Party is who opens a stream.
type Party struct {
	Peer peer.ID
	// Net is the IP network that the peer is connected from. All peers whose network is not known
	// share "".
	Net string
	// Proved tells that the peer has proved that it knows the id of a replica that the node holds.
	Proved bool
	// Known tells that a person has named the peer, or that it has a history with the node.
	Known bool
	// Named tells that a person has named the peer. Anybody with patience gets a history, for as many
	// identities as they like.
	Named bool
}

// Share is how much of one thing may be held: by one peer, by all peers from one network, and by
// all peers. 0 is no limit.
type Share struct{ Peer, Net, All int64 }

// Shares are the shares of strangers, of peers that have proved that they know the id of a replica,
// and of known peers. Without shares of their own, proved peers have as large ones as known peers.
//
// Where there is a limit for all known peers together, those that nobody has named hold at most
// half of it, and those from one network a quarter: the rest is for those who are named.
type Shares struct{ Strangers, Proved, Known Share }

// Config sets up a Room.
type Config struct {
	// Bytes bounds the memory that peers hold, over all protocols.
	Bytes Shares
	// Streams bounds the open streams of each protocol. A protocol that is missing here admits
	// nobody.
	Streams map[string]Shares
}

// FullError reports a limit that is reached.
type FullError struct {
	Peer peer.ID
	What string // "bytes", or the protocol whose streams are meant
	// "peer", "network", "strangers", "proved peers", "known peers" or "known peers that nobody has
	// named"
	Whose string
	Limit int64
}

func (e *FullError) Error() string {
	return fmt.Sprintf(
		"peer %s: the limit of %d %s for the %s is reached", e.Peer, e.Limit, e.What, e.Whose,
	)
}

// Room counts what peers hold. Its methods may be called from many goroutines.
type Room struct {
	mu      sync.Mutex
	bytes   [classes]*tally
	streams map[string][classes]*tally
}

// Small is the size in bytes up to which a piece of memory may use a whole limit. Larger pieces
// leave an eighth of each limit free, so that small answers find room while large ones are under
// way.
const Small = 64 << 10

const (
	strangers = iota
	proved
	known
	unnamed // of the known
	classes
)

// New returns an empty room.
func New(cfg Config) *Room {
	r := &Room{streams: map[string][classes]*tally{}, bytes: tallies("bytes", cfg.Bytes)}
	for protocol, s := range cfg.Streams {
		r.streams[protocol] = tallies("streams of "+protocol, s)
	}
	return r
}

// Enter counts a stream until Leave, or returns a *FullError.
func (r *Room) Enter(protocol string, who Party) (*Visit, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.enter(protocol, who)
}

// enter is Enter; the caller holds the lock.
func (r *Room) enter(protocol string, who Party) (*Visit, error) {
	v := &Visit{room: r, protocol: protocol, who: who}
	t := r.streams[protocol]
	if t[known] == nil {
		return nil, &FullError{who.Peer, "streams of " + protocol, "peer", 0}
	}
	if err := v.add(&t, 1); err != nil {
		return nil, err
	}
	return v, nil
}

// Held returns how many bytes strangers hold, and all others.
func (r *Room) Held() (byStrangers, byOthers int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes[strangers].all, r.bytes[proved].all + r.bytes[known].all
}

// Visit is a stream that was admitted, and the memory that it holds. The methods of a nil Visit do
// nothing.
type Visit struct {
	room     *Room
	protocol string

	// All below is guarded by room.mu.
	who       Party
	held      int64
	left      bool
	yield     func() // nil if the visit keeps its place; see EnterFairly
	placeless bool   // another has got the place
}

// class is which tallies count the visit; the caller holds the lock.
func (v *Visit) class() int {
	switch {
	case v.who.Known:
		return known
	case v.who.Proved:
		return proved
	}
	return strangers
}

// add counts n of one thing in the tallies of the visit's class, or in none; the caller holds the
// lock.
func (v *Visit) add(t *[classes]*tally, n int64) error {
	class := v.class()
	if err := t[class].add(v.who, n); err != nil {
		return err
	}
	if class == known && !v.who.Named {
		if err := t[unnamed].add(v.who, n); err != nil {
			t[known].sub(v.who, n)
			return err
		}
	}
	return nil
}

// sub takes back what add has counted; the caller holds the lock.
func (v *Visit) sub(t *[classes]*tally, n int64) {
	class := v.class()
	t[class].sub(v.who, n)
	if class == known && !v.who.Named {
		t[unnamed].sub(v.who, n)
	}
}

// Take counts n bytes of memory that the peer makes the node hold, or returns a *FullError, as it
// always does after Leave. It is called before the memory is taken.
func (v *Visit) Take(n int) error {
	if v == nil || n <= 0 {
		return nil
	}
	v.room.mu.Lock()
	defer v.room.mu.Unlock()
	if v.left { // nobody would give it back
		return &FullError{v.who.Peer, "bytes", "peer", 0}
	}
	if err := v.add(&v.room.bytes, int64(n)); err != nil {
		return err
	}
	v.held += int64(n)
	return nil
}

// Give takes back n bytes that Take has counted.
func (v *Visit) Give(n int) {
	if v == nil || n <= 0 {
		return
	}
	v.room.mu.Lock()
	defer v.room.mu.Unlock()
	back := min(int64(n), v.held)
	v.sub(&v.room.bytes, back)
	v.held -= back
}

// Proved notes that the peer has shown that it is no stranger: the visit is counted with those of
// known peers from now on. It returns a *FullError, and changes nothing, if known peers hold too
// much.
func (v *Visit) Proved() error {
	if v == nil {
		return nil
	}
	v.room.mu.Lock()
	defer v.room.mu.Unlock()
	if v.class() != strangers || v.left {
		return nil
	}
	if v.placeless {
		return &FullError{v.who.Peer, "streams of " + v.protocol, "peer", 0}
	}
	s, b := v.room.streams[v.protocol], v.room.bytes
	if err := s[proved].add(v.who, 1); err != nil {
		return err
	}
	if err := b[proved].add(v.who, v.held); err != nil {
		s[proved].sub(v.who, 1)
		return err
	}
	s[strangers].sub(v.who, 1)
	b[strangers].sub(v.who, v.held)
	s[strangers].unline(v)
	v.who.Proved = true
	s[proved].line(v)
	return nil
}

// Stranger reports whether the peer is still a stranger.
func (v *Visit) Stranger() bool {
	if v == nil {
		return false
	}
	v.room.mu.Lock()
	defer v.room.mu.Unlock()
	return v.class() == strangers
}

// Who says who the peer is by now. Of no visit, it is one that is named: the node itself has opened
// the stream.
func (v *Visit) Who() Party {
	if v == nil {
		return Party{Proved: true, Known: true, Named: true}
	}
	v.room.mu.Lock()
	defer v.room.mu.Unlock()
	return v.who
}

// Leave ends the visit and takes back all that it holds. A second Leave does nothing.
func (v *Visit) Leave() {
	if v == nil {
		return
	}
	v.room.mu.Lock()
	defer v.room.mu.Unlock()
	if v.left {
		return
	}
	v.left = true
	v.sub(&v.room.bytes, v.held)
	v.held = 0
	if v.placeless {
		return
	}
	streams := v.room.streams[v.protocol]
	streams[v.class()].unline(v)
	v.sub(&streams, 1)
}

// tally counts one thing: for each peer and each network that hold some of it, and for all.
type tally struct {
	what, whose string // for errors
	share       Share
	all         int64
	peers       map[peer.ID]int64
	nets        map[string]int64
	lines       map[string][]*Visit // by network, the oldest first; of streams only
}

func tallies(what string, s Shares) [classes]*tally {
	if s.Proved == (Share{}) {
		s.Proved = s.Known
	}
	one := func(whose string, share Share) *tally {
		return &tally{
			what: what, whose: whose, share: share, peers: map[peer.ID]int64{}, nets: map[string]int64{},
			lines: map[string][]*Visit{},
		}
	}
	rest := Share{Net: part(s.Known.All, 4), All: part(s.Known.All, 2)}
	return [classes]*tally{
		strangers: one("strangers", s.Strangers),
		proved:    one("proved peers", s.Proved),
		known:     one("known peers", s.Known),
		unnamed:   one("known peers that nobody has named", rest),
	}
}

// part returns the nth part of a limit. That of a small one is 1, since 0 is no limit.
func part(limit, n int64) int64 {
	if limit == 0 {
		return 0
	}
	return max(limit/n, 1)
}

func (t *tally) add(who Party, n int64) error {
	for _, x := range []struct {
		whose       string
		held, limit int64
	}{
		{"peer", t.peers[who.Peer], t.share.Peer},
		{"network", t.nets[who.Net], t.share.Net},
		{t.whose, t.all, t.share.All},
	} {
		limit := x.limit
		if n > Small {
			limit -= limit / 8
		}
		if limit > 0 && x.held+n > limit {
			return &FullError{who.Peer, t.what, x.whose, x.limit}
		}
	}
	t.all += n
	t.peers[who.Peer] += n
	t.nets[who.Net] += n
	return nil
}

func (t *tally) sub(who Party, n int64) {
	t.all -= n
	if t.peers[who.Peer] -= n; t.peers[who.Peer] <= 0 {
		delete(t.peers, who.Peer)
	}
	if t.nets[who.Net] -= n; t.nets[who.Net] <= 0 {
		delete(t.nets, who.Net)
	}
}
