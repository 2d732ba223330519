package wanted

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// Policy says which content of a replica's entries a node fetches without being asked. Entries
// themselves are always kept. The zero value is everything. Its record is its JSON, under "nd" and
// the replica's id.
type Policy struct {
	// Nothing fetches no content, but that of the prefixes.
	Nothing bool `json:"nothing,omitempty"`
	// Prefixes, if there are any, limit what is fetched to entries whose keys begin with one of them.
	// Those of an encrypted replica are in plain, and whole parts.
	Prefixes [][]byte `json:"prefixes,omitempty"`
	// Sealed are the prefixes as the keys of entries have them, if the replica is encrypted: the node
	// makes them, anew for each epoch.
	Sealed [][]byte `json:"sealed,omitempty"`
	// MaxSize, if not 0, leaves out content of more bytes.
	MaxSize uint64 `json:"max_size,omitempty"`
}

const keyPolicy = "nd"

// MaxPrefixes bounds the prefixes of a policy.
const MaxPrefixes = 256

func policyKey(id replica.ID) []byte { return append([]byte(keyPolicy), id[:]...) }

// Wants reports whether content of size bytes under key is to be fetched.
func (p Policy) Wants(key []byte, size uint64) bool {
	if p.MaxSize > 0 && size > p.MaxSize {
		return false
	}
	if len(p.Prefixes) == 0 {
		return !p.Nothing
	}
	if len(p.Sealed) > 0 {
		return slices.ContainsFunc(p.Sealed, func(prefix []byte) bool {
			return bytes.HasPrefix(key, prefix)
		})
	}
	return slices.ContainsFunc(p.Prefixes, func(prefix []byte) bool {
		return bytes.HasPrefix(key, prefix)
	})
}

// policies are those of all replicas that have one.
type policies struct {
	mu sync.Mutex
	of map[replica.ID]Policy
}

func (ps *policies) load(ctx context.Context, s kv.Store) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.of = map[replica.ID]Policy{}
	return s.View(ctx, func(r kv.Reader) error {
		for pair, err := range r.Scan(kv.Prefix([]byte(keyPolicy)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if len(pair.Key) != len(keyPolicy)+32 {
				return errors.New("node store: malformed record of a policy")
			}
			var p Policy
			if err := json.Unmarshal(pair.Value, &p); err != nil {
				return fmt.Errorf("node store: policy: %w", err)
			}
			ps.of[replica.ID(pair.Key[len(keyPolicy):])] = p
		}
		return nil
	})
}

func (ps *policies) get(id replica.ID) Policy {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.of[id]
}

func (ps *policies) forget(ctx context.Context, s kv.Store, id replica.ID) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if _, ok := ps.of[id]; !ok {
		return nil
	}
	delete(ps.of, id)
	return s.Update(kv.ToMakeRoom(ctx), func(tx kv.Txn) error {
		return tx.Delete(policyKey(id))
	})
}

func (ps *policies) set(ctx context.Context, s kv.Store, id replica.ID, p Policy) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	err = s.Update(ctx, func(tx kv.Txn) error { return tx.Set(policyKey(id), b) })
	if err == nil {
		ps.of[id] = p
	}
	return err
}

// Policy returns the download policy of a replica.
func (l *List) Policy(id replica.ID) Policy { return l.policies.get(id) }

// SetPolicy notes the download policy of a replica, which holds for what is put from now on;
// CatchUp is for what was put before.
func (l *List) SetPolicy(ctx context.Context, id replica.ID, p Policy) error {
	return l.policies.set(ctx, l.kv, id, p)
}

// CatchUp compares the entries of a replica, which it takes from entries, with the content that is
// here: it notes what is wanted and missing, and drops what is not wanted any more.
func (l *List) CatchUp(
	ctx context.Context, id replica.ID, entries iter.Seq2[replica.Entry, error],
) error {
	policy := l.policies.get(id)
	var obsolete [][]byte
	err := l.each(ctx, id, func(w Content) {
		if !policy.Wants(w.Key, w.Size) {
			obsolete = append(obsolete, w.Record)
		}
	})
	if err == nil {
		err = l.Drop(ctx, obsolete)
	}
	if err != nil {
		return err
	}
	var here []bool
	var missing []replica.Entry // or, at a host, all: it decides anew about each
	flush := func() error {
		err := l.kv.Update(ctx, func(tx kv.Txn) error {
			for i := range missing {
				if l.cfg.Host != nil {
					now, err := replica.EntryIn(tx, id, missing[i].Key, missing[i].Author)
					if errors.Is(err, replica.ErrNotFound) || err == nil && now.ID() != missing[i].ID() {
						continue // it was replaced meanwhile
					}
					if err != nil {
						return err
					}
					if fetch, err := l.cfg.Host.Put(tx, &missing[i]); err != nil {
						return err
					} else if !fetch {
						continue
					}
				}
				if here[i] {
					continue
				}
				if err := setWanted(tx, &missing[i]); err != nil {
					return err
				}
			}
			return nil
		})
		missing, here = missing[:0], here[:0]
		return err
	}
	states := l.States()
	for e, err := range entries {
		if err != nil {
			return err
		}
		if e.IsTombstone() || !policy.Wants(e.Key, e.Size) {
			continue
		}
		state, err := states.Of(ctx, &e)
		if err != nil {
			return err
		}
		if state == Refuted || state == Complete && l.cfg.Host == nil {
			continue
		}
		here = append(here, state == Complete)
		if missing = append(missing, e); len(missing) == 256 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
