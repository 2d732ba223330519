package document

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// Part is a part of a log.
type Part struct {
	Rest     *value.Object // what the document holds beside the elements
	Elements value.Array
	Hash     string // of the log; "" if there is none
	Length   int64  // of the log, in elements
	Last     any    // data of its last element, nil if that is not known
	Time     int64  // of the last element, in Unix milliseconds; 0 if there is none
	// Undecided is how many elements are left out of which cannot be told yet whether they count.
	Undecided int
}

// Elements returns the elements of a log that are later than after, but no more than the last limit
// of them unless that is nil. after is negative of a reader who does not go on from what it gets
// (see store.Logs). It returns an error that is ErrCorrupt.
func (d *Documents) Elements(
	ctx context.Context, key string, after int64, limit *int64, l Log,
) (Part, error) {
	until := d.shownUntil()
	if logs, ok := d.store.(store.Logs); ok {
		return d.elementsOf(ctx, logs, key, after, until, limit, l)
	}
	head, _, err := d.get(ctx, key)
	if err != nil || head == nil {
		return Part{}, err
	}
	p := Part{Rest: head.Data, Hash: head.Hash, Time: head.Time}
	if head.log == nil {
		v, _ := head.Data.Get(l.Field)
		all, _ := v.(value.Array)
		p.Elements = all
		if p.Length = int64(len(all)); len(all) > 0 {
			p.Last = dataOf(all[len(all)-1])
		}
	} else {
		tail, err := d.tail(ctx, head.log)
		if err != nil {
			return Part{}, err
		}
		p.Length = head.log.n
		if p.Last, err = d.last(ctx, key, head.log, tail); err != nil {
			return Part{}, err
		}
		until = head.log.until(until)
		end := head.log.ends.settled(until)
		if p.Elements, err = d.chunks(ctx, key, head.log, end, tail, after, until, limit, l); err != nil {
			return Part{}, err
		}
		if head.Time > until { // something may lie ahead
			if err := d.hideAhead(ctx, key, head.log, tail, until, &p); err != nil {
				return Part{}, err
			}
		}
	}
	p.Elements = between(p.Elements, after, until)
	if limit != nil {
		p.Elements = p.Elements[max(0, int64(len(p.Elements))-*limit):]
	}
	return p, nil
}

// dataOf returns the data of an element.
func dataOf(element any) any {
	o, _ := element.(*value.Object)
	v, _ := o.Get("data")
	return v
}

// last returns the data of the last element that was added to a log, of which tail is the last
// chunk: that is empty when it has just been begun.
func (d *Documents) last(
	ctx context.Context, key string, s *segments, tail value.Array,
) (any, error) {
	if len(tail) == 0 && s.n > 0 {
		keys, err := d.chunkKeys(ctx, key, "", s)
		if err != nil {
			return nil, err
		}
		for _, k := range slices.Backward(keys) {
			if k == s.tail {
				continue
			}
			if tail, err = d.chunk(ctx, k); err != nil {
				return nil, err
			}
			if len(tail) > 0 {
				break
			}
		}
	}
	if len(tail) == 0 {
		return nil, nil
	}
	return dataOf(tail[len(tail)-1]), nil
}

// between returns, in the order of their times, the elements that are later than after and not
// later than until. It changes nothing.
func between(all value.Array, after, until int64) value.Array {
	byTime := func(a, b any) int { return cmp.Compare(timeOf(a), timeOf(b)) }
	if !slices.IsSortedFunc(all, byTime) { // as one was added that lay ahead
		all = slices.Clone(all)
		slices.SortStableFunc(all, byTime)
	}
	at := func(t int64) int {
		order := func(e any, t int64) int { return cmp.Compare(timeOf(e), t) }
		i, _ := slices.BinarySearchFunc(all, t, order)
		return i
	}
	from, to := 0, len(all)
	if after > 0 {
		from = at(after + 1)
	}
	if until < math.MaxInt64 {
		to = at(until + 1)
	}
	return all[min(from, to):to]
}

