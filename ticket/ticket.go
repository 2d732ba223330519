// Package ticket writes and reads tickets: a hash or a capability, together with peers to find it at, as one line of text.
//
// What belongs here: the text and byte formats, and an error of its own for each way a ticket can be wrong. What never belongs here:
// connecting to peers, and fetching what a ticket names.
package ticket

import (
	"bytes"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
)

// The text of a ticket is "blob" or "doc", then lower-case base32 (RFC 4648, no padding) of
//
//	version   u8        1, or 2 with an epoch
//	kind      u8        of a blob ticket: 0 a blob, 1 a sequence (whose first child may be a directory's manifest)
//	                    of a doc ticket: the capability, 1 sync, 2 read, 3 write; or 4 for an invite
//	id        32 bytes  the blob's hash; the replica's id; for write, the replica key's Ed25519 seed; an invite's secret
//	epoch     36 bytes  only of version 2, a doc ticket for an encrypted replica: its number u32 big-endian, and
//	                    of kind 1 the commitment to its read key, of kinds 2 and 3 the read key
//	peers     varint    count (1..16), then each: varint length (<= 512) and a multiaddr that ends in /p2p/ID
//	checksum  4 bytes   the first bytes of BLAKE3 of the prefix and all the above
//
// Upper-case text is accepted, so that a QR code can use its alphanumeric mode, and so is white space anywhere, as
// mail programs add it. The checksum takes in the prefix, so that a blob's ticket cannot pass for a replica's.
const (
	version      = 1
	versionEpoch = 2
	epochSize    = 4 + 32
	checksumSize = 4
	prefixBlob   = "blob"
	prefixDoc    = "doc"
	kindInvite   = 4

	// MaxAddrs is how many addresses a ticket may have.
	MaxAddrs = 16
	// MaxAddr is the length of an address in bytes.
	MaxAddr = 512
	// MaxText is the length of a ticket in characters, more than any valid one has.
	MaxText = 16 << 10
)

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

var (
	// ErrNotTicket reports text that does not begin like a ticket.
	ErrNotTicket = errors.New("not a ticket: tickets begin with blob or doc")
	// ErrNewer reports a ticket of a later version of the format.
	ErrNewer = errors.New("ticket is of a newer version: use a newer skerry")
	// ErrMistyped reports a ticket that was changed on its way.
	ErrMistyped = errors.New("ticket is mistyped: copy it again")
	// ErrCutShort reports a ticket whose end is missing.
	ErrCutShort = errors.New("ticket is cut short: copy all of it")
	// ErrTooLong reports a ticket that something follows on.
	ErrTooLong = errors.New("ticket is too long: something follows its end; copy the ticket alone")
	// ErrNoAddresses reports a ticket without peers to find its content at.
	ErrNoAddresses = errors.New("ticket has no addresses to find anybody at")
	// ErrWrongKind reports a blob ticket where a doc ticket is needed, or the other way round.
	ErrWrongKind = errors.New("wrong kind of ticket")
)

// Ticket is a *Blob, a *Doc or an *Invite.
type Ticket interface {
	// Text returns the ticket as people pass it on; of a write ticket it is a secret. It returns ErrNoAddresses, or an error if
	// there are too many addresses or one has no peer id.
	Text() (string, error)
	// Peers returns whom to ask, each with its addresses, in the order of the ticket.
	Peers() []peer.AddrInfo
	// String describes the ticket without any secret.
	String() string
}

// Blob is a ticket for a blob or a sequence (OBJ-T1).
type Blob struct {
	Hash     blobs.Hash
	Sequence bool
	Addrs    []ma.Multiaddr
}

// Doc is a ticket for a replica (OBJ-T2).
type Doc struct {
	Capability replica.Capability
	Replica    replica.ID
	Secret     replica.SecretKey // only with replica.Write
	ReadKey    replica.EpochKey  // of an encrypted replica; zero for others, and with replica.Sync
	// Least is the newest epoch of an encrypted replica, with replica.Sync. It keeps whoever joins
	// from taking the replica for a plain one, or an older epoch for the newest, when a host withholds
	// some.
	Least replica.EpochID
	Addrs []ma.Multiaddr
}

