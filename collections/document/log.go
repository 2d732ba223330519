package document

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// A store that keeps no logs by itself holds a log in several objects: the head under the log's own
// key, and chunks of elements under keys that tell the time of their first. The head names a chunk,
// then the chunk is written, then the head counts its elements. What the head does not count is not
// there: an append that fails half-way has not happened.

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

// Log says how a log is kept.
type Log struct {
	Field     string
	MaxItems  int64 // 0 is unlimited
	ChunkSize int64 // of chunks that are begun; 0 is the default
	// Before, if set, is called before so many bytes of elements are parsed for Elements or Since,
	// which take many times as much memory afterwards. Its error ends the reading.
	Before func(bytes int) error
	// Skipped, if set, is told of elements that are left out as they cannot be read.
	Skipped func(err error)
}

func (l Log) before(bytes int) error {
	if l.Before == nil {
		return nil
	}
	return l.Before(bytes)
}

func (l Log) chunkSize() int64 {
	if l.ChunkSize > 0 {
		return l.ChunkSize
	}
	return defaultChunk
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

// Addition is what a push to a log asks for.
type Addition struct {
	Data   *value.Object
	Time   *int64       // Unix milliseconds; nil is now
	Author *Author      // whose signature of Data it bears
	Proof  *store.Proof // the request; nil of what a server writes by itself
}

// Append adds an element to a log, at a time in Unix milliseconds or, if that is nil, now. It
// returns an error that is ErrNotMonotonic, or a *FullError.
func (d *Documents) Append(
	ctx context.Context, key string, data *value.Object, time *int64, author *Author, l Log,
) (Written, error) {
	return d.Add(ctx, key, Addition{Data: data, Time: time, Author: author}, l)
}

// Add adds an element as Append does.
func (d *Documents) Add(ctx context.Context, key string, a Addition, l Log) (Written, error) {
	unlock, err := d.lock(ctx, key)
	if err != nil {
		return Written{}, err
	}
	defer unlock()
	if logs, ok := d.store.(store.Logs); ok {
		return d.appendTo(ctx, logs, key, &a, l)
	}
	seen := ""
	for i := range appendAttempts {
		w, err := d.appendChunked(ctx, key, a.Data, a.Time, a.Author, l, &seen)
		if !errors.Is(err, store.ErrChanged) {
			return w, err
		}
		if i == appendAttempts-1 {
			break
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
func (d *Documents) next(
	given *int64, last, latest int64, taken func(int64) (bool, error),
) (int64, error) {
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

func (d *Documents) appendTo(
	ctx context.Context, logs store.Logs, key string, a *Addition, l Log,
) (Written, error) {
	length, err := logs.Length(ctx, key, d.shownUntil())
	if err != nil {
		return Written{}, fmt.Errorf("log %s: %w", key, err)
	}
	n, latest := length.All, length.Last
	if l.MaxItems > 0 && n >= l.MaxItems { // with what does not count
		counting, err := logs.Count(ctx, key, l.MaxItems)
		if err != nil {
			return Written{}, fmt.Errorf("log %s: %w", key, err)
		}
		if counting >= l.MaxItems {
			return Written{}, &FullError{l.MaxItems}
		}
	}
	if length.Shown < n {
		all, err := logs.Length(ctx, key, math.MaxInt64)
		if err != nil {
			return Written{}, fmt.Errorf("log %s: %w", key, err)
		}
		latest = all.Last
	}
	taken := func(t int64) (bool, error) { return logs.Has(ctx, key, t) }
	t, err := d.next(a.Time, length.Last, latest, taken)
	if err != nil {
		return Written{}, err
	}
	head := New(&value.Object{}, t, nil, false)
	e := store.Element{
		Time: t, Body: value.Append(nil, element(t, a.Data, a.Author)), Proof: a.Proof}
	if err := logs.Append(ctx, key, e, &store.Object{Body: head.Bytes(), Type: jsonType}); err != nil {
		return Written{}, fmt.Errorf("log %s: %w", key, err)
	}
	return Written{Hash: LogHash(n+1, a.Data), Time: t}, nil
}

// chunk reads a chunk; what is not there is empty.
func (d *Documents) chunk(ctx context.Context, key string) (value.Array, error) {
	a, _, err := d.chunkObject(ctx, key, Log{})
	return a, err
}

// chunkObject returns a chunk also as it is stored, which is nil if it is not there.
func (d *Documents) chunkObject(
	ctx context.Context, key string, l Log,
) (value.Array, *store.Object, error) {
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
	if err := l.before(len(o.Body)); err != nil {
		return nil, nil, err
	}
	v, err := value.Parse(o.Body, maxDepth)
	a, ok := v.(value.Array)
	if err != nil || !ok {
		return nil, o, fmt.Errorf("chunk %s: %w", key, ErrCorrupt)
	}
	return a, o, nil
}

// appendChunked appends to a log in chunks, unless somebody else has written meanwhile, which is
// ErrChanged. seen is the state of what is not counted as it was at the last attempt: while that
// changes, another append is under way, which is given time to end.
func (d *Documents) appendChunked(
	ctx context.Context, key string, data *value.Object, given *int64, author *Author, l Log,
	seen *string,
) (Written, error) {
	head, o, err := d.get(ctx, key)
	if err != nil {
		return Written{}, err
	}
	if head == nil {
		head = New(&value.Object{}, 0, nil, false)
	}
	var inline value.Array // the elements of a log that another server keeps in its document
	s := segments{chunkSize: l.chunkSize()}
	if head.log != nil {
		s = *head.log
		if s.chunkSize <= 0 {
			s.chunkSize = l.chunkSize()
		}
	} else if v, _ := head.Data.Get(l.Field); v != nil {
		inline, _ = v.(value.Array)
		s.n = int64(len(inline))
	}
	if l.MaxItems > 0 && s.n >= l.MaxItems {
		return Written{}, &FullError{l.MaxItems}
	}
	if len(inline) > 0 {
		if err := d.convert(ctx, key, head, o, inline, s, l); err != nil {
			return Written{}, err
		}
		return d.appendChunked(ctx, key, data, given, author, l, seen)
	}
	found, err := d.findUncounted(ctx, key, &s)
	if err != nil {
		return Written{}, err
	}
	if now := found.state(o); now != "" && now != *seen {
		*seen = now
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
	if found.state(o) != "" {
		if o, err = d.fence(ctx, key, head, o, &s); err != nil {
			return Written{}, err
		}
	}
	same := if_(found.was)
	if s.full(tail) {
		if found.more { // a chunk that is not the last counts whole
			if err := d.put(ctx, s.tail, tail, same); err != nil {
				return Written{}, fmt.Errorf("log %s: %w", key, err)
			}
		}
		cleared, err := d.clear(ctx, found.keys)
		if err != nil {
			return Written{}, err
		}
		s.sealed += int64(len(tail))
		s.n, s.chunkSize = s.sealed, l.chunkSize()
		at := max(t, end.latest+1, cleared+1)
		if s.tail != "" {
			at = max(at, chunkTime(s.tail)+1)
		}
		s.tail, tail, same = s.chunkKey(key, at), nil, store.Absent
		if o, err = d.replace(ctx, key, head, o, &s); err != nil {
			return Written{}, err
		}
	}
	e := element(t, data, author)
	tail = append(slices.Clip(tail), e)
	s.n = s.sealed + int64(len(tail))
	end.add(place{t, chunkTime(s.tail)}, until)
	s.ends = end
	if err := d.put(ctx, s.tail, tail, same); err != nil {
		return Written{}, fmt.Errorf("log %s: %w", key, err)
	}
	rest := head.Data.Clone()
	rest.Delete(l.Field)
	next := &Document{
		Data: rest, Hash: LogHash(s.n, data), Time: end.latest, text: value.Append(nil, rest),
		log: &s,
	}
	err = d.store.Put(ctx, key, &store.Object{Body: next.Bytes(), Type: jsonType}, if_(o))
	if errors.Is(err, store.ErrChanged) {
		if is, bad := d.counted(ctx, key, &s, e, given); is || bad != nil {
			err = bad
		}
	}
	if err != nil {
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
