package document

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry-sync/skerry/collections/value"
)

// segments is what the head of a log knows of its chunks.
type segments struct {
	n         int64  // elements
	sealed    int64  // of them, those in chunks that nothing is added to any more
	tail      string // key of the chunk that elements are added to, which may not be there yet
	chunkSize int64  // how many elements fill that chunk
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
	s := &segments{
		n: whole(o, "n"), sealed: whole(o, "sealedN"), chunkSize: whole(o, "chunkSize"),
		turn: whole(o, "turn"),
	}
	s.tail, _ = o.String("tailKey")
	v, _ := o.Get("ends")
	s.ends = parseEnds(v, s.n, whole(o, "ts"))
	return s
}

// full reports whether the next element begins a chunk. Only the head, and what it counts of the
// last chunk, decide: all servers that have read the same head agree.
func (s *segments) full(tail value.Array) bool {
	return s.tail == "" || int64(len(tail)) >= s.chunkSize || weight(tail) >= maxWeight
}

// maxWeight is about how many bytes of elements make a chunk full. Each append reads the last chunk
// and writes it anew.
const maxWeight = 1 << 20

// weight is about how many bytes a value takes as JSON, and the same for all servers.
func weight(v any) int {
	switch v := v.(type) {
	case string:
		return len(v) + 2
	case value.Array:
		n := 2
		for _, e := range v {
			n += 1 + weight(e)
		}
		return n
	case *value.Object:
		n := 2
		for k, e := range v.All() {
			n += len(k) + 4 + weight(e)
		}
		return n
	}
	return 4
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

// isChunk reports whether a key is that of a chunk of a log.
func isChunk(key string) bool { return chunkOwner(key) != "" }

// chunkOwner returns the key of the log that a key is of a chunk of; "" if of none.
func chunkOwner(key string) string {
	const digits = 16
	head := key[:max(0, len(key)-digits)]
	for _, mark := range []string{chunkMark, formerMark} {
		if owner, ok := strings.CutSuffix(head, mark); ok && owner != "" &&
			strings.Trim(key[len(head):], "0123456789") == "" {
			return owner
		}
	}
	return ""
}

// Owner returns the key of the document or log that something under a key belongs to: an object of
// a store, or an element of a log.
func Owner(key string) string {
	key, _, _ = strings.Cut(key, "\x00")
	if owner := chunkOwner(key); owner != "" {
		return owner
	}
	return key
}

// chunkTime is the time in a chunk's key.
func chunkTime(key string) int64 {
	t, _ := strconv.ParseInt(key[max(0, len(key)-16):], 10, 64)
	return t
}

// chunkKeys returns the keys of the chunks that a log's head knows, after one of them, in order.
func (d *Documents) chunkKeys(
	ctx context.Context, key, after string, s *segments,
) (keys []string, err error) {
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