// Invite asks the node that made it for a capability, and perhaps for a grant. It says nothing about the replica, and is a secret as long as it has not been used.
type Invite struct {
	Secret InviteSecret
	Addrs  []ma.Multiaddr // of that node
}

var _, _, _ Ticket = (*Blob)(nil), (*Doc)(nil), (*Invite)(nil)

// Text implements Ticket.
func (t *Blob) Text() (string, error) {
	kind := byte(0)
	if t.Sequence {
		kind = 1
	}
	return text(prefixBlob, kind, t.Hash, nil, t.Addrs)
}

// Text implements Ticket.
func (t *Doc) Text() (string, error) {
	id := [32]byte(t.Replica)
	if t.Capability == replica.Write {
		if t.Secret.IsZero() || t.Secret.Replica() != t.Replica {
			return "", errors.New("write ticket: the replica's secret is missing")
		}
		id = t.Secret.Seed()
	}
	if t.Capability == replica.Sync && t.ReadKey != (replica.EpochKey{}) {
		return "", errors.New("sync ticket: it has no read key")
	}
	if t.Capability != replica.Sync && t.Least != (replica.EpochID{}) {
		return "", fmt.Errorf("%s ticket: it has a read key, not the epoch alone", t.Capability)
	}
	var epoch []byte
	switch {
	case t.ReadKey.Epoch > 0:
		epoch = append(binary.BigEndian.AppendUint32(nil, t.ReadKey.Epoch), t.ReadKey.Key[:]...)
	case t.Least.Number > 0:
		epoch = append(binary.BigEndian.AppendUint32(nil, t.Least.Number), t.Least.Commitment[:]...)
	}
	return text(prefixDoc, byte(t.Capability), id, epoch, t.Addrs)
}

// Text implements Ticket.
func (t *Invite) Text() (string, error) {
	return text(prefixDoc, kindInvite, t.Secret, nil, t.Addrs)
}

// Peers implements Ticket.
func (t *Invite) Peers() []peer.AddrInfo { return peersOf(t.Addrs) }

// String says nothing about the secret.
func (t *Invite) String() string { return "invite to a replica" }

// InviteSecret is what an invite is known by. It does not print itself.
type InviteSecret [32]byte

// String hides the secret.
func (InviteSecret) String() string { return "[secret]" }

// GoString hides the secret.
func (s InviteSecret) GoString() string { return s.String() }

