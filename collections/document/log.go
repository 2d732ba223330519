package document

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// A store that keeps no logs by itself holds a log in several objects: the head under the log's own key, and chunks of elements under keys that tell the
// time of their first. A chunk is written before the head, and what the head does not count is not there: an append that fails half-way has not happened.

const (
	chunkMark = "__seg/" // stands after the log's key in those of its chunks
	// defaultChunk is how many elements there are in a chunk, unless configured.
	defaultChunk = 1000
)

// segments is what the head of a log knows of its chunks.
type segments struct {
	n         int64 // elements
	sealed    int64 // of them, those in chunks that nothing is added to any more
	chunkSize int64
	tail      string // key of the chunk that elements are added to
}

func (s *segments) append(b []byte) []byte {
	b = value.Append(append(b, `,"seg":true,"n":`...), float64(s.n))
	b = value.Append(append(b, `,"sealedN":`...), float64(s.sealed))
	b = value.Append(append(b, `,"chunkSize":`...), float64(s.chunkSize))
	return value.AppendString(append(b, `,"tailKey":`...), s.tail)
}

func parseSegments(o *value.Object) *segments {
	s := &segments{n: whole(o, "n"), sealed: whole(o, "sealedN"), chunkSize: whole(o, "chunkSize")}
	s.tail, _ = o.String("tailKey")
	return s
}

// chunkKey is the key of the chunk whose first element has a time.
func chunkKey(key string, time int64) string { return fmt.Sprintf("%s%s%016d", key, chunkMark, time) }

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

// logHash is the hash of a log of n elements, of which the last holds data.
func logHash(n int64, data any) string {
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
	for range attempts {
		w, err := d.appendChunked(ctx, key, data, time, author, l)
		if !errors.Is(err, store.ErrChanged) {
			return w, err
		}
	}
	return Written{}, fmt.Errorf("log %s: %w", key, store.ErrChanged)
}

// next returns the time of the element after one of a time.
func (d *Documents) next(given *int64, last int64) (int64, error) {
	if given == nil {
		return max(d.Now(), last+1), nil
	}
	if *given <= last {
		return 0, ErrNotMonotonic
	}
	return *given, nil
}

func (d *Documents) appendTo(ctx context.Context, logs store.Logs, key string, data *value.Object, given *int64, author *Author, l Log) (Written, error) {
	n, last, err := logs.Length(ctx, key)
	if err != nil {
		return Written{}, fmt.Errorf("log %s: %w", key, err)
	}
	if l.MaxItems > 0 && n >= l.MaxItems {
		return Written{}, &FullError{l.MaxItems}
	}
	if n == 0 {
		last = -1
	}
	t, err := d.next(given, last)
	if err != nil {
		return Written{}, err
	}
	head := New(&value.Object{}, t, nil, false)
	e := store.Element{Time: t, Body: value.Append(nil, element(t, data, author))}
	if err := logs.Append(ctx, key, e, &store.Object{Body: head.Bytes(), Type: "application/json"}); err != nil {
		return Written{}, fmt.Errorf("log %s: %w", key, err)
	}
	return Written{logHash(n+1, data), t}, nil
}

// chunk reads a chunk; what is not there is empty.
func (d *Documents) chunk(ctx context.Context, key string) (value.Array, error) {
	if key == "" {
		return nil, nil
	}
	o, err := d.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("chunk %s: %w", key, err)
	}
	v, err := value.Parse(o.Body, maxDepth)
	a, ok := v.(value.Array)
	if err != nil || !ok {
		return nil, fmt.Errorf("chunk %s: %w", key, ErrCorrupt)
	}
	return a, nil
}

func (d *Documents) put(ctx context.Context, key string, v any) error {
	return d.store.Put(ctx, key, &store.Object{Body: value.Append(nil, v), Type: "application/json"}, store.Whatever)
}

func (d *Documents) appendChunked(ctx context.Context, key string, data *value.Object, given *int64, author *Author, l Log) (Written, error) {
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
	tail, err := d.tail(ctx, &s)
	if err != nil {
		return Written{}, err
	}
	last := int64(-1)
	if len(tail) > 0 {
		last = timeOf(tail[len(tail)-1])
	} else if len(inline) > 0 {
		last = timeOf(inline[len(inline)-1])
	}
	t, err := d.next(given, last)
	if err != nil {
		return Written{}, err
	}
	if len(inline) > 0 {
		if tail, err = d.divide(ctx, key, inline, &s); err != nil {
			return Written{}, err
		}
	}
	if s.tail == "" || int64(len(tail)) >= s.chunkSize {
		if err := d.sweep(ctx, key, s.tail); err != nil {
			return Written{}, err
		}
		s.sealed += int64(len(tail))
		s.tail, tail = chunkKey(key, t), nil
	}
	tail = append(slices.Clip(tail), element(t, data, author))
	s.n = s.sealed + int64(len(tail))
	if err := d.put(ctx, s.tail, tail); err != nil {
		return Written{}, fmt.Errorf("log %s: %w", key, err)
	}
	rest := head.Data.Clone()
	rest.Delete(l.Field)
	next := &Document{Data: rest, Hash: logHash(s.n, data), Time: t, text: value.Append(nil, rest), log: &s}
	if err := d.store.Put(ctx, key, &store.Object{Body: next.Bytes(), Type: "application/json"}, if_(o)); err != nil {
		return Written{}, fmt.Errorf("log %s: %w", key, err)
	}
	return Written{next.Hash, t}, nil
}

