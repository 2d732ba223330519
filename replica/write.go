package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/kv"
)

// Change is one key to be set by Write; the zero hash and size delete it.
type Change struct {
	Key  []byte
	Hash blobs.Hash
	Size uint64
}

// Write signs and stores changes to the replica id as author, all with one timestamp or later, and returns the entries. It returns a
// *NotAllowedError unless the node holds the replica's key or a grant covers the change. Call Sync to make them durable.
func (s *Store) Write(ctx context.Context, id ID, author SecretKey, changes []Change) ([]Entry, error) {
	for i := range changes {
		c := &changes[i]
		if len(c.Key) > MaxKey {
			return nil, fmt.Errorf("%w: it has %d", ErrKeyTooLong, len(c.Key))
		}
		if c.Size == 0 {
			c.Hash = blobs.EmptyHash
		}
	}
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	var all []Entry
	for len(changes) > 0 {
		n, size := 0, 0
		for n < len(changes) && n < insertEntries && size < insertBytes {
			size += 2*len(changes[n].Key) + 256
			n++
		}
		entries, err := s.writeSome(ctx, id, author, changes[:n])
		if err != nil {
			return all, fmt.Errorf("write to replica: %w", err)
		}
		all = append(all, entries...)
		changes = changes[n:]
	}
	return all, nil
}

func (s *Store) writeSome(ctx context.Context, id ID, author SecretKey, changes []Change) (entries []Entry, err error) {
	err = s.kv.Update(ctx, func(tx kv.Txn) error {
		entries = make([]Entry, 0, len(changes))
		r, err := getReplica(tx, id)
		if err != nil {
			return err
		}
		now := uint64(s.cfg.Now().UnixMicro())
		p := putter{s: s, tx: tx, id: id, grants: map[AuthorID][]Grant{}}
		for _, c := range changes {
			e := Entry{Replica: id, Author: author.Author(), Timestamp: now, Size: c.Size, Hash: c.Hash, Key: c.Key}
			switch old, err := getEntry(tx, id, c.Key, e.Author); {
			case err == nil:
				e.Timestamp = max(now, old.Timestamp+1) // a writer's time never goes back, even if its clock does
			case !errors.Is(err, ErrNotFound):
				return err
			}
			if ok, err := p.granted(&e); err != nil {
				return err
			} else if !ok {
				if r.Capability < Write {
					return &NotAllowedError{Op: "write", Name: r.Name, Have: r.Capability, Need: Write}
				}
				g := NewGrant(r.Secret, e.Author, now)
				if err := tx.Set(grantKey(&g), g.Bytes()); err != nil {
					return err
				}
				p.grants[e.Author] = append(p.grants[e.Author], g)
			}
			e.Sign(author)
			if _, err := p.put(&e); err != nil {
				return err
			}
			entries = append(entries, e)
		}
		return p.finish()
	})
	if err != nil {
		return nil, err
	}
	s.events.publish(entries, Local)
	return entries, nil
}