// Format hides the secret, whatever the verb.
func (s InviteSecret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText refuses: an invite is written by Text alone.
func (InviteSecret) MarshalText() ([]byte, error) {
	return nil, errors.New("the secret of an invite is not written as text")
}

// Peers implements Ticket.
func (t *Blob) Peers() []peer.AddrInfo { return peersOf(t.Addrs) }

// Peers implements Ticket.
func (t *Doc) Peers() []peer.AddrInfo { return peersOf(t.Addrs) }

func (t *Blob) String() string {
	if t.Sequence {
		return "ticket for sequence " + t.Hash.String()
	}
	return "ticket for blob " + t.Hash.String()
}

func (t *Doc) String() string {
	return fmt.Sprintf("%s ticket for replica %s", t.Capability, t.Replica)
}

// text writes a ticket; epoch is empty in one of version 1.
func text(
	prefix string, kind byte, id [32]byte, epoch []byte, addrs []ma.Multiaddr,
) (string, error) {
	if len(addrs) == 0 {
		return "", ErrNoAddresses
	}
	if len(addrs) > MaxAddrs {
		return "", fmt.Errorf("ticket: %d addresses, at most %d", len(addrs), MaxAddrs)
	}
	b := append([]byte{version, kind}, id[:]...)
	if len(epoch) > 0 {
		b[0] = versionEpoch
		b = append(b, epoch...)
	}
	b = binary.AppendUvarint(b, uint64(len(addrs)))
	for _, a := range addrs {
		if _, err := peer.AddrInfoFromP2pAddr(a); err != nil {
			return "", fmt.Errorf("ticket: address %s: %w", a, err)
		}
		raw := a.Bytes()
		if len(raw) > MaxAddr {
			return "", fmt.Errorf("ticket: address %s is longer than %d bytes", a, MaxAddr)
		}
		b = binary.AppendUvarint(b, uint64(len(raw)))
		b = append(b, raw...)
	}
	b = append(b, checksum(prefix, b)...)
	return prefix + encoding.EncodeToString(b), nil
}

func checksum(prefix string, body []byte) []byte {
	h := blake3.Sum256(append([]byte(prefix), body...))
	return h[:checksumSize]
}

func peersOf(addrs []ma.Multiaddr) []peer.AddrInfo {
	var out []peer.AddrInfo
	at := map[peer.ID]int{}
	for _, a := range addrs {
		info, err := peer.AddrInfoFromP2pAddr(a)
		if err != nil {
			continue // Parse and Text let no such address through
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

// Looks reports whether text begins like a ticket, rather than like a hash or a name.
func Looks(text string) bool {
	text = strings.ToLower(strings.TrimSpace(text))
	return len(text) > 40 && !isHex(text) && (strings.HasPrefix(text, prefixBlob) || strings.HasPrefix(text, prefixDoc))
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// Parse reads a ticket. It returns one of the errors of this package, wrapped.
func Parse(s string) (Ticket, error) {
	if len(s) > MaxText {
		return nil, fmt.Errorf("%w, and have less than %d characters", ErrNotTicket, MaxText)
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, s)
	prefix := prefixBlob
	rest, ok := strings.CutPrefix(s, prefixBlob)
	if !ok {
		prefix = prefixDoc
		if rest, ok = strings.CutPrefix(s, prefixDoc); !ok {
			return nil, ErrNotTicket
		}
	}
	if i := strings.IndexFunc(rest, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz234567", r) }); i >= 0 {
		return nil, fmt.Errorf("%w (character %d cannot be in a ticket)", ErrMistyped, len(prefix)+i+1)
	}
	switch len(rest) % 8 {
	case 1, 3, 6: // no number of bytes gives this length
		if b, err := encoding.DecodeString(rest[:len(rest)-1]); err == nil {
			if _, err := parseBytes(prefix, b); err == nil || errors.Is(err, ErrTooLong) {
				return nil, ErrTooLong
			}
		}
		return nil, ErrCutShort
	}
	b, err := encoding.DecodeString(rest)
	if err != nil {
		return nil, ErrMistyped
	}
	t, err := parseBytes(prefix, b)
	if err == nil && encoding.EncodeToString(b) != rest { // bits of the last character that stand for nothing are not zero
		return nil, ErrMistyped
	}
	return t, err
}

// parseBytes finds the end of the body first, so that a ticket that lost its end is told from one with a wrong character.
func parseBytes(prefix string, b []byte) (Ticket, error) {
	if len(b) == 0 {
		return nil, ErrCutShort
	}
	if b[0] > versionEpoch {
		// A later version is recognised only if nothing was mistyped.
		if n := len(b) - checksumSize; n > 0 && bytes.Equal(checksum(prefix, b[:n]), b[n:]) {
			return nil, ErrNewer
		}
		return nil, ErrMistyped
	}
	kind, id, epoch, addrs, n, err := parseBody(b)
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
	if len(addrs) == 0 {
		return nil, ErrNoAddresses
	}
	for _, a := range addrs {
		if _, err := peer.AddrInfoFromP2pAddr(a); err != nil {
			return nil, fmt.Errorf("ticket: address %s: %w", a, err)
		}
	}
	number := binary.BigEndian.Uint32(epoch[:])
	if b[0] == versionEpoch && (prefix == prefixBlob || kind == kindInvite || number == 0) {
		return nil, fmt.Errorf(
			"ticket of kind %d with epoch %d of a read key: use a newer skerry", kind, number,
		)
	}
	if prefix == prefixBlob {
		if kind > 1 {
			return nil, fmt.Errorf("ticket for an unknown kind of content (%d): use a newer skerry", kind)
		}
		return &Blob{Hash: id, Sequence: kind == 1, Addrs: addrs}, nil
	}
	if kind == kindInvite {
		return &Invite{InviteSecret(id), addrs}, nil
	}
	t := &Doc{Capability: replica.Capability(kind), Replica: id, Addrs: addrs}
	switch key := [32]byte(epoch[4:]); {
	case b[0] != versionEpoch:
	case t.Capability == replica.Sync:
		t.Least = replica.EpochID{Number: number, Commitment: key}
	default:
		t.ReadKey = replica.EpochKey{Epoch: number, Key: key}
	}
	switch t.Capability {
	case replica.Sync, replica.Read:
		if err := t.Replica.Check(); err != nil {
			return nil, fmt.Errorf("ticket: %w", err)
		}
	case replica.Write:
		t.Secret = replica.SecretKeyFromSeed(id)
		t.Replica = t.Secret.Replica()
	default:
		return nil, fmt.Errorf("ticket for an unknown capability (%d): use a newer skerry", kind)
	}
	return t, nil
}

// parseBody reads all but the checksum, of which nothing may be believed yet, and returns its length.
func parseBody(
	b []byte,
) (kind byte, id [32]byte, epoch [epochSize]byte, addrs []ma.Multiaddr, n int, err error) {
	bad := func(err error) (byte, [32]byte, [epochSize]byte, []ma.Multiaddr, int, error) {
		return 0, id, epoch, nil, 0, err
	}
	r := bytes.NewReader(b)
	head := make([]byte, 2+len(id))
	if m, _ := r.Read(head); m < len(head) {
		return bad(ErrCutShort)
	}
	if head[0] != version && head[0] != versionEpoch {
		return bad(ErrMistyped)
	}
	kind, id = head[1], [32]byte(head[2:])
	if head[0] == versionEpoch {
		if m, _ := r.Read(epoch[:]); m < len(epoch) {
			return bad(ErrCutShort)
		}
	}
	count, err := binary.ReadUvarint(r)
	if err != nil {
		return bad(ErrCutShort)
	}
	if count > MaxAddrs {
		return bad(ErrMistyped)
	}
	for range count {
		length, err := binary.ReadUvarint(r)
		if err != nil {
			return bad(ErrCutShort)
		}
		if length > MaxAddr {
			return bad(ErrMistyped)
		}
		raw := make([]byte, length)
		if m, _ := r.Read(raw); m < len(raw) {
			return bad(ErrCutShort)
		}
		a, err := ma.NewMultiaddrBytes(raw)
		if err != nil {
			return bad(ErrMistyped)
		}
		addrs = append(addrs, a)
	}
	return kind, id, epoch, addrs, len(b) - r.Len(), nil
}

// ParseBlob reads a blob ticket, or returns ErrWrongKind for a doc ticket.
func ParseBlob(s string) (*Blob, error) {
	t, err := Parse(s)
	if err != nil {
		return nil, err
	}
	if b, ok := t.(*Blob); ok {
		return b, nil
	}
	return nil, fmt.Errorf("%w: this one is for a replica: use skerry replica join", ErrWrongKind)
}

// ParseDoc reads a doc ticket, or returns ErrWrongKind for a blob ticket.
func ParseDoc(s string) (*Doc, error) {
	t, err := Parse(s)
	if err != nil {
		return nil, err
	}
	if d, ok := t.(*Doc); ok {
		return d, nil
	}
	if _, ok := t.(*Invite); ok {
		return nil, fmt.Errorf("%w: this one is an invite: use skerry replica join", ErrWrongKind)
	}
	return nil, fmt.Errorf("%w: this one is for a blob: use skerry get", ErrWrongKind)
}
