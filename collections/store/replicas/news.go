package replicas

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// cursor says what a reader of a log has: all elements up to a time. Elements come late, from other
// nodes, and of no node's order of arrival the others know; so it has digests of what there was up
// to that time, up to 1 s before, 4 s before, 16 s, and so on. Where a digest is not what it is
// now, the reader gets again all since the latest one that is. Bytes, base64url without padding:
//
//	version   1 byte: 1; 2 is that of other stores (document/news.go)
//	time      8 bytes, big-endian: ms, and 1; 0 is that of a reader who has nothing
//	missing   1 byte: how many follow, at most maxMissing: elements whose content had not come
//	          each 8 bytes, the time, and 8 bytes, the first of the author
//	digests   of rungs(time), each the first digestSize bytes of the BLAKE3 hash of
//	          "skerry cursor 1\n", the hash of the summary, and the signature of the last entry
//
// All holders of an entry have its signature, and no caller sees it: a digest without it, of
// entries that a caller knows but for a hidden field, would tell which of a few values the field
// has.
type cursor struct {
	time    int64 // -1 is that of a reader who has nothing
	missing []place
	digests []digest
}

// place is where an element stands.
type place struct {
	time   int64
	author [8]byte
}

const (
	cursorVersion = 1
	cursorHead    = 1 + 8 + 1
	digestDomain  = "skerry cursor 1\n"
	maxMissing    = 32
	digestSize    = 8
	firstRung     = 1000 // ms
	rungFactor    = 4
)

type digest [digestSize]byte

// rungs are the times of whose elements a cursor has digests, from the last to the first.
func rungs(time int64) (all []int64) {
	if time < 0 {
		return nil
	}
	all = append(all, time)
	for back := int64(firstRung); back < time; back *= rungFactor {
		all = append(all, time-back)
	}
	return all
}

