package merge

import "slices"

// A sequence is lines or items as numbers: equal ones have equal numbers.
type sequence []int32

// span is a part of a sequence, without its end.
type span struct{ from, to int }

// hunk is a change of a side: it has side[now.from:now.to] for base[was.from:was.to].
type hunk struct{ was, now span }

// maxRounds is how often a gap between anchors is searched for anchors again. Contents that people
// write need two or three; the bound is for those that are made to need as many as they have lines.
const maxRounds = 16

// differ compares a side with the base. The comparison is a patience diff: equal parts at both ends
// are left out, then the anchors are found, which are the numbers that each sequence has exactly
// once in what is left, and of those the longest run that is in the same order in both. The gaps
// between anchors are compared in the same way. A gap without anchors is one change as a whole: its
// lines have copies, so nobody can say which of them was edited.
type differ struct {
	base, side sequence
	seen       []seen // by number; zero between calls of anchors
	hunks      []hunk
}

// seen is where a number was seen last, and how often: never, once, or more often.
type seen struct {
	base, side     int32
	inBase, inSide uint8
}

// diff returns the changes of side against base, in order. Between two of them there is at least
// one equal number. All numbers are below numbers.
func diff(base, side sequence, numbers int) []hunk {
	d := differ{base: base, side: side, seen: make([]seen, numbers)}
	d.gap(span{0, len(base)}, span{0, len(side)}, maxRounds)
	return widen(base, d.hunks)
}

func (d *differ) gap(was, now span, rounds int) {
	for was.from < was.to && now.from < now.to && d.base[was.from] == d.side[now.from] {
		was.from, now.from = was.from+1, now.from+1
	}
	for was.from < was.to && now.from < now.to && d.base[was.to-1] == d.side[now.to-1] {
		was.to, now.to = was.to-1, now.to-1
	}
	if was.from == was.to && now.from == now.to {
		return
	}
	var anchors []pair
	if was.from < was.to && now.from < now.to && rounds > 0 {
		anchors = d.anchors(was, now)
	}
	if len(anchors) == 0 {
		d.hunks = append(d.hunks, hunk{was, now})
		return
	}
	for _, a := range anchors {
		d.gap(span{was.from, int(a.base)}, span{now.from, int(a.side)}, rounds-1)
		// The anchor is the first equal number of the next gap.
		was.from, now.from = int(a.base), int(a.side)
	}
	d.gap(was, now, rounds-1)
}

// pair is where the base and the side have the same number.
type pair struct{ base, side int32 }

func (d *differ) anchors(was, now span) []pair {
	for i := was.from; i < was.to; i++ {
		s := &d.seen[d.base[i]]
		s.base, s.inBase = int32(i), min(s.inBase+1, 2)
	}
	for i := now.from; i < now.to; i++ {
		s := &d.seen[d.side[i]]
		s.side, s.inSide = int32(i), min(s.inSide+1, 2)
	}
	var pairs []pair
	for _, n := range d.base[was.from:was.to] {
		if s := d.seen[n]; s.inBase == 1 && s.inSide == 1 {
			pairs = append(pairs, pair{s.base, s.side})
		}
	}
	for _, n := range d.base[was.from:was.to] {
		d.seen[n] = seen{}
	}
	for _, n := range d.side[now.from:now.to] {
		d.seen[n] = seen{}
	}
	return longestRun(pairs)
}

// longestRun returns the longest part of pairs, which ascend in base, that ascends in side, too. Of
// several it returns the one that patience sorting finds: each pair goes on the first pile whose
// top is greater and points at the top of the pile before, and the run ends with the top of the
// last pile.
func longestRun(pairs []pair) []pair {
	if slices.IsSortedFunc(pairs, func(a, b pair) int { return int(a.side - b.side) }) {
		return pairs
	}
	var tops []int32 // of each pile, the pair that is its top
	before := make([]int32, len(pairs))
	for i, p := range pairs {
		pile, _ := slices.BinarySearchFunc(tops, p.side, func(top, side int32) int {
			return int(pairs[top].side - side)
		})
		if pile > 0 {
			before[i] = tops[pile-1]
		}
		if pile == len(tops) {
			tops = append(tops, 0)
		}
		tops[pile] = int32(i)
	}
	run := make([]pair, len(tops))
	at := tops[len(tops)-1]
	for i := len(run) - 1; i >= 0; i-- {
		run[i], at = pairs[at], before[at]
	}
	return run
}

