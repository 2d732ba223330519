package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"

	"github.com/libp2p/go-libp2p/core/peer"
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// Wanted content, in the store, so that a restart goes on where the last run stopped. Written in the same transaction as the entry that
// points at the content:
//
//	n c replica[32] hash[32] place[16]   size u64, author[32], key of the entry
//
// By replica, since a peer is asked for the content of those that it holds. Under "nw" earlier versions had the same by hash.
const (
	keyWanted    = "nc"
	keyOldWanted = "nw"
)

func wantedKey(e *replica.Entry) []byte {
	place := blake3.Sum256(append(e.Author[:len(e.Author):len(e.Author)], e.Key...))
	b := append(wantedBy(e.Replica), e.Hash[:]...)
	return append(b, place[:16]...)
}

// wantedBy is what the keys of a replica's wanted content begin with.
func wantedBy(id replica.ID) []byte {
	b := make([]byte, 0, len(keyWanted)+80)
	return append(append(b, keyWanted...), id[:]...)
}

// wantContent is the replica store's OnPut: it notes content that the entry points at, that the policy asks for and that the blob store does not
// have. Content in chunks is noted in any case; whether all its chunks are here is for the download to see.
func (n *Node) wantContent(tx kv.Txn, e *replica.Entry) error {
	if e.IsTombstone() {
		return n.dropContent(tx, e) // what was under its key before is not there any more
	}
	if n.cfg.Host != nil {
		if fetch, err := n.cfg.Host.Put(tx, e); err != nil || !fetch {
			return err
		}
	}
	n.Blobs.Touch(n.ctx, e.Hash)
	info, err := blobs.StatIn(tx, e.Hash)
	if err == nil && info.Complete && info.Size == e.Size {
		return nil
	}
	if err != nil && !errors.Is(err, blobs.ErrNotFound) {
		return err
	}
	if !n.policies.get(e.Replica).Wants(e.Key, e.Size) {
		return nil
	}
	return setWanted(tx, e)
}

func setWanted(tx kv.Txn, e *replica.Entry) error {
	b := binary.BigEndian.AppendUint64(nil, e.Size)
	return tx.Set(wantedKey(e), append(append(b, e.Author[:]...), e.Key...))
}

// wantedContent is a record of wanted content.
type wantedContent struct {
	key     []byte
	hash    blobs.Hash
	replica replica.ID
	size    uint64
	author  replica.AuthorID
	entry   []byte // the entry's key
}

func parseWanted(p kv.Pair) (w wantedContent, err error) {
	if len(p.Key) != len(keyWanted)+80 || len(p.Value) < 40 {
		return w, errors.New("node store: malformed record of wanted content")
	}
	w.key = bytes.Clone(p.Key)
	k := p.Key[len(keyWanted):]
	w.replica, w.hash = replica.ID(k[:32]), blobs.Hash(k[32:64])
	w.size = binary.BigEndian.Uint64(p.Value)
	w.author = replica.AuthorID(p.Value[8:40])
	w.entry = bytes.Clone(p.Value[40:])
	return w, nil
}

// dropAtOnce is how many records of content that is no longer wanted are dropped together.
const dropAtOnce = 4096

