package node

import (
	"crypto/ed25519"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/node/datadir"
)

// RenewKey gives a data directory a new node key, and returns the node's ids before and after. It
// is for a directory that was copied, of which both copies are to run. Authors, replicas and
// content stay, so package versions finds out about the copy by itself. No process may have the
// directory open: it returns a *datadir.InUseError, and fs.ErrNotExist if no node was ever there.
func RenewKey(dir, command string) (before, after peer.ID, err error) {
	old, fresh, err := datadir.RenewKey(dir, command)
	if err != nil {
		return "", "", err
	}
	if before, err = nodeID(old); err != nil {
		return "", "", err
	}
	after, err = nodeID(fresh)
	return before, after, err
}

func nodeID(key ed25519.PublicKey) (peer.ID, error) {
	pub, err := crypto.UnmarshalEd25519PublicKey(key)
	if err != nil {
		return "", fmt.Errorf("node key: %w", err)
	}
	id, err := peer.IDFromPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("node key: %w", err)
	}
	return id, nil
}
