package replicas

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/replica"
)

// Of an element of a log it may be unknown for a time whether it counts, as a chain does not
// answer, or what it is, as its content has not come. Readers get the others. Who goes on from what
// it gets would miss such an element when it is decided; so what is behind it is held back, or its
// cursor names it. Anybody who may write to the replica can write elements that are never decided,
// and holds others up no longer than this.
const (
	// undecidedFor is for how long after its time an element is waited for. What chains have said an
	// hour ago, servers are believed; so by then it is decided, if it is a server's.
	undecidedFor = 2 * time.Hour
	// missingFor is for how long, after a log was first found to lack the content of too many of an
	// author's elements for a cursor to name them, readers with cursors get no later ones; and then
	// not again for missingAgain.
	missingFor   = 10 * time.Minute
	missingAgain = 24 * time.Hour
	// maxOpen is how many undecided elements are looked behind for the last ones that count.
	maxOpen = 4096
)

// holds reports whether what is behind an undecided element of a time is held back from readers who
// go on from what they get. An element of long ago holds nothing back, whenever it was written.
func (s *Store) holds(err error, time int64, e *replica.Entry) bool {
	var u *undecidedError
	if !errors.As(err, &u) || errors.Is(err, errTired) {
		return false
	}
	oldest := s.oldest()
	return time > oldest && milliseconds(e) > oldest
}

// oldest is the time of the latest elements that are not waited for any more.
func (s *Store) oldest() int64 { return s.n.Now().Add(-undecidedFor).UnixMilli() }

// waited returns how many of some elements are still waited for.
func (s *Store) waited(missing []place) (n int) {
	oldest := s.oldest()
	for _, m := range missing {
		if m.time > oldest {
			n++
		}
	}
	return n
}

// holdsCursor reports whether a cursor that has no place left for an element that is not decided
// must not go past it.
func (s *Store) holdsCursor(key string, err error, time int64, e *replica.Entry) bool {
	if errors.Is(err, errMissing) {
		return s.patience.keepsFor(key+"\x00"+e.Author.String(), missingFor, missingAgain)
	}
	return s.holds(err, time, e)
}

// crowded cuts the elements that a cursor says are missing to maxMissing. First those go that are
// not later than oldest, then the earliest of the author with most of them, so that nobody can have
// those of others forgotten.
func crowded(missing []place, oldest int64) []place {
	over := len(missing) - maxMissing
	missing = slices.DeleteFunc(missing, func(m place) bool {
		goes := over > 0 && m.time <= oldest
		if goes {
			over--
		}
		return goes
	})
	for len(missing) > maxMissing {
		of := map[[8]byte]int{}
		most := missing[0].author
		for _, m := range missing {
			if of[m.author]++; of[m.author] > of[most] {
				most = m.author
			}
		}
		i := slices.IndexFunc(missing, func(m place) bool { return m.author == most })
		missing = slices.Delete(missing, i, i+1)
	}
	return missing
}

// hasty reads elements of which some may not be decided: others may take as long then, and are
// waited for little.
type hasty struct {
	ctx    context.Context
	cancel context.CancelFunc
}

// hurry is to be called when an element was not decided.
func (h *hasty) hurry() {
	if h.cancel == nil {
		h.ctx, h.cancel = hurried(h.ctx)
	}
}

func (h *hasty) end() {
	if h.cancel != nil {
		h.cancel()
	}
}
