package replica

import (
	"slices"
	"time"
)

// Each epoch hands its read key to all who read, and has delegates make their grants anew; all that
// stays for ever. A delegate that grants and revokes could begin as many as it likes. So before a
// node begins one for delegates, the present epoch must have stood for a while, which doubles with
// each such epoch of late. What the owner revokes begins one at once, and so does Rotate.
const (
	// calmFor is how long an epoch stands at least before delegates' revocations end it.
	calmFor = time.Hour
	// calmMost is the longest that this becomes.
	calmMost = 30 * 24 * time.Hour
	// calmMemory is how long an epoch that was begun for delegates counts. Some in a quarter of a
	// year are how people work; then the next comes within a day.
	calmMemory = 90 * 24 * time.Hour
)

// since returns for how long the present epoch has stood.
func (rot *rotation) since() time.Duration {
	for i := range rot.all.epochs {
		if e := &rot.all.epochs[i]; e.id() == rot.old.ID() && e.Issued < rot.now {
			return microseconds(rot.now - e.Issued)
		}
	}
	return 0
}

// microseconds returns a time, which is cut off far beyond what counts here.
func microseconds(n uint64) time.Duration {
	return time.Duration(min(n, uint64(2*calmMemory/time.Microsecond))) * time.Microsecond
}

// calm returns how long the present epoch must have stood before it ends for delegates.
func (rot *rotation) calm() time.Duration {
	calm := calmFor
	for range rot.begunForDelegates() {
		calm = min(2*calm, calmMost)
	}
	return calm
}

// begunForDelegates counts the epochs of late that seem to have been begun for delegates: a
// delegate, but not the replica key, has revoked somebody since the epoch before. Rotate may have
// begun one of these all the same. That only makes delegates wait longer.
//
// A revocation that is dated ahead does not say when it was made. It may have begun any epoch of
// which the author that it names was handed the key before, and no other.
func (rot *rotation) begunForDelegates() (n int) {
	var begun []uint64 // when each number was, in order
	counting := counting(rot.all.epochs)
	for i := range counting {
		e := &counting[i]
		if int(e.Number) > len(begun) {
			begun = append(begun, e.Issued)
			if k := len(begun) - 1; k > 0 {
				begun[k] = max(begun[k], begun[k-1])
			}
		}
	}
	delegates, owner := make([]bool, len(begun)), make([]bool, len(begun))
	ahead := map[AuthorID]bool{}
	for i := range rot.all.revocations {
		v := &rot.all.revocations[i]
		if v.Authority != nil && v.Issued > rot.now {
			ahead[v.Author] = true
			continue
		}
		k, _ := slices.BinarySearch(begun, v.Issued)
		switch {
		case k == len(begun):
		case v.Authority != nil:
			delegates[k] = true
		default:
			owner[k] = true
		}
	}
	for i := range rot.all.wrapped {
		if w := &rot.all.wrapped[i]; ahead[w.Author] && int(w.Epoch) < len(begun) {
			delegates[w.Epoch] = true // the next one: numbers begin at 1
		}
	}
	for k, at := range begun {
		recent := at > rot.now || microseconds(rot.now-at) < calmMemory
		if k > 0 && recent && !owner[k] && delegates[k] {
			n++
		}
	}
	return n
}
