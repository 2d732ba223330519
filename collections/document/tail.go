package document

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// Several servers may append to a log in one store. An append has happened when the head counts it,
// and then the element must be in its chunk. So
//
//   - a chunk is written under the condition that it is still what was read, after the head was;
//   - what lies in chunks and is not counted may be of an append under way. Before it is written
//     over, the head is changed (its turn), under the same condition, so that the other append cannot
//     be counted any more and begins anew;
//   - keys of chunks are not used again, and chunks that the head does not count are emptied, not
//     deleted: a deletion that comes late has no condition;
//   - no two writes of a chunk have the same bytes, as the tag of an object may be a hash of them.

// appendAttempts is how often an append is tried that others forestall.
const appendAttempts = 10

// chunkBody is a chunk as it is written: JSON, and behind it white space that no other write has.
func chunkBody(all value.Array) []byte {
	b := value.Append(nil, all)
	for n, i := rand.Uint64(), 0; i < 32; n, i = n>>2, i+1 {
		b = append(b, space[n&3])
	}
	return b
}

// space is what JSON may have around it.
const space = " \t\r\n"

func (d *Documents) put(
	ctx context.Context, key string, all value.Array, cond store.Condition,
) error {
	return d.store.Put(ctx, key, &store.Object{Body: chunkBody(all), Type: jsonType}, cond)
}

const jsonType = "application/json"

// pause waits a little, longer each time, so that of several writers one gets on.
func pause(ctx context.Context, attempt int) error {
	select {
	case <-time.After(rand.N(time.Millisecond << attempt)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// uncounted is what lies in a log's chunks and its head does not count.
type uncounted struct {
	tail value.Array   // the elements that are counted of the last chunk
	was  *store.Object // that chunk, nil if it is not there
	more bool          // there are others in it
	keys []string      // of chunks behind it
}

// behind looks at what the head, which has been read before, does not count. Chunks behind the last
// one are looked for when another is to begin.
func (d *Documents) behind(ctx context.Context, key string, s *segments) (u uncounted, err error) {
	all, was, err := d.chunkObject(ctx, s.tail)
	if err != nil {
		return u, err
	}
	u.was = was
	u.tail = all[:max(0, min(int64(len(all)), s.n-s.sealed))]
	u.more = len(u.tail) < len(all)
	if s.tail == "" || int64(len(u.tail)) >= s.chunkSize {
		prefix := s.prefix(key)
		if u.keys, err = d.store.List(ctx, prefix, max(prefix, s.tail), 1000); err != nil {
			return u, fmt.Errorf("log %s: %w", key, err)
		}
	}
	return u, nil
}

// name tells two of what is not counted apart; it is "" for nothing.
func (u *uncounted) name(head *store.Object) string {
	if !u.more && len(u.keys) == 0 {
		return ""
	}
	name := ""
	if head != nil {
		name = head.Tag
	}
	if u.was != nil {
		name += " " + u.was.Tag
	}
	return fmt.Sprint(name, " ", u.keys)
}

// fence makes sure that what is not counted never is, and returns the head from then on.
func (d *Documents) fence(
	ctx context.Context, key string, head *Document, o *store.Object, s *segments,
) (*store.Object, error) {
	s.turn++
	next := *head
	next.log = s
	if o == nil {
		next.Hash = "" // there is no log yet
	}
	body := next.Bytes()
	if err := d.store.Put(ctx, key, &store.Object{Body: body, Type: jsonType}, if_(o)); err != nil {
		return nil, fmt.Errorf("log %s: %w", key, err)
	}
	o, err := d.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) || err == nil && !bytes.Equal(o.Body, body) {
		err = store.ErrChanged
	}
	if err != nil {
		return nil, fmt.Errorf("log %s: %w", key, err)
	}
	return o, nil
}

// clear empties chunks that are not counted and cannot be any more, and returns the greatest time
// in their names, -1 if there are none.
func (d *Documents) clear(ctx context.Context, keys []string) (latest int64, err error) {
	latest = -1
	for _, k := range keys {
		latest = max(latest, chunkTime(k))
		all, o, err := d.chunkObject(ctx, k)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return latest, err
		}
		if o == nil || err == nil && len(all) == 0 {
			continue
		}
		if err := d.put(ctx, k, value.Array{}, store.Same(o.Tag)); err != nil {
			return latest, fmt.Errorf("chunk %s: %w", k, err)
		}
	}
	return latest, nil
}

// divide makes chunks of a log that another server keeps in its document. The head counts the same
// elements afterwards.
func (d *Documents) divide(
	ctx context.Context, key string, head *Document, o *store.Object, all value.Array, s segments,
	l Log,
) error {
	type part struct {
		key string
		all value.Array
		was *store.Object
	}
	var parts []part
	for some := range slices.Chunk(all, int(s.chunkSize)) {
		parts = append(parts, part{key: s.chunkKey(key, timeOf(some[0])), all: some})
	}
	for i := range parts {
		was, err := d.store.Get(ctx, parts[i].key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("chunk %s: %w", parts[i].key, err)
		}
		parts[i].was = was
	}
	// What was read is of before anybody else has made chunks, if the head still is what it was.
	now, err := d.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) || err == nil && now.Tag != o.Tag {
		err = store.ErrChanged
	}
	if err != nil {
		return fmt.Errorf("log %s: %w", key, err)
	}
	latest := head.Time
	for _, p := range parts {
		for _, e := range p.all {
			latest = max(latest, timeOf(e))
		}
		if p.was != nil && bytes.Equal(bytes.TrimRight(p.was.Body, space), value.Append(nil, p.all)) {
			continue
		}
		if err := d.put(ctx, p.key, p.all, if_(p.was)); err != nil {
			return fmt.Errorf("chunk %s: %w", p.key, err)
		}
	}
	last := parts[len(parts)-1]
	s.n, s.tail = int64(len(all)), last.key
	s.sealed = s.n - int64(len(last.all))
	rest := head.Data.Clone()
	rest.Delete(l.Field)
	next := &Document{Data: rest, Time: latest, text: value.Append(nil, rest), log: &s}
	next.Hash = LogHash(s.n, dataOf(all[len(all)-1]))
	if err := d.store.Put(ctx, key, &store.Object{Body: next.Bytes(), Type: jsonType}, if_(o)); err != nil {
		return fmt.Errorf("log %s: %w", key, err)
	}
	return nil
}
