package datadir

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const keyFile = "node.key"

// makePrivate makes the data directory, or takes from others what they may do in it, and with the
// files that hold keys: also of a directory that somebody has made, or copied, with other rights.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"", keyFile, "config", "keyring"} {
		name = filepath.Join(dir, name)
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			err = os.Chmod(name, info.Mode().Perm()&0o700)
		}
		if err != nil && !errors.Is(err, fs.ErrPermission) { // of another owner, who has decided about it
			return err
		}
	}
	return nil
}

// Key returns the node's key, and makes it if there is none.
func (d *Dir) Key() (ed25519.PrivateKey, error) {
	return loadKey(filepath.Join(d.path, keyFile))
}

// loadKey reads the node's Ed25519 seed, or makes it.
func loadKey(name string) (ed25519.PrivateKey, error) {
	seed, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return makeKey(name)
	case err != nil:
		return nil, fmt.Errorf("node key: %w", err)
	case len(seed) != ed25519.SeedSize:
		return nil, fmt.Errorf("node key: %s has %d bytes, expected %d", name, len(seed),
			ed25519.SeedSize)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// makeKey makes a node key, in the place of any that is there.
func makeKey(name string) (ed25519.PrivateKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed) // never fails
	tmp := name + ".new"
	if err := os.WriteFile(tmp, seed, 0o600); err != nil {
		return nil, fmt.Errorf("node key: %w", err)
	}
	if err := os.Rename(tmp, name); err != nil {
		return nil, fmt.Errorf("node key: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// RenewKey gives a data directory that was copied a node key of its own, and deletes the one that
// the other copy has, too. It returns the public keys before and after. Authors and all else stay.
// It returns fs.ErrNotExist if there is no node key, and an *InUseError.
func RenewKey(dir, command string) (before, after ed25519.PublicKey, err error) {
	name := filepath.Join(dir, keyFile)
	if _, err := os.Stat(name); err != nil {
		return nil, nil, fmt.Errorf("node key: %w", err)
	}
	d, err := Open(dir, command)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	old, err := d.Key()
	if err != nil {
		return nil, nil, err
	}
	fresh, err := makeKey(name)
	if err != nil {
		return nil, nil, err
	}
	return old.Public().(ed25519.PublicKey), fresh.Public().(ed25519.PublicKey), nil
}
