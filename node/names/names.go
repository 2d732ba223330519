// Package names gives replicas the names by which nodes speak of them to each other: in sessions,
// in the hash table, in overviews and as topics of gossip.
//
// Each is a hash that is keyed with the replica's id, so whoever does not know the id can neither
// make one nor tell two names of one replica from those of two. The names are part of the protocols
// (docs/protocol): a change is another version of one of them.
//
// What never belongs here: a store, a network, a clock. Start at [Lookup].
package names

import (
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/replica"
)

// Keyed is BLAKE3 keyed with 32 bytes; the parts have fixed lengths or are last.
func Keyed(key [32]byte, parts ...[]byte) (out [32]byte) {
	h := blake3.New(32, key[:])
	for _, p := range parts {
		_, _ = h.Write(p) // never fails
	}
	h.Sum(out[:0])
	return out
}

// Lookup names a replica to one responder on one day (since 1970, UTC).
func Lookup(id replica.ID, responder peer.ID, day uint32) [32]byte {
	on := binary.BigEndian.AppendUint32(nil, day)
	return Keyed(id, []byte("skerry lookup 1\n"), on, []byte(responder))
}

// Day is the day of a time, since 1970, in UTC.
func Day(t time.Time) uint32 { return uint32(t.Unix() / 86400) }

// Provide is what a replica is announced under on one day.
func Provide(id replica.ID, day uint32) [32]byte {
	return Keyed(id, []byte("skerry provide 1\n"), binary.BigEndian.AppendUint32(nil, day))
}

// Topic names the topic of a replica. Only who knows the replica's id can make it.
func Topic(id replica.ID) string {
	h := Keyed(id, []byte("skerry topic 3\n"))
	return "/skerry/gossip/3/" + hex.EncodeToString(h[:16])
}

// Token names a replica for one occasion, which has a key.
func Token(id replica.ID, key [32]byte) [32]byte {
	return Keyed(id, []byte("skerry token 1\n"), key[:])
}

// Gossip is the key that seals what is published to the topic of a replica: all who are connected
// to a node learn the topic, and may listen to it.
func Gossip(id replica.ID) [32]byte { return Keyed(id, []byte("skerry gossip key 3\n")) }
