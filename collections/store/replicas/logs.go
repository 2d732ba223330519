package replicas

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/replica"
)

// elementKey is the key of an element of a log.
func elementKey(key string, time int64) string { return fmt.Sprintf("%s\x00%016d", key, time) }

// logPrefix is what the keys of a log's elements begin with.
func logPrefix(key string) []byte { return []byte(logs + key + "\x00") }

// timeIn returns the time of an element of a log. ok is false for a key that no server makes, which
// any author can write: there is no element.
func timeIn(log string, key []byte) (time int64, ok bool) {
	digits, ok := bytes.CutPrefix(key, logPrefix(log))
	if !ok || len(digits) != timeDigits || bytes.Trim(digits, "0123456789") != nil {
		return 0, false
	}
	time, err := strconv.ParseInt(string(digits), 10, 64)
	return time, err == nil
}

// maxRefused is how many elements that do not count are looked behind for the last one that does;
// see also maxBehind.
const maxRefused = 1000

// timeKey is the key of the replica that the elements of a log of a time have.
func timeKey(key string, time int64) []byte {
	return fmt.Appendf(nil, "%s%016d", logPrefix(key), max(0, min(time, maxTime)))
}

// behind returns the first key behind all elements of a log of until a time.
func behind(key string, time int64) []byte {
	if time >= maxTime {
		return []byte(logs + key + "\x01")
	}
	return timeKey(key, time+1)
}

// maxTime is the latest time that has 16 digits.
const (
	maxTime    = 9_999_999_999_999_999
	timeDigits = 16
)

// Length implements store.Logs. What does not count is not the last element, but is one of the
// number, as are entries that are no elements.
func (s *Store) Length(ctx context.Context, key string, until int64) (l store.Length, err error) {
	l.Last = -1
	r := replica.PrefixRange(logPrefix(key))
	bounds := [][]byte{r.From, r.To}
	if until < maxTime {
		bounds = [][]byte{r.From, replica.PrefixRange(behind(key, until)).From, r.To}
	}
	sums, err := s.n.Replicas().EntrySet(s.id).Summaries(ctx, bounds)
	if err != nil {
		return l, err
	}
	l.Shown = int64(sums[0].Count)
	for _, sum := range sums {
		l.All += int64(sum.Count)
	}
	if l.Shown == 0 {
		return l, nil
	}
	q := replica.Query{Prefix: logPrefix(key), Reverse: true, Limit: maxRefused}
	if l.Shown < l.All {
		q.Before = timeKey(key, until+1)
	}
	behind := 0 // bytes that have been read
	for it, err := range s.plain.Entries(ctx, q) {
		if err != nil {
			return l, err
		}
		t, ok := timeIn(key, it.Key)
		if !ok {
			continue
		}
		if s.ruled() {
			if behind > maxBehind {
				break
			}
			behind += s.sizeOf(key, &it.Entry)
			_, err := s.element(ctx, key, t, &it.Entry)
			var bad *unreadableError
			if errors.Is(err, ErrRefused) || errors.Is(err, errTired) ||
				errors.As(err, &bad) && bad.never {
				continue
			}
		}
		l.Last = t
		break
	}
	return l, nil
}

// Has implements store.Logs: another node's element of the same time has a place of its own.
func (s *Store) Has(ctx context.Context, key string, time int64) (bool, error) {
	return s.plain.HasAny(ctx, []replica.AuthorID{s.author.Author()}, timeKey(key, time))
}

// Append implements store.Logs.
func (s *Store) Append(ctx context.Context, key string, e store.Element, head *store.Object) error {
	at := elementKey(key, e.Time)
	if isTooLong(at) {
		return store.ErrKey
	}
	body, err := s.encode(at, s.attach(e.Proof, e.Body))
	if err != nil {
		return err
	}
	p := &put{key: key, element: true, changes: []change{{logs + at, body}}}
	switch _, err := s.Get(ctx, key); {
	case errors.Is(err, store.ErrNotFound) || errors.Is(err, errMissing):
		if body, err = s.encode(key, head.Body); err != nil {
			return err
		}
		p.changes = append(p.changes, change{docs + key, body})
	case err != nil:
		return err
	}
	return s.send(ctx, p)
}

