package replicas

import (
	"context"
	"errors"
	"strings"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// Encodes implements store.Encodes.
func (s *Store) Encodes() bool { return s.codec != nil }

// encode returns what is kept of a document or an element.
func (s *Store) encode(key string, body []byte) ([]byte, error) {
	if s.codec == nil {
		return body, nil
	}
	return s.codec.Encode(key, body)
}

// decode returns the body of what is kept.
func (s *Store) decode(key string, kept []byte) ([]byte, error) {
	if s.codec == nil {
		return kept, nil
	}
	return s.codec.Decode(key, kept)
}

// rewriteAtOnce is how many entries Rewrite writes together.
const rewriteAtOnce = 256

// Rewrite implements store.Rewriter. It rewrites what this store's author has written; other nodes
// rewrite theirs.
func (s *Store) Rewrite(
	ctx context.Context, fresh func(key string, kept []byte) ([]byte, error),
) error {
	if err := s.Settle(ctx); err != nil {
		return err
	}
	s.settleJournal()
	s.journaling.Lock()
	left := !s.journal.isEmpty()
	s.journaling.Unlock()
	if left {
		return errors.New("the journal of collections was not emptied")
	}
	me := s.author.Author()
	for _, kind := range []string{docs, logs} {
		q := replica.Query{Prefix: []byte(kind), Author: &me, Limit: rewriteAtOnce}
		for {
			var mine []replica.Entry
			for it, err := range s.plain.Entries(ctx, q) {
				if err != nil {
					return err
				}
				mine = append(mine, it.Entry)
			}
			if len(mine) == 0 {
				break
			}
			if err := s.rewrite(ctx, kind, mine, fresh); err != nil {
				return err
			}
			q.After = mine[len(mine)-1].Key
		}
	}
	s.cache.clear()
	return s.n.Blobs().Sync(ctx)
}

func (s *Store) rewrite(
	ctx context.Context, kind string, all []replica.Entry,
	fresh func(key string, kept []byte) ([]byte, error),
) error {
	batch, err := s.handle.Batch(ctx, node.WriteOptions{As: s.author})
	if err != nil {
		return err
	}
	defer batch.Close()
	for i := range all {
		e := &all[i]
		kept, err := s.content(ctx, e, int64(e.Size)) // the node's own
		if errors.Is(err, errMissing) {               // as of an author that another node has had, too
			continue
		}
		if err != nil {
			return err
		}
		key := strings.TrimPrefix(string(e.Key), kind)
		b, err := fresh(key, kept)
		if err != nil {
			return err
		}
		if b == nil {
			continue
		}
		gone, err := s.isGone(ctx, key, e)
		if err != nil {
			return err
		}
		c := node.Change{Key: e.Key, Value: b}
		if gone { // others have deleted it since: it does not come back
			c = node.Change{Key: e.Key, Delete: true}
		}
		if err := batch.Add(c); err != nil {
			return err
		}
	}
	_, err = batch.Write()
	return err
}

// isGone reports whether an entry of a key is older than a deletion of what it is about.
func (s *Store) isGone(ctx context.Context, key string, e *replica.Entry) (bool, error) {
	for it, err := range s.plain.Entries(ctx, replica.Query{Key: e.Key, Tombstones: true}) {
		if err != nil {
			return false, err
		}
		if t := &it.Entry; t.IsTombstone() && t.Timestamp >= e.Timestamp && s.deletes(key, t) {
			return true, nil
		}
	}
	return false, nil
}
