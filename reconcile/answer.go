package reconcile

import (
	"bytes"
	"context"
	"math"
)

// How a differing range is narrowed down; chosen by measurement, see docs/protocol/reconcile.md.
const (
	wide   = 32 // parts of a range of which nothing is known but that much differs
	medium = 16 // parts of each range, when nearly all of many ranges differ
	narrow = 8  // parts of a range that holds a few differences more than its sketch could show
	// fewSums is how many sums parts get that are expected to hold a difference or none.
	fewSums = 4
	// moreSums is how many they get when there are few such parts, so that hardly any needs another
	// round.
	moreSums = 6
	// crowd is the share of differing parts from which on they are divided rather than compared by
	// sketches.
	crowd = 0.96
	// enoughParts is the number of parts that say something about how the differences are spread.
	enoughParts = 8
	listBelow   = 32 // items of a range below which they are listed
	// heavyQuestion is the memory in bytes from which a question gets no more parts: that of 256 parts
	// with bounds of 3 KiB.
	heavyQuestion = 1 << 20
	// much is how many times more items one side must have for the smaller one to list its own at
	// once.
	much = 8
)

// sumsFor returns how many sums to send for each of the parts that differ, when this share of all
// parts does: enough for nearly all of them, if the differences are spread by chance.
func sumsFor(share float64) int {
	perPart := -math.Log(1 - share)
	for _, x := range []struct {
		upTo float64
		sums int
	}{{0.15, 3}, {0.7, 4}, {1.2, 5}, {1.8, 6}} {
		if perPart < x.upTo {
			return x.sums
		}
	}
	return capacity
}

// compared is what a side finds out about the parts of a compare.
type compared struct {
	q       *question
	bounds  [][]byte
	mine    []Summary
	differ  int
	open    []int // parts that must be narrowed down
	shown   map[Element]int
	found   []int // of each part's shown elements, how many are here
	showing []int // of each part, how many elements were shown
}

func (c *compared) part(i int) Range { return Range{c.bounds[i], c.bounds[i+1]} }

func (s *session) answerCompare(ctx context.Context, q *question, round int) error {
	if q.strict {
		if err := s.cfg.flush(ctx); err != nil {
			return err
		}
	}
	c := &compared{q: q, bounds: q.bounds(), shown: map[Element]int{}}
	var err error
	if c.mine, err = s.cfg.Set.Summaries(ctx, c.bounds); err != nil {
		return err
	}
	for i := range q.parts {
		p, mine := &q.parts[i], &c.mine[i]
		if mine.Count == p.count && s.key.digest(mine) == p.digest {
			continue
		}
		c.differ++
		switch {
		case p.count == 0:
			err = s.sendItems(ctx, c.part(i), nil, false, nil)
		case mine.Count == 0:
			err = s.ask(&question{kind: kindOffer, r: c.part(i)}, round)
		case !c.decode(i):
			c.open = append(c.open, i)
		}
		if err != nil {
			return err
		}
	}
	if len(c.shown) > 0 {
		if err := s.exchangeShown(ctx, c, round); err != nil {
			return err
		}
	}
	return s.narrow(ctx, c, round)
}

// decode reads the differences of a part off the sketches, if it can.
func (c *compared) decode(i int) bool {
	if c.q.sums == 0 {
		return false
	}
	both := c.mine[i].sketch
	both.merge(&c.q.parts[i].sketch)
	elements, ok := both.decode(c.q.sums)
	if !ok || len(elements) == 0 {
		return false
	}
	if c.found == nil {
		c.found, c.showing = make([]int, len(c.mine)), make([]int, len(c.mine))
	}
	for _, e := range elements {
		c.shown[e] = i
	}
	c.showing[i] = len(elements)
	return true
}

