package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
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
	// fewUses is up to how many uses of an invite those who take it are named.
	fewUses = 8
)

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

// InviteError says why an invite is not good, or not any more.
type InviteError struct {
	Status InviteStatus
	Wallet eth.Address // with InviteWallet: whose holder must sign
}

// InviteStatus is the answer to an invite.
type InviteStatus byte

// The answers, by their bytes on the wire.
const (
	InviteTaken   InviteStatus = 0
	InviteUnknown InviteStatus = 1
	InviteExpired InviteStatus = 2
	InviteUsedUp  InviteStatus = 3
	InviteRevoked InviteStatus = 4
	InviteFailed  InviteStatus = 5 // the node could not do what the invite says; it may be tried again
	InviteWallet  InviteStatus = 6 // it is for the holder of a wallet, who has not signed, or long ago
)

func (e *InviteError) Error() string {
	switch e.Status {
	case InviteUnknown:
		return "the node that the invite names does not know it: ask for a new one"
	case InviteExpired:
		return "the invite has expired: ask for a new one"
	case InviteUsedUp:
		return "the invite has been used already: ask for a new one"
	case InviteRevoked:
		return "the invite has been revoked"
	case InviteFailed:
		return "the node that the invite names cannot give now what it says: try again later, or ask whoever made it"
	case InviteWallet:
		return fmt.Sprintf("the invite is for the holder of the wallet %s: join with --wallet and sign", e.Wallet)
	}
	return fmt.Sprintf("the invite was answered with an unknown status (%d): use a newer skerry", e.Status)
}

// Kind implements kind.Of.
func (e *InviteError) Kind() kind.Kind { return kind.NotAllowed }

// state says whether the invite is good for another author.
func (v *Invite) state(now time.Time) InviteStatus {
	limit := v.Uses
	if limit == 0 {
		limit = MaxUses
	}
	switch {
	case !v.Revoked.IsZero():
		return InviteRevoked
	case v.over(now):
		return InviteExpired
	case !v.Expires.IsZero() && !now.Before(v.Expires):
		return InviteExpired
	case len(v.Redeemed) >= limit:
		return InviteUsedUp
	}
	return InviteTaken
}

// over reports whether what the invite lets write has ended: then it gives nothing any more, also
// not to those who have used it.
func (v *Invite) over(now time.Time) bool { return !v.Until.IsZero() && !now.Before(v.Until) }

// ended returns when the invite ceased to be good, or zero.
func (v *Invite) ended(now time.Time) time.Time {
	switch v.state(now) {
	case InviteRevoked:
		return v.Revoked
	case InviteExpired:
		return v.Expires
	case InviteUsedUp:
		return v.Redeemed[len(v.Redeemed)-1].At
	}
	return time.Time{}
}

// InviteState tells whether the invite is good: InviteTaken means that it can be used.
func (n *Node) InviteState(v *Invite) InviteStatus { return v.state(n.cfg.Now()) }

func inviteID(secret ticket.InviteSecret) (id [32]byte) {
	h := blake3.New(32, secret[:])
	_, _ = h.Write([]byte(inviteContext)) // never fails
	h.Sum(id[:0])
	return id
}

func inviteKey(id [32]byte) []byte { return append([]byte(keyInvite), id[:]...) }

