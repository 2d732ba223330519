package vault

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/skerry-sync/skerry/project"
	"github.com/skerry-sync/skerry/replica"
)

// Beside the catalogue, which apps may read, a vault holds what only the person's own devices may:
// how to have each project whole again. OBJECTS knows no such entries, and others keep them without
// understanding. Their keys are "/skerry/restore/" and the project's id; their content is a random
// nonce of 24 bytes and the XChaCha20-Poly1305 encryption, with the restore key, the entry's key as
// associated data, of
//
//	version     u8 = 1
//	capability  u8, 2 read or 3 write
//	replica     32 bytes: the replica's id or, for write, the seed of its key
//	epoch       u32 big-endian, 0 if the replica is not encrypted
//	read key    32 bytes, zeros if it is not
const (
	restorePrefix  = "/skerry/restore/"
	restoreVersion = 1
	restorePlain   = 1 + 1 + 32 + 4 + 32
)

// Restore is what a device needs to join a project.
type Restore struct {
	Capability replica.Capability // Read or Write
	Replica    replica.ID
	Secret     replica.SecretKey // with Write
	ReadKey    replica.EpochKey  // of an encrypted replica
}

// ErrNotRestore reports an entry that is not one of these.
var ErrNotRestore = errors.New("not an entry to restore a project from")

// RestoreKeyOf returns the key of the entry for a replica.
func RestoreKeyOf(id replica.ID) []byte { return []byte(restorePrefix + project.IDOf(id)) }

// Key returns the key of the entry.
func (r *Restore) Key() []byte { return RestoreKeyOf(r.Replica) }

// Seal returns the content of the entry.
func (r *Restore) Seal(key RestoreKey) ([]byte, error) {
	b := []byte{restoreVersion, byte(r.Capability)}
	switch r.Capability {
	case replica.Read:
		b = append(b, r.Replica[:]...)
	case replica.Write:
		seed := r.Secret.Seed()
		b = append(b, seed[:]...)
	default:
		return nil, fmt.Errorf("restore %s: capability %s", r.Replica.Short(), r.Capability)
	}
	b = append(binary.BigEndian.AppendUint32(b, r.ReadKey.Epoch), r.ReadKey.Key[:]...)
	return sealWith(key, b, r.Key())
}

// OpenRestore reads the entry of a key and content. It returns ErrNotRestore or ErrSealed.
func OpenRestore(key RestoreKey, entryKey, sealed []byte) (r Restore, err error) {
	if !bytes.HasPrefix(entryKey, []byte(restorePrefix)) {
		return r, ErrNotRestore
	}
	b, err := openWith(key, sealed, entryKey)
	if err != nil {
		return r, fmt.Errorf("%s: %w", entryKey, err)
	}
	if len(b) != restorePlain || b[0] != restoreVersion {
		return r, fmt.Errorf("%s: %w: of an unknown form", entryKey, ErrNotRestore)
	}
	r.Capability = replica.Capability(b[1])
	switch r.Capability {
	case replica.Read:
		r.Replica = replica.ID(b[2:34])
	case replica.Write:
		r.Secret = replica.SecretKeyFromSeed([32]byte(b[2:34]))
		r.Replica = r.Secret.Replica()
	default:
		return r, fmt.Errorf("%s: %w: capability %s", entryKey, ErrNotRestore, r.Capability)
	}
	r.ReadKey.Epoch = binary.BigEndian.Uint32(b[34:])
	copy(r.ReadKey.Key[:], b[38:])
	if !bytes.Equal(r.Key(), entryKey) {
		return r, fmt.Errorf("%s: %w: it is for another project", entryKey, ErrNotRestore)
	}
	return r, nil
}

// sealWith gives a random nonce and the encryption of b.
func sealWith(key [32]byte, b, associated []byte) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, err
	}
	nonce := randomBytes(chacha20poly1305.NonceSizeX)
	return aead.Seal(nonce, nonce, b, associated), nil
}

// openWith opens what sealWith has given, or returns ErrSealed.
func openWith(key [32]byte, sealed, associated []byte) ([]byte, error) {
	const nonce = chacha20poly1305.NonceSizeX
	if len(sealed) < nonce+chacha20poly1305.Overhead || len(sealed) > MaxSealed {
		return nil, fmt.Errorf("%w: %d bytes", ErrSealed, len(sealed))
	}
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, err
	}
	b, err := aead.Open(nil, sealed[:nonce], sealed[nonce:], associated)
	if err != nil {
		return nil, ErrSealed
	}
	return b, nil
}
