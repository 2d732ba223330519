package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
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

// maxPolicyPrefixes bounds a policy.
const maxPolicyPrefixes = 256

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
		return slices.ContainsFunc(p.Sealed, func(prefix []byte) bool { return bytes.HasPrefix(key, prefix) })
	}
	return slices.ContainsFunc(p.Prefixes, func(prefix []byte) bool { return bytes.HasPrefix(key, prefix) })
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

// Policy returns the download policy of a replica.
func (n *Node) Policy(id replica.ID) Policy { return n.policies.get(id) }

// SetPolicy changes the download policy of a replica, and then catches up: content that is wanted
// now and missing is fetched, and what is no longer wanted is not. Content that is here stays.
func (n *Node) SetPolicy(ctx context.Context, id replica.ID, p Policy) error {
	if _, err := n.Replicas.Get(ctx, id); err != nil {
		return err
	}
	if len(p.Prefixes) > maxPolicyPrefixes {
		return fmt.Errorf("a download policy of %d prefixes: at most %d", len(p.Prefixes), maxPolicyPrefixes)
	}
	if err := n.sealPrefixes(ctx, id, &p); err != nil {
		return err
	}
	if err := n.storePolicy(ctx, id, p); err != nil {
		return err
	}
	return n.CatchUp(ctx, id)
}

// sealPrefixes fills in what the prefixes are in the keys of an encrypted replica.
func (n *Node) sealPrefixes(ctx context.Context, id replica.ID, p *Policy) error {
	p.Sealed = nil
	if len(p.Prefixes) == 0 {
		return nil
	}
	view, err := n.Replicas.Plain(ctx, id)
	if err != nil || !view.Encrypted() {
		return err
	}
	for _, prefix := range p.Prefixes {
		sealed, err := view.SealPrefix(prefix)
		if err != nil {
			return fmt.Errorf("download policy: %w", err)
		}
		p.Sealed = append(p.Sealed, sealed...)
	}
	return nil
}

// sealPolicy does so anew after read keys have come. Entries of the new epoch may have come before
// them.
func (n *Node) sealPolicy(ctx context.Context, id replica.ID) error {
	p := n.policies.get(id)
	before := p.Sealed
	err := n.sealPrefixes(ctx, id, &p)
	if errors.Is(err, replica.ErrNoReadKey) || errors.Is(err, seal.ErrName) {
		return nil // such prefixes are no prefixes of any key
	}
	if err != nil || slices.EqualFunc(p.Sealed, before, bytes.Equal) {
		return err
	}
	if err := n.storePolicy(ctx, id, p); err != nil {
		return err
	}
	return n.CatchUp(ctx, id)
}

func (n *Node) storePolicy(ctx context.Context, id replica.ID, p Policy) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	n.policies.mu.Lock()
	err = n.kv.Update(ctx, func(tx kv.Txn) error { return tx.Set(policyKey(id), b) })
	if err == nil {
		n.policies.of[id] = p
	}
	n.policies.mu.Unlock()
	return err
}

// CatchUp compares the entries of a replica with the content that is here, and notes what is wanted
// and missing. It is for after a change of policy, and after a loss of content.
func (n *Node) CatchUp(ctx context.Context, id replica.ID) error {
	policy := n.policies.get(id)
	var obsolete [][]byte
	err := n.eachWanted(ctx, id, func(w wantedContent) {
		if !policy.Wants(w.entry, w.size) {
			obsolete = append(obsolete, w.key)
		}
	})
	if err == nil {
		err = n.dropKeys(ctx, obsolete)
	}
	if err != nil {
		return err
	}
	var here []bool
	var missing []replica.Entry // or, at a host, all: it decides anew about each
	flush := func() error {
		err := n.kv.Update(ctx, func(tx kv.Txn) error {
			for i := range missing {
				if n.cfg.Host != nil {
					now, err := replica.EntryIn(tx, id, missing[i].Key, missing[i].Author)
					if errors.Is(err, replica.ErrNotFound) || err == nil && now.ID() != missing[i].ID() {
						continue // it was replaced meanwhile
					}
					if err != nil {
						return err
					}
					if fetch, err := n.cfg.Host.Put(tx, &missing[i]); err != nil {
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
	states := n.ContentStates()
	for e, err := range n.Replicas.Entries(ctx, id, replica.Query{}) {
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
		if state == ContentRefuted || state == ContentComplete && n.cfg.Host == nil {
			continue
		}
		here = append(here, state == ContentComplete)
		if missing = append(missing, e); len(missing) == 256 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	n.downloads.lookEverywhere()
	return nil
}
