package replicas

import (
	"context"
	"slices"
	"time"
)

// aside holds writes that were acknowledged and cannot be in the replica before this node's clock
// has come to their time: it was set back meanwhile, or before a start. They keep no others from
// the replica, are read as if they were there, and stay in the journal. Writes over them are
// refused.
// It is used by the goroutine of apply.
type aside struct {
	s     *Store
	all   []*put         // those of one key in their order
	of    map[string]int // how many of each key
	tried time.Time
	// enough is how large the journal is to be, at least, to be written anew with these alone.
	enough int64
}

// triedEvery is after how long those are tried again whose time has come.
const triedEvery = time.Second

func (a *aside) has(key string) bool { return a.of[key] > 0 }

// add puts a write aside, which was not.
func (a *aside) add(p *put) {
	if p.late {
		return
	}
	if !a.has(p.key) {
		a.s.log.Error(
			"what was written to collections waits until this node's clock, which was set back, "+
				"comes near the time of it", "replica", a.s.id.Short(), "key", p.key,
			"time", microseconds(p.at),
		)
	}
	if a.of == nil {
		a.of = map[string]int{}
	}
	a.of[p.key]++
	a.all = append(a.all, p)
	a.s.queue.aside(p)
}

// without puts those of some writes aside that others of their keys are aside before, and returns
// the rest.
func (a *aside) without(all []*put) []*put {
	if len(a.all) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(p *put) bool {
		if p.element || p.record == nil || !a.has(p.key) {
			return false
		}
		a.add(p)
		return true
	})
}

// again writes those to the replica whose time has come.
func (a *aside) again(ctx context.Context) {
	if len(a.all) == 0 || time.Since(a.tried) < triedEvery {
		return
	}
	a.tried = time.Now()
	waits := map[string]bool{} // keys
	a.all = slices.DeleteFunc(a.all, func(p *put) bool {
		if waits[p.key] || a.s.isAhead(p.at) {
			waits[p.key] = true
			return false
		}
		ended, err := a.s.storeOne(ctx, p)
		if err != nil {
			a.s.log.Error(
				"what was written to collections is not in the replica yet", "replica", a.s.id.Short(), "writes",
				1, "error", err,
			)
		}
		if !ended {
			waits[p.key] = true
		} else if a.of[p.key]--; a.of[p.key] == 0 {
			delete(a.of, p.key)
		}
		return ended
	})
}

// records are those of all.
func (a *aside) records() (all []record) {
	for _, p := range a.all {
		all = append(all, *p.record)
	}
	return all
}