// migrateWanted moves records of earlier versions.
func (n *Node) migrateWanted(ctx context.Context) error {
	for more := true; more; {
		err := n.kv.Update(ctx, func(tx kv.Txn) error {
			var old []kv.Pair
			for p, err := range tx.Scan(kv.Prefix([]byte(keyOldWanted)), kv.ScanOptions{}) {
				if err != nil {
					return err
				}
				if old = append(old, kv.Pair{Key: bytes.Clone(p.Key), Value: bytes.Clone(p.Value)}); len(old) == dropAtOnce {
					break
				}
			}
			more = len(old) == dropAtOnce
			for _, p := range old {
				if k := p.Key[len(keyOldWanted):]; len(k) == 80 {
					moved := append(append(wantedBy(replica.ID(k[32:64])), k[:32]...), k[64:]...)
					if err := tx.Set(moved, p.Value); err != nil {
						return err
					}
				}
				if err := tx.Delete(p.Key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// claim picks wanted content that p may have and nobody fetches.
func (d *downloads) claim(ctx context.Context, p peer.ID) (batch []wantedContent, err error) {
	for from := []byte(keyWanted); from != nil && err == nil && len(batch) < downloadBatch; {
		c := claiming{d: d, p: p, batch: batch}
		err = d.n.kv.View(ctx, func(r kv.Reader) error {
			from, err = c.goOn(ctx, r, from)
			return err
		})
		batch = c.batch
		if err == nil {
			err = d.n.dropKeys(ctx, c.obsolete)
		}
	}
	if err != nil {
		d.unclaim(batch)
		return nil, err
	}
	return batch, nil
}

// claiming is a walk through what is wanted.
type claiming struct {
	d        *downloads
	p        peer.ID
	batch    []wantedContent
	obsolete [][]byte // content that is no longer wanted
}

// goOn goes on from a key, and returns the one to go on from after that; nil at the end. It stops when there is enough of anything.
func (c *claiming) goOn(ctx context.Context, r kv.Reader, from []byte) (next []byte, err error) {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	for from != nil && err == nil && len(c.batch) < downloadBatch && len(c.obsolete) < dropAtOnce {
		from, err = c.some(ctx, r, from)
	}
	return from, err
}

// some walks until something is to be skipped, however many records there are of it: a replica that the peer does not hold, or content that is not to be had of it now.
func (c *claiming) some(ctx context.Context, r kv.Reader, from []byte) (next []byte, err error) {
	now := c.d.n.cfg.Now()
	for pair, err := range r.Scan(kv.Range{From: from, To: kv.After([]byte(keyWanted))}, kv.ScanOptions{}) {
		if err != nil {
			return nil, err
		}
		w, err := parseWanted(pair)
		if err != nil {
			return nil, err
		}
		if !c.d.n.peers.holds(c.p, w.replica) {
			return kv.After(wantedBy(w.replica)), nil
		}
		if c.d.busy[w.hash] || now.Before(c.d.failed[wantedAt{c.p, w.hash}].until) {
			return kv.After(append(wantedBy(w.replica), w.hash[:]...)), nil
		}
		still, err := c.d.stillWanted(ctx, r, w)
		if err != nil {
			return nil, err
		}
		if still {
			c.d.busy[w.hash] = true
			c.batch = append(c.batch, w)
		} else {
			c.obsolete = append(c.obsolete, w.key)
		}
		if len(c.batch) == downloadBatch || len(c.obsolete) == dropAtOnce {
			return append(w.key[:len(w.key):len(w.key)], 0), nil
		}
	}
	return nil, nil
}

// stillWanted reports whether the entry still points at the content and the content is still missing.
func (d *downloads) stillWanted(ctx context.Context, r kv.Reader, w wantedContent) (bool, error) {
	info, err := blobs.StatIn(r, w.hash)
	if err == nil && info.Complete && info.Size == w.size || err != nil && !errors.Is(err, blobs.ErrNotFound) {
		return false, err
	}
	e, err := replica.EntryIn(r, w.replica, w.entry, w.author)
	if errors.Is(err, replica.ErrNotFound) {
		return false, nil
	}
	return err == nil && e.Hash == w.hash, err
}

// forget drops what was wanted for a replica that has been left.
func (d *downloads) forget(ctx context.Context, id replica.ID) error {
	var keys [][]byte
	err := d.n.eachWanted(ctx, id, func(w wantedContent) { keys = append(keys, w.key) })
	if err != nil {
		return err
	}
	return d.n.dropKeys(ctx, keys)
}

// eachWanted calls fn for each record of wanted content of a replica.
func (n *Node) eachWanted(ctx context.Context, id replica.ID, fn func(wantedContent)) error {
	return n.kv.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix(wantedBy(id)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			w, err := parseWanted(p)
			if err != nil {
				return err
			}
			fn(w)
		}
		return nil
	})
}

func (n *Node) dropKeys(ctx context.Context, keys [][]byte) error {
	if len(keys) == 0 {
		return nil
	}
	return n.kv.Batch(ctx, func(w kv.Writer) error {
		for _, k := range keys {
			if err := w.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// countWanted counts the records of all replicas.
func (n *Node) countWanted(ctx context.Context) (count int, err error) {
	err = n.kv.View(ctx, func(r kv.Reader) error {
		for _, err := range r.Scan(kv.Prefix([]byte(keyWanted)), kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return err
			}
			count++
		}
		return nil
	})
	return count, err
}

// PendingContent returns how many pieces of content that entries of the replica id point at are still to be fetched.
func (n *Node) PendingContent(ctx context.Context, id replica.ID) (count int, err error) {
	err = n.eachWanted(ctx, id, func(wantedContent) { count++ })
	return count, err
}
