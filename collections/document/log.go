package document

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// A store that keeps no logs by itself holds a log in several objects: the head under the log's own key, and chunks of elements under keys that tell the
// time of their first. A chunk is written before the head, and what the head does not count is not there: an append that fails half-way has not happened.

const (
	// chunkMark stands after the log's key in those of its chunks. No path has it, as no request may
	// name what has a store.Mark.
	chunkMark = store.Mark + "seg/"
	// formerMark did before: the chunks of a log that has it go on with it. No request may name it,
	// either.
	formerMark = "__seg/"
	// defaultChunk is how many elements there are in a chunk, unless configured.
	defaultChunk = 1000
)

// segments is what the head of a log knows of its chunks.
type segments struct {
	n         int64 // elements
	sealed    int64 // of them, those in chunks that nothing is added to any more
	chunkSize int64
	tail      string // key of the chunk that elements are added to
	turn      int64  // how often appends were kept from being counted; see fence
	ends      *ends  // nil if the head does not say
}

func (s *segments) append(b []byte) []byte {
	b = value.Append(append(b, `,"seg":true,"n":`...), float64(s.n))
	b = value.Append(append(b, `,"sealedN":`...), float64(s.sealed))
	b = value.Append(append(b, `,"chunkSize":`...), float64(s.chunkSize))
	b = value.AppendString(append(b, `,"tailKey":`...), s.tail)
	if s.turn > 0 {
		b = value.Append(append(b, `,"turn":`...), float64(s.turn))
	}
	if s.ends != nil {
		b = s.ends.append(append(b, `,"ends":`...), s.n)
	}
	return b
}

func parseSegments(o *value.Object) *segments {
	s := &segments{n: whole(o, "n"), sealed: whole(o, "sealedN"), chunkSize: whole(o, "chunkSize"), turn: whole(o, "turn")}
	s.tail, _ = o.String("tailKey")
	v, _ := o.Get("ends")
	s.ends = parseEnds(v, s.n, whole(o, "ts"))
	return s
}

// prefix is what the keys of a log's chunks begin with.
func (s *segments) prefix(key string) string {
	if strings.HasPrefix(s.tail, key+formerMark) {
		return key + formerMark
	}
	return key + chunkMark
}

// chunkKey is the key of the chunk of a log whose first element has a time.
func (s *segments) chunkKey(key string, time int64) string {
	return fmt.Sprintf("%s%016d", s.prefix(key), time)
}

// Log says how a log is kept.
type Log struct {
	Field     string
	MaxItems  int64 // 0 is unlimited
	ChunkSize int64 // 0 is the default
}

// element returns an element as it is stored.
func element(time int64, data any, author *Author) *value.Object {
	o := value.NewObject(member("ts", float64(time)), member("data", data))
	if author != nil {
		o.Set("authorPubkey", author.Key)
		o.Set("authorSignature", author.Signature)
	}
	return o
}

func timeOf(element any) int64 {
	o, _ := element.(*value.Object)
	return whole(o, "ts")
}

// LogHash is the hash of a log of n elements, of which the last holds data.
func LogHash(n int64, data any) string {
	return value.Hash(value.NewObject(member("n", float64(n)), member("last", data)))
}

// Append adds an element to a log, at a time in Unix milliseconds or, if that is nil, now. It returns an error that is ErrNotMonotonic, or a *FullError.
func (d *Documents) Append(ctx context.Context, key string, data *value.Object, time *int64, author *Author, l Log) (Written, error) {
	unlock, err := d.lock(ctx, key)
	if err != nil {
		return Written{}, err
	}
	defer unlock()
	if logs, ok := d.store.(store.Logs); ok {
		return d.appendTo(ctx, logs, key, data, time, author, l)
	}
	left := ""
	for i := range appendAttempts {
		w, err := d.appendChunked(ctx, key, data, time, author, l, &left)
		if !errors.Is(err, store.ErrChanged) {
			return w, err
		}
		if err := pause(ctx, i); err != nil {
			return Written{}, fmt.Errorf("log %s: %w", key, err)
		}
	}
	return Written{}, fmt.Errorf("log %s: %w", key, store.ErrChanged)
}

