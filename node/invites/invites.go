// Package invites is where a node makes, serves and redeems invites: offers of a capability, and of
// a grant if one is for writing, to whoever brings a secret.
//
// What belongs here: the protocol (redeem.go), what is kept of invites that are given out and of
// those that wait for their node, and the wallets that some are for (wallet.go). What never belongs
// here: what a grant or a read key is (package replica), the ticket's text (package ticket), and
// how the node works below, which is used through its exported methods alone.
//
// Start at [New].
package invites

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// Invites: whoever brings the secret of one to the node that made it is given a capability, and a
// grant if the invite is for writing. The node keeps of a secret only the hash:
//
//	n v hash[32]   the invite as JSON, see Invite
//
// The hash is BLAKE3, keyed with the secret, of "skerry invite 1\n". Invites are kept for 30 days
// after they have ended, so that one can see what became of them.
const (
	keyInvite     = "nv"
	keepInvites   = 30 * 24 * time.Hour
	MaxUses       = 1000 // authors that may use one invite without a limit of its own
	inviteContext = "skerry invite 1\n"
	// fewUses is up to how many uses of an invite those who take it are named: see node.Remember.
	fewUses = 8
)

// Service is all that a node does about invites.
type Service struct {
	n         *node.Node
	redeeming sync.Mutex
	invited   chan struct{} // an invite was kept that could not be redeemed
}

