package admission

import (
	"errors"
	"slices"
)

// EnterFairly is Enter for a stream that gives its place to another when all places of strangers,
// or of proved peers, are taken: the oldest stream of the network that has the most goes, if one
// from a network that has at least two fewer comes. So a few networks do not keep all others out,
// and places do not go to and fro. yield is called once, by the goroutine for which the place is
// needed, and must end the stream soon, without waiting; the visit holds its memory until Leave.
func (r *Room) EnterFairly(protocol string, who Party, yield func()) (*Visit, error) {
	r.mu.Lock()
	v, err := r.enter(protocol, who)
	var gone *Visit
	if full, ok := errors.AsType[*FullError](err); ok {
		if gone = r.makePlace(protocol, who, full); gone != nil {
			v, err = r.enter(protocol, who)
		}
	}
	if err == nil {
		v.yield = yield
		r.streams[protocol][v.class()].line(v)
	}
	r.mu.Unlock()
	if gone != nil {
		gone.yield()
	}
	return v, err
}

// makePlace takes the place of a visit for who, if it may; the caller holds the lock.
func (r *Room) makePlace(protocol string, who Party, full *FullError) *Visit {
	v := &Visit{room: r, protocol: protocol, who: who}
	t := r.streams[protocol][v.class()]
	if v.class() == known || t == nil || full.Whose != t.whose {
		return nil
	}
	most, from := t.nets[who.Net]+1, ""
	for net, n := range t.nets {
		if n > most && len(t.lines[net]) > 0 {
			most, from = n, net
		}
	}
	if len(t.lines[from]) == 0 || t.nets[from] <= t.nets[who.Net]+1 {
		return nil
	}
	gone := t.lines[from][0]
	t.unline(gone)
	t.sub(gone.who, 1)
	gone.placeless = true
	return gone
}

// line puts a visit at the end of those of its network that give their places to others.
func (t *tally) line(v *Visit) {
	if v.yield != nil {
		t.lines[v.who.Net] = append(t.lines[v.who.Net], v)
	}
}

func (t *tally) unline(v *Visit) {
	all := t.lines[v.who.Net]
	if i := slices.Index(all, v); i >= 0 {
		all = slices.Delete(all, i, i+1)
	}
	if t.lines[v.who.Net] = all; len(all) == 0 {
		delete(t.lines, v.who.Net)
	}
}
