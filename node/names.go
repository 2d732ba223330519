package node

import (
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/replica"
)

// keyed is BLAKE3 keyed with 32 bytes; the parts have fixed lengths or are last.
func keyed(key [32]byte, parts ...[]byte) (out [32]byte) {
	h := blake3.New(32, key[:])
	for _, p := range parts {
		_, _ = h.Write(p) // never fails
	}
	h.Sum(out[:0])
	return out
}

// lookupOf names a replica to one responder on one day (since 1970, UTC).
func lookupOf(id replica.ID, responder peer.ID, day uint32) [32]byte {
	on := binary.BigEndian.AppendUint32(nil, day)
	return keyed(id, []byte("skerry lookup 1\n"), on, []byte(responder))
}

// dayOf is the day of a time, since 1970, in UTC.
func dayOf(t time.Time) uint32 { return uint32(t.Unix() / 86400) }

// provideKey is what a replica is announced under on one day.
func provideKey(id replica.ID, day uint32) [32]byte {
	return keyed(id, []byte("skerry provide 1\n"), binary.BigEndian.AppendUint32(nil, day))
}

// topicOf names the topic of a replica. Only who knows the replica's id can make it.
func topicOf(id replica.ID) string {
	h := keyed(id, []byte("skerry topic 2\n"))
	return "/skerry/gossip/2/" + hex.EncodeToString(h[:16])
}

// tokenOf names a replica for one occasion, which has a key.
func tokenOf(id replica.ID, key [32]byte) [32]byte {
	return keyed(id, []byte("skerry token 1\n"), key[:])
}
