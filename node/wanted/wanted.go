// Package wanted knows which content the entries of a node want, and how much of it is here.
//
// What belongs here: the records of wanted content and of claims that are wrong (refuted.go), the
// download policies that say what is wanted (policy.go), the state of content (state.go), and
// waiting for it (wait.go). What never belongs here: peers, and fetching anything from them
// (packages downloads and content).
//
// Start at [List].
package wanted

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"

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
// claims, hash and size, since a wrong claim must not stand in the way of a right one (refuted.go).
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

// Host decides, on a node that holds replicas of others, whose content is fetched. Its methods run
// in transactions that may run again.
type Host interface {
	// Put is told of an entry that is stored, or that was stored before, and reports whether its
	// content is to be fetched.
	Put(tx kv.Txn, e *replica.Entry) (fetch bool, err error)
	// Refute is told that a stored entry claims a size that is not that of its content.
	Refute(tx kv.Txn, e *replica.Entry) error
}

// Config is what a List needs. All fields but Host must be set.
type Config struct {
	Store kv.Store
	Blobs *blobs.Store
	Host  Host // nil on a node that holds its own replicas only
	Log   *slog.Logger
}

// List is what the entries of a node want of content. Its methods may be called from many
// goroutines.
type List struct {
	cfg      Config
	kv       kv.Store
	blobs    *blobs.Store
	policies policies
	arrived  arrivals
}

// New returns the list in a store, as if no replica had a policy: these Load reads.
func New(cfg Config) *List {
	return &List{
		cfg: cfg, kv: cfg.Store, blobs: cfg.Blobs,
		policies: policies{of: map[replica.ID]Policy{}},
	}
}

// Load reads the policies. It must be called before the list is used from several goroutines.
func (l *List) Load(ctx context.Context) error { return l.policies.load(ctx, l.kv) }

// Put is the replica store's OnPut: it notes content that the entry points at, that the policy asks
// for and that the blob store does not have. Content that may be in chunks is noted in any case;
// whether all its chunks are here is for the download to see.
func (l *List) Put(tx kv.Txn, e *replica.Entry) error {
	if l.cfg.Host != nil {
		if fetch, err := l.cfg.Host.Put(tx, e); err != nil || !fetch {
			return err
		}
	}
	if e.IsTombstone() {
		return nil
	}
	l.blobs.Touch(e.Hash)
	if !l.policies.get(e.Replica).Wants(e.Key, e.Size) {
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
			w := ContentOf(e)
			return setRefuted(tx, &w, info.Size)
		}
	}
	return setWanted(tx, e)
}

func setWanted(tx kv.Txn, e *replica.Entry) error {
	return tx.Set(wantedKey(e), append(e.Author[:len(e.Author):len(e.Author)], e.Key...))
}

// Content is a record of wanted content: a claim of an entry.
type Content struct {
	Record  []byte // the key of the record
	Replica replica.ID
	Hash    blobs.Hash
	Size    uint64 // bytes, as the entry claims
	Author  replica.AuthorID
	Key     []byte // of the entry, as it is stored
	Refuted bool   // the claim is wrong
	Proved  uint64 // and this is the size of the blob, in bytes
}

// ContentOf returns what an entry claims.
func ContentOf(e *replica.Entry) Content {
	return Content{
		Record: wantedKey(e), Hash: e.Hash, Replica: e.Replica, Size: e.Size, Author: e.Author,
		Key: e.Key,
	}
}

// Parse reads a record of wanted content, or of a refuted claim, of which the value begins with the
// proved size. Nothing of the pair is kept.
func Parse(p kv.Pair) (w Content, err error) {
	v := p.Value
	if bytes.HasPrefix(p.Key, []byte(keyRefuted)) && len(v) >= 8 {
		w.Refuted, w.Proved, v = true, binary.BigEndian.Uint64(v), v[8:]
	}
	if len(p.Key) != len(keyWanted)+claimLength || len(v) < 32 {
		return w, errors.New("node store: malformed record of wanted content")
	}
	w.Record = bytes.Clone(p.Key)
	k := p.Key[len(keyWanted):]
	w.Replica, w.Hash = replica.ID(k[:32]), blobs.Hash(k[32:64])
	w.Size = binary.BigEndian.Uint64(k[64:])
	w.Author = replica.AuthorID(v[:32])
	w.Key = bytes.Clone(v[32:])
	return w, nil
}

