package ticket

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"lukechampine.com/blake3"
)

// The text of a ticket is "blob" or "doc", then lower-case base32 (RFC 4648, no padding) of
//
//	version   u8        1
//	kind      u8        of a blob ticket: 0 a blob, 1 a sequence (its first child may be a
//	                    directory's manifest); of a doc ticket: the capability, 1 sync, 2 read,
//	                    3 write, or 4 for an invite; 128 is added if an epoch follows
//	id        32 bytes  the blob's hash; the replica's id; for write, the replica key's Ed25519
//	                    seed; an invite's secret
//	epoch     36 bytes  only of a doc ticket for an encrypted replica: its number u32
//	                    big-endian, not 0, and of kind 1 the commitment to its read key, of
//	                    kinds 2 and 3 the read key
//	peers     varint    count, then of each, once:
//	            id         varint length, and the peer's id; or 32 and its Ed25519 key, which
//	                       stands for the id that is made of it
//	            addresses  varint count, then each: varint length and a multiaddr, without
//	                       /p2p/ID
//	checksum  4 bytes   the first bytes of BLAKE3 of the prefix and all the above
//
// There are 1 to 16 addresses in all, where a peer without any counts as one; with /p2p/ID each has
// at most 512 bytes.
//
// One ticket has one text: a varint has its shortest form, and the bits of the last character that
// stand for nothing are zero. A peer's id has at most 128 bytes; one of 32 bytes that is not made
// of a key has no form.
//
// Upper-case text is accepted, so that a QR code can use its alphanumeric mode, and so is white
// space anywhere, as mail programs add it. The checksum takes in the prefix, so that a blob's
// ticket cannot pass for a replica's.
const (
	version      = 1
	kindInvite   = 4
	kindEpoch    = 128 // is added to others
	headSize     = 2 + 32
	epochSize    = 4 + 32
	checksumSize = 4
	prefixBlob   = "blob"
	prefixDoc    = "doc"

	// MaxAddrs is how many addresses a ticket may have.
	MaxAddrs = 16
	// MaxAddr is the length of an address in bytes, with its peer id.
	MaxAddr = 512
	// MaxText is the length of a ticket in characters, more than any valid one has.
	MaxText = 16 << 10

	// maxPeerID bounds the length of a peer's id in bytes.
	maxPeerID = 128
	// keyID is the beginning of the id that is made of an Ed25519 key: the identity multihash of the
	// key's 36 bytes of protobuf (libp2p, "Peer Ids and Keys").
	keyID   = "\x00\x24\x08\x01\x12\x20"
	keySize = 32
)

// body is what a ticket says.
type body struct {
	kind  byte // without kindEpoch
	id    [32]byte
	epoch []byte // epochSize bytes, or none
	addrs []ma.Multiaddr
}

// text writes a ticket.
func (b *body) text(prefix string) (string, error) {
	if len(b.addrs) == 0 {
		return "", ErrNoAddresses
	}
	if len(b.addrs) > MaxAddrs {
		return "", fmt.Errorf("ticket: %d addresses, at most %d", len(b.addrs), MaxAddrs)
	}
	for _, a := range b.addrs {
		if _, err := peer.AddrInfoFromP2pAddr(a); err != nil {
			return "", fmt.Errorf("ticket: address %s: %w", a, err)
		}
		if len(a.Bytes()) > MaxAddr {
			return "", fmt.Errorf("ticket: address %s is longer than %d bytes", a, MaxAddr)
		}
	}
	out := append([]byte{version, b.kind}, b.id[:]...)
	if len(b.epoch) > 0 {
		out[1] |= kindEpoch
		out = append(out, b.epoch...)
	}
	peers := peersOf(b.addrs)
	out = binary.AppendUvarint(out, uint64(len(peers)))
	for _, p := range peers {
		id := appendBytes(nil, strings.TrimPrefix(string(p.ID), keyID))
		r := &reader{b: id}
		if back := r.peer(); r.err != nil || back != p.ID || r.address(back, nil) == nil {
			return "", fmt.Errorf("ticket: a ticket has no form for the id of peer %s", p.ID)
		}
		out = append(out, id...)
		out = binary.AppendUvarint(out, uint64(len(p.Addrs)))
		for _, a := range p.Addrs {
			out = appendBytes(out, string(a.Bytes()))
		}
	}
	out = append(out, checksum(prefix, out)...)
	return prefix + encoding.EncodeToString(out), nil
}

