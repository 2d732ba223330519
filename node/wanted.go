package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"

	"github.com/libp2p/go-libp2p/core/peer"
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/replica"
)

// Wanted content, in the store, so that a restart goes on where the last run stopped. Written in
// the same transaction as the entry that points at the content:
//
//	n f replica[32] hash[32] size[8] place[16]   author[32], key of the entry
//
// By replica, since a peer is asked for the content of those that it holds; and by what the entry
// claims, hash and size, since a wrong claim must not stand in the way of a right one (claims.go).
const keyWanted = "nf"

func wantedKey(e *replica.Entry) []byte {
	place := blake3.Sum256(append(e.Author[:len(e.Author):len(e.Author)], e.Key...))
	b := append(wantedBy(e.Replica), e.Hash[:]...)
	return append(binary.BigEndian.AppendUint64(b, e.Size), place[:16]...)
}

// claimLength is the length of what follows the prefix of a key: replica, hash, size and place.
const claimLength = 32 + 32 + 8 + 16

// wantedBy is what the keys of a replica's wanted content begin with.
func wantedBy(id replica.ID) []byte {
	b := make([]byte, 0, len(keyWanted)+claimLength)
	return append(append(b, keyWanted...), id[:]...)
}

// wantContent is the replica store's OnPut: it notes content that the entry points at, that the
// policy asks for and that the blob store does not have. Content that may be in chunks is noted in
// any case; whether all its chunks are here is for the download to see.
func (n *Node) wantContent(tx kv.Txn, e *replica.Entry) error {
	if n.cfg.Host != nil {
		if fetch, err := n.cfg.Host.Put(tx, e); err != nil || !fetch {
			return err
		}
	}
	if e.IsTombstone() {
		return nil
	}
	n.Blobs.Touch(e.Hash)
	if !n.policies.get(e.Replica).Wants(e.Key, e.Size) {
		return nil
	}
	info, err := blobs.StatIn(tx, e.Hash)
	if err != nil && !errors.Is(err, blobs.ErrNotFound) {
		return err
	}
	if err == nil {
		switch v := content.Judge(info.Size, e.Size); {
		case v == content.Holds && info.Complete:
			return nil
		case v == content.Refuted:
			w := claimOf(e)
			return setRefuted(tx, &w, info.Size)
		}
	}
	return setWanted(tx, e)
}

func setWanted(tx kv.Txn, e *replica.Entry) error {
	return tx.Set(wantedKey(e), append(e.Author[:len(e.Author):len(e.Author)], e.Key...))
}

// wantedContent is a record of wanted content: a claim of an entry.
type wantedContent struct {
	key     []byte
	hash    blobs.Hash
	replica replica.ID
	size    uint64
	author  replica.AuthorID
	entry   []byte          // the entry's key
	refuted bool            // the claim is wrong
	proved  uint64          // and this is the size of the blob, in bytes
	untried content.Untried // 0 unless the peer is not to be taken for lacking it
}

func claimOf(e *replica.Entry) wantedContent {
	return wantedContent{key: wantedKey(e), hash: e.Hash, replica: e.Replica, size: e.Size, author: e.Author, entry: e.Key}
}

// parseClaim reads a record of wanted content, or of a refuted claim, of which the value begins
// with the proved size.
func parseClaim(p kv.Pair) (w wantedContent, err error) {
	v := p.Value
	if bytes.HasPrefix(p.Key, []byte(keyRefuted)) && len(v) >= 8 {
		w.refuted, w.proved, v = true, binary.BigEndian.Uint64(v), v[8:]
	}
	if len(p.Key) != len(keyWanted)+claimLength || len(v) < 32 {
		return w, errors.New("node store: malformed record of wanted content")
	}
	w.key = bytes.Clone(p.Key)
	k := p.Key[len(keyWanted):]
	w.replica, w.hash, w.size = replica.ID(k[:32]), blobs.Hash(k[32:64]), binary.BigEndian.Uint64(k[64:])
	w.author = replica.AuthorID(v[:32])
	w.entry = bytes.Clone(v[32:])
	return w, nil
}

// dropAtOnce is how many records of content that is no longer wanted are dropped together.
const dropAtOnce = 4096

