package document

import (
	"cmp"
	"context"
	"slices"

	"github.com/skerry-sync/skerry/collections/value"
)

// place is where an element of a log in chunks stands.
type place struct {
	time  int64 // of the element
	chunk int64 // the time in the name of its chunk
}

// ends is what the head of a log in chunks knows of the log's last elements, so that nobody reads
// chunks to find them. Elements that lie ahead when they are added stand before earlier ones; all
// others stand in the order of their times.
//
// The head has it as a member that other servers do not know:
//
//	"ends": {"n": elements of the log, "shown": [time, chunk], "ahead": [[time, chunk], …],
//	         "more": number, "before": time}
//
// It does not count if n is not the log's: another server has added elements since. Once written,
// it is not changed.
type ends struct {
	shown  place   // of the last that is shown; its time is -1 if there is none
	ahead  []place // of those that lay ahead, in the order of their times, maxAhead at most
	more   int64   // how many lie ahead that are later than all in ahead
	before int64   // which elements up to this time lay ahead is not known any more
	latest int64   // the time of the last of all; the head's; -1 if there is none
}

const (
	// maxAhead is how many elements a head names that lie ahead or did. It grows by no more than a
	// chunk, which is written with each append anyway.
	maxAhead = defaultChunk
	// maxPast is how many of these may be elements that do not lie ahead any more, and keepPast for
	// how many milliseconds: whoever reads the last elements needs to know them.
	maxPast  = maxAhead / 4
	keepPast = 2 * maxSkew
	// maxSkew is by how many milliseconds other servers' clocks may be ahead of this one's.
	maxSkew = 300_000
)

func noEnds() *ends { return &ends{shown: place{time: -1}, before: -1, latest: -1} }

func (e *ends) append(b []byte, n int64) []byte {
	pair := func(p place) value.Array { return value.Array{float64(p.time), float64(p.chunk)} }
	shown, ahead := value.Array{}, value.Array{}
	if e.shown.time >= 0 {
		shown = pair(e.shown)
	}
	for _, p := range e.ahead {
		ahead = append(ahead, pair(p))
	}
	return value.Append(b, value.NewObject(member("n", float64(n)), member("shown", shown),
		member("ahead", ahead), member("more", float64(e.more)), member("before", float64(e.before))))
}

// parseEnds reads what the head of a log of n elements says, of which latest is the time of the
// last. What does not hold of such a log is as if it was not there.
func parseEnds(v any, n, latest int64) *ends {
	o, ok := v.(*value.Object)
	if !ok || whole(o, "n") != n {
		return nil
	}
	e := noEnds()
	e.more, e.before, e.latest = whole(o, "more"), whole(o, "before"), latest
	v, _ = o.Get("shown")
	if a, ok := v.(value.Array); !ok || len(a) > 0 && !e.shown.parse(a) {
		return nil
	}
	v, _ = o.Get("ahead")
	all, ok := v.(value.Array)
	if !ok || len(all) > maxAhead {
		return nil
	}
	for _, v := range all {
		var p place
		if !p.parse(v) {
			return nil
		}
		e.ahead = append(e.ahead, p)
	}
	known := int64(len(e.ahead)) + e.more
	if e.shown.time >= 0 {
		known++
	}
	last := e.shown.time
	if len(e.ahead) > 0 {
		last = max(last, e.ahead[len(e.ahead)-1].time)
	}
	if e.more < 0 || e.before < -1 || last > latest || !slices.IsSortedFunc(e.ahead, byTime) ||
		known > n+1 || e.more > 0 && len(e.ahead) == 0 { // the last shown may be one of those ahead
		return nil
	}
	return e
}

func (p *place) parse(v any) bool {
	a, ok := v.(value.Array)
	if !ok || len(a) != 2 {
		return false
	}
	o := value.NewObject(member("time", a[0]), member("chunk", a[1]))
	*p = place{whole(o, "time"), whole(o, "chunk")}
	return a[0] == float64(p.time) && a[1] == float64(p.chunk) && p.time >= 0 && p.chunk >= 0
}

func byTime(a, b place) int { return cmp.Compare(a.time, b.time) }

// from is where in ahead the first is that is later than a time.
func (e *ends) from(time int64) int {
	i, _ := slices.BinarySearchFunc(e.ahead, place{time: time + 1}, byTime)
	return i
}

// count is how many elements are later than until.
func (e *ends) count(until int64) int64 { return int64(len(e.ahead)-e.from(until)) + e.more }

// lay reports whether an element lay ahead when it was added.
func (e *ends) lay(time int64) bool {
	_, found := slices.BinarySearchFunc(e.ahead, place{time: time}, byTime)
	return found
}

