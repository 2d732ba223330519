package node

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/sealed"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
)

// Replica is a handle on one replica of a node: the one way to write its entries. It knows what a
// write needs: content is kept from being collected until an entry names it, large content lies in
// chunks, names and content of an encrypted replica are sealed, and what was written is durable
// when Commit returns.
//
// What survives what:
//
//	                          the program is killed   the power fails
//	content that was added    no: it is collected     no
//	what Write has returned   yes                     perhaps
//	what Commit has returned  yes                     yes
//
// A Replica holds nothing open, and its methods may be called at the same time.
type Replica struct {
	n     *Node
	blobs *blobs.Store // of the node; what a handle of Hold stores and opens is held
	id    replica.ID
	most  time.Duration  // see Within; 0 is without end, and less not at all
	view  *replica.Plain // see Reading; nil looks up read keys at each read
}

// Replica returns a handle on the replica that text names: by its name here, its id, or the
// beginning of its id. It returns replica.ErrNotFound and replica.ErrAmbiguous.
func (n *Node) Replica(ctx context.Context, text string) (*Replica, error) {
	r, err := n.replicas.Resolve(ctx, text)
	if err != nil {
		return nil, err
	}
	return n.ReplicaOf(r.ID), nil
}

// ReplicaOf returns a handle on the replica with an id. That it is not here is said by the handle.
func (n *Node) ReplicaOf(id replica.ID) *Replica {
	return &Replica{n: n, blobs: n.blobs, id: id}
}

// Within returns a handle on the same replica that waits at most so long for content that is on its
// way, and not at all while the node is offline. What has not come by then is a *LateError.
func (r *Replica) Within(most time.Duration) *Replica {
	if most == 0 {
		most = -1
	}
	w := *r
	w.most = most
	return &w
}

// holding returns a handle that holds what it opens until release is called.
func (r *Replica) holding() (held *Replica, release func()) {
	h := *r
	h.blobs, release = r.blobs.Hold()
	return &h, release
}

// Reading returns a handle on the same replica for one operation that reads many keys: it looks up
// the read keys once, now, and not at each read. It is for one goroutine. It does not know of read
// keys that come later. It returns replica.ErrNotFound.
func (r *Replica) Reading(ctx context.Context) (*Replica, error) {
	view, err := r.n.replicas.Plain(ctx, r.id)
	if err != nil {
		return nil, err
	}
	reading := *r
	reading.view = view
	return &reading, nil
}

// plain returns what reads go through.
func (r *Replica) plain(ctx context.Context) (*replica.Plain, error) {
	if r.view != nil {
		return r.view, nil
	}
	return r.n.replicas.Plain(ctx, r.id)
}

// ID returns the replica's id.
func (r *Replica) ID() replica.ID { return r.id }

// Change is one key that is set or deleted. Of Value, File, Stream and Delete one is given.
type Change struct {
	Key   []byte
	Value []byte
	// File is open at its beginning. It is not closed. It is for packages of this module; others
	// give a Stream.
	File   *disk.File
	Stream io.Reader
	Delete bool
	// Hash is that of Value, if the caller has it from blobs.HashOf: it is not computed again, and a
	// wrong one is believed. It does not count in an encrypted replica.
	Hash blobs.Hash
	// Time is when the change was decided, and Check may keep it from being written; see
	// replica.Change.
	Time  uint64
	Check func(old *replica.Entry) error
}

// WriteOptions say who writes.
type WriteOptions struct {
	// As is the key of the author; the zero key is that of the default author.
	As replica.SecretKey
	// Progress, if set, is told how many bytes of a change's content have been read.
	Progress func(read uint64)
}

// Batch collects changes that are written together. It is for one goroutine, and must be closed.
type Batch struct {
	r       *Replica
	ctx     context.Context
	blobs   *blobs.Store // holds what was added
	release func()
	view    *replica.Plain
	key     replica.SecretKey
	options WriteOptions
	small   *blobs.Importer
	sealed  []byte // the memory of one small content
	changes []replica.Change
}

// Batch begins to collect changes. It returns replica.ErrNotFound, and replica.ErrNoReadKey or
// replica.ErrUnprovedKey if nothing can be sealed for the replica now.
func (r *Replica) Batch(ctx context.Context, o WriteOptions) (*Batch, error) {
	b := &Batch{r: r, ctx: ctx, key: o.As, options: o}
	var err error
	if b.view, err = r.n.replicas.Plain(ctx, r.id); err != nil {
		return nil, err
	}
	if b.view.Encrypted() {
		if _, err = b.view.Sealing(); err != nil {
			return nil, err
		}
	}
	if b.key.IsZero() {
		if b.key, err = r.n.replicas.DefaultAuthorKey(ctx); err != nil {
			return nil, err
		}
	}
	b.blobs, b.release = r.blobs.Hold()
	return b, nil
}

