package document

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// A log in several objects is in the order in which its elements came, and a cursor is a place in
// it: the time in the name of a chunk, how many of its elements the reader has, and the time of the
// last of these, by which is told that the log is another now, as from a backup. Bytes, base64url
// without padding:
//
//	version   1 byte: 3; 2 was without last
//	time      8 bytes, big-endian; 0 while the log is in one document
//	elements  8 bytes, big-endian
//	last      8 bytes, big-endian; 0 if elements is
const (
	chunkCursor     = 3
	formerCursor    = 2
	chunkCursorSize = 1 + 8 + 8 + 8
)

type position struct {
	chunk, elements int64
	last            int64 // -1 if it is not known
}

func (p position) String() string {
	b := binary.BigEndian.AppendUint64([]byte{chunkCursor}, uint64(p.chunk))
	b = binary.BigEndian.AppendUint64(b, uint64(p.elements))
	if p.last >= 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(p.last))
	} else {
		b[0] = formerCursor
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// fits reports whether a chunk, which begins at a time, may still hold what the reader has of it.
func (p position) fits(chunk int64, all value.Array) bool {
	switch {
	case p.chunk != chunk || p.elements == 0:
		return true
	case p.elements > int64(len(all)):
		return false
	}
	return p.last < 0 || p.last == max(0, timeOf(all[p.elements-1]))
}

// parsePosition returns store.ErrCursor.
func parsePosition(text string) (p position, err error) {
	if text == "" {
		return p, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	switch {
	case err != nil, len(b) != chunkCursorSize && len(b) != chunkCursorSize-8:
		return p, store.ErrCursor
	case len(b) == chunkCursorSize:
		if p.last = int64(binary.BigEndian.Uint64(b[17:])); p.last < 0 {
			return position{}, store.ErrCursor
		}
	default:
		p.last = -1
	}
	p.chunk, p.elements = int64(binary.BigEndian.Uint64(b[1:])), int64(binary.BigEndian.Uint64(b[9:]))
	if p.chunk < 0 || p.elements < 0 || p.String() != text { // the decoder skips line breaks
		return position{}, store.ErrCursor
	}
	return p, nil
}

// News is what a reader of a log has not got yet.
type News struct {
	Rest     *value.Object // what the document holds beside the elements
	Time     int64         // of the last element that is shown, as Part has it, unless Rest is empty
	Elements value.Array
	Next     string // the cursor from here on
	More     bool   // there is more than was asked for
	// Undecided is how many elements are left out of which cannot be told yet whether they count.
	Undecided int
}

// Since returns what a reader has not got who has a cursor, "" at first: elements that are later
// than after, which may be -1, about limit at most. Whatever was added, also late by another node,
// comes to a reader who goes on with the cursors that it gets; some may come again. It returns an
// error that is store.ErrCursor or ErrCorrupt.
func (d *Documents) Since(
	ctx context.Context, key, cursor string, after int64, limit int, l Log,
) (n News, err error) {
	logs, ofStore := d.store.(store.Logs)
	head, _, err := d.get(ctx, key)
	if err != nil && !(ofStore && errors.Is(err, ErrCorrupt)) { // whose elements do not lie in it
		return n, err
	}
	n.Rest = &value.Object{}
	if head != nil {
		n.Rest, n.Time = head.Data, head.Time
	}
	until := d.shownUntil()
	if ofStore {
		return d.sinceOf(ctx, logs, key, cursor, after, until, limit, n, l)
	}
	at, err := parsePosition(cursor)
	if err != nil || head == nil {
		n.Next = cursor
		return n, err
	}
	if head.log == nil {
		v, _ := head.Data.Get(l.Field)
		all, _ := v.(value.Array)
		if at.chunk > 0 || !at.fits(0, all) { // it was in chunks, or is another log now
			at = position{}
		}
		n.take(&at, 0, all, after, limit)
	} else if err := d.chunksSince(ctx, key, head.log, &at, after, until, limit, &n, l); err != nil {
		return n, err
	}
	n.Next = at.String()
	return n, nil
}

// take adds the elements of a chunk, and reports whether these are all of it.
func (n *News) take(at *position, chunk int64, all value.Array, after int64, limit int) bool {
	if at.chunk != chunk {
		*at = position{chunk: chunk}
	}
	for _, e := range all[min(at.elements, int64(len(all))):] {
		if len(n.Elements) >= limit {
			n.More = true
			return false
		}
		at.elements++
		t := timeOf(e)
		if at.last = max(0, t); t > after {
			n.Elements = append(n.Elements, e)
		}
	}
	return true
}

func (d *Documents) chunksSince(
	ctx context.Context, key string, s *segments, at *position, after, until int64, limit int,
	n *News, l Log,
) error {
	if until = s.until(until); n.Rest.Len() > 0 && n.Time > until {
		tail, err := d.tail(ctx, s)
		if err != nil {
			return err
		}
		end, err := d.endsOf(ctx, key, s, tail, until)
		if err != nil {
			return err
		}
		n.Time = max(0, end.shown.time)
	}
	from := ""
	if at.chunk > 0 {
		from = s.chunkKey(key, at.chunk-1)
	}
	keys, err := d.chunkKeys(ctx, key, from, s)
	if err != nil {
		return err
	}
	if at.chunk > 0 && (len(keys) == 0 || chunkTime(keys[0]) != at.chunk) { // it is another log now
		*at = position{}
		if keys, err = d.chunkKeys(ctx, key, "", s); err != nil {
			return err
		}
	}
	if after > 0 { // nothing before is as late
		for len(keys) > 1 && chunkTime(keys[1]) <= after {
			keys = keys[1:]
		}
	}
	for _, k := range keys {
		var part value.Array
		if k == s.tail {
			part, err = d.tail(ctx, s)
		} else {
			part, _, err = d.chunkObject(ctx, k, l)
		}
		if err != nil {
			return err
		}
		if !at.fits(chunkTime(k), part) { // it is another log now
			*at = position{}
			return d.chunksSince(ctx, key, s, at, after, until, limit, n, l)
		}
		if !n.take(at, chunkTime(k), part, after, limit) {
			return nil
		}
	}
	return nil
}

func (d *Documents) sinceOf(
	ctx context.Context, logs store.Logs, key, cursor string, after, until int64, limit int, n News,
	l Log,
) (News, error) {
	some, err := logs.Since(ctx, key, cursor, after, limit, l.before)
	if err != nil {
		return n, fmt.Errorf("log %s: %w", key, err)
	}
	if n.Rest.Len() > 0 { // otherwise nobody needs to know whether it is over
		length, err := logs.Length(ctx, key, until)
		if err != nil {
			return n, fmt.Errorf("log %s: %w", key, err)
		}
		n.Time = max(0, length.Last)
	}
	n.Next, n.More, n.Undecided = some.Next, some.More, some.Undecided
	for _, e := range some.Elements {
		if o := l.parse(key, e); o != nil {
			n.Elements = append(n.Elements, o)
		}
	}
	return n, nil
}
