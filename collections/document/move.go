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
// interrupted. If the document cannot be moved, it returns an error that is ErrTaken, ErrCorrupt or
// store.ErrUndecoded; others are of the store.
func Move(ctx context.Context, s store.Store, from, to string) error {
	m, err := planMove(ctx, s, from, to)
	if err != nil {
		return err
	}
	return m.run(ctx, s)
}

// CanMove reads what there is under a key, and returns what Move would, if it is in the way.
func CanMove(ctx context.Context, s store.Store, from, to string) error {
	_, err := s.Get(ctx, to)
	if err == nil {
		_, err = planMove(ctx, s, from, to)
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// move is what Move is to do.
type move struct {
	from, to string
	head     *store.Object // as it is to be
	done     bool          // it is there already: an earlier run was interrupted
	chunks   []string
}

func planMove(ctx context.Context, s store.Store, from, to string) (*move, error) {
	o, err := s.Get(ctx, from)
	if err != nil {
		return nil, fmt.Errorf("document %s: %w", from, err)
	}
	m := &move{from: from, to: to, head: &store.Object{Body: o.Body, Type: o.Type}}
	if head, err := Parse(o.Body); err == nil && head.log != nil && head.log.tail != "" {
		rest, ok := strings.CutPrefix(head.log.tail, from)
		if !ok {
			return nil, fmt.Errorf(
				"log %s: its last chunk is called %s: %w", from, head.log.tail, ErrCorrupt)
		}
		v, err := value.ParseObject(o.Body, maxDepth)
		if err != nil {
			return nil, fmt.Errorf("log %s: %w: %w", from, ErrCorrupt, err)
		}
		v.Set("tailKey", to+rest)
		m.head.Body = value.Append(nil, v)
		prefix := head.log.prefix(from)
		for after := prefix; ; after = m.chunks[len(m.chunks)-1] {
			some, err := s.List(ctx, prefix, after, 1000)
			if err != nil {
				return nil, fmt.Errorf("log %s: %w", from, err)
			}
			m.chunks = append(m.chunks, some...)
			if len(some) < 1000 {
				break
			}
		}
	}
	there, err := s.Get(ctx, to)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return m, nil
	case err != nil:
		return nil, fmt.Errorf("document %s: %w", to, err)
	case !bytes.Equal(there.Body, m.head.Body):
		return nil, fmt.Errorf("document %s: %w", to, ErrTaken)
	}
	m.done = true
	listed, err := s.List(ctx, to, "", 1)
	if err != nil {
		return nil, fmt.Errorf("document %s: %w", to, err)
	}
	if len(listed) == 0 || listed[0] != to { // a file system that does not tell capitals apart
		return nil, fmt.Errorf("document %s: the store takes it for %s: %w", to, from, ErrTaken)
	}
	return m, nil
}

func (m *move) run(ctx context.Context, s store.Store) error {
	for _, k := range m.chunks {
		c, err := s.Get(ctx, k)
		if err == nil {
			moved := &store.Object{Body: c.Body, Type: c.Type}
			err = s.Put(ctx, m.to+strings.TrimPrefix(k, m.from), moved, store.Whatever)
		}
		if err != nil {
			return fmt.Errorf("chunk %s: %w", k, err)
		}
	}
	if !m.done {
		if err := s.Put(ctx, m.to, m.head, store.Absent); err != nil {
			return fmt.Errorf("document %s: %w", m.to, err)
		}
	}
	for _, k := range append(m.chunks, m.from) { // the head last, which tells of the chunks
		if err := s.Delete(ctx, k); err != nil {
			return fmt.Errorf("delete %s: %w", k, err)
		}
	}
	return nil
}