// An element may have a time that lies ahead. From shownAhead milliseconds on it counts, and is
// shown, only when its time has come: otherwise readers who go by times, and have seen it, would
// miss what others add until then, and others could add nothing.
const shownAhead = 1000

// shownUntil is the latest time of elements that are shown.
func (d *Documents) shownUntil() int64 { return d.Now() + shownAhead }

// maxTaken is how many times in a row that are taken are passed by.
const maxTaken = 1000

// next returns the time of the element after one of the time last, the latest that is shown;
// latest is that of all. taken reports whether there is an element of a time.
func (d *Documents) next(given *int64, last, latest int64, taken func(int64) (bool, error)) (int64, error) {
	if given != nil && *given <= last {
		return 0, ErrNotMonotonic
	}
	t := max(d.Now(), last+1)
	if given != nil {
		t = *given
	}
	for range maxTaken {
		if t > latest {
			return t, nil
		}
		is, err := taken(t)
		if err != nil || !is {
			return t, err
		}
		if given != nil {
			return 0, ErrNotMonotonic
		}
		t++
	}
	return latest + 1, nil
}

func (d *Documents) appendTo(ctx context.Context, logs store.Logs, key string, data *value.Object, given *int64, author *Author, l Log) (Written, error) {
	length, err := logs.Length(ctx, key, d.shownUntil())
	if err != nil {
		return Written{}, fmt.Errorf("log %s: %w", key, err)
	}
	n, latest := length.All, length.Last
	if l.MaxItems > 0 && n >= l.MaxItems {
		return Written{}, &FullError{l.MaxItems}
	}
	if length.Shown < n {
		all, err := logs.Length(ctx, key, math.MaxInt64)
		if err != nil {
			return Written{}, fmt.Errorf("log %s: %w", key, err)
		}
		latest = all.Last
	}
	taken := func(t int64) (bool, error) { return logs.Has(ctx, key, t) }
	t, err := d.next(given, length.Last, latest, taken)
	if err != nil {
		return Written{}, err
	}
	head := New(&value.Object{}, t, nil, false)
	e := store.Element{Time: t, Body: value.Append(nil, element(t, data, author))}
	if err := logs.Append(ctx, key, e, &store.Object{Body: head.Bytes(), Type: "application/json"}); err != nil {
		return Written{}, fmt.Errorf("log %s: %w", key, err)
	}
	return Written{Hash: LogHash(n+1, data), Time: t}, nil
}

// chunk reads a chunk; what is not there is empty.
func (d *Documents) chunk(ctx context.Context, key string) (value.Array, error) {
	a, _, err := d.chunkObject(ctx, key)
	return a, err
}

// chunkObject returns a chunk also as it is stored, which is nil if it is not there.
func (d *Documents) chunkObject(ctx context.Context, key string) (value.Array, *store.Object, error) {
	if key == "" {
		return nil, nil, nil
	}
	o, err := d.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("chunk %s: %w", key, err)
	}
	v, err := value.Parse(o.Body, maxDepth)
	a, ok := v.(value.Array)
	if err != nil || !ok {
		return nil, o, fmt.Errorf("chunk %s: %w", key, ErrCorrupt)
	}
	return a, o, nil
}

