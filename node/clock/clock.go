// Package clock asks peers for the time, and answers them.
//
// What belongs here: by how much this clock seems to be off, so that a person can be told, and
// whether most peers say that it is wrong. What never belongs here: setting a clock, what follows
// for those who write (package versions), and what a node does about entries of the future (package
// replica).
//
// Start at [Clocks].
package clock

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/node/link"
)

// The clock protocol: whoever opens a stream is told the time, in milliseconds since 1970 as u64
// big-endian. Nobody sets a clock by it: it shows a person that a clock is wrong, before entries
// are refused because of it.
//
// Protocol is its name.
const Protocol = "/skerry/clock/1"

const (
	maxClocks = 8 // peers asked
	// askTimeout is how long a peer may take to say or to take the time.
	askTimeout = 3 * time.Second
)

// Config is what Clocks need.
type Config struct {
	Now func() time.Time
	Log *slog.Logger
	// IsFirm reports a peer that a ticket or a person has named, or that has a history.
	IsFirm func(p peer.ID) bool
}

// Clocks compares the clocks of peers with this one. Its methods may be called from many
// goroutines.
type Clocks struct {
	cfg    Config
	net    link.Network // nil while offline
	recent recent
	judged judged
}

// New returns Clocks without a network.
func New(cfg Config) *Clocks {
	return &Clocks{cfg: cfg, judged: judged{again: make(chan struct{}, 1)}}
}

// Online gives it a network, before anything else is done.
func (c *Clocks) Online(network link.Network) { c.net = network }

// peers returns the connected ones.
func (c *Clocks) peers() []link.Peer {
	if c.net == nil {
		return nil
	}
	return c.net.Peers()
}

// Serve tells a peer the time.
func (c *Clocks) Serve(s link.Stream) {
	now := binary.BigEndian.AppendUint64(nil, uint64(c.cfg.Now().UnixMilli()))
	if _, err := link.Within(s, askTimeout).EndingIn(askTimeout).Write(now); err != nil {
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

// Offset asks some connected peers for their time, and returns by how much their clocks are
// ahead of this one, in the middle, and how many answered. It asks strangers only if nobody else is
// connected: five throwaway identities could be in the middle.
func (c *Clocks) Offset(ctx context.Context) (ahead time.Duration, answered int) {
	if firm := c.firm(); len(firm) > 0 {
		return c.offset(ctx, firm)
	}
	var all []peer.ID
	for _, p := range c.peers() {
		all = append(all, p.ID)
	}
	return c.offset(ctx, all)
}

// firm returns the connected peers that a ticket or a person has named, or that have a
// history.
func (c *Clocks) firm() (firm []peer.ID) {
	for _, p := range c.peers() {
		if c.cfg.IsFirm(p.ID) {
			firm = append(firm, p.ID)
		}
	}
	return firm
}

func (c *Clocks) offset(
	ctx context.Context, peers []peer.ID,
) (ahead time.Duration, answered int) {
	all := c.answers(ctx, peers)
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], len(all)
}

// answers asks some peers, at most maxClocks, and returns by how much the clocks of those that
// answer are ahead.
func (c *Clocks) answers(ctx context.Context, peers []peer.ID) (all []time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range peers[:min(len(peers), maxClocks)] {
		wg.Go(func() {
			var d time.Duration
			err := fault.Guard(c.cfg.Log, "a question to a peer", func() (err error) {
				d, err = c.ask(ctx, p)
				return err
			}, "peer", p)
			if err != nil {
				c.cfg.Log.Debug("asking for the time", "peer", p, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, d)
		})
	}
	wg.Wait()
	return all
}

// clockKept is how long an answer of Recent serves.
const clockKept = time.Minute

// clockHurry is how long Recent waits for peers: somebody is waiting for something else.
const clockHurry = time.Second

// recent is the last answer of Recent.
type recent struct {
	mu       sync.Mutex
	asked    time.Time // by the monotonic clock
	ahead    time.Duration
	answered int
}

// Recent is Offset for somebody in a hurry: an answer serves for a minute, and
// peers that do not answer soon are left out. It asks no strangers at all: what it returns is shown
// to people who have not asked about clocks, and nobody unknown is to tell them to set theirs.
func (c *Clocks) Recent(ctx context.Context) (ahead time.Duration, answered int) {
	if c.net == nil {
		return 0, 0
	}
	r := &c.recent
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.asked.IsZero() && time.Since(r.asked) < clockKept {
		return r.ahead, r.answered
	}
	firm := c.firm()
	if len(firm) == 0 {
		return 0, 0
	}
	ctx, cancel := context.WithTimeout(ctx, clockHurry)
	defer cancel()
	r.ahead, r.answered = c.offset(ctx, firm)
	r.asked = time.Now()
	return r.ahead, r.answered
}

func (c *Clocks) ask(ctx context.Context, p peer.ID) (ahead time.Duration, err error) {
	s, err := c.net.Open(ctx, p, Protocol)
	if err != nil {
		return 0, err
	}
	defer link.ResetAfterFault(s)
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	asked := c.cfg.Now()
	if err := s.CloseWrite(); err != nil {
		return 0, errors.Join(err, link.GiveUp(s))
	}
	var b [8]byte
	if _, err := io.ReadFull(s, b[:]); err != nil {
		return 0, errors.Join(err, link.GiveUp(s))
	}
	answered := c.cfg.Now()
	_ = s.Close() // it has said all
	there := time.UnixMilli(int64(binary.BigEndian.Uint64(b[:])))
	return there.Sub(asked.Add(answered.Sub(asked) / 2)), nil
}