// Close ends a batch. What was added and not written is collected some time.
func (b *Batch) Close() {
	b.release()
	if b.small != nil {
		b.small.Reset(context.Background(), b.r.n.blobs) // it keeps no hold alive
		b.r.n.importers.Put(b.small)
		b.small = nil
	}
}

// Len returns how many changes have been added and not written.
func (b *Batch) Len() int { return len(b.changes) }

// Add adds a change and takes its content, which is not needed any more when Add returns. It
// returns replica.ErrKeyTooLong and replica.ErrEmptyValue.
func (b *Batch) Add(c Change) (err error) {
	if len(c.Key) > replica.MaxKey {
		return fmt.Errorf("%w: it has %d", replica.ErrKeyTooLong, len(c.Key))
	}
	out := replica.Change{Key: c.Key, Time: c.Time, Check: c.Check}
	if !c.Delete {
		switch out.Hash, out.Size, err = b.content(&c); {
		case errors.Is(err, errNothing) || err == nil && out.Size == 0: // a file emptied meanwhile
			return fmt.Errorf("key %q: %w", c.Key, replica.ErrEmptyValue)
		case err != nil:
			return err
		}
	}
	b.changes = append(b.changes, out)
	return nil
}

// errNothing reports content without a byte.
var errNothing = errors.New("empty content")

// content stores the content of a change.
func (b *Batch) content(c *Change) (h blobs.Hash, size uint64, err error) {
	var in io.Reader
	switch {
	case c.Stream != nil:
		body := bufio.NewReader(c.Stream)
		if _, err := body.Peek(1); errors.Is(err, io.EOF) {
			return h, 0, errNothing
		} else if err != nil {
			return h, 0, err
		}
		in = body
	case c.File != nil && c.File.Size == 0, c.File == nil && len(c.Value) == 0:
		return h, 0, errNothing
	case c.File != nil:
		in = c.File.Reader()
	default:
		in = bytes.NewReader(c.Value)
	}
	progress := b.options.Progress
	value := c.Stream == nil && c.File == nil
	if b.view.Encrypted() && value && seal.SealedSize(uint64(len(c.Value))) <= blobs.SegmentSize {
		if progress != nil {
			progress(uint64(len(c.Value)))
		}
		if b.sealed, err = b.view.SealBytes(b.sealed[:0], c.Value); err != nil {
			return h, 0, err
		}
		h, err = b.importer().Add(b.sealed)
		return h, uint64(len(b.sealed)), err
	}
	if b.view.Encrypted() {
		key, err := b.view.Sealing()
		if err != nil {
			return h, 0, err
		}
		return sealed.Import(b.ctx, b.blobs, key, in, progress)
	}
	switch {
	case c.Stream != nil:
		return content.ImportStream(b.ctx, b.blobs, in, progress)
	case c.File != nil:
		return content.ImportOpen(b.ctx, b.blobs, c.File, progress)
	case len(c.Value) > blobs.SegmentSize:
		info, err := b.blobs.ImportBytes(b.ctx, c.Value)
		return info.Hash, info.Size, err
	}
	if h = c.Hash; h != (blobs.Hash{}) {
		err = b.importer().AddHashed(c.Value, h)
	} else {
		h, err = b.importer().Add(c.Value)
	}
	return h, uint64(len(c.Value)), err
}

// importer returns what stores small contents together, until Write.
func (b *Batch) importer() *blobs.Importer {
	if b.small == nil {
		b.small, _ = b.r.n.importers.Get().(*blobs.Importer)
		if b.small == nil {
			b.small = b.blobs.NewImporter(b.ctx)
		}
		b.small.Reset(b.ctx, b.blobs)
	}
	return b.small
}