// appendChunked appends to a log in chunks, unless somebody else has written meanwhile, which is
// ErrChanged. left is what was found at the last attempt that is not counted: it may be an append
// under way, which is given time to end.
func (d *Documents) appendChunked(
	ctx context.Context, key string, data *value.Object, given *int64, author *Author, l Log, left *string,
) (Written, error) {
	head, o, err := d.get(ctx, key)
	if err != nil {
		return Written{}, err
	}
	if head == nil {
		head = New(&value.Object{}, 0, nil, false)
	}
	var inline value.Array // the elements of a log that another server keeps in its document
	s := segments{chunkSize: l.ChunkSize}
	if head.log != nil {
		s = *head.log
		if l.ChunkSize > 0 {
			s.chunkSize = l.ChunkSize
		}
	} else if v, _ := head.Data.Get(l.Field); v != nil {
		inline, _ = v.(value.Array)
		s.n = int64(len(inline))
	}
	if s.chunkSize <= 0 {
		s.chunkSize = defaultChunk
	}
	if l.MaxItems > 0 && s.n >= l.MaxItems {
		return Written{}, &FullError{l.MaxItems}
	}
	if len(inline) > 0 {
		if err := d.divide(ctx, key, head, o, inline, s, l); err != nil {
			return Written{}, err
		}
		return d.appendChunked(ctx, key, data, given, author, l, left)
	}
	found, err := d.behind(ctx, key, &s)
	if err != nil {
		return Written{}, err
	}
	if now := found.name(o); now != "" && now != *left {
		*left = now
		return Written{}, store.ErrChanged
	}
	tail := found.tail
	until := s.until(d.shownUntil())
	end, err := d.endsOf(ctx, key, &s, tail, until)
	if err != nil {
		return Written{}, err
	}
	taken := func(t int64) (bool, error) { return end.taken(t), nil }
	t, err := d.next(given, end.shown.time, end.latest, taken)
	if err != nil {
		return Written{}, err
	}
	if found.name(o) != "" {
		if o, err = d.fence(ctx, key, head, o, &s); err != nil {
			return Written{}, err
		}
	}
	same := if_(found.was)
	if s.tail == "" || int64(len(tail)) >= s.chunkSize {
		cleared, err := d.clear(ctx, found.keys)
		if err != nil {
			return Written{}, err
		}
		s.sealed += int64(len(tail))
		at := max(t, end.latest+1, cleared+1)
		if s.tail != "" {
			at = max(at, chunkTime(s.tail)+1)
		}
		s.tail, tail, same = s.chunkKey(key, at), nil, store.Absent
	}
	tail = append(slices.Clip(tail), element(t, data, author))
	s.n = s.sealed + int64(len(tail))
	end.add(place{t, chunkTime(s.tail)}, until)
	s.ends = end
	if err := d.put(ctx, s.tail, tail, same); err != nil {
		return Written{}, fmt.Errorf("log %s: %w", key, err)
	}
	rest := head.Data.Clone()
	rest.Delete(l.Field)
	next := &Document{Data: rest, Hash: LogHash(s.n, data), Time: end.latest, text: value.Append(nil, rest), log: &s}
	if err := d.store.Put(ctx, key, &store.Object{Body: next.Bytes(), Type: "application/json"}, if_(o)); err != nil {
		return Written{}, fmt.Errorf("log %s: %w", key, err)
	}
	return Written{Hash: next.Hash, Time: t}, nil
}

// tail returns the elements of the last chunk that the head counts.
func (d *Documents) tail(ctx context.Context, s *segments) (value.Array, error) {
	tail, err := d.chunk(ctx, s.tail)
	if err != nil {
		return nil, err
	}
	return tail[:max(0, min(int64(len(tail)), s.n-s.sealed))], nil
}

// keys lists those keys that are shown, without those of chunks. If shown is given, nothing that
// lies below a segment behind prefix may be shown, of which no more than a page or two is looked
// at.
func (d *Documents) keys(ctx context.Context, prefix, after string, limit int, shown func(key string) bool) (all []string, err error) {
	page := max(limit, 1000)
	if _, ok := d.store.(store.Logs); ok { // where there are no chunks between
		page = limit
	}
	for ; ; page = max(limit, 1000) {
		some, err := d.store.List(ctx, prefix, after, page)
		if err != nil {
			return nil, err
		}
		for _, k := range some {
			if after = k; isChunk(k) || shown != nil && !shown(k) {
				continue
			}
			if all = append(all, k); len(all) == limit {
				return all, nil
			}
		}
		if len(some) < page {
			return all, nil
		}
		if first, below := below(some[0], prefix), below(after, prefix); shown != nil && below != "" && first == below {
			after = below + beyond
		}
	}
}

// beyond follows a path with a slash at its end in a key that is greater than all that lie below
// it.
const beyond = "\U0010ffff"

// below returns the path of the segment behind prefix that a key lies below, with a slash; "" if it
// lies below none.
func below(key, prefix string) string {
	if i := strings.IndexByte(key[len(prefix):], '/'); i >= 0 {
		return key[:len(prefix)+i+1]
	}
	return ""
}

// isChunk reports whether a key is that of a chunk of a log.
func isChunk(key string) bool { return chunkOwner(key) != "" }