// taken reports whether there may be an element that lies ahead of a time.
func (e *ends) taken(time int64) bool {
	if e.more > 0 && time > e.ahead[len(e.ahead)-1].time && time <= e.latest {
		return true
	}
	return e.lay(time)
}

// settled returns the ends as they are at a later time until which elements are shown, or nil if
// the head does not tell.
func (e *ends) settled(until int64) *ends {
	if e == nil {
		return nil
	}
	i := e.from(until)
	if e.shown.time > until || e.more > 0 && i == len(e.ahead) {
		return nil
	}
	now := *e
	if i > 0 && e.ahead[i-1].time > e.shown.time {
		now.shown = e.ahead[i-1]
	}
	return &now
}

// add adds an element that is later than the last that is shown.
func (e *ends) add(p place, until int64) {
	e.latest = max(e.latest, p.time)
	switch {
	case p.time <= until:
		e.shown = p
	case e.more > 0 && p.time > e.ahead[len(e.ahead)-1].time:
		e.more++
	default:
		e.ahead = slices.Insert(slices.Clone(e.ahead), e.from(p.time), p)
	}
	e.shorten(until)
}

// shorten forgets elements that do not lie ahead any more, but for the last few, and those that
// are beyond maxAhead.
func (e *ends) shorten(until int64) {
	past := e.from(until)
	drop := max(e.from(until-keepPast), past-maxPast, min(past, len(e.ahead)-maxAhead))
	if drop > 0 {
		e.before = max(e.before, e.ahead[drop-1].time)
		e.ahead = slices.Clone(e.ahead[drop:])
	}
	if over := len(e.ahead) - maxAhead; over > 0 {
		e.more += int64(over)
		e.ahead = e.ahead[:maxAhead]
	}
}

// bound returns a time that is later than all elements before those of a chunk, but for those that
// e names as having lain ahead.
func (e *ends) bound(chunk int64, all value.Array, until int64) int64 {
	if e == nil {
		return chunk
	}
	for _, x := range all {
		if t := timeOf(x); t > e.before && t <= until && !e.lay(t) {
			return min(chunk, t)
		}
	}
	return chunk
}

// note takes note of the elements of a chunk, and of which lie ahead.
func (e *ends) note(chunk int64, all value.Array, until int64) {
	for _, x := range all {
		p := place{timeOf(x), chunk}
		if e.latest = max(e.latest, p.time); p.time > until {
			e.ahead = append(e.ahead, p)
		} else if p.time > e.shown.time {
			e.shown = p
		}
	}
}

// noted is to be called when note has seen all that may lie ahead.
func (e *ends) noted(until int64) *ends {
	slices.SortStableFunc(e.ahead, byTime)
	e.before = e.shown.time // others up to it may have lain ahead
	e.shorten(until)
	return e
}

// until is the time until which elements of a log are shown, which is now's unless another server,
// whose clock is a little ahead, has shown later ones.
func (s *segments) until(now int64) int64 {
	if s.ends != nil && s.ends.shown.time-now <= maxSkew {
		return max(now, s.ends.shown.time)
	}
	return now
}

// endsOf returns the ends of a log: as its head says or, if it does not, as its chunks do. The
// chunks have the time of their first element in their names, or a later one: the name's is later
// than all elements of chunks before.
func (d *Documents) endsOf(
	ctx context.Context, key string, s *segments, tail value.Array, until int64,
) (*ends, error) {
	if e := s.ends.settled(until); e != nil {
		return e, nil
	}
	e := noEnds()
	if s.tail == "" {
		return e, nil
	}
	// There is nothing later before a chunk, if all before its name are earlier.
	done := func(chunk int64) bool { return chunk <= until && e.shown.time >= chunk-1 }
	at := chunkTime(s.tail)
	e.note(at, tail, until)
	if s.sealed == 0 || done(at) {
		return e.noted(until), nil
	}
	keys, err := d.chunkKeys(ctx, key, "", s)
	if err != nil {
		return nil, err
	}
	for _, k := range slices.Backward(keys) {
		if k == s.tail {
			continue
		}
		part, err := d.chunk(ctx, k)
		if err != nil {
			return nil, err
		}
		e.note(chunkTime(k), part, until)
		if done(chunkTime(k)) {
			break
		}
	}
	return e.noted(until), nil
}

// at returns the element at a place, nil if there is none.
func (d *Documents) at(
	ctx context.Context, key string, s *segments, tail value.Array, p place,
) (any, error) {
	if p.time < 0 {
		return nil, nil
	}
	part, k := tail, s.chunkKey(key, p.chunk)
	if k != s.tail {
		var err error
		if part, err = d.chunk(ctx, k); err != nil {
			return nil, err
		}
	}
	for _, x := range part {
		if timeOf(x) == p.time {
			return x, nil
		}
	}
	return nil, nil
}