// exchangeShown sends what the sketches have shown to be only here, and asks for the rest. What
// cannot be true is narrowed down after all: a sketch is no proof.
func (s *session) exchangeShown(ctx context.Context, c *compared, round int) error {
	elements := make([]Element, 0, len(c.shown))
	for e := range c.shown {
		elements = append(elements, e)
	}
	for item, err := range s.cfg.Set.Find(ctx, c.q.r, elements) {
		if err != nil {
			return err
		}
		i, ok := c.shown[item.Element]
		if !ok || !c.part(i).Contains(item.Key) {
			continue
		}
		delete(c.shown, item.Element)
		c.found[i]++
		c.mine[i].Remove(item.Mark)
		if err := s.sendItem(&item); err != nil {
			return err
		}
	}
	for i, n := range c.showing {
		if n == 0 {
			continue
		}
		// mine is now what both have, if the sketch is right.
		p, lacking := &c.q.parts[i], n-c.found[i]
		wrong := c.mine[i].Count+uint64(lacking) != p.count || lacking == 0 &&
			s.key.digest(&c.mine[i]) != p.digest
		c.mine[i].Count += uint64(c.found[i])
		if wrong {
			c.open = append(c.open, i)
			c.showing[i] = 0
		}
	}
	lacking := make([]Element, 0, len(c.shown))
	for e, i := range c.shown {
		if c.showing[i] > 0 {
			lacking = append(lacking, e)
		}
	}
	for len(lacking) > 0 {
		n := min(len(lacking), maxIDs)
		if err := s.ask(&question{kind: kindFetch, elements: lacking[:n]}, round); err != nil {
			return err
		}
		s.wanted(n)
		lacking = lacking[n:]
	}
	return nil
}

// narrow asks on about the parts that are still open.
func (s *session) narrow(ctx context.Context, c *compared, round int) error {
	share := float64(c.differ) / float64(len(c.mine))
	again := &question{kind: kindCompare, sums: sumsFor(share)}
	for _, i := range c.open {
		mine, theirs := c.mine[i].Count, c.q.parts[i].count
		var err error
		switch {
		case mine <= listBelow, mine <= theirs/much, s.crowded():
			err = s.offer(ctx, c.part(i), round)
		case theirs <= listBelow, theirs <= mine/much:
			err = s.ask(&question{kind: kindList, r: c.part(i)}, round)
		case !c.q.strict && !s.cfg.Plain && c.q.sums == 0 && len(c.mine) >= enoughParts && share < crowd:
			err = s.compareAgain(again, c, i, round)
		default:
			err = s.divide(ctx, c, i, round)
		}
		if err != nil {
			return err
		}
	}
	if len(again.parts) > 0 {
		return s.ask(again, round)
	}
	return nil
}

// compareAgain adds a part to a question that compares parts by their sketches; neighbours are
// asked about together.
func (s *session) compareAgain(again *question, c *compared, i int, round int) error {
	r := c.part(i)
	if n := len(again.parts); n > 0 && !bytes.Equal(again.parts[n-1].to, r.From) {
		if err := s.ask(again, round); err != nil {
			return err
		}
		again.parts = nil
	}
	if len(again.parts) == 0 {
		again.r.From = r.From
	}
	again.parts = append(again.parts, s.claim(r, &c.mine[i]))
	if again.memory() < heavyQuestion {
		return nil
	}
	// It counts as open before more is asked.
	err := s.ask(again, round)
	again.parts = nil
	return err
}

func (s *session) claim(r Range, sum *Summary) claim {
	return claim{to: r.To, count: sum.Count, digest: s.key.digest(sum), sketch: sum.sketch}
}