// Write writes what was added, all with one timestamp or later, and returns the entries. Peers are
// sent them. It returns a *replica.NotAllowedError or a *replica.ClockError. After an error the
// changes are still there, and Write can be called again; those that were written before it are
// written anew then. The batch can go on afterwards, with the read key that counts then.
func (b *Batch) Write() ([]replica.Item, error) {
	if b.small != nil {
		if err := b.small.Flush(); err != nil {
			return nil, err
		}
	}
	if len(b.changes) == 0 {
		return nil, nil
	}
	items, err := b.r.n.replicas.WritePlain(b.ctx, b.view, b.key, b.changes)
	if err != nil {
		return items, err
	}
	b.changes = nil
	for i := range items {
		err = errors.Join(err, b.r.n.wanted.Written(b.ctx, &items[i].Entry))
	}
	if b.view.Encrypted() { // its read key may change between two writes
		view, errView := b.r.n.replicas.Plain(b.ctx, b.r.id)
		if errView != nil {
			return items, errors.Join(err, errView)
		}
		b.view = view
	}
	return items, err
}

// Commit is Write, and makes this and all that was written before durable.
func (b *Batch) Commit() ([]replica.Item, error) {
	items, err := b.Write()
	if err != nil {
		return items, err
	}
	return items, b.blobs.Sync(b.ctx)
}

// Apply commits changes and returns the entries.
func (r *Replica) Apply(
	ctx context.Context, o WriteOptions, changes ...Change,
) ([]replica.Item, error) {
	b, err := r.Batch(ctx, o)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	for _, c := range changes {
		if err := b.Add(c); err != nil {
			return nil, err
		}
	}
	return b.Commit()
}

// Set sets a key to a value, as the default author.
func (r *Replica) Set(ctx context.Context, key, value []byte) (it replica.Item, err error) {
	items, err := r.Apply(ctx, WriteOptions{}, Change{Key: key, Value: value})
	if err != nil {
		return it, err
	}
	return items[0], nil
}

// Delete deletes a key, as the default author. It returns replica.ErrNotFound if it has no value.
func (r *Replica) Delete(ctx context.Context, key []byte) error {
	view, err := r.n.replicas.Plain(ctx, r.id)
	if err != nil {
		return err
	}
	if _, err := view.LatestOf(ctx, key); err != nil {
		return err
	}
	_, err = r.Apply(ctx, WriteOptions{}, Change{Key: key, Delete: true})
	return err
}

// DeletePrefix deletes all keys that begin with prefix, and returns how many.
func (r *Replica) DeletePrefix(
	ctx context.Context, o WriteOptions, prefix []byte,
) (removed int, err error) {
	var changes []Change
	for it, err := range r.Latest(ctx, replica.Query{Prefix: prefix}) {
		if err != nil {
			return 0, err
		}
		changes = append(changes, Change{Key: it.Key, Delete: true})
	}
	_, err = r.Apply(ctx, o, changes...)
	return len(changes), err
}

// Get returns the latest value of a key. It waits for content that is on its way as long as ctx
// lives and the node is online, or as Within says. It returns replica.ErrNotFound, and
// blobs.ErrTooLarge for content of more than most bytes.
func (r *Replica) Get(ctx context.Context, key []byte, most uint64) ([]byte, error) {
	r, release := r.holding()
	defer release()
	it, in, err := r.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	if size := uint64(in.Size()); size > most {
		return nil, fmt.Errorf("key %q: %w: %d bytes, at most %d", it.Key, blobs.ErrTooLarge, size,
			most)
	}
	return io.ReadAll(in)
}

// Open opens the latest value of a key for reading, as long as ctx lives. It waits as Get does. A
// value that another has taken the place of since may be collected before it has been read: see
// Hold.
func (r *Replica) Open(
	ctx context.Context, key []byte,
) (it replica.Item, in content.Reader, err error) {
	view, err := r.plain(ctx)
	if err == nil {
		it, err = view.LatestOf(ctx, key)
	}
	if err == nil {
		r.blobs.Touch(it.Entry.Hash) // before it has come: another may take the place of its entry
		err = r.await(ctx, &it)
	}
	if err != nil {
		return it, nil, r.n.ended(err)
	}
	in, err = sealed.Open(ctx, r.blobs, view, &it.Entry)
	return it, in, err
}

// A LateError reports content that is not here, and that no peer has given in time.
type LateError struct {
	Key    []byte
	Hash   blobs.Hash
	Size   uint64
	Waited time.Duration
}

func (e *LateError) Error() string {
	return fmt.Sprintf("the content of %q (%s, %d bytes) is not here, and no peer has given it "+
		"within %s", e.Key, e.Hash, e.Size, e.Waited)
}

// Kind implements kind.Of.
func (e *LateError) Kind() kind.Kind { return kind.Unreachable }

