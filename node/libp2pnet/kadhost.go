package libp2pnet

import (
	"encoding/binary"
	"errors"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// maxQuestion is the length of the longest message that a peer may send to the hash table in bytes.
// The table itself takes 4 MiB, and makes room for all of it as soon as a peer says that so much
// will come.
const maxQuestion = 16 << 10

// kadHost is the host as the hash table sees it: what peers ask of it is bounded.
type kadHost struct{ host.Host }

// SetStreamHandler implements host.Host.
func (h kadHost) SetStreamHandler(p protocol.ID, fn network.StreamHandler) {
	h.Host.SetStreamHandler(p, func(s network.Stream) { fn(&questions{Stream: s}) })
}

var errLongQuestion = errors.New("a message to the hash table is too long")

// questions is a stream that fails before a message that is too long is read. Each message follows
// its length as a varint.
type questions struct {
	network.Stream
	head []byte // the bytes of the length, as far as they have come
	left uint64 // bytes of the message that are still to come
}

// Read implements io.Reader.
func (q *questions) Read(b []byte) (int, error) {
	n, err := q.Stream.Read(b)
	for rest := b[:n]; len(rest) > 0; {
		if q.left > 0 {
			some := min(q.left, uint64(len(rest)))
			q.left, rest = q.left-some, rest[some:]
			continue
		}
		q.head, rest = append(q.head, rest[0]), rest[1:]
		size, k := binary.Uvarint(q.head)
		if k < 0 || k == 0 && len(q.head) >= binary.MaxVarintLen64 || size > maxQuestion {
			_ = q.Reset() // the peer may be gone
			return 0, errLongQuestion
		}
		if k > 0 {
			q.head, q.left = q.head[:0], size
		}
	}
	return n, err
}