// divide compares parts of a part.
func (s *session) divide(ctx context.Context, c *compared, i int, round int) error {
	k, sums := wide, 0
	switch {
	case c.q.strict:
	case c.q.sums == capacity &&
		len(c.mine) == 1: // nothing is known but that there are more differences than that
		sums = fewSums
	case c.q.sums > 0 && (len(c.mine) < enoughParts || 2*len(c.open) < len(c.mine)):
		k, sums = narrow, moreSums
	case c.q.sums == 0 && len(c.mine) >= enoughParts:
		k = medium
	}
	k = max(2, min(k, int(c.mine[i].Count/(listBelow/2))))
	parts, err := s.cfg.Set.Split(ctx, c.part(i), k)
	if err != nil {
		return err
	}
	q := &question{kind: kindCompare, sums: sums, strict: c.q.strict, r: Range{From: parts[0].From}}
	for j := range parts {
		q.parts = append(q.parts, s.claim(parts[j].Range, &parts[j].Summary))
	}
	return s.ask(q, round)
}

// offer lists all items of a range, in pieces of at most maxIDs.
func (s *session) offer(ctx context.Context, r Range, round int) error {
	q := question{kind: kindOffer, r: r}
	var last []byte
	for item, err := range s.cfg.Set.Items(ctx, r) {
		if err != nil {
			return err
		}
		if len(q.ids) == maxIDs {
			at := Separator(last, item.Key)
			q.r.To = at
			if err := s.ask(&q, round); err != nil {
				return err
			}
			q.r, q.ids = Range{From: at, To: r.To}, q.ids[:0]
		}
		q.ids = append(q.ids, s.key.short(item.ID))
		last = append(last[:0], item.Key...)
	}
	return s.ask(&q, round)
}

func idSet(ids []shortID) map[shortID]bool {
	m := make(map[shortID]bool, len(ids))
	for _, id := range ids {
		m[id] = true
	}
	return m
}

// answerOffer sends what the peer did not list, and asks for what it did and is not here.
func (s *session) answerOffer(ctx context.Context, q *question, round int) error {
	offered := idSet(q.ids)
	lacking := idSet(q.ids)
	if err := s.sendItems(ctx, q.r, offered, false, lacking); err != nil || len(lacking) == 0 {
		return err
	}
	ids := make([]shortID, 0, len(lacking))
	for _, id := range q.ids {
		if lacking[id] {
			ids = append(ids, id)
			delete(lacking, id) // an id that is listed twice is asked for once
		}
	}
	s.wanted(len(ids))
	return s.ask(&question{kind: kindSend, r: q.r, ids: ids}, round)
}

func (s *session) answerFetch(ctx context.Context, q *question) error {
	for item, err := range s.cfg.Set.Find(ctx, s.cfg.Range, q.elements) {
		if err != nil {
			return err
		}
		if err := s.sendItem(&item); err != nil {
			return err
		}
	}
	return nil
}

// sendItems sends the items of r whose short id is in ids, or is not, depending on in; what it
// meets it takes out of seen.
func (s *session) sendItems(
	ctx context.Context, r Range, ids map[shortID]bool, in bool, seen map[shortID]bool,
) error {
	for item, err := range s.cfg.Set.Items(ctx, r) {
		if err != nil {
			return err
		}
		if ids != nil {
			id := s.key.short(item.ID)
			delete(seen, id)
			if ids[id] != in {
				if err := s.passOver(ctx); err != nil {
					return err
				}
				continue
			}
		}
		if err := s.sendItem(&item); err != nil {
			return err
		}
	}
	return nil
}

// passOver counts an item that was looked at for nothing. An honest peer asks for items by what
// this side has offered it, and offers what it has; so it makes this side pass over each item a few
// times at most. One that asks for what nobody has offered would have it read the whole set for a
// few bytes.
func (s *session) passOver(ctx context.Context) error {
	if s.passed++; s.passed < s.mayPass {
		return nil
	}
	sum, err := SummaryOf(ctx, s.cfg.Set, s.cfg.Range)
	if err != nil {
		return err
	}
	if s.mayPass = freePasses + passesEach*sum.Count; s.passed > s.mayPass {
		return protocolErrorf("it asks for what is not here, %d times what is", passesEach)
	}
	return nil
}
