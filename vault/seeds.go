package vault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/replica"
)

// So that all devices of a person use the same seeds, a vault says which there are. The key of an
// entry is "/skerry/seeds/" and the seed's node id; the content is sealed with the catalogue key
// like a head, with the entry's key as associated data, and holds JSON:
// {"version":1,"addrs":[…],"replicas":[…]}. Each device says what it knows; together that is
// what counts.
const (
	seedsPrefix  = "/skerry/seeds/"
	seedsVersion = 1
	maxSeedAddrs = 16
	maxSeedID    = 128 // bytes
)

// KeptAt says that a seed keeps replicas of the person.
type KeptAt struct {
	Seed     string       `json:"-"`     // its node id
	Addrs    []string     `json:"addrs"` // each ends in /p2p/ID
	Replicas []replica.ID `json:"replicas"`
}

type keptAtPlain struct {
	Version int `json:"version"`
	KeptAt
}

// ErrNotSeeds reports an entry that does not say which replicas a seed keeps.
var ErrNotSeeds = errors.New("not an entry about a seed")

// SeedsPrefix is what the keys of all these entries begin with.
func SeedsPrefix() []byte { return []byte(seedsPrefix) }

// Key returns the key of the entry.
func (k *KeptAt) Key() []byte { return []byte(seedsPrefix + k.Seed) }

// Seal returns the content of the entry. It returns an error if there is more to say than
// OpenKeptAt reads.
func (k *KeptAt) Seal(key CatalogueKey) ([]byte, error) {
	if len(k.Seed) > maxSeedID || len(k.Addrs) > maxSeedAddrs {
		return nil, fmt.Errorf(
			"seed %.140s has %d addresses: at most %d, and %d bytes of id, can be said of one", k.Seed,
			len(k.Addrs), maxSeedAddrs, maxSeedID,
		)
	}
	b, err := json.Marshal(keptAtPlain{seedsVersion, *k})
	if err != nil {
		return nil, err
	}
	sealed, err := sealWith(key, b, k.Key())
	if err == nil && len(sealed) > MaxSealed {
		err = fmt.Errorf("seed %s keeps %d replicas: more than an entry can say", k.Seed, len(k.Replicas))
	}
	return sealed, err
}

// OpenKeptAt reads the entry of a key and content. It returns ErrNotSeeds or ErrSealed.
func OpenKeptAt(key CatalogueKey, entryKey, sealed []byte) (k KeptAt, err error) {
	id, ok := bytes.CutPrefix(entryKey, []byte(seedsPrefix))
	if !ok || len(id) > maxSeedID {
		return k, ErrNotSeeds
	}
	b, err := openWith(key, sealed, entryKey)
	if err != nil {
		return k, fmt.Errorf("seed %s: %w", id, err)
	}
	var p keptAtPlain
	if err := json.Unmarshal(b, &p); err != nil || p.Version != seedsVersion ||
		len(p.Addrs) > maxSeedAddrs {
		return k, errors.Join(fmt.Errorf("seed %s: %w: of an unknown form", id, ErrNotSeeds), err)
	}
	k = p.KeptAt
	k.Seed = string(id)
	return k, nil
}