func (c *cursor) String() string {
	b := binary.BigEndian.AppendUint64([]byte{cursorVersion}, uint64(c.time+1))
	b = append(b, byte(len(c.missing)))
	for _, m := range c.missing {
		b = append(binary.BigEndian.AppendUint64(b, uint64(m.time)), m.author[:]...)
	}
	for _, d := range c.digests {
		b = append(b, d[:]...)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// parseCursor reads a cursor; "" is that of a reader who has nothing. It returns store.ErrCursor.
func parseCursor(text string) (c cursor, err error) {
	c.time = -1
	if text == "" {
		return c, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < cursorHead || b[9] > maxMissing {
		return c, store.ErrCursor
	}
	at, n := binary.BigEndian.Uint64(b[1:]), int(b[9])
	if b[0] != cursorVersion || at > maxTime+1 {
		return c, store.ErrCursor
	}
	c.time = int64(at) - 1
	if b = b[cursorHead:]; len(b) != n*16+digestSize*len(rungs(c.time)) {
		return cursor{}, store.ErrCursor
	}
	for ; n > 0; n-- {
		m := place{time: int64(binary.BigEndian.Uint64(b)), author: [8]byte(b[8:])}
		if m.time < 0 || m.time > maxTime {
			return cursor{}, store.ErrCursor
		}
		c.missing = append(c.missing, m)
		b = b[16:]
	}
	for ; len(b) > 0; b = b[digestSize:] {
		c.digests = append(c.digests, digest(b))
	}
	if c.String() != text { // the decoder skips line breaks
		return cursor{}, store.ErrCursor
	}
	return c, nil
}

// sumsUntil returns the summaries of a log's elements of until some times, which descend.
func (s *Store) sumsUntil(
	ctx context.Context, key string, times []int64,
) ([]reconcile.Summary, error) {
	bounds := [][]byte{replica.PrefixRange(logPrefix(key)).From}
	for _, t := range slices.Backward(times) {
		bounds = append(bounds, replica.PrefixRange(behind(key, t)).From)
	}
	if len(bounds) == 1 {
		return nil, nil
	}
	parts, err := s.n.Replicas().EntrySet(s.id).Summaries(ctx, bounds)
	if err != nil {
		return nil, err
	}
	sums := make([]reconcile.Summary, len(times))
	var all reconcile.Summary
	for i := range parts {
		all.Merge(&parts[i])
		sums[len(times)-1-i] = all
	}
	return sums, nil
}

// digests are of what there is of a log up to some times.
type digests struct {
	s     *Store
	key   string
	count uint64   // of the entries of the digest before
	last  [64]byte // the signature of the last of them
}

// of returns the digest of the elements of until a time, whose summary is sum. A time is earlier
// than the one before.
func (d *digests) of(ctx context.Context, time int64, sum *reconcile.Summary) (digest, error) {
	if sum.Count == 0 {
		d.last = [64]byte{}
	} else if sum.Count != d.count { // otherwise it is the same entry
		q := replica.Query{
			Prefix: logPrefix(d.key), Before: behind(d.key, time),
			Reverse: true, Limit: 1, Tombstones: true,
		}
		for it, err := range d.s.plain.Entries(ctx, q) {
			if err != nil {
				return digest{}, err
			}
			d.last = it.Entry.Signature
		}
	}
	d.count = sum.Count
	h := sum.Hash()
	mixed := blake3.Sum256(slices.Concat([]byte(digestDomain), h[:], d.last[:]))
	return digest(mixed[:]), nil
}

// attempts is how often news are read again because more has come meanwhile.
const attempts = 8

// Since implements store.Logs.
func (s *Store) Since(
	ctx context.Context, key, text string, after int64, limit int, before func(bytes int) error,
) (store.News, error) {
	if before == nil {
		before = func(int) error { return nil }
	}
	had, err := parseCursor(text)
	if err != nil {
		return store.News{}, err
	}
	h := hasty{ctx: ctx}
	defer h.end()
	found, missing, err := s.late(&h, key, &had, after, before)
	if err != nil {
		return store.News{}, err
	}
	for range attempts {
		news, next, whole, err := s.since(&h, key, &had, after, limit, s.waited(missing), before)
		if err != nil {
			return store.News{}, err
		}
		news.Elements = append(slices.Clone(found), news.Elements...)
		if !whole {
			continue
		}
		// Of those read again, some are missing again.
		missing = slices.DeleteFunc(missing, func(m place) bool {
			return slices.Contains(next.missing, m)
		})
		next.missing = append(missing, next.missing...)
		news.Undecided += len(next.missing)
		next.missing = crowded(next.missing, s.oldest())
		news.Next = next.String()
		return news, nil
	}
	return store.News{}, fmt.Errorf(
		"log %s: more has come each time while it was read: try again", key,
	)
}

// late returns those elements that were missing for a cursor and have come, and those that have
// not. None is as old as after: what a cursor says is missing is its holder's word.
func (s *Store) late(
	h *hasty, key string, had *cursor, after int64, before func(bytes int) error,
) (found []store.Element, missing []place, err error) {
	ctx := h.ctx
	for _, m := range had.missing {
		if m.time <= after {
			continue
		}
		for it, err := range s.plain.Entries(ctx, replica.Query{Key: timeKey(key, m.time)}) {
			if err != nil {
				return nil, nil, err
			}
			if !bytes.Equal(it.Entry.Author[:len(m.author)], m.author[:]) {
				continue
			}
			if err := before(s.sizeOf(key, &it.Entry)); err != nil {
				return nil, nil, err
			}
			body, why, err := s.present(h, key, m.time, &it.Entry)
			if err != nil {
				return nil, nil, err
			}
			if why != nil {
				missing = append(missing, m)
			} else if body != nil {
				found = append(found, store.Element{Time: m.time, Body: body})
			}
		}
	}
	return found, missing, nil
}

// present returns the body of an element, nil if it does not count; why says why it is not decided
// whether it does, as if its content has not come.
func (s *Store) present(
	h *hasty, key string, time int64, e *replica.Entry,
) (body []byte, why, err error) {
	state, err := s.n.ContentOf(h.ctx, e)
	if err != nil {
		return nil, nil, err
	}
	if state == wanted.Missing || state == wanted.Partial {
		return nil, errMissing, nil
	}
	body, err = s.element(h.ctx, key, time, e)
	var bad *unreadableError
	switch {
	case errors.Is(err, errMissing):
		return nil, err, nil
	case isUndecided(err):
		h.hurry()
		return nil, err, nil
	case errors.As(err, &bad) || errors.Is(err, ErrRefused):
		return nil, nil, nil
	}
	return body, nil, err
}

// since reads what comes after a cursor, which names so many elements already that are waited for.
// whole is false if something came meanwhile that it may not have.
func (s *Store) since(
	h *hasty, key string, had *cursor, after int64, limit, waited int, tell func(bytes int) error,
) (news store.News, next *cursor, whole bool, err error) {
	ctx := h.ctx
	agreed, err := s.agreed(ctx, key, had)
	if err != nil {
		return news, nil, false, err
	}
	from := max(agreed, after)
	before, err := s.sumsUntil(ctx, key, []int64{from})
	if err != nil {
		return news, nil, false, err
	}
	next = &cursor{time: from}
	q := replica.Query{Prefix: logPrefix(key), Tombstones: true}
	if from >= 0 {
		q.After = timeKey(key, from)
	}
	n := 0
	others := 0 // entries since the last element that are none
	for it, err := range s.plain.Entries(ctx, q) {
		if err != nil {
			return news, nil, false, err
		}
		t, ok := timeIn(key, it.Key)
		if !ok {
			switch within := bytes.Compare(it.Key, behind(key, next.time)) < 0; {
			case !within:
				others++ // which are part of a digest if an element follows
			case next.time > from:
				n++
			}
			continue
		}
		if n >= limit && t > next.time { // those of one time come together
			news.More = true
			break
		}
		var body []byte
		var why error
		if !it.Entry.IsTombstone() {
			if err := tell(s.sizeOf(key, &it.Entry)); err != nil {
				return news, nil, false, err
			}
			if body, why, err = s.present(h, key, t, &it.Entry); err != nil {
				return news, nil, false, err
			}
		}
		if why != nil && t > next.time && waited+s.waited(next.missing) >= maxMissing &&
			s.holdsCursor(key, why, t, &it.Entry) {
			news.Undecided++
			break
		}
		n, others = n+1+others, 0
		next.time = t
		if why != nil {
			next.missing = append(next.missing, place{t, [8]byte(it.Entry.Author[:8])})
		} else if body != nil {
			news.Elements = append(news.Elements, store.Element{Time: t, Body: body})
		}
	}
	if n == 0 && agreed == had.time && from == agreed {
		// Nothing has come, and what the digests are of is what it was. What has come to it since then
		// is found by the next cursor.
		next.digests = had.digests
		return news, next, true, nil
	}
	times := rungs(next.time)
	if from < next.time { // to tell whether what was read is what the digests are of
		times = append(times, from)
		slices.SortFunc(times, func(a, b int64) int { return int(b - a) })
		times = slices.Compact(times)
	}
	sums, err := s.sumsUntil(ctx, key, times)
	if err != nil {
		return news, nil, false, err
	}
	if i := slices.Index(times, from); i >= 0 {
		if sums[i].Hash() != before[0].Hash() || sums[0].Count-sums[i].Count != uint64(n) {
			return news, next, false, nil
		}
	}
	all := digests{s: s, key: key}
	for i, t := range times {
		if !slices.Contains(rungs(next.time), t) {
			continue
		}
		d, err := all.of(ctx, t, &sums[i])
		if err != nil {
			return news, nil, false, err
		}
		next.digests = append(next.digests, d)
	}
	return news, next, true, nil
}

// agreed returns the latest time up to which there is what there was when a cursor was made, -1 if
// there is none.
func (s *Store) agreed(ctx context.Context, key string, had *cursor) (int64, error) {
	times := rungs(had.time)
	sums, err := s.sumsUntil(ctx, key, times)
	if err != nil {
		return 0, err
	}
	all := digests{s: s, key: key}
	for i := range sums {
		d, err := all.of(ctx, times[i], &sums[i])
		if err != nil {
			return 0, err
		}
		if d == had.digests[i] {
			return times[i], nil
		}
	}
	return -1, nil
}
