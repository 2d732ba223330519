// Package ticket writes and reads tickets: a hash or a capability, together with peers to find it
// at, as one line of text.
//
// What belongs here: the text and byte formats, and an error of its own for each way a ticket can
// be wrong. What never belongs here: connecting to peers, and fetching what a ticket names.
package ticket

import (
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/replica"
)

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

var (
	// ErrNotTicket reports text that does not begin like a ticket.
	ErrNotTicket = kind.New(kind.Usage, "not a ticket: tickets begin with blob or doc")
	// ErrNewer reports a ticket of a later version of the format.
	ErrNewer = kind.New(kind.Usage, "ticket is of a newer version: use a newer skerry")
	// ErrMistyped reports a ticket that was changed on its way.
	ErrMistyped = kind.New(kind.Usage, "ticket is mistyped: copy it again")
	// ErrCutShort reports a ticket whose end is missing.
	ErrCutShort = kind.New(kind.Usage, "ticket is cut short: copy all of it")
	// ErrTooLong reports a ticket that something follows on.
	ErrTooLong = kind.New(
		kind.Usage, "ticket is too long: something follows its end; copy the ticket alone",
	)
	// ErrNoAddresses reports a ticket without peers to find its content at.
	ErrNoAddresses = kind.New(kind.Usage, "ticket has no addresses to find anybody at")
	// ErrWrongKind reports a blob ticket where a doc ticket is needed, or the other way round.
	ErrWrongKind = kind.New(kind.Usage, "wrong kind of ticket")
)

// Ticket is a *Blob, a *Doc or an *Invite.
type Ticket interface {
	// Text returns the ticket as people pass it on; of a write ticket it is a secret. It returns
	// ErrNoAddresses, or an error if there are too many addresses or one has no peer id.
	Text() (string, error)
	// Peers returns whom to ask, each with its addresses, in the order of the ticket.
	Peers() []peer.AddrInfo
	// String describes the ticket without any secret.
	String() string
}

// Blob is a ticket for a blob or a sequence.
type Blob struct {
	Hash     blobs.Hash
	Sequence bool
	Addrs    []ma.Multiaddr
}

// Doc is a ticket for a replica.
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

// Invite asks the node that made it for a capability, and perhaps for a grant. It says nothing
// about the replica, and is a secret as long as it has not been used.
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
	return (&body{kind, t.Hash, nil, t.Addrs}).text(prefixBlob)
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
	return (&body{byte(t.Capability), id, epoch, t.Addrs}).text(prefixDoc)
}

// Text implements Ticket.
func (t *Invite) Text() (string, error) {
	return (&body{kindInvite, t.Secret, nil, t.Addrs}).text(prefixDoc)
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

// Looks reports whether text begins like a ticket, rather than like a hash or a name.
func Looks(text string) bool {
	text = strings.ToLower(strings.TrimSpace(text))
	return len(text) > 40 && !isHex(text) && (strings.HasPrefix(text, prefixBlob) ||
		strings.HasPrefix(text, prefixDoc))
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// Parse reads a ticket. It returns one of the errors of this package, wrapped.
func Parse(s string) (Ticket, error) {
	if len(s) > MaxText {
		return nil, fmt.Errorf("%w, and have less than %d characters", ErrNotTicket, MaxText)
	}
	s = normalized(s)
	prefix := prefixBlob
	rest, ok := strings.CutPrefix(s, prefixBlob)
	if !ok {
		prefix = prefixDoc
		if rest, ok = strings.CutPrefix(s, prefixDoc); !ok {
			return nil, ErrNotTicket
		}
	}
	if i := strings.IndexFunc(rest, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz234567", r)
	}); i >= 0 {
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
	if err != nil {
		return nil, err
	}
	// One ticket has one text: bits of the last character that stand for nothing are zero, and each
	// number has its shortest form.
	if text, err := t.Text(); err != nil || text != s {
		return nil, ErrMistyped
	}
	return t, nil
}

// normalized returns text without white space, in lower case. Other letters than those of ASCII
// stay as they are: some of them have one of those as their lower case.
func normalized(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return -1
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, s)
}

// blob returns what a blob ticket says.
func (b *body) blob() (Ticket, error) {
	if b.kind > 1 || len(b.epoch) > 0 {
		return nil, fmt.Errorf("ticket for an unknown kind of content (%d): use a newer skerry", b.kind)
	}
	return &Blob{Hash: b.id, Sequence: b.kind == 1, Addrs: b.addrs}, nil
}

// doc returns what a doc ticket says.
func (b *body) doc() (Ticket, error) {
	var number uint32
	var key [32]byte
	if len(b.epoch) > 0 {
		number, key = binary.BigEndian.Uint32(b.epoch), [32]byte(b.epoch[4:])
		if b.kind == kindInvite || number == 0 {
			return nil, fmt.Errorf(
				"ticket of kind %d with epoch %d of a read key: use a newer skerry", b.kind, number,
			)
		}
	}
	if b.kind == kindInvite {
		return &Invite{InviteSecret(b.id), b.addrs}, nil
	}
	t := &Doc{Capability: replica.Capability(b.kind), Replica: b.id, Addrs: b.addrs}
	switch {
	case number == 0:
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
		t.Secret = replica.SecretKeyFromSeed(b.id)
		t.Replica = t.Secret.Replica()
	default:
		return nil, fmt.Errorf("ticket for an unknown capability (%d): use a newer skerry", b.kind)
	}
	return t, nil
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
