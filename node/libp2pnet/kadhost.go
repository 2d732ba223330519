package libp2pnet

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/proto"
)

// maxQuestion is the length of the longest message that a peer may send to the hash table in bytes.
// The table itself takes 4 MiB, and makes room for all of it as soon as a peer says that so much
// will come.
const maxQuestion = 16 << 10

// What of an answer is used. The table remembers for a while whatever peers an answer names, so a
// few peers that answer with tens of thousands of names could fill the memory of whoever asks.
const (
	// maxReply is the length of the longest answer in bytes. An answer of an honest peer stays below
	// it, also if those of which it tells have as many and as long addresses as they may.
	maxReply = 256 << 10
	// replyParts is how many parts such an answer has at most: peers, and of each its id, its
	// addresses, and how it is connected.
	replyParts = 8192
	// maxCloser and maxClaims are how many peers are taken from an answer that are closer to what is
	// looked for (a bucket has 20), and that claim to hold it. maxToldAddrs is how many addresses of
	// each.
	maxCloser    = 32
	maxClaims    = maxFound
	maxToldAddrs = 16
)

// kadHost is the host as the hash table sees it: what peers ask of it, and answer, is bounded.
type kadHost struct {
	host.Host
	n *Network
}

// SetStreamHandler implements host.Host.
func (h kadHost) SetStreamHandler(p protocol.ID, fn network.StreamHandler) {
	h.Host.SetStreamHandler(p, func(s network.Stream) { fn(h.n.inFrames(s, &tableQuestions)) })
}

// tableQuestions says which messages of peers the hash table reads.
var tableQuestions = inbox{
	what: "a message to the hash table", most: maxQuestion, items: 1024, time: time.Minute,
	shape: shape{3: {}, 8: {}, 9: {}}, // record, closer peers, claims
}

// NewStream implements host.Host.
func (h kadHost) NewStream(
	ctx context.Context, p peer.ID, protos ...protocol.ID,
) (network.Stream, error) {
	s, err := h.Host.NewStream(ctx, p, protos...)
	if err != nil {
		return nil, err
	}
	return &replies{Stream: s, from: bufio.NewReader(s)}, nil
}

// replies is a stream on which answers come, each after its length as a varint. It passes on what
// of an answer is used.
type replies struct {
	network.Stream
	from *bufio.Reader // Stream
	left []byte        // of the answer that is passed on now
}

// Read implements io.Reader.
func (r *replies) Read(b []byte) (int, error) {
	if len(r.left) == 0 {
		size, err := binary.ReadUvarint(r.from)
		if err != nil {
			return 0, err
		}
		if r.left, err = r.next(size); err != nil {
			_ = r.Reset() // the peer may be gone
			return 0, err
		}
	}
	n := copy(b, r.left)
	r.left = r.left[n:]
	return n, nil
}

// next reads an answer and returns what is passed on of it.
func (r *replies) next(size uint64) ([]byte, error) {
	if size > maxReply {
		return nil, fmt.Errorf("an answer of the hash table has %d bytes, at most %d", size, maxReply)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r.from, b); err != nil {
		return nil, err
	}
	// Unpacked, a part of two bytes takes some 150.
	if _, err := tableQuestions.shape.count(b, replyParts); err != nil {
		return nil, fmt.Errorf("an answer of the hash table: %w", err)
	}
	var m pb.Message
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("an answer of the hash table: %w", err)
	}
	m.CloserPeers = m.CloserPeers[:min(len(m.CloserPeers), maxCloser)]
	m.ProviderPeers = m.ProviderPeers[:min(len(m.ProviderPeers), maxClaims)]
	for _, p := range slices.Concat(m.CloserPeers, m.ProviderPeers) {
		if p == nil {
			continue
		}
		p.Addrs = slices.DeleteFunc(p.Addrs, func(a []byte) bool { return len(a) > maxClaimAddr })
		p.Addrs = p.Addrs[:min(len(p.Addrs), maxToldAddrs)]
	}
	b, err := proto.Marshal(&m)
	if err != nil {
		return nil, fmt.Errorf("an answer of the hash table: %w", err)
	}
	return append(
		binary.AppendUvarint(make([]byte, 0, len(b)+binary.MaxVarintLen64), uint64(len(b))), b...,
	), nil
}
