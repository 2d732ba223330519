package libp2pnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"
)

// attentive is a swarm that lets only those voices be heard that count.
type attentive struct {
	*swarm.Swarm
	voices *voices
}

// NewStream implements network.Network.
func (n *attentive) NewStream(ctx context.Context, p peer.ID) (network.Stream, error) {
	s, err := n.Swarm.NewStream(ctx, p)
	if err != nil {
		return nil, err
	}
	return &question{Stream: s, voices: n.voices}, nil
}

// SetStreamHandler implements network.Network.
func (n *attentive) SetStreamHandler(handle network.StreamHandler) {
	n.Swarm.SetStreamHandler(func(s network.Stream) { handle(&callBack{s, n.voices}) })
}

// callBack is a stream that another peer has opened, perhaps to dial back.
type callBack struct {
	network.Stream
	voices *voices
}

// SetProtocol implements network.Stream.
func (s *callBack) SetProtocol(id protocol.ID) error {
	if id == autonatv2.DialBackProtocol && !s.voices.dialsBack(s.Conn().RemotePeer()) {
		return fmt.Errorf("peer %s dials back on a connection that it had", s.Conn().RemotePeer())
	}
	return s.Stream.SetProtocol(id)
}

// question is a stream that this node has opened. If it asks whether addresses can be reached, it
// follows what is said, and fails before an answer is read that does not count.
type question struct {
	network.Stream
	voices *voices

	asking   bool
	by       netip.Prefix
	out, in  messages
	about    [][]byte // addresses, as soon as they have been written
	answered bool
}

// SetProtocol implements network.Stream.
func (q *question) SetProtocol(id protocol.ID) error {
	if id == autonatv2.DialProtocol {
		p := q.Conn().RemotePeer()
		by, ok := q.voices.asks(p)
		if !ok {
			return fmt.Errorf("peer %s is not asked where this node can be reached", p)
		}
		q.asking, q.by = true, by
	}
	return q.Stream.SetProtocol(id)
}

// Write implements network.Stream. The question comes first; what follows is only bulk.
func (q *question) Write(b []byte) (int, error) {
	if q.asking && q.about == nil {
		err := q.out.take(b, func(m *pb.Message) error {
			if ask := m.GetDialRequest(); ask != nil {
				q.about = ask.Addrs
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return q.Stream.Write(b)
}

// Read implements network.Stream.
func (q *question) Read(b []byte) (int, error) {
	n, err := q.Stream.Read(b)
	if !q.asking || q.answered {
		return n, err
	}
	if bad := q.in.take(b[:n], q.judge); bad != nil {
		_ = q.ResetWithError(network.StreamProtocolViolation) // it is of no use any more
		return 0, bad
	}
	return n, err
}

// judge returns an error for an answer that does not count.
func (q *question) judge(m *pb.Message) error {
	a := m.GetDialResponse()
	if a == nil {
		return nil
	}
	q.answered = true
	if a.GetStatus() != pb.DialResponse_OK {
		return nil // it says nothing of an address
	}
	if int(a.GetAddrIdx()) >= len(q.about) {
		return fmt.Errorf("answer about address %d of %d", a.GetAddrIdx(), len(q.about))
	}
	about, err := ma.NewMultiaddrBytes(q.about[a.GetAddrIdx()])
	if err != nil {
		return fmt.Errorf("answer about an address: %w", err)
	}
	return q.voices.hears(q.Conn().RemotePeer(), q.by, about)
}

// messages finds messages in a stream: each has its length before it, as the names of protocols
// have that go first, which begin with a slash.
type messages struct{ rest []byte }

// maxMessage is how long a message of AutoNAT v2 may be.
const maxMessage = 8 << 10

// take adds bytes, and calls found with each message that is complete.
func (f *messages) take(b []byte, found func(*pb.Message) error) error {
	f.rest = append(f.rest, b...)
	for {
		size, n := binary.Uvarint(f.rest)
		if n < 0 || size > maxMessage {
			return errors.New("a message about addresses is too long")
		}
		if n == 0 || uint64(len(f.rest)-n) < size {
			return nil
		}
		one := f.rest[n : n+int(size)]
		f.rest = f.rest[n+int(size):]
		if len(one) > 0 && one[0] == '/' {
			continue
		}
		m := &pb.Message{}
		if err := proto.Unmarshal(one, m); err != nil {
			return fmt.Errorf("a message about addresses: %w", err)
		}
		if err := found(m); err != nil {
			return err
		}
	}
}