// claim picks wanted content that p may have and nobody fetches.
func (d *downloads) claim(ctx context.Context, p peer.ID) (batch []wantedContent, err error) {
	ours := map[blobs.Hash]bool{}
	d.mu.Lock()
	from := d.failed.from(p, d.n.cfg.Now())
	d.mu.Unlock()
	if from == nil {
		return nil, nil
	}
	c := claiming{d: d, p: p, ours: ours}
	for from != nil && err == nil && len(batch) < downloadBatch && !c.closed {
		c.obsolete, c.wrong = nil, nil
		err = d.n.kv.View(ctx, func(r kv.Reader) error {
			from, err = c.goOn(ctx, r, from)
			return err
		})
		batch = c.batch
		if err == nil {
			err = errors.Join(d.n.dropKeys(ctx, c.obsolete), d.n.refute(ctx, c.wrong))
		}
	}
	if err == nil {
		d.mu.Lock()
		d.failed.walked(p, from, d.n.cfg.Now())
		d.mu.Unlock()
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
	ours     map[blobs.Hash]bool // in the batch: one proof decides all claims about a blob
	obsolete [][]byte            // content that is no longer wanted
	wrong    []wantedContent     // claims that are known to be wrong
	bytes    uint64              // that the batch claims
	closed   bool                // there is no room in it for what comes next
}

// goOn goes on from a key, and returns the one to go on from after that; nil at the end. It stops
// when there is enough of anything.
func (c *claiming) goOn(ctx context.Context, r kv.Reader, from []byte) (next []byte, err error) {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	for from != nil && err == nil && !c.full() {
		from, err = c.some(ctx, r, from)
	}
	return from, err
}

func (c *claiming) full() bool {
	return c.closed || len(c.batch) == downloadBatch ||
		len(c.obsolete) == dropAtOnce || len(c.wrong) == downloadBatch
}

// some walks until something is to be skipped, however many records there are of it: a replica that
// the peer does not hold, or content that is not to be had of it now.
func (c *claiming) some(ctx context.Context, r kv.Reader, from []byte) (next []byte, err error) {
	now := c.d.n.cfg.Now()
	for pair, err := range r.Scan(kv.Range{From: from, To: kv.After([]byte(keyWanted))}, kv.ScanOptions{}) {
		if err != nil {
			return nil, err
		}
		w, err := parseClaim(pair)
		if err != nil {
			return nil, err
		}
		if !c.d.n.contacts.Holds(c.p, w.replica) {
			return kv.After(wantedBy(w.replica)), nil
		}
		if c.d.busy[w.hash] && !c.ours[w.hash] || c.d.failed.waits(c.p, w.hash, now) {
			return kv.After(append(wantedBy(w.replica), w.hash[:]...)), nil
		}
		switch wanted, err := c.d.stillWanted(r, &w); {
		case err != nil:
			return nil, err
		case w.refuted:
			c.wrong = append(c.wrong, w)
		case wanted:
			if !c.ours[w.hash] {
				c.bytes += min(w.size, batchBytes/leastBatch) // it may be nowhere
			}
			if len(c.batch) > 0 && c.bytes > batchBytes {
				c.closed = true
				return w.key, nil
			}
			c.d.busy[w.hash], c.ours[w.hash] = true, true
			c.batch = append(c.batch, w)
		default:
			c.obsolete = append(c.obsolete, w.key)
		}
		if c.full() {
			return append(w.key[:len(w.key):len(w.key)], 0), nil
		}
	}
	return nil, nil
}

// stillWanted reports whether the entry still points at the content and the content is still
// missing. It marks a claim that a size which the store has proved contradicts.
func (d *downloads) stillWanted(r kv.Reader, w *wantedContent) (bool, error) {
	if stands, err := w.stands(r); err != nil || !stands {
		return false, err
	}
	info, err := blobs.StatIn(r, w.hash)
	if errors.Is(err, blobs.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	switch content.Judge(info.Size, w.size) {
	case content.Holds:
		return !info.Complete, nil
	case content.Refuted:
		w.refuted, w.proved = true, info.Size
	}
	return !w.refuted, nil
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
			w, err := parseClaim(p)
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
	return n.kv.Batch(kv.ToMakeRoom(ctx), func(w kv.Writer) error {
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

// PendingContent returns how many pieces of content that entries of the replica id point at are
// still to be fetched.
func (n *Node) PendingContent(ctx context.Context, id replica.ID) (count int, err error) {
	var chunks []wantedContent // may be all here: that takes a look at each chunk
	err = n.eachWanted(ctx, id, func(w wantedContent) {
		if w.size >= chunked.Threshold {
			chunks = append(chunks, w)
		} else {
			count++
		}
	})
	if err != nil {
		return count, err
	}
	states := contentStates{n: n}
	var here [][]byte
	for _, w := range chunks {
		state, err := states.of(ctx, w.hash, w.size)
		switch {
		case err != nil:
			return count, err
		case state == ContentComplete:
			here = append(here, w.key)
		default:
			count++
		}
	}
	return count, n.dropKeys(ctx, here)
}

// contentCame notes that the content of an entry is all here, if it is: what this node itself has
// put into chunks is noted as wanted with its entry, and nobody else would say so.
func (n *Node) contentCame(ctx context.Context, e *replica.Entry) error {
	if e.IsTombstone() || e.Size < chunked.Threshold {
		return nil
	}
	state, err := n.ContentState(ctx, e.Hash, e.Size)
	if err != nil || state != ContentComplete {
		return err
	}
	return n.dropKeys(ctx, [][]byte{wantedKey(e)})
}