// chunkOwner returns the key of the log that a key is of a chunk of; "" if of none.
func chunkOwner(key string) string {
	const digits = 16
	head := key[:max(0, len(key)-digits)]
	for _, mark := range []string{chunkMark, formerMark} {
		if owner, ok := strings.CutSuffix(head, mark); ok && owner != "" && strings.Trim(key[len(head):], "0123456789") == "" {
			return owner
		}
	}
	return ""
}

// Owner returns the key of the document or log that something under a key belongs to: an object of a store, or an element of a log.
func Owner(key string) string {
	key, _, _ = strings.Cut(key, "\x00")
	if owner := chunkOwner(key); owner != "" {
		return owner
	}
	return key
}

// Part is a part of a log.
type Part struct {
	Rest     *value.Object // what the document holds beside the elements
	Elements value.Array
	Hash     string // of the log; "" if there is none
	Length   int64  // of the log, in elements
	Last     any    // data of its last element, nil if that is not known
	Time     int64  // of the last element, in Unix milliseconds; 0 if there is none
}

// Elements returns the elements of a log that are later than after, but no more than the last limit of them unless that is nil. It returns an error that is ErrCorrupt.
func (d *Documents) Elements(ctx context.Context, key string, after int64, limit *int64, l Log) (Part, error) {
	until := d.shownUntil()
	if logs, ok := d.store.(store.Logs); ok {
		return d.elementsOf(ctx, logs, key, after, until, limit)
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
		if p.Length = head.log.n; len(tail) > 0 {
			p.Last = dataOf(tail[len(tail)-1])
		}
		until = head.log.until(until)
		end := head.log.ends.settled(until)
		if p.Elements, err = d.chunks(ctx, key, head.log, end, tail, after, until, limit); err != nil {
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

// chunkTime is the time in a chunk's key.
func chunkTime(key string) int64 {
	t, _ := strconv.ParseInt(key[max(0, len(key)-16):], 10, 64)
	return t
}

// chunkKeys returns the keys of the chunks that a log's head knows, after one of them, in order.
func (d *Documents) chunkKeys(ctx context.Context, key, after string, s *segments) (keys []string, err error) {
	prefix := s.prefix(key)
	for at := max(prefix, after); ; {
		some, err := d.store.List(ctx, prefix, at, 1000)
		if err != nil {
			return nil, fmt.Errorf("log %s: %w", key, err)
		}
		keys = append(keys, some...)
		if len(some) < 1000 {
			break
		}
		at = some[len(some)-1]
	}
	end, _ := slices.BinarySearch(keys, s.tail+"\x00")
	return keys[:end], nil
}

// chunks reads those chunks that elements after a time, or the last limit elements of until
// another, may be in. end is what is known of the log's ends at that time, or nil.
func (d *Documents) chunks(
	ctx context.Context, key string, s *segments, end *ends, tail value.Array,
	after, until int64, limit *int64,
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
			part, err = d.chunk(ctx, keys[i])
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
			part, err := d.chunk(ctx, k)
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

func (d *Documents) elementsOf(ctx context.Context, logs store.Logs, key string, after, until int64, limit *int64) (p Part, err error) {
	head, err := d.Get(ctx, key)
	if err != nil {
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
	some, err := logs.Elements(ctx, key, after, until, most)
	if err != nil {
		return p, fmt.Errorf("log %s: %w", key, err)
	}
	newest := some
	if len(some) == 0 {
		if newest, err = logs.Elements(ctx, key, -1, until, 1); err != nil {
			return p, fmt.Errorf("log %s: %w", key, err)
		}
	}
	parse := func(e store.Element) (*value.Object, error) {
		o, err := value.ParseObject(e.Body, maxDepth)
		if err != nil {
			return nil, fmt.Errorf("log %s: element %d: %w", key, e.Time, ErrCorrupt)
		}
		return o, nil
	}
	for _, e := range some {
		o, err := parse(e)
		if err != nil {
			return p, err
		}
		p.Elements = append(p.Elements, o)
	}
	if len(newest) > 0 {
		o, err := parse(newest[len(newest)-1])
		if err != nil {
			return p, err
		}
		p.Length, p.Last = length.Shown, dataOf(o)
		p.Hash = LogHash(p.Length, p.Last)
	}
	return p, nil
}