// Invite makes an invite to a replica from Mode, Prefix, Delegable, Expires, Until, Uses and Wallet
// of what is given, and returns it with the ticket to pass on, which cannot be had again. An invite
// that would be good for longer than what it lets write expires with that. It returns a
// *replica.NotAllowedError or replica.ErrCannotGrant if this node could not give what the invite
// offers.
func (n *Node) Invite(ctx context.Context, r replica.Replica, v Invite) (Invite, *ticket.Invite, error) {
	if v.Mode < replica.Sync || v.Mode > replica.Write {
		return v, nil, fmt.Errorf("invite to %s: unknown %s", r.Name, v.Mode)
	}
	if v.Mode < replica.Write {
		if len(v.Prefix) > 0 || v.Delegable || !v.Until.IsZero() {
			return v, nil, errors.New("a prefix, an end and the right to delegate are limits of writing: use mode write")
		}
		if v.Mode > r.Capability {
			return v, nil, &replica.NotAllowedError{Op: "invite to", Name: r.Name, Have: r.Capability, Need: v.Mode}
		}
	} else if v.over(n.cfg.Now()) {
		return v, nil, errors.New("what the invite lets write would have ended already")
	} else if err := n.Replicas.CanGrant(ctx, r.ID, v.permission()); err != nil {
		return v, nil, err
	}
	if !v.Until.IsZero() && (v.Expires.IsZero() || v.Expires.After(v.Until)) {
		v.Expires = v.Until
	}
	if r.Encrypted && v.Mode >= replica.Read {
		if _, err := n.Replicas.ReadKey(ctx, r.ID); err != nil {
			return v, nil, err
		}
	}
	var secret ticket.InviteSecret
	_, _ = rand.Read(secret[:]) // never fails
	v.ID, v.Replica, v.Created, v.Revoked, v.Redeemed = inviteID(secret), r.ID, n.cfg.Now().UTC().Truncate(time.Microsecond), time.Time{}, nil
	err := n.kv.Update(ctx, func(tx kv.Txn) error { return setInvite(tx, &v) })
	if err == nil {
		err = n.kv.Sync(ctx)
	}
	return v, &ticket.Invite{Secret: secret, Addrs: n.Addrs()}, err
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
		return v, &InviteError{Status: InviteUnknown}
	}
	return v, err
}