// await waits for the content of an entry.
func (r *Replica) await(ctx context.Context, it *replica.Item) error {
	online := r.n.Online()
	if r.most == 0 {
		if !online {
			return nil
		}
		return r.n.WaitEntry(ctx, &it.Entry)
	}
	if state, err := r.n.ContentOf(ctx, &it.Entry); state == wanted.Complete || err != nil {
		return err
	}
	most := max(r.most, 0)
	if !online {
		most = 0
	}
	limited, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	err := r.n.WaitEntry(limited, &it.Entry)
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &LateError{it.Key, it.Entry.Hash, it.Entry.Size, most}
}

// Has reports whether all content of the latest value of a key is here. It returns
// replica.ErrNotFound.
func (r *Replica) Has(ctx context.Context, key []byte) (bool, error) {
	view, err := r.plain(ctx)
	if err != nil {
		return false, err
	}
	it, err := view.LatestOf(ctx, key)
	if err != nil {
		return false, err
	}
	state, err := r.n.ContentOf(ctx, &it.Entry)
	return state == wanted.Complete, err
}

// Latest yields the latest entry of each key that q selects, as replica.Plain.Latest does.
func (r *Replica) Latest(ctx context.Context, q replica.Query) iter.Seq2[replica.Item, error] {
	return r.all(ctx, q, (*replica.Plain).Latest)
}

// Entries yields the entries of all authors that q selects, as replica.Plain.Entries does.
func (r *Replica) Entries(ctx context.Context, q replica.Query) iter.Seq2[replica.Item, error] {
	return r.all(ctx, q, (*replica.Plain).Entries)
}

func (r *Replica) all(ctx context.Context, q replica.Query,
	in func(*replica.Plain, context.Context, replica.Query) iter.Seq2[replica.Item, error],
) iter.Seq2[replica.Item, error] {
	return func(yield func(replica.Item, error) bool) {
		view, err := r.plain(ctx)
		if err != nil {
			yield(replica.Item{}, err)
			return
		}
		for it, err := range in(view, ctx, q) {
			if !yield(it, err) {
				return
			}
		}
	}
}

// Seen is an entry as it was stored, or dropped because a revocation has made it void.
type Seen struct {
	replica.Item
	From    replica.Origin
	Dropped bool
}

// Watch tells of entries of a replica as they are stored. It is for one goroutine.
type Watch struct {
	r    *Replica
	sub  *replica.Subscription
	view *replica.Plain
	come uint64 // entries that Next has taken
}

// Watch begins to watch: nothing that is stored from now on is missed.
func (r *Replica) Watch(ctx context.Context) (*Watch, error) {
	view, err := r.n.replicas.Plain(ctx, r.id)
	if err != nil {
		return nil, err
	}
	return &Watch{r: r, sub: r.n.replicas.Subscribe(r.id), view: view}, nil
}

// Next waits for entries and returns all that have come, in the order in which they were stored.
// missed is how many were dropped before them since Next was called too rarely. Entries that no
// read key opens are left out. It returns ctx's error when that ends, and ErrClosed after the
// node's Close.
func (w *Watch) Next(ctx context.Context) (all []Seen, missed uint64, err error) {
	for len(all) == 0 && missed == 0 && err == nil {
		var lost uint64
		all, lost, _, err = w.NextUntil(ctx)
		missed += lost
	}
	return all, missed, err
}

// NextUntil is Next, and also returns when nothing is left of what has come, and how many entries
// have come by then: see Come.
func (w *Watch) NextUntil(
	ctx context.Context,
) (all []Seen, missed, come uint64, err error) {
	events, missed, err := w.sub.Next(ctx)
	if err != nil {
		return nil, missed, w.come, err
	}
	w.come += uint64(len(events)) + missed
	fresh := false
	for _, e := range events {
		it, ok := w.view.Open(e.Entry)
		if !ok && !fresh { // there may be a new epoch, whose key has come with the statements
			view, err := w.r.n.replicas.Plain(ctx, w.r.id)
			if err != nil {
				return all, missed, w.come, err
			}
			w.view, fresh = view, true
			it, ok = w.view.Open(e.Entry)
		}
		if ok {
			all = append(all, Seen{it, e.From, e.Dropped})
		}
	}
	return all, missed, w.come, nil
}

// Come returns how many entries have been stored or dropped since the watch began, those that Next
// has not returned yet included.
func (w *Watch) Come() uint64 { return w.sub.Added() }

// View shows the entries that Next has returned under the keys that people gave them.
func (w *Watch) View() *replica.Plain { return w.view }

// Close ends the watch.
func (w *Watch) Close() { w.sub.Close() }