// New gives a node its invites: it answers those who bring one, and tries to redeem those that are
// pending. It must be called before the node goes online; the node ends it.
func New(n *node.Node) (*Service, error) {
	if n == nil {
		return nil, errors.New("invites: there is no node")
	}
	s := &Service{n: n, invited: make(chan struct{}, 1)}
	err := n.Add(node.Room{
		Name: "invites", Protocol: protocol, Handler: s.serve, Run: s.retry,
		Streams: admission.Shares{
			Strangers: admission.Share{Peer: 2, Net: 16, All: 256},
			Known:     admission.Share{Peer: 4, All: 256},
		},
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// errNone reports a service that New has not made.
var errNone = kind.New(
	kind.Usage,
	"this node has no invites: it was opened without (see invites.New)",
)

// ready returns an error unless New has made the service.
func (s *Service) ready() error {
	if s == nil || s.n == nil {
		return errNone
	}
	return nil
}

// Invite is an offer of a capability to whoever brings its secret.
type Invite struct {
	ID        [32]byte           `json:"-"`
	Replica   replica.ID         `json:"replica"`
	Mode      replica.Capability `json:"mode"` // with replica.Write, replica.Read and a grant
	Prefix    []byte             `json:"prefix,omitempty"`
	Delegable bool               `json:"delegable,omitempty"`
	Created   time.Time          `json:"created"`
	Expires   time.Time          `json:"expires,omitzero"` // zero for never
	// Until is when the grant ends that an invite to write gives, however late it is used: a time
	// that is fixed when the invite is made. Zero is never. The invite is good no longer than that.
	Until time.Time `json:"until,omitzero"`
	Uses  int       `json:"uses"` // how many authors may use it; 0 for no limit
	// Wallet, unless it is zero, is the EVM address whose holder alone may use it.
	Wallet   eth.Address  `json:"wallet,omitzero"`
	Revoked  time.Time    `json:"revoked,omitzero"`
	Redeemed []Redemption `json:"redeemed,omitempty"`
}

// Redemption notes who has used an invite.
type Redemption struct {
	Author replica.AuthorID `json:"author"`
	Node   string           `json:"node"` // its id
	At     time.Time        `json:"at"`
	// Granted tells that the grant has been made, of an invite for writing.
	Granted bool `json:"granted,omitempty"`
}

// Error says why an invite is not good, or not any more.
type Error struct {
	Status Status
	Wallet eth.Address // with NeedsWallet: whose holder must sign
}

// Status is the answer to an invite.
type Status byte

// The answers, by their bytes on the wire.
const (
	Taken   Status = 0
	Unknown Status = 1
	Expired Status = 2
	UsedUp  Status = 3
	Revoked Status = 4
	// Failed says that the node could not do what the invite says; it may be tried again.
	Failed Status = 5
	// NeedsWallet says that it is for the holder of a wallet, who has not signed, or long ago.
	NeedsWallet Status = 6
)

func (e *Error) Error() string {
	switch e.Status {
	case Unknown:
		return "the node that the invite names does not know it: ask for a new one"
	case Expired:
		return "the invite has expired: ask for a new one"
	case UsedUp:
		return "the invite has been used already: ask for a new one"
	case Revoked:
		return "the invite has been revoked"
	case Failed:
		return "the node that the invite names cannot give now what it says: try again later, or " +
			"ask whoever made it"
	case NeedsWallet:
		return fmt.Sprintf(
			"the invite is for the holder of the wallet %s: join with --wallet and sign",
			e.Wallet,
		)
	}
	return fmt.Sprintf("the invite was answered with an unknown status (%d): use a newer skerry",
		e.Status)
}

// Kind implements kind.Of.
func (e *Error) Kind() kind.Kind { return kind.NotAllowed }

// State says whether the invite is good for another author: Taken means that it is.
func (v *Invite) State(now time.Time) Status {
	limit := v.Uses
	if limit == 0 {
		limit = MaxUses
	}
	switch {
	case !v.Revoked.IsZero():
		return Revoked
	case v.over(now):
		return Expired
	case !v.Expires.IsZero() && !now.Before(v.Expires):
		return Expired
	case len(v.Redeemed) >= limit:
		return UsedUp
	}
	return Taken
}

// over reports whether what the invite lets write has ended: then it gives nothing any more, also
// not to those who have used it.
func (v *Invite) over(now time.Time) bool { return !v.Until.IsZero() && !now.Before(v.Until) }

// ended returns when the invite ceased to be good, or zero.
func (v *Invite) ended(now time.Time) time.Time {
	switch v.State(now) {
	case Revoked:
		return v.Revoked
	case Expired:
		return v.Expires
	case UsedUp:
		return v.Redeemed[len(v.Redeemed)-1].At
	}
	return time.Time{}
}

func inviteID(secret ticket.InviteSecret) (id [32]byte) {
	h := blake3.New(32, secret[:])
	_, _ = h.Write([]byte(inviteContext)) // never fails
	h.Sum(id[:0])
	return id
}

func inviteKey(id [32]byte) []byte { return append([]byte(keyInvite), id[:]...) }

// Make makes an invite to a replica from Mode, Prefix, Delegable, Expires, Until, Uses and Wallet
// of what is given, and returns it with the ticket to pass on, which cannot be had again. An invite
// that would be good for longer than what it lets write expires with that. It returns a
// *replica.NotAllowedError or replica.ErrCannotGrant if this node could not give what the invite
// offers.
func (s *Service) Make(
	ctx context.Context, r replica.Replica, v Invite,
) (Invite, *ticket.Invite, error) {
	if err := s.ready(); err != nil {
		return v, nil, err
	}
	if v.Mode < replica.Sync || v.Mode > replica.Write {
		return v, nil, fmt.Errorf("invite to %s: unknown %s", r.Name, v.Mode)
	}
	if v.Mode < replica.Write {
		if len(v.Prefix) > 0 || v.Delegable || !v.Until.IsZero() {
			return v, nil, errors.New(
				"a prefix, an end and the right to delegate are limits of writing: use mode write")
		}
		if v.Mode > r.Capability {
			return v, nil, &replica.NotAllowedError{
				Op: "invite to", Name: r.Name, Have: r.Capability, Need: v.Mode,
			}
		}
	} else if v.over(s.n.Now()) {
		return v, nil, errors.New("what the invite lets write would have ended already")
	} else if err := s.n.Replicas().CanGrant(ctx, r.ID, v.permission()); err != nil {
		return v, nil, err
	}
	if !v.Until.IsZero() && (v.Expires.IsZero() || v.Expires.After(v.Until)) {
		v.Expires = v.Until
	}
	if r.Encrypted && v.Mode >= replica.Read {
		if _, err := s.n.Replicas().ReadKey(ctx, r.ID); err != nil {
			return v, nil, err
		}
	}
	var secret ticket.InviteSecret
	_, _ = rand.Read(secret[:]) // never fails
	v.ID, v.Replica, v.Revoked, v.Redeemed = inviteID(secret), r.ID, time.Time{}, nil
	v.Created = s.n.Now().UTC().Truncate(time.Microsecond)
	err := s.n.Store().Update(ctx, func(tx kv.Txn) error { return setInvite(tx, &v) })
	if err == nil {
		err = s.n.Store().Sync(ctx)
	}
	return v, &ticket.Invite{Secret: secret, Addrs: s.n.Addrs()}, err
}

// permission is what an invite to write lets those do who use it.
func (v *Invite) permission() replica.Permission {
	p := replica.Permission{Prefix: v.Prefix, Delegable: v.Delegable}
	if !v.Until.IsZero() {
		p.NotAfter = uint64(max(v.Until.UnixMicro(), 1))
	}
	return p
}

func setInvite(tx kv.Txn, v *Invite) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Set(inviteKey(v.ID), b)
}

func getInvite(r kv.Reader, id [32]byte) (v Invite, err error) {
	v.ID = id
	err = r.Peek(inviteKey(id), func(b []byte) error { return json.Unmarshal(b, &v) })
	if errors.Is(err, kv.ErrNotFound) {
		return v, &Error{Status: Unknown}
	}
	return v, err
}

// List returns the invites that this node has made, the newest first, and forgets those that ended
// long ago.
func (s *Service) List(ctx context.Context) (all []Invite, err error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	var old [][]byte
	now := s.n.Now()
	err = s.n.Store().View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix([]byte(keyInvite)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if len(p.Key) != len(keyInvite)+32 {
				return errors.New("node store: malformed record of an invite")
			}
			v := Invite{ID: [32]byte(p.Key[len(keyInvite):])}
			if err := json.Unmarshal(p.Value, &v); err != nil {
				return fmt.Errorf("node store: malformed record of an invite: %w", err)
			}
			if ended := v.ended(now); !ended.IsZero() && !now.Before(ended.Add(keepInvites)) {
				old = append(old, slices.Clone(p.Key))
				continue
			}
			all = append(all, v)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b Invite) int { return b.Created.Compare(a.Created) })
	return all, s.drop(ctx, old...)
}

// Revoke makes an invite worthless. What it has given stays; see node.Revoke. It returns an *Error
// for one that is not known.
func (s *Service) Revoke(ctx context.Context, id [32]byte) error {
	if err := s.ready(); err != nil {
		return err
	}
	err := s.n.Store().Update(kv.ToMakeRoom(ctx), func(tx kv.Txn) error {
		v, err := getInvite(tx, id)
		if err != nil {
			return err
		}
		v.Revoked = s.n.Now().UTC().Truncate(time.Microsecond)
		return setInvite(tx, &v)
	})
	if err != nil {
		return err
	}
	return s.n.Store().Sync(ctx)
}

// Given is what an invite has given.
type Given struct {
	Replica    replica.ID
	Name       string // that it has at the node that invites
	Capability replica.Capability
	ReadKey    replica.EpochKey // of an encrypted replica, with replica.Read
	Statements [][]byte         // that let the author write, and epochs that commit to the key
	// few: the invite is for a few, and this node is the first to bring it for the author.
	few bool
}

// redeem gives what an invite offers to an author at a node. The same author may ask again, and is
// given the same.
func (s *Service) redeem(
	ctx context.Context, secret ticket.InviteSecret, author replica.AuthorID, node string,
	w *WalletProof,
) (g Given, err error) {
	s.redeeming.Lock() // so that a grant is made once
	defer s.redeeming.Unlock()
	var v Invite
	at := -1
	err = s.n.Store().Update(ctx, func(tx kv.Txn) error {
		if v, err = getInvite(tx, inviteID(secret)); err != nil {
			return err
		}
		at = slices.IndexFunc(v.Redeemed, func(x Redemption) bool { return x.Author == author })
		now := s.n.Now()
		if is := v.State(now); is != Taken && (at < 0 || is == Revoked || v.over(now)) {
			return &Error{Status: is}
		}
		if err := s.checkWallet(&v, secret, author, node, w); err != nil {
			return err
		}
		if at < 0 {
			at = len(v.Redeemed)
			v.Redeemed = append(v.Redeemed, Redemption{
				Author: author, Node: node, At: now.UTC().Truncate(time.Second),
			})
		}
		return setInvite(tx, &v)
	})
	if err != nil {
		return g, err
	}
	r, err := s.n.Replicas().Get(ctx, v.Replica)
	if err != nil {
		return g, fmt.Errorf("%w: %w", &Error{Status: Failed}, err)
	}
	g = Given{Replica: r.ID, Name: r.Name, Capability: min(v.Mode, replica.Read)}
	g.few = v.Uses > 0 && v.Uses <= fewUses && v.Redeemed[at].Node == node
	if v.Mode == replica.Sync {
		if g.Statements, err = s.epochsOf(ctx, &r); err != nil {
			return g, err
		}
		return g, s.n.Store().Sync(ctx)
	}
	if !v.Redeemed[at].Granted {
		var err error
		if v.Mode == replica.Write {
			_, err = s.n.Grant(ctx, r.ID, author, v.permission())
		} else if r.Encrypted {
			// The read key is handed to the author for as long as nobody revokes that.
			err = s.n.AddReader(ctx, r.ID, author)
		}
		if err != nil {
			return g, fmt.Errorf("%w: %w", &Error{Status: Failed}, err)
		}
		v.Redeemed[at].Granted = true
		err = s.n.Store().Update(ctx, func(tx kv.Txn) error {
			now, err := getInvite(tx, v.ID)
			if err != nil {
				return err
			}
			now.Redeemed = v.Redeemed
			return setInvite(tx, &now)
		})
		if err != nil {
			return g, err
		}
	}
	if g.ReadKey, err = s.keyFor(ctx, &r, author, v.Redeemed[at].At); err != nil {
		return g, fmt.Errorf("%w: %w", &Error{Status: Failed}, err)
	}
	if v.Mode == replica.Write {
		if g.Statements, err = s.n.Replicas().StatementsAbout(ctx, r.ID, author); err != nil {
			return g, err
		}
	}
	epochs, err := s.epochsOf(ctx, &r)
	if err != nil {
		return g, err
	}
	g.Statements = bundle.Few(append(g.Statements, epochs...))
	return g, s.n.Store().Sync(ctx)
}

// drop deletes records.
func (s *Service) drop(ctx context.Context, keys ...[]byte) error {
	return kv.DeleteAll(ctx, s.n.Store(), keys)
}

// epochsOf returns the epochs of an encrypted replica: they prove its read keys, and show to those
// without a key that the replica is encrypted.
func (s *Service) epochsOf(ctx context.Context, r *replica.Replica) ([][]byte, error) {
	if !r.Encrypted {
		return nil, nil
	}
	epochs, err := s.n.Replicas().EpochStatements(ctx, r.ID)
	return bundle.Few(epochs), err
}

// keyFor returns the present read key of an encrypted replica for an author who was let in at some
// time, but not if that was revoked since.
func (s *Service) keyFor(
	ctx context.Context, r *replica.Replica, author replica.AuthorID, since time.Time,
) (k replica.EpochKey, err error) {
	if !r.Encrypted {
		return k, nil
	}
	revoked, err := s.n.Replicas().RevokedSince(ctx, r.ID, author, uint64(since.UnixMicro()))
	if err != nil || revoked {
		return k, err
	}
	return s.n.Replicas().ReadKey(ctx, r.ID)
}

// marshal gives what follows the status: capability u8, replica[32], epoch u32 (0 for no read key),
// read key[32], length u8 and name, statements as in a push.
func (g *Given) marshal() []byte {
	b := append([]byte{byte(g.Capability)}, g.Replica[:]...)
	b = append(binary.BigEndian.AppendUint32(b, g.ReadKey.Epoch), g.ReadKey.Key[:]...)
	b = append(append(b, byte(len(g.Name))), g.Name...)
	return bundle.Append(b, g.Statements)
}

func appendRedeem(
	secret ticket.InviteSecret, author replica.AuthorID, proof [64]byte, w *WalletProof,
) []byte {
	b := append([]byte{version}, secret[:]...)
	b = append(append(b, author[:]...), proof[:]...)
	if w == nil {
		return append(b, 0)
	}
	return append(binary.BigEndian.AppendUint64(append(b, 1), uint64(w.At)), w.Signature[:]...)
}

// redeemProof is what the author signs, so that nobody is granted something in the name of a key
// that is not theirs.
func redeemProof(secret ticket.InviteSecret, inviter, joiner string) []byte {
	id := inviteID(secret)
	b := append([]byte("skerry redeem 1\n"), id[:]...)
	for _, s := range []string{inviter, joiner} {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	return b
}
