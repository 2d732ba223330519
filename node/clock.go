package node

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
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
const clockProtocol = "/skerry/clock/1"

const maxClocks = 8 // peers asked

func (n *Node) serveClock(s link.Stream) {
	if _, err := link.Within(s, askTimeout).EndingIn(askTimeout).Write(binary.BigEndian.AppendUint64(nil, uint64(n.cfg.Now().UnixMilli()))); err != nil {
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

// ClockOffset asks some connected peers for their time, and returns by how much their clocks are
// ahead of this one, in the middle, and how many answered. It asks strangers only if nobody else is
// connected: five throwaway identities could be in the middle.
func (n *Node) ClockOffset(ctx context.Context) (ahead time.Duration, answered int) {
	if firm := n.firmPeers(); len(firm) > 0 {
		return n.clockOffset(ctx, firm)
	}
	var all []peer.ID
	for _, p := range n.Peers() {
		all = append(all, p.ID)
	}
	return n.clockOffset(ctx, all)
}

// firmPeers returns the connected peers that a ticket or a person has named, or that have a
// history.
func (n *Node) firmPeers() (firm []peer.ID) {
	for _, p := range n.Peers() {
		if n.contacts.IsFirm(p.ID) {
			firm = append(firm, p.ID)
		}
	}
	return firm
}

func (n *Node) clockOffset(
	ctx context.Context, peers []peer.ID,
) (ahead time.Duration, answered int) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	for _, p := range peers[:min(len(peers), maxClocks)] {
		wg.Go(func() {
			var d time.Duration
			err := fault.Guard(n.log, "a question to a peer", func() (err error) {
				d, err = n.clockOf(ctx, p)
				return err
			}, "peer", p)
			if err != nil {
				n.log.Debug("asking for the time", "peer", p, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, d)
		})
	}
	wg.Wait()
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], len(all)
}

// clockKept is how long an answer of RecentClockOffset serves.
const clockKept = time.Minute

// clockHurry is how long RecentClockOffset waits for peers: somebody is waiting for something else.
const clockHurry = time.Second

// recentClock is the last answer of RecentClockOffset.
type recentClock struct {
	mu       sync.Mutex
	asked    time.Time // by the monotonic clock
	ahead    time.Duration
	answered int
}

// RecentClockOffset is ClockOffset for somebody in a hurry: an answer serves for a minute, and
// peers that do not answer soon are left out. It asks no strangers at all: what it returns is shown
// to people who have not asked about clocks, and nobody unknown is to tell them to set theirs.
func (n *Node) RecentClockOffset(ctx context.Context) (ahead time.Duration, answered int) {
	if n.net == nil {
		return 0, 0
	}
	c := &n.recentClock
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.asked.IsZero() && time.Since(c.asked) < clockKept {
		return c.ahead, c.answered
	}
	firm := n.firmPeers()
	if len(firm) == 0 {
		return 0, 0
	}
	ctx, cancel := context.WithTimeout(ctx, clockHurry)
	defer cancel()
	c.ahead, c.answered = n.clockOffset(ctx, firm)
	c.asked = time.Now()
	return c.ahead, c.answered
}

func (n *Node) clockOf(ctx context.Context, p peer.ID) (ahead time.Duration, err error) {
	s, err := n.net.Open(ctx, p, clockProtocol)
	if err != nil {
		return 0, err
	}
	defer link.ResetAfterFault(s)
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	asked := n.cfg.Now()
	if err := s.CloseWrite(); err != nil {
		return 0, errors.Join(err, link.GiveUp(s))
	}
	var b [8]byte
	if _, err := io.ReadFull(s, b[:]); err != nil {
		return 0, errors.Join(err, link.GiveUp(s))
	}
	answered := n.cfg.Now()
	_ = s.Close() // it has said all
	there := time.UnixMilli(int64(binary.BigEndian.Uint64(b[:])))
	return there.Sub(asked.Add(answered.Sub(asked) / 2)), nil
}