// Invites returns the invites that this node has made, the newest first, and forgets those that
// ended long ago.
func (n *Node) Invites(ctx context.Context) (all []Invite, err error) {
	var old [][]byte
	now := n.cfg.Now()
	err = n.kv.View(ctx, func(r kv.Reader) error {
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
	return all, n.dropKeys(ctx, old)
}

// RevokeInvite makes an invite worthless. What it has given stays; see Revoke. It returns a
// *InviteError for one that is not known.
func (n *Node) RevokeInvite(ctx context.Context, id [32]byte) error {
	err := n.kv.Update(kv.ToMakeRoom(ctx), func(tx kv.Txn) error {
		v, err := getInvite(tx, id)
		if err != nil {
			return err
		}
		v.Revoked = n.cfg.Now().UTC().Truncate(time.Microsecond)
		return setInvite(tx, &v)
	})
	if err != nil {
		return err
	}
	return n.kv.Sync(ctx)
}

// Given is what an invite has given.
type Given struct {
	Replica    replica.ID
	Name       string // that it has at the node that invites
	Capability replica.Capability
	ReadKey    replica.EpochKey // of an encrypted replica, with replica.Read
	Statements [][]byte         // that let the author write, and epochs that commit to the key
	few        bool             // the invite is for a few, and this node is the first to bring it for the author
}

// redeem gives what an invite offers to an author at a node. The same author may ask again, and is
// given the same.
func (n *Node) redeem(ctx context.Context, secret ticket.InviteSecret, author replica.AuthorID, node string, w *WalletProof) (g Given, err error) {
	n.redeeming.Lock() // so that a grant is made once
	defer n.redeeming.Unlock()
	var v Invite
	at := -1
	err = n.kv.Update(ctx, func(tx kv.Txn) error {
		if v, err = getInvite(tx, inviteID(secret)); err != nil {
			return err
		}
		at = slices.IndexFunc(v.Redeemed, func(x Redemption) bool { return x.Author == author })
		now := n.cfg.Now()
		if s := v.state(now); s != InviteTaken && (at < 0 || s == InviteRevoked || v.over(now)) {
			return &InviteError{Status: s}
		}
		if err := n.checkWallet(&v, secret, author, node, w); err != nil {
			return err
		}
		if at < 0 {
			at = len(v.Redeemed)
			v.Redeemed = append(v.Redeemed, Redemption{Author: author, Node: node, At: n.cfg.Now().UTC().Truncate(time.Second)})
		}
		return setInvite(tx, &v)
	})
	if err != nil {
		return g, err
	}
	r, err := n.Replicas.Get(ctx, v.Replica)
	if err != nil {
		return g, fmt.Errorf("%w: %w", &InviteError{Status: InviteFailed}, err)
	}
	g = Given{Replica: r.ID, Name: r.Name, Capability: min(v.Mode, replica.Read)}
	g.few = v.Uses > 0 && v.Uses <= fewUses && v.Redeemed[at].Node == node
	if v.Mode == replica.Sync {
		if g.Statements, err = n.epochsOf(ctx, &r); err != nil {
			return g, err
		}
		return g, n.kv.Sync(ctx)
	}
	if !v.Redeemed[at].Granted {
		var err error
		if v.Mode == replica.Write {
			_, err = n.Grant(ctx, r.ID, author, v.permission())
		} else {
			err = n.addReader(ctx, &r, author)
		}
		if err != nil {
			return g, fmt.Errorf("%w: %w", &InviteError{Status: InviteFailed}, err)
		}
		v.Redeemed[at].Granted = true
		err = n.kv.Update(ctx, func(tx kv.Txn) error {
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
	if g.ReadKey, err = n.keyFor(ctx, &r, author, v.Redeemed[at].At); err != nil {
		return g, fmt.Errorf("%w: %w", &InviteError{Status: InviteFailed}, err)
	}
	if v.Mode == replica.Write {
		if g.Statements, err = n.Replicas.StatementsAbout(ctx, r.ID, author); err != nil {
			return g, err
		}
	}
	epochs, err := n.epochsOf(ctx, &r)
	if err != nil {
		return g, err
	}
	g.Statements = fewEnough(append(g.Statements, epochs...))
	return g, n.kv.Sync(ctx)
}

// epochsOf returns the epochs of an encrypted replica: they prove its read keys, and show to those
// without a key that the replica is encrypted.
func (n *Node) epochsOf(ctx context.Context, r *replica.Replica) ([][]byte, error) {
	if !r.Encrypted {
		return nil, nil
	}
	epochs, err := n.Replicas.EpochStatements(ctx, r.ID)
	return fewEnough(epochs), err
}

// addReader hands the read key of an encrypted replica to an author for as long as nobody revokes
// that.
func (n *Node) addReader(ctx context.Context, r *replica.Replica, author replica.AuthorID) error {
	if !r.Encrypted {
		return nil
	}
	err := n.Replicas.AddReader(ctx, r.ID, author)
	if err == nil {
		n.contacts.CompareSoon()
	}
	return err
}

// keyFor returns the present read key of an encrypted replica for an author who was let in at some
// time, but not if that was revoked since.
func (n *Node) keyFor(ctx context.Context, r *replica.Replica, author replica.AuthorID, since time.Time) (k replica.EpochKey, err error) {
	if !r.Encrypted {
		return k, nil
	}
	revoked, err := n.Replicas.RevokedSince(ctx, r.ID, author, uint64(since.UnixMicro()))
	if err != nil || revoked {
		return k, err
	}
	return n.Replicas.ReadKey(ctx, r.ID)
}

// marshal gives what follows the status: capability u8, replica[32], epoch u32 (0 for no read key),
// read key[32], length u8 and name, statements as in a push.
func (g *Given) marshal() []byte {
	b := append([]byte{byte(g.Capability)}, g.Replica[:]...)
	b = append(binary.BigEndian.AppendUint32(b, g.ReadKey.Epoch), g.ReadKey.Key[:]...)
	b = append(append(b, byte(len(g.Name))), g.Name...)
	return appendItems(b, g.Statements)
}

func appendRedeem(secret ticket.InviteSecret, author replica.AuthorID, proof [64]byte, w *WalletProof) []byte {
	b := append([]byte{inviteVersion}, secret[:]...)
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
