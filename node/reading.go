package node

import (
	"context"
	"iter"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// Blobs returns the node's content. What is stored, pinned or deleted there is announced to nobody,
// and no entry names it: that is done by [Replica]. To remove what nothing keeps, use
// [Node.Collect]: the store knows of pins alone, and not of entries.
func (n *Node) Blobs() *blobs.Store { return n.blobs }

// Replicas is what can be read of the replicas of a node; each method is that of [replica.Store].
// It writes nothing: entries are written by [Replica], and replicas are made, joined, shared and
// left by the methods of [Node], which also tell peers and the rooms above the node.
type Replicas interface {
	Get(ctx context.Context, id replica.ID) (replica.Replica, error)
	Resolve(ctx context.Context, text string) (replica.Replica, error)
	List(ctx context.Context) ([]replica.Replica, error)
	All(ctx context.Context) iter.Seq2[replica.Replica, error]

	Plain(ctx context.Context, id replica.ID) (*replica.Plain, error)
	Entries(ctx context.Context, id replica.ID, q replica.Query) iter.Seq2[replica.Entry, error]
	LatestOf(ctx context.Context, id replica.ID, key []byte) (replica.Entry, error)
	Ahead(ctx context.Context, id replica.ID) iter.Seq2[replica.Entry, error]
	EntrySet(id replica.ID) reconcile.Set
	Subscribe(id replica.ID) *replica.Subscription
	Counts(ctx context.Context, id replica.ID) (replica.Counts, error)
	Fingerprint(ctx context.Context, id replica.ID) ([32]byte, error)

	AuthorsOf(ctx context.Context, id replica.ID) ([]replica.AuthorID, error)
	MayWrite(
		ctx context.Context, id replica.ID, author replica.AuthorID, keys ...[]byte,
	) error
	CanGrant(ctx context.Context, id replica.ID, may replica.Permission) error
	Now() time.Time
	Voids(ctx context.Context, id replica.ID, author replica.AuthorID, from uint64) (
		func(e *replica.Entry) (bool, error), error)
	Grants(ctx context.Context, id replica.ID) ([]replica.Grant, error)
	GrantStates(
		ctx context.Context, id replica.ID,
	) ([]replica.GrantState, []replica.Revocation, error)
	ReadKey(ctx context.Context, id replica.ID) (replica.EpochKey, error)
	RevokedSince(
		ctx context.Context, id replica.ID, author replica.AuthorID, since uint64,
	) (bool, error)
	StatementsAbout(
		ctx context.Context, id replica.ID, author replica.AuthorID,
	) ([][]byte, error)
	EpochStatements(ctx context.Context, id replica.ID) ([][]byte, error)
}

// Replicas returns what can be read of the node's replicas.
func (n *Node) Replicas() Replicas { return reading{n.replicas} }

// reading has only the methods of Replicas: the store itself would show its others to whoever asks
// for them by a type assertion.
type reading struct{ Replicas }

// Authors are the author keys of a node. They are kept here, and no peer is told of them.
type Authors struct{ store *replica.Store }

// Authors returns the node's author keys.
func (n *Node) Authors() Authors { return Authors{n.replicas} }

// New makes an author key and keeps it. See [replica.Store.NewAuthor].
func (a Authors) New(ctx context.Context) (replica.AuthorID, error) {
	return a.store.NewAuthor(ctx)
}

// Import keeps an author key that was made elsewhere. See [replica.Store.ImportAuthor].
func (a Authors) Import(ctx context.Context, key replica.SecretKey) error {
	return a.store.ImportAuthor(ctx, key)
}

// All returns the authors whose keys are kept. See [replica.Store.Authors].
func (a Authors) All(ctx context.Context) ([]replica.AuthorID, error) {
	return a.store.Authors(ctx)
}

// Key returns the key of an author. See [replica.Store.AuthorKey].
func (a Authors) Key(ctx context.Context, id replica.AuthorID) (replica.SecretKey, error) {
	return a.store.AuthorKey(ctx, id)
}

// Default returns the author who writes unless another is named; it makes one if there is none yet.
// See [replica.Store.DefaultAuthor].
func (a Authors) Default(ctx context.Context) (replica.AuthorID, error) {
	return a.store.DefaultAuthor(ctx)
}

// DefaultKey returns the key of the default author. See [replica.Store.DefaultAuthorKey].
func (a Authors) DefaultKey(ctx context.Context) (replica.SecretKey, error) {
	return a.store.DefaultAuthorKey(ctx)
}

// SetDefault makes another the default author. See [replica.Store.SetDefaultAuthor].
func (a Authors) SetDefault(ctx context.Context, id replica.AuthorID) error {
	return a.store.SetDefaultAuthor(ctx, id)
}