// widen makes each deletion as wide as the places where it may have been. Of three equal lines one
// is gone: which one, nobody can say, so an edit of any of them overlaps. One line at each end
// needs no widening, since adjacent changes overlap.
func widen(base sequence, hunks []hunk) []hunk {
	wide := slices.Clone(hunks)
	for i, h := range hunks {
		if h.now.from != h.now.to {
			continue
		}
		first, last := 0, len(base)
		if i > 0 {
			first = hunks[i-1].was.to
		}
		if i+1 < len(hunks) {
			last = hunks[i+1].was.from
		}
		up, down := 0, 0
		for h.was.from-up > first && base[h.was.from-up-1] == base[h.was.to-up-1] {
			up++
		}
		for h.was.to+down < last && base[h.was.to+down] == base[h.was.from+down] {
			down++
		}
		up, down = max(up-1, 0), max(down-1, 0)
		wide[i] = hunk{
			was: span{h.was.from - up, h.was.to + down}, now: span{h.now.from - up, h.now.to + down},
		}
	}
	return wide
}

// source says where a part of the result comes from.
type source uint8

const (
	fromAll    source = iota // no side changed it
	fromLocal                // only local changed it
	fromRemote               // only remote changed it
	fromBoth                 // both changed it alike
)

// piece is a part of the result, and where it is in each input. In those named by from it has the
// same numbers.
type piece struct {
	from                source
	base, local, remote span
}

// threeWay merges local and remote, which come from base, as diff3 does (Khanna, Kunal, Pierce: A
// Formal Investigation of Diff3, 2007). Changes of the two sides that overlap or touch are one
// region. In a region in which only one side has changes, these stand; in one in which both have,
// both have to have come to the same. If they have not, ok is false and clash is the region's part
// of the base.
func threeWay(base, local, remote sequence, numbers int) (pieces []piece, clash span, ok bool) {
	l := changes{hunks: diff(base, local, numbers)}
	r := changes{hunks: diff(base, remote, numbers)}
	at := 0
	kept := func(to int) {
		if at < to {
			pieces = append(pieces, piece{
				from: fromAll, base: span{at, to},
				local: span{at + l.shift, to + l.shift}, remote: span{at + r.shift, to + r.shift},
			})
		}
	}
	for len(l.hunks)+len(r.hunks) > 0 {
		from := len(base)
		for _, c := range []changes{l, r} {
			if len(c.hunks) > 0 {
				from = min(from, c.hunks[0].was.from)
			}
		}
		kept(from)
		p := piece{base: span{from, from}}
		p.local.from, p.remote.from = from+l.shift, from+r.shift
		inLocal, inRemote := false, false
		for more := true; more; {
			byLocal, byRemote := l.take(&p.base), r.take(&p.base)
			inLocal, inRemote = inLocal || byLocal, inRemote || byRemote
			more = byLocal || byRemote
		}
		p.local.to, p.remote.to = p.base.to+l.shift, p.base.to+r.shift
		switch {
		case !inRemote:
			p.from = fromLocal
		case !inLocal:
			p.from = fromRemote
		case slices.Equal(local[p.local.from:p.local.to], remote[p.remote.from:p.remote.to]):
			p.from = fromBoth
		default:
			return nil, p.base, false
		}
		pieces = append(pieces, p)
		at = p.base.to
	}
	kept(len(base))
	return pieces, span{}, true
}

// changes are those of a side that are not in a piece yet.
type changes struct {
	hunks []hunk
	shift int // what to add to a place in the base after the last change to get that in the side
}

// take takes the next change into region if it overlaps or touches it, and says if it did.
func (c *changes) take(region *span) bool {
	if len(c.hunks) == 0 || c.hunks[0].was.from > region.to {
		return false
	}
	h := c.hunks[0]
	region.to = max(region.to, h.was.to)
	c.hunks, c.shift = c.hunks[1:], h.now.to-h.was.to
	return true
}