// Elements implements store.Logs.
func (s *Store) Elements(
	ctx context.Context, key string, after, until int64, limit int, before func(bytes int) error,
) (all []store.Element, undecided int, err error) {
	if limit == 0 {
		return nil, 0, nil
	}
	q := replica.Query{Prefix: logPrefix(key), Reverse: true, Limit: max(0, limit)}
	if after > 0 {
		q.After = timeKey(key, after)
	}
	if until < maxTime {
		q.Before = timeKey(key, until+1)
	}
	told := 0
	tell := func(bytes int) error {
		more := bytes - told // those of the round before are read again
		if told = max(told, bytes); before == nil || more <= 0 {
			return nil
		}
		return before(more)
	}
	goesOn := after >= 0 && limit < 0
	for {
		var out left
		var n int
		if all, n, err = s.elements(ctx, key, q, goesOn, &out, tell); err != nil {
			return nil, 0, err
		}
		if limit < 0 || len(all) >= limit || n < q.Limit || len(all) == n || out.open > maxOpen {
			s.tell(&out)
			if limit > 0 {
				all = all[:min(len(all), limit)]
			}
			slices.Reverse(all)
			return all, out.open, nil
		}
		q.Limit *= 2 // as those that do not count are not among the last asked for
	}
}

// elements returns, from the last to the first, those of a query that count, and how many entries
// there are of all. Those whose content has not come are given to whoever asks again. With goesOn,
// none is returned behind one that is to be decided soon. tell is told how many bytes are going to
// be read.
func (s *Store) elements(
	ctx context.Context, key string, q replica.Query, goesOn bool, out *left,
	tell func(bytes int) error,
) (all []store.Element, n int, err error) {
	var entries []replica.Item
	size := 0
	for it, err := range s.plain.Entries(ctx, q) {
		if err != nil {
			return nil, 0, err
		}
		entries = append(entries, it)
		size += s.sizeOf(key, &it.Entry)
	}
	if err := tell(size); err != nil {
		return nil, 0, err
	}
	h := hasty{ctx: ctx}
	defer h.end()
	for i := range entries {
		e := &entries[i].Entry
		t, ok := timeIn(key, entries[i].Key)
		if !ok {
			out.noElement = true
			continue
		}
		b, err := s.element(h.ctx, key, t, e)
		if stop := out.add(err); stop != nil {
			return nil, 0, stop
		}
		switch {
		case err == nil:
			all = append(all, store.Element{Time: t, Body: b})
		case isUndecided(err):
			h.hurry()
			if goesOn && s.holds(err, t, e) {
				all = nil
			}
		}
	}
	return all, len(entries), nil
}

// sizeOf returns how many bytes of an entry of a log are read.
func (s *Store) sizeOf(key string, e *replica.Entry) int {
	if e.Size > uint64(s.most(key)) || s.junk.why(e) != nil {
		return 0
	}
	return int(e.Size)
}

// errNoObject reports an element that is no JSON object.
var errNoObject = errors.New("it is no JSON object")

// believes reports whether an author writes nothing that never counted. What its callers have
// written, and is refused since they may not any more, makes nobody tired of what others write by
// it.
func (s *Store) believes(a replica.AuthorID) bool {
	return a == s.author.Author() || s.ruled() && s.guard.IsServer(a)
}

// element returns the body of an element, or an error as of version.
func (s *Store) element(
	ctx context.Context, key string, time int64, e *replica.Entry,
) ([]byte, error) {
	if why := s.junk.tired(e); why != nil && !s.believes(e.Author) {
		return nil, why
	}
	return s.looked(e, func() ([]byte, error) {
		b, err := s.lookAt(ctx, elementKey(key, time), e)
		if err != nil || s.ruled() { // rules have read it
			return b, err
		}
		if !bytes.HasPrefix(b, []byte("{")) || !json.Valid(b) {
			return nil, unreadable(e, errNoObject)
		}
		return b, nil
	})
}