// chunks reads those chunks that elements after a time, or the last limit elements of until
// another, may be in. end is what is known of the log's ends at that time, or nil.
func (d *Documents) chunks(
	ctx context.Context, key string, s *segments, end *ends, tail value.Array,
	after, until int64, limit *int64, l Log,
) (all value.Array, err error) {
	if limit != nil && *limit == 0 {
		return nil, nil
	}
	keys, err := d.chunkKeys(ctx, key, "", s)
	if err != nil {
		return nil, err
	}
	if after > 0 {
		i, _ := slices.BinarySearch(keys, s.chunkKey(key, after)+"\x00")
		keys = keys[max(0, i-1):]
	}
	var parts []value.Array
	var n int64
	i, from, before := len(keys), after+1, int64(math.MaxInt64)
	for enough := false; i > 0 && !enough; {
		i--
		part := tail
		if keys[i] != s.tail {
			part, _, err = d.chunkObject(ctx, keys[i], l)
		}
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		before = min(before, end.bound(chunkTime(keys[i]), part, until))
		for _, e := range part {
			if t := timeOf(e); t >= before && t <= until {
				n++
			}
		}
		if limit != nil && n >= *limit {
			enough, from = true, max(from, before)
		}
		enough = enough || after > 0 && before <= after+1
	}
	if end != nil { // of the chunks before, those with elements that lay ahead
		var more []string
		for _, p := range end.ahead[:end.from(until)] {
			if p.time >= from {
				more = append(more, s.chunkKey(key, p.chunk))
			}
		}
		slices.Sort(more)
		for _, k := range slices.Compact(more) {
			if _, there := slices.BinarySearch(keys[:i], k); !there {
				continue
			}
			part, _, err := d.chunkObject(ctx, k, l)
			if err != nil {
				return nil, err
			}
			parts = append(parts, part)
		}
	}
	slices.Reverse(parts)
	return slices.Concat(parts...), nil
}

// hideAhead makes p a part of the log without what lies ahead: it holds the last elements of until
// a time, if any are asked for.
func (d *Documents) hideAhead(
	ctx context.Context, key string, s *segments, tail value.Array, until int64, p *Part,
) error {
	end, err := d.endsOf(ctx, key, s, tail, until)
	if err != nil {
		return err
	}
	ahead := end.count(until)
	if ahead == 0 {
		return nil
	}
	last, err := d.at(ctx, key, s, tail, end.shown)
	if err != nil {
		return err
	}
	p.Length, p.Last, p.Time = s.n-ahead, dataOf(last), end.shown.time
	p.Hash = LogHash(p.Length, p.Last)
	return nil
}

func (d *Documents) elementsOf(
	ctx context.Context, logs store.Logs, key string, after, until int64, limit *int64,
	l Log,
) (p Part, err error) {
	head, err := d.Get(ctx, key)
	if err != nil && !errors.Is(err, ErrCorrupt) { // the elements do not lie in it
		return p, err
	}
	length, err := logs.Length(ctx, key, until)
	if err != nil || length.All == 0 {
		return p, err
	}
	p.Rest, p.Time = &value.Object{}, max(0, length.Last)
	if head != nil {
		p.Rest = head.Data
	}
	most := -1
	if limit != nil {
		most = int(*limit)
	}
	some, undecided, err := logs.Elements(ctx, key, after, until, most, l.before)
	if err != nil {
		return p, fmt.Errorf("log %s: %w", key, err)
	}
	p.Undecided = undecided
	newest := some
	if len(some) == 0 {
		if newest, _, err = logs.Elements(ctx, key, -1, until, 1, l.before); err != nil {
			return p, fmt.Errorf("log %s: %w", key, err)
		}
	}
	for _, e := range some {
		if o := l.parse(key, e); o != nil {
			p.Elements = append(p.Elements, o)
		}
	}
	p.Length = length.Shown
	if len(p.Elements) > 0 {
		p.Last = dataOf(p.Elements[len(p.Elements)-1])
	} else if len(newest) > 0 {
		p.Last = dataOf(l.parse(key, newest[len(newest)-1]))
	}
	if len(newest) > 0 {
		p.Hash = LogHash(p.Length, p.Last)
	}
	return p, nil
}

// parse returns an element that a store has, nil if it cannot be read: what one author of a replica
// has written does not keep others from reading what is beside it.
func (l Log) parse(key string, e store.Element) *value.Object {
	o, err := value.ParseObject(e.Body, maxDepth)
	if err == nil {
		return o
	}
	if l.Skipped != nil {
		l.Skipped(fmt.Errorf("log %s: element %d: %w", key, e.Time, err))
	}
	return nil
}
