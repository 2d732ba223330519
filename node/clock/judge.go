package clock

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/replica"
)

const (
	// judgeEvery is how often known peers are asked by themselves, and judgeSoon how often while fewer
	// than two have answered and others have come.
	judgeEvery, judgeSoon = 10 * time.Minute, 15 * time.Second
	// maxStep is by how much the clock may move against the monotonic one before what peers have said
	// of it counts no more: somebody has set it, or the machine has slept.
	maxStep = time.Minute
	// enough is how many peers must say that a clock is wrong: one alone may be wrong itself.
	enough = 2
)

// Judgement is what the connected peers that are known say about this clock. The zero value is that
// nobody has said anything.
type Judgement struct {
	Answered int // peers
	Agree    int // of these, at most replica.MaxAhead from this clock
	// Off is how many are further from it, in the direction in which there are more of them, and Ahead
	// by how much these are ahead of it: the middle.
	Off   int
	Ahead time.Duration
}

// Wrong reports whether this clock is wrong, as far as peers can tell: at least two, and more than
// half of those that answered, have clocks that are ahead by more than replica.MaxAhead, or behind.
func (j Judgement) Wrong() bool { return j.Off >= enough && 2*j.Off > j.Answered }

// Right reports whether more than half of the peers that answered, and at least one, have about the
// time of this clock.
func (j Judgement) Right() bool { return 2*j.Agree > j.Answered }

// String says what is wrong with the clock, for people; it is empty unless the clock is Wrong.
func (j Judgement) String() string {
	if !j.Wrong() {
		return ""
	}
	where := "behind"
	if j.Ahead < 0 {
		where = "ahead of"
	}
	return fmt.Sprintf(
		"this machine's clock is %s %s that of %d of %d known peers",
		j.Ahead.Abs().Round(time.Second), where, j.Off, j.Answered,
	)
}

// judge counts by how much the clocks of peers are ahead.
func judge(ahead []time.Duration) Judgement {
	var before, behind []time.Duration
	for _, d := range ahead {
		switch {
		case d > replica.MaxAhead:
			before = append(before, d)
		case d < -replica.MaxAhead:
			behind = append(behind, d)
		}
	}
	j := Judgement{Answered: len(ahead), Agree: len(ahead) - len(before) - len(behind)}
	off := before
	if len(behind) > len(before) {
		off = behind
	}
	if j.Off = len(off); j.Off > 0 {
		slices.Sort(off)
		j.Ahead = off[len(off)/2]
	}
	return j
}

// judged is the last judgement.
type judged struct {
	again chan struct{} // of 1: the clock was set

	mu    sync.Mutex
	is    Judgement
	wall  time.Time // by the node's clock, when it was made,
	asked time.Time // and by the monotonic one; zero for never
	firm  int       // known peers that were connected then
}

// Judge returns what known peers have last said about this clock. It waits for nobody: peers are
// asked in the background. What they said before the clock was set counts no more.
func (c *Clocks) Judge() Judgement {
	x := &c.judged
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.asked.IsZero() {
		return Judgement{}
	}
	step := c.cfg.Now().Round(0).Sub(x.wall) - time.Since(x.asked)
	if step.Abs() > maxStep {
		x.is, x.asked, x.firm = Judgement{}, time.Time{}, 0
		select {
		case x.again <- struct{}{}:
		default:
		}
	}
	return x.is
}

// Keep asks known peers about the clock until ctx ends, and logs when most of them say that it is
// wrong, and when that is over.
func (c *Clocks) Keep(ctx context.Context) {
	tick := time.NewTicker(judgeSoon)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.judged.again:
		case <-ctx.Done():
			return
		}
		before := c.Judge() // which forgets it if the clock was set
		if firm := c.firm(); c.due(len(firm)) {
			c.renew(ctx, firm)
			c.tell(before, c.Judge())
		}
	}
}

// due reports whether peers are to be asked, of which so many are known.
func (c *Clocks) due(firm int) bool {
	x := &c.judged
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.asked.IsZero():
		return firm > 0
	case time.Since(x.asked) >= judgeEvery:
		return firm > 0 || x.is != Judgement{}
	}
	return x.is.Answered < enough && firm > x.firm
}

// renew asks peers, and keeps what they say.
func (c *Clocks) renew(ctx context.Context, firm []peer.ID) {
	all := c.answers(ctx, firm)
	if ctx.Err() != nil {
		return
	}
	x := &c.judged
	x.mu.Lock()
	defer x.mu.Unlock()
	x.is, x.firm = judge(all), len(firm)
	x.wall, x.asked = c.cfg.Now().Round(0), time.Now()
}

// tell logs what has changed.
func (c *Clocks) tell(before, now Judgement) {
	switch {
	case now.Wrong() && !before.Wrong():
		c.cfg.Log.Warn(now.String()+": set it", "behind", now.Ahead, "peers", now.Off,
			"answered", now.Answered)
	case before.Wrong() && !now.Wrong():
		c.cfg.Log.Info("most peers no longer say that this machine's clock is wrong",
			"answered", now.Answered)
	}
}