// tail returns the elements of the last chunk that the head counts.
func (d *Documents) tail(ctx context.Context, s *segments) (value.Array, error) {
	tail, err := d.chunk(ctx, s.tail)
	if err != nil {
		return nil, err
	}
	return tail[:max(0, min(int64(len(tail)), s.n-s.sealed))], nil
}

// divide writes elements into chunks, all but the last of them, which it returns.
func (d *Documents) divide(ctx context.Context, key string, all value.Array, s *segments) (tail value.Array, err error) {
	for int64(len(all)) > s.chunkSize {
		if err := d.put(ctx, chunkKey(key, timeOf(all[0])), all[:s.chunkSize]); err != nil {
			return nil, fmt.Errorf("log %s: %w", key, err)
		}
		s.sealed += s.chunkSize
		all = all[s.chunkSize:]
	}
	s.tail = chunkKey(key, timeOf(all[0]))
	return all, nil
}

// sweep removes chunks after the last that the head knows, of appends that have failed half-way.
func (d *Documents) sweep(ctx context.Context, key, tail string) error {
	prefix := key + chunkMark
	lost, err := d.store.List(ctx, prefix, max(prefix, tail), 100)
	for _, k := range lost {
		if err == nil {
			err = d.store.Delete(ctx, k)
		}
	}
	if err != nil {
		return fmt.Errorf("log %s: %w", key, err)
	}
	return nil
}

// keys lists keys without those of chunks.
func (d *Documents) keys(ctx context.Context, prefix, after string, limit int) (all []string, err error) {
	if _, ok := d.store.(store.Logs); ok {
		return d.store.List(ctx, prefix, after, limit)
	}
	page := max(limit, 1000)
	for {
		some, err := d.store.List(ctx, prefix, after, page)
		if err != nil {
			return nil, err
		}
		for _, k := range some {
			if after = k; isChunk(k) {
				continue
			}
			if all = append(all, k); len(all) == limit {
				return all, nil
			}
		}
		if len(some) < page {
			return all, nil
		}
	}
}

func isChunk(key string) bool {
	i := strings.LastIndex(key, chunkMark)
	return i > 0 && len(key) == i+len(chunkMark)+16 && strings.Trim(key[i+len(chunkMark):], "0123456789") == ""
}

// Owner returns the key of the document or log that something under a key belongs to: an object of a store, or an element of a log.
func Owner(key string) string {
	key, _, _ = strings.Cut(key, "\x00")
	if isChunk(key) {
		key = key[:strings.LastIndex(key, chunkMark)]
	}
	return key
}

// Part is a part of a log.
type Part struct {
	Rest     *value.Object // what the document holds beside the elements
	Elements value.Array
	Hash     string // of the log; "" if there is none
	Time     int64  // of the last element, in Unix milliseconds; 0 if there is none
}

// Elements returns the elements of a log that are later than after, but no more than the last limit of them unless that is nil. It returns an error that is ErrCorrupt.
func (d *Documents) Elements(ctx context.Context, key string, after int64, limit *int64, l Log) (Part, error) {
	if logs, ok := d.store.(store.Logs); ok {
		return d.elementsOf(ctx, logs, key, after, limit)
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
	} else if p.Elements, err = d.chunks(ctx, key, head.log, after, limit); err != nil {
		return Part{}, err
	}
	if after > 0 {
		i, _ := slices.BinarySearchFunc(p.Elements, after+1, func(e any, t int64) int { return int(max(-1, min(1, timeOf(e)-t))) })
		p.Elements = p.Elements[i:]
	}
	if limit != nil {
		p.Elements = p.Elements[max(0, int64(len(p.Elements))-*limit):]
	}
	return p, nil
}

// chunks reads those chunks that elements after a time, or the last limit elements, may be in.
func (d *Documents) chunks(ctx context.Context, key string, s *segments, after int64, limit *int64) (all value.Array, err error) {
	if limit != nil && *limit == 0 {
		return nil, nil
	}
	prefix := key + chunkMark
	var keys []string
	for at := prefix; ; {
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
	keys = keys[:end]
	if after > 0 {
		i, _ := slices.BinarySearch(keys, chunkKey(key, after)+"\x00")
		keys = keys[max(0, i-1):]
	}
	var parts []value.Array
	var n int64
	for _, k := range slices.Backward(keys) {
		part, err := d.chunk(ctx, k)
		if k == s.tail {
			part, err = d.tail(ctx, s)
		}
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		if n += int64(len(part)); limit != nil && n >= *limit {
			break
		}
	}
	slices.Reverse(parts)
	return slices.Concat(parts...), nil
}

func (d *Documents) elementsOf(ctx context.Context, logs store.Logs, key string, after int64, limit *int64) (p Part, err error) {
	head, err := d.Get(ctx, key)
	if err != nil {
		return p, err
	}
	n, last, err := logs.Length(ctx, key)
	if err != nil || n == 0 {
		return p, err
	}
	p.Rest, p.Time = &value.Object{}, last
	if head != nil {
		p.Rest = head.Data
	}
	most := -1
	if limit != nil {
		most = int(*limit)
	}
	some, err := logs.Elements(ctx, key, after, most)
	if err != nil {
		return p, fmt.Errorf("log %s: %w", key, err)
	}
	newest := some
	if len(some) == 0 {
		if newest, err = logs.Elements(ctx, key, -1, 1); err != nil {
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
		data, _ := o.Get("data")
		p.Hash = logHash(n, data)
	}
	return p, nil
}
