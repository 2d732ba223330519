package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-sync/skerry/replica"
)

// warnWriting warns before something is signed if another node runs with the same key, and if it
// would have a time that peers refuse, because the clock is far from that of peers. It does not
// refuse: the peers' clocks may be the wrong ones.
func (s *Server) warnWriting(ctx context.Context, a *answer) {
	if text := s.twinWarning(); text != "" {
		a.warn("%s", text)
	}
	j := s.node.JudgeClock()
	ahead, answered := j.Ahead, j.Off
	if !j.Wrong() {
		ahead, answered = s.node.RecentClockOffset(ctx)
	}
	if text := clockText(ahead, answered); text != "" {
		a.warn("%s", text)
	}
}

// clockText says what follows from a clock that is far from those of peers, or nothing.
func clockText(ahead time.Duration, answered int) string {
	switch by := ahead.Abs().Round(time.Second); {
	case answered == 0 || by <= replica.MaxAhead:
		return ""
	case ahead < 0:
		return fmt.Sprintf(
			"this machine's clock is %s ahead of that of %d peers, which refuse what is written "+
				"now until that time comes: set the clock, then see skerry replica verify", by, answered,
		)
	default:
		return fmt.Sprintf(
			"this machine's clock is %s behind that of %d peers: this node refuses what they "+
				"write until it is set", by, answered,
		)
	}
}

// twinWarning says that another node runs with the same key, or nothing.
func (s *Server) twinWarning() string {
	at := s.node.Twin()
	if at == nil {
		return ""
	}
	return "another node runs with this node's key at " + at.String() + ", because the data " +
		"directory was copied: what others send to this node can go to that one. Stop one of them, run skerry " +
		"store renew-key there, and start it again"
}

// clockWarning says that most known peers say that the clock is wrong, or nothing.
func (s *Server) clockWarning() string {
	j := s.node.JudgeClock()
	switch {
	case !j.Wrong():
		return ""
	case s.node.TrustsClock():
		return j.String() + "; versions are written all the same, as --trust-clock says"
	}
	return j.String() + ": no versions are written until it is set, or the node is started with " +
		"--trust-clock"
}

// maxAheadNamed is how many entries that are ahead of the clock are counted.
const maxAheadCounted = 100_000

// aheadOf counts the entries of a replica that other nodes refuse for their time.
func (s *Server) aheadOf(
	ctx context.Context, id replica.ID,
) (count uint64, last time.Time, err error) {
	for e, err := range s.node.Replicas().Ahead(ctx, id) {
		if err != nil {
			return count, last, err
		}
		count++
		last = time.UnixMicro(int64(min(e.Timestamp, 1<<62)))
		if count == maxAheadCounted {
			break
		}
	}
	return count, last, nil
}

// warnAhead warns of entries that peers refuse for their time.
func (s *Server) warnAhead(ctx context.Context, r *replica.Replica, a *answer) error {
	count, last, err := s.aheadOf(ctx, r.ID)
	if errors.Is(err, replica.ErrNotFound) {
		return nil // it has been left since
	}
	if err != nil || count == 0 {
		return err
	}
	a.warn(
		"%d entries of %s have times up to %s, ahead of this clock: peers refuse them. If this clock is "+
			"right now, skerry replica verify --repair %s signs them anew", count, r.Name,
		last.UTC().Format(time.RFC3339), r.Name,
	)
	return nil
}
