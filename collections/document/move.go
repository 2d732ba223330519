package document

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// ErrTaken reports that there is something else where something is to be moved to.
var ErrTaken = errors.New("there is something already")

// Move gives a document, a file, or a log with its chunks another key, in a store that nobody else
// writes to meanwhile and that keeps no logs by itself. It may be run again after it was
// interrupted. It returns an error that is ErrTaken.
func Move(ctx context.Context, s store.Store, from, to string) error {
	o, err := s.Get(ctx, from)
	if err != nil {
		return fmt.Errorf("document %s: %w", from, err)
	}
	moved := &store.Object{Body: o.Body, Type: o.Type}
	var chunks []string
	if head, err := Parse(o.Body); err == nil && head.log != nil && head.log.tail != "" {
		rest, ok := strings.CutPrefix(head.log.tail, from)
		if !ok {
			return fmt.Errorf("log %s: its last chunk is called %s: %w", from, head.log.tail, ErrCorrupt)
		}
		v, err := value.ParseObject(o.Body, maxDepth)
		if err != nil {
			return fmt.Errorf("log %s: %w", from, err)
		}
		v.Set("tailKey", to+rest)
		moved.Body = value.Append(nil, v)
		prefix := head.log.prefix(from)
		for after := prefix; ; after = chunks[len(chunks)-1] {
			some, err := s.List(ctx, prefix, after, 1000)
			if err != nil {
				return fmt.Errorf("log %s: %w", from, err)
			}
			chunks = append(chunks, some...)
			if len(some) < 1000 {
				break
			}
		}
	}
	there, err := s.Get(ctx, to)
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return fmt.Errorf("document %s: %w", to, err)
	case !bytes.Equal(there.Body, moved.Body):
		return fmt.Errorf("document %s: %w", to, ErrTaken)
	default:
		listed, err := s.List(ctx, to, "", 1)
		if err != nil {
			return fmt.Errorf("document %s: %w", to, err)
		}
		if len(listed) == 0 || listed[0] != to { // a file system that does not tell capitals apart
			return fmt.Errorf("document %s: the store takes it for %s already", to, from)
		}
	}
	for _, k := range chunks {
		c, err := s.Get(ctx, k)
		if err == nil {
			moved := &store.Object{Body: c.Body, Type: c.Type}
			err = s.Put(ctx, to+strings.TrimPrefix(k, from), moved, store.Whatever)
		}
		if err != nil {
			return fmt.Errorf("chunk %s: %w", k, err)
		}
	}
	if there == nil {
		if err := s.Put(ctx, to, moved, store.Absent); err != nil {
			return fmt.Errorf("document %s: %w", to, err)
		}
	}
	for _, k := range append(chunks, from) { // the head last, which tells of the chunks
		if err := s.Delete(ctx, k); err != nil {
			return fmt.Errorf("delete %s: %w", k, err)
		}
	}
	return nil
}
