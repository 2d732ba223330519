package localfirst

import (
	"context"
	"time"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
	"github.com/skerry-sync/skerry/versions"
)

// Client is a node, in this process (package embedded) or behind its API. Its methods may be called
// at the same time.
type Client interface {
	// Found makes an encrypted replica of given keys, or does nothing if it is there.
	Found(ctx context.Context, name string, owner replica.SecretKey, first seal.ReadKey) error
	// Create makes an encrypted replica.
	Create(ctx context.Context, name string) (replica.ID, error)
	// Holds reports whether the node holds a replica.
	Holds(ctx context.Context, id replica.ID) (bool, error)
	// Open returns the versions of a replica that the node holds, for one engine at a time.
	Open(ctx context.Context, id replica.ID, o SpaceOptions) (Space, error)
	// Board opens a board: a replica that all who know its keys read and write, and that is found at
	// some addresses, in the form of multiaddrs. The node holds it from then on.
	Board(
		ctx context.Context, owner replica.SecretKey, first seal.ReadKey, addrs []string,
	) (Board, error)
	// Share makes an author a member of an encrypted replica: one who reads, writes, and lets further
	// devices of its own write. What it returns lets that author's node join by Accept; it is for
	// nobody else to see.
	Share(ctx context.Context, id replica.ID, member replica.AuthorID) ([]byte, error)
	// Accept joins a replica by what Share returned at another node.
	Accept(ctx context.Context, name string, access []byte) (replica.ID, error)
	// Author returns the author who is to become a member, with its key, which stays at this node.
	Author(ctx context.Context) (replica.SecretKey, error)
}

// Board is what people who meet by an invite write to each other. It is a replica with an author's
// entries of its own for everybody, and stays until Leave.
type Board interface {
	// Addrs returns where the board is found.
	Addrs(ctx context.Context) ([]string, error)
	// Put writes a small note under a key, in the place of the author's last.
	Put(ctx context.Context, as replica.SecretKey, key string, note []byte) error
	// Notes returns all notes whose content is here and whose keys begin with a prefix.
	Notes(ctx context.Context, prefix string) ([]Note, error)
	// Sync brings the board to what peers have.
	Sync(ctx context.Context) error
	// Leave forgets the board at this node.
	Leave(ctx context.Context) error
}

// Note is what somebody has written on a board.
type Note struct {
	Key    string
	Author replica.AuthorID
	At     time.Time
	Note   []byte
}

// SpaceOptions are for Client.Open.
type SpaceOptions struct {
	// Merge is versions.Config.Merge.
	Merge func(key, base, local, remote []byte) (merged []byte, err error)
	// Name returns what people call the item of a key: empty if no content of it is here.
	Name func(ctx context.Context, key []byte) (string, error)
	// Changed is told that Changes has something to give. It must not block.
	Changed func()
	// Device is what people call this device; see versions.Config.Name.
	Device string
}

// Space is the versions of one replica. Its methods may be called at the same time.
type Space interface {
	Versions() *versions.Set
	// Changes returns the keys of items that may have changed since it was last called, without
	// waiting. all says that there were more: any may have.
	Changes(ctx context.Context) (keys [][]byte, all bool, err error)
	// Sync brings the replica to what peers have, as far as they can be reached.
	Sync(ctx context.Context) error
	// Arrived reports whether all content that has been announced is here.
	Arrived(ctx context.Context) (bool, error)
	// WaitHeld waits until so many other peers hold what this device has written.
	WaitHeld(ctx context.Context, copies int, keys ...[]byte) error
	Close()
}

// Identity is who a person is to the engine: it gives keys that are the same on all the person's
// devices, and nobody else can make. A hardware keystore implements it.
type Identity interface {
	// KeyID names the identity in the engine's store. It is no secret.
	KeyID(ctx context.Context) (string, error)
	// Derive returns a secret of the identity for a purpose: HKDF or the like.
	Derive(ctx context.Context, purpose string) ([32]byte, error)
}
