package document

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// Several servers may append to a log in one store. An append has happened when the head counts it,
// and then the element must be in its chunk. So
//
//   - the head names a chunk before anybody writes it. Otherwise two servers could begin two, of
//     which the head counts one, and the other, with an earlier name, is shown as well;
//   - a chunk is written under the condition that it is still what was read, after the head was;
//   - what lies in chunks and is not counted may be of an append under way. Before it is written
//     over, the head is changed (its turn), under the same condition, so that the other append
//     cannot be counted any more and begins anew;
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
	keys []string      // of chunks after it
}

// findUncounted looks for what the head, which has been read before, does not count. It looks for
// chunks after the last one when another is to begin.
func (d *Documents) findUncounted(
	ctx context.Context, key string, s *segments,
) (u uncounted, err error) {
	all, was, err := d.chunkObject(ctx, s.tail, Log{})
	if err != nil {
		return u, err
	}
	u.was = was
	u.tail = all[:max(0, min(int64(len(all)), s.n-s.sealed))]
	u.more = len(u.tail) < len(all)
	if s.full(u.tail) {
		prefix := s.prefix(key)
		if u.keys, err = d.store.List(ctx, prefix, max(prefix, s.tail), 1000); err != nil {
			return u, fmt.Errorf("log %s: %w", key, err)
		}
	}
	return u, nil
}

// state is another text whenever the head, or something that it does not count, is another; it is
// "" if all is counted.
func (u *uncounted) state(head *store.Object) string {
	if !u.more && len(u.keys) == 0 {
		return ""
	}
	tags := ""
	if head != nil {
		tags = head.Tag
	}
	if u.was != nil {
		tags += " " + u.was.Tag
	}
	return fmt.Sprint(tags, " ", u.keys)
}

// fence makes sure that what is not counted never is, and returns the head from then on.
func (d *Documents) fence(
	ctx context.Context, key string, head *Document, o *store.Object, s *segments,
) (*store.Object, error) {
	s.turn++
	return d.replace(ctx, key, head, o, s)
}

// replace stores the head of a log with other segments, and returns it as the store has it then.
func (d *Documents) replace(
	ctx context.Context, key string, head *Document, o *store.Object, s *segments,
) (*store.Object, error) {
	next := *head
	next.log = s
	if o == nil {
		next.Hash = "" // there is no log yet
	}
	body := next.Bytes()
	err := d.store.Put(ctx, key, &store.Object{Body: body, Type: jsonType}, if_(o))
	if err != nil && !errors.Is(err, store.ErrChanged) {
		return nil, fmt.Errorf("log %s: %w", key, err)
	}
	// It may have been changed by this very Put, sent twice (see counted); and another server that
	// has stored the same has done the same.
	o, err = d.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) || err == nil && !bytes.Equal(o.Body, body) {
		err = store.ErrChanged
	}
	if err != nil {
		return nil, fmt.Errorf("log %s: %w", key, err)
	}
	return o, nil
}

// errUncertain reports an append of which it cannot be told whether it has happened.
var errUncertain = errors.New("the store does not tell whether the element was added; look for it")

// counted reports whether an element counts although the head was not what the last Put of an
// append expects, where the chunk was. It may have been that Put that changed it: a store that is
// reached over a network sends it again when the answer is lost. s is what the head was to be. It
// returns errUncertain if another server may have added the same element.
//
// Who would add to the chunk while the element is not counted changes the turn first.
func (d *Documents) counted(
	ctx context.Context, key string, s *segments, element *value.Object, given *int64,
) (bool, error) {
	head, _, err := d.get(ctx, key)
	if err != nil {
		return false, err
	}
	if head == nil || head.log == nil || head.log.n < s.n {
		return false, nil
	}
	part, err := d.chunk(ctx, s.tail)
	at := s.n - s.sealed - 1
	if err != nil || at >= int64(len(part)) ||
		!bytes.Equal(value.Append(nil, part[at]), value.Append(nil, element)) {
		return false, err
	}
	if head.log.turn != s.turn && given == nil {
		return false, errUncertain
	}
	return true, nil
}

// clear empties chunks that are not counted and cannot be any more, and returns the greatest time
// in their names, -1 if there are none.
func (d *Documents) clear(ctx context.Context, keys []string) (latest int64, err error) {
	latest = -1
	for _, k := range keys {
		latest = max(latest, chunkTime(k))
		all, o, err := d.chunkObject(ctx, k, Log{})
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

// convert makes a chunk of a log that another server keeps in its document: one, however long it
// is, so that its name and what is in it follow from the document alone. The head counts the same
// elements afterwards.
func (d *Documents) convert(
	ctx context.Context, key string, head *Document, o *store.Object, all value.Array, s segments,
	l Log,
) error {
	s.tail = s.chunkKey(key, timeOf(all[0]))
	was, err := d.store.Get(ctx, s.tail)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("chunk %s: %w", s.tail, err)
	}
	// What was read is of before anybody else has made a chunk, if the head still is what it was.
	now, err := d.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) || err == nil && now.Tag != o.Tag {
		err = store.ErrChanged
	}
	if err != nil {
		return fmt.Errorf("log %s: %w", key, err)
	}
	if was == nil || !bytes.Equal(bytes.TrimRight(was.Body, space), value.Append(nil, all)) {
		if err := d.put(ctx, s.tail, all, if_(was)); err != nil {
			return fmt.Errorf("chunk %s: %w", s.tail, err)
		}
	}
	latest := head.Time
	for _, e := range all {
		latest = max(latest, timeOf(e))
	}
	rest := head.Data.Clone()
	rest.Delete(l.Field)
	next := &Document{Data: rest, Time: latest, text: value.Append(nil, rest), log: &s}
	next.Hash = LogHash(s.n, dataOf(all[len(all)-1]))
	err = d.store.Put(ctx, key, &store.Object{Body: next.Bytes(), Type: jsonType}, if_(o))
	if err != nil {
		return fmt.Errorf("log %s: %w", key, err)
	}
	return nil
}
