package libp2pnet

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/link"
)

// Gossip and the hash table read the messages of peers themselves. They make room for a message as
// soon as a peer says how long it will be, wait for it for ever, and unpack it into many times its
// size: each part of it, which can be two bytes long, becomes a value of some 150. So every message
// to them is read here first: within a time, counted before it is read, and with no more parts than
// a message of an honest peer has. It counts until the library asks for the next one.

// partSize is how many bytes a part of a message takes in memory, and a byte of it twice as much as
// on the wire.
const partSize = 192

// firstPiece is how many bytes of a message are read first; each piece after it is as long as all
// before.
const firstPiece = 4 << 10

// What messages to gossip and the hash table may take in memory, in bytes.
const (
	framesOfPeer      = 4 << 20
	framesOfNet       = 16 << 20
	framesOfStrangers = 48 << 20
	framesOfKnown     = 192 << 20
)

func newFrameRoom() *admission.Room {
	others := admission.Share{Peer: framesOfPeer, Net: framesOfNet, All: framesOfStrangers}
	return admission.New(admission.Config{
		Bytes: admission.Shares{Strangers: others, Proved: others,
			Known: admission.Share{Peer: framesOfPeer, All: framesOfKnown}},
		Streams: map[string]admission.Shares{tableQuestions.what: {}, gossipMessages.what: {}},
	})
}

// inbox says which messages are read.
type inbox struct {
	what  string
	most  int           // bytes of a message
	items int           // parts of it
	time  time.Duration // from its length to its end
	shape shape
}

// shape says which fields of a message are messages themselves, and what these are like. All other
// fields are parts without parts.
type shape map[protowire.Number]shape

// count returns how many parts a message has, or an error if they are more than some number.
func (s shape) count(b []byte, most int) (parts int, err error) {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return parts, protowire.ParseError(n)
		}
		if parts++; parts > most {
			return parts, fmt.Errorf("it has more than %d parts", most)
		}
		b = b[n:]
		inner, is := s[field]
		if !is || kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(field, kind, b); n < 0 {
				return parts, protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return parts, protowire.ParseError(n)
		}
		b = b[n:]
		more, err := inner.count(v, most-parts)
		if parts += more; err != nil {
			return parts, err
		}
	}
	return parts, nil
}

// frames is a stream of messages, each after its length as a varint.
type frames struct {
	network.Stream
	in   *inbox
	room *admission.Room
	who  func() admission.Party

	left []byte // of the message that is being passed on; only Read uses it

	mu    sync.Mutex
	visit *admission.Visit // counts that message; nil between messages
}

func (n *Network) inFrames(s network.Stream, in *inbox) *frames {
	return &frames{Stream: s, in: in, room: n.frames, who: func() admission.Party {
		return n.party(s)
	}}
}

// party returns who is at the other end of a stream.
func (n *Network) party(s network.Stream) admission.Party {
	p := n.known(s.Conn().RemotePeer())
	p.Net = stream{s}.Origin()
	return p
}

// known returns what the node has told of a connected peer (see Keep), without its network.
func (n *Network) known(p peer.ID) admission.Party {
	who := admission.Party{Peer: p}
	if info := n.host.ConnManager().GetTagInfo(p); info != nil {
		value := info.Tags[shareTag]
		who.Proved, who.Known, who.Named =
			value >= shareValue, value >= historyValue, value >= namedValue
	}
	return who
}

// Read implements io.Reader.
func (f *frames) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if len(f.left) == 0 {
		f.leave()
		size, err := binary.ReadUvarint(byteReader{f.Stream})
		if err != nil {
			return 0, err // also the end, between messages
		}
		if f.left, err = f.next(size); err != nil {
			_ = f.Reset() // the peer may be gone
			return 0, fmt.Errorf("%s: %w", f.in.what, err)
		}
	}
	n := copy(b, f.left)
	f.left = f.left[n:]
	return n, nil
}