func appendBytes(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func checksum(prefix string, body []byte) []byte {
	h := blake3.Sum256(append([]byte(prefix), body...))
	return h[:checksumSize]
}

// peersOf returns the peers of some addresses, each once, in the order of the addresses.
func peersOf(addrs []ma.Multiaddr) []peer.AddrInfo {
	var out []peer.AddrInfo
	at := map[peer.ID]int{}
	for _, a := range addrs {
		info, err := peer.AddrInfoFromP2pAddr(a)
		if err != nil {
			continue // neither parse nor text lets such an address through
		}
		if i, ok := at[info.ID]; ok {
			out[i].Addrs = append(out[i].Addrs, info.Addrs...)
			continue
		}
		at[info.ID] = len(out)
		out = append(out, *info)
	}
	return out
}

// parseBytes reads a ticket. It finds the end of the body first, so that a ticket that lost its end
// is told from one with a wrong character.
func parseBytes(prefix string, b []byte) (Ticket, error) {
	if len(b) == 0 {
		return nil, ErrCutShort
	}
	if b[0] > version {
		// A later version is recognised only if nothing was mistyped.
		if n := len(b) - checksumSize; n > 0 && bytes.Equal(checksum(prefix, b[:n]), b[n:]) {
			return nil, ErrNewer
		}
		return nil, ErrMistyped
	}
	body, n, err := parseBody(b)
	if err != nil {
		return nil, err
	}
	if rest := len(b) - n; rest < checksumSize {
		return nil, ErrCutShort
	} else if !bytes.Equal(checksum(prefix, b[:n]), b[n:n+checksumSize]) {
		return nil, ErrMistyped
	} else if rest > checksumSize {
		return nil, ErrTooLong
	}
	if len(body.addrs) == 0 {
		return nil, ErrNoAddresses
	}
	if prefix == prefixBlob {
		return body.blob()
	}
	return body.doc()
}

// parseBody reads all but the checksum, of which nothing may be believed yet, and returns its
// length.
func parseBody(b []byte) (out body, n int, err error) {
	r := &reader{b: b}
	head := r.take(headSize)
	if r.err != nil {
		return out, 0, r.err
	}
	if head[0] != version {
		return out, 0, ErrMistyped
	}
	out.kind, out.id = head[1]&^kindEpoch, [32]byte(head[2:])
	if head[1]&kindEpoch != 0 {
		out.epoch = bytes.Clone(r.take(epochSize))
	}
	seen := map[peer.ID]bool{}
	for range r.number(MaxAddrs) {
		id := r.peer()
		if r.err == nil && seen[id] {
			r.err = ErrMistyped
		}
		seen[id] = true
		count := r.number(MaxAddrs)
		if r.err == nil && len(out.addrs)+max(int(count), 1) > MaxAddrs {
			r.err = ErrMistyped
		}
		if r.err != nil {
			return out, 0, r.err
		}
		if count == 0 {
			out.addrs = append(out.addrs, r.address(id, nil))
		}
		for range count {
			raw := r.take(r.number(MaxAddr))
			if len(raw) == 0 && r.err == nil { // that of a peer without an address
				r.err = ErrMistyped
			}
			out.addrs = append(out.addrs, r.address(id, raw))
		}
		if r.err != nil {
			return out, 0, r.err
		}
	}
	return out, len(b) - len(r.b), r.err
}

// reader reads from b. After an error it reads nothing more.
type reader struct {
	b   []byte
	err error // ErrCutShort or ErrMistyped
}

// take returns the next n bytes.
func (r *reader) take(n uint64) []byte {
	if r.err == nil && uint64(len(r.b)) < n {
		r.err = ErrCutShort
	}
	if r.err != nil {
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

// number returns the next varint, which is at most most.
func (r *reader) number(most uint64) uint64 {
	if r.err != nil {
		return 0
	}
	x, n := binary.Uvarint(r.b)
	switch {
	case n == 0:
		r.err = ErrCutShort
	case n < 0 || x > most:
		r.err = ErrMistyped
	default:
		r.b = r.b[n:]
		return x
	}
	return 0
}

// peer returns the next peer id.
func (r *reader) peer() peer.ID {
	raw := string(r.take(r.number(maxPeerID)))
	if r.err != nil {
		return ""
	}
	if len(raw) == keySize {
		raw = keyID + raw
	} else if strings.HasPrefix(raw, keyID) { // which has a shorter form
		r.err = ErrMistyped
		return ""
	}
	id, err := peer.IDFromBytes([]byte(raw))
	if err != nil {
		r.err = ErrMistyped
	}
	return id
}

// address returns the address raw of a peer, with its id at the end.
func (r *reader) address(id peer.ID, raw []byte) ma.Multiaddr {
	if r.err != nil {
		return nil
	}
	at, err := ma.NewComponent("p2p", id.String())
	if err != nil {
		r.err = ErrMistyped
		return nil
	}
	out := at.Multiaddr()
	if len(raw) > 0 {
		a, err := ma.NewMultiaddrBytes(raw)
		if err != nil {
			r.err = ErrMistyped
			return nil
		}
		out = a.Encapsulate(out)
	}
	if info, err := peer.AddrInfoFromP2pAddr(out); err != nil || info.ID != id ||
		len(out.Bytes()) > MaxAddr {
		r.err = ErrMistyped
	}
	return out
}