// First returns the key at which the records of wanted content begin.
func First() []byte { return []byte(keyWanted) }

// From returns the range of the records of wanted content from a key on, for Parse. They are in the
// order of replica, hash and size.
func From(key []byte) kv.Range { return kv.Range{From: key, To: kv.After([]byte(keyWanted))} }

// Next returns the key from which the records behind w are.
func (w *Content) Next() []byte { return append(w.Record[:len(w.Record):len(w.Record)], 0) }

// NextBlob returns the key from which the records behind those of w's replica and hash are.
func (w *Content) NextBlob() []byte { return kv.After(append(wantedBy(w.Replica), w.Hash[:]...)) }

// NextReplica returns the key from which the records behind those of w's replica are.
func (w *Content) NextReplica() []byte { return kv.After(wantedBy(w.Replica)) }

// StillWanted reports whether the entry still points at the content and the content is still
// missing. It marks a claim as refuted that a size which the store has proved contradicts.
func (w *Content) StillWanted(r kv.Reader) (bool, error) {
	if stands, err := w.stands(r); err != nil || !stands {
		return false, err
	}
	info, err := blobs.StatIn(r, w.Hash)
	if errors.Is(err, blobs.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	switch content.Judge(info.Size, w.Size) {
	case content.Holds:
		return !info.Complete, nil
	case content.Refuted:
		w.Refuted, w.Proved = true, info.Size
	}
	return !w.Refuted, nil
}

// DropAtOnce is how many records of content that is no longer wanted are dropped together.
const DropAtOnce = 4096

// Drop drops records of content that is not wanted any more, by their keys.
func (l *List) Drop(ctx context.Context, records [][]byte) error {
	return kv.DeleteAll(ctx, l.kv, records)
}

// Came makes what has arrived durable, drops its records, and tells those who wait.
func (l *List) Came(ctx context.Context, records [][]byte) error {
	if err := errors.Join(l.blobs.Sync(ctx), l.Drop(ctx, records)); err != nil {
		return err
	}
	l.arrived.publish()
	return nil
}

// Written drops the record of an entry whose content is all here, if it is: what this node itself
// has put into chunks is noted as wanted with its entry, and nobody else would say so.
func (l *List) Written(ctx context.Context, e *replica.Entry) error {
	if e.IsTombstone() || e.Size < chunked.Threshold {
		return nil
	}
	state, err := l.State(ctx, e.Hash, e.Size)
	if err != nil || state != Complete {
		return err
	}
	return l.Drop(ctx, [][]byte{wantedKey(e)})
}

// Forget drops all that is noted of a replica that has been left.
func (l *List) Forget(ctx context.Context, id replica.ID) error {
	return errors.Join(
		l.forgetWanted(ctx, id), l.forgetRefuted(ctx, id), l.policies.forget(ctx, l.kv, id),
	)
}

func (l *List) forgetWanted(ctx context.Context, id replica.ID) error {
	var keys [][]byte
	err := l.each(ctx, id, func(w Content) { keys = append(keys, w.Record) })
	if err != nil {
		return err
	}
	return l.Drop(ctx, keys)
}

// each calls fn for each record of wanted content of a replica.
func (l *List) each(ctx context.Context, id replica.ID, fn func(Content)) error {
	return l.kv.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix(wantedBy(id)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			w, err := Parse(p)
			if err != nil {
				return err
			}
			fn(w)
		}
		return nil
	})
}

// Count counts the records of all replicas.
func (l *List) Count(ctx context.Context) (count int, err error) {
	err = l.kv.View(ctx, func(r kv.Reader) error {
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

// Pending returns how many pieces of content that entries of the replica id point at are still to
// be fetched.
func (l *List) Pending(ctx context.Context, id replica.ID) (count int, err error) {
	var chunks []Content // may be all here: that takes a look at each chunk
	err = l.each(ctx, id, func(w Content) {
		if w.Size >= chunked.Threshold {
			chunks = append(chunks, w)
		} else {
			count++
		}
	})
	if err != nil {
		return count, err
	}
	states := l.States()
	var here [][]byte
	for _, w := range chunks {
		state, err := states.OfContent(ctx, w.Hash, w.Size)
		switch {
		case err != nil:
			return count, err
		case state == Complete:
			here = append(here, w.Record)
		default:
			count++
		}
	}
	return count, l.Drop(ctx, here)
}
