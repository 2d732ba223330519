package localfirst

import (
	"context"

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
}

// SpaceOptions are for Client.Open.
type SpaceOptions struct {
	// Merge is versions.Config.Merge.
	Merge func(key, base, local, remote []byte) (merged []byte, err error)
	// Changed is told the keys of items that others may have changed. It must not block.
	Changed func(keys [][]byte)
	// Device is what people call this device; see versions.Config.Name.
	Device string
}

// Space is the versions of one replica. Its methods may be called at the same time.
type Space interface {
	Versions() *versions.Set
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