// next reads a message, and returns it after its length.
func (f *frames) next(size uint64) ([]byte, error) {
	if size > uint64(f.in.most) {
		return nil, fmt.Errorf("it has %d bytes, at most %d", size, f.in.most)
	}
	visit, err := f.room.Enter(f.in.what, f.who())
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.visit = visit
	f.mu.Unlock()
	if err := f.SetReadDeadline(time.Now().Add(f.in.time)); err != nil {
		return nil, err
	}
	// Memory is charged for what has arrived, and as much again. An announced length alone costs its
	// sender three bytes.
	all := binary.AppendUvarint(make([]byte, 0, firstPiece), size)
	head := len(all)
	for left := int(size); left > 0; {
		piece := min(left, max(len(all), firstPiece))
		if err := visit.Take(2 * piece); err != nil {
			return nil, err
		}
		at := len(all)
		all = slices.Grow(all, piece)[:at+piece]
		if _, err := io.ReadFull(f.Stream, all[at:]); err != nil {
			return nil, err
		}
		left -= piece
	}
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	parts, err := f.in.shape.count(all[head:], f.in.items)
	if err != nil {
		return nil, err
	}
	return all, visit.Take(parts * partSize)
}

// leave stops counting the message before.
func (f *frames) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.visit.Leave()
	f.visit = nil
}

// Close implements network.Stream.
func (f *frames) Close() error {
	f.leave()
	return f.Stream.Close()
}

// Reset implements network.Stream.
func (f *frames) Reset() error {
	f.leave()
	return f.Stream.Reset()
}

// ResetWithError implements network.Stream.
func (f *frames) ResetWithError(code network.StreamErrorCode) error {
	f.leave()
	return f.Stream.ResetWithError(code)
}

// byteReader reads one byte at a time, and none beyond.
type byteReader struct{ io.Reader }

// ReadByte implements io.ByteReader.
func (r byteReader) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r.Reader, b[:])
	return b[0], err
}

// gossipMessages says which messages of peers gossip reads: as many parts as a greeting with all
// topics has, or a list of the messages of all topics.
var gossipMessages = inbox{
	what: "a message of gossip", most: link.MaxGossip + rpcRoom, items: 8192, time: time.Minute,
	shape: shape{1: {}, 2: {}, 3: {1: {}, 2: {}, 3: {}, 4: {2: {}}, 5: {}, 6: {}}},
}

// gossipHost is the host as gossip sees it: what peers send is bounded.
type gossipHost struct {
	host.Host
	n *Network
}

// SetStreamHandler implements host.Host.
func (h gossipHost) SetStreamHandler(p protocol.ID, fn network.StreamHandler) {
	h.Host.SetStreamHandler(p, func(s network.Stream) { fn(h.n.inFrames(s, &gossipMessages)) })
}

// SetStreamHandlerMatch implements host.Host.
func (h gossipHost) SetStreamHandlerMatch(
	p protocol.ID, match func(protocol.ID) bool, fn network.StreamHandler,
) {
	h.Host.SetStreamHandlerMatch(p, match, func(s network.Stream) {
		fn(h.n.inFrames(s, &gossipMessages))
	})
}

// EventBus implements host.Host.
func (h gossipHost) EventBus() event.Bus { return gossipBus{h.Host.EventBus()} }

// gossipBus keeps from gossip where peers say that they are. Gossip has an address book of its own,
// which nobody else can clear: it would hold 16 KiB and more of each peer for a quarter of an hour
// after it has left, of any number of them. It uses them only to dial peers that others name, which
// it never does here (see noNames).
type gossipBus struct{ event.Bus }

// Subscribe implements event.Bus.
func (b gossipBus) Subscribe(types any, opts ...event.SubscriptionOpt) (event.Subscription, error) {
	all, ok := types.([]any)
	has := func(is func(any) bool) bool { return slices.ContainsFunc(all, is) }
	if ok && has(isConnectedness) && has(isIdentification) { // what the address book lives on
		types = slices.DeleteFunc(slices.Clone(all), isIdentification)
	}
	return b.Bus.Subscribe(types, opts...)
}

func isConnectedness(t any) bool {
	_, is := t.(*event.EvtPeerConnectednessChanged)
	return is
}

func isIdentification(t any) bool {
	_, is := t.(*event.EvtPeerIdentificationCompleted)
	return is
}
