package vault

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/project"
	"github.com/skerry-sync/skerry/replica"
)

// Keyring is the only holder of identity keys: it makes and keeps them, derives from them
// for the person's own devices, and answers apps after the person has approved. [Local] keeps them
// in files; it may live within a node, or in a process of its own that a node talks to (see package
// api). Every method that opens a key takes its password, and forgets both when it returns.
//
// Apps go through eight steps:
//
//  1. the app chooses a challenge and asks (Ask); the person approves (Approve), upon which the keyring signs it; the app fetches the answer (Wait) and checks it ([Challenge.Check])
//  2. with the session that the answer names, the app asks for access to the vault (Access)
//  3. the keyring has derived the vault's replica
//  4. and gives read access to it, from which the node makes a ticket with the person's devices as peers
//  5. the app syncs the vault
//  6. it asks for the catalogue key (CatalogueKey)
//  7. it opens the catalogue
//  8. and syncs the projects.
type Keyring interface {
	// Identities returns the identities whose keys are here.
	Identities(ctx context.Context) ([]Identity, error)
	// Add makes or imports a key. It returns ErrIdentityExists, identity.ErrBadMnemonic,
	// identity.ErrBadKeystore or identity.ErrWrongPassword.
	Add(ctx context.Context, n NewIdentity) (Identity, error)
	// Export returns a key in one of the forms. It returns ErrNoIdentity or identity.ErrWrongPassword.
	Export(ctx context.Context, id identity.ID, password string, form Form) (string, error)
	// Remove forgets a key. It returns ErrNoIdentity.
	Remove(ctx context.Context, id identity.ID) error
	// Keys derives the vault's keys for the person's own device. It returns ErrNoIdentity or
	// identity.ErrWrongPassword.
	Keys(ctx context.Context, id identity.ID, password string) (Keys, error)
	// SignAsset signs an asset as its author. It returns ErrNoIdentity or identity.ErrWrongPassword.
	SignAsset(ctx context.Context, a project.Asset, password string) (project.SignedAsset, error)
	// Sign signs one of the messages of ToSign. It returns ErrNoIdentity, identity.ErrWrongPassword or
	// ErrBadAsk.
	Sign(ctx context.Context, id identity.ID, what ToSign, password string) (Signed, error)

	// Ask lets a request of an app wait for the person. It returns ErrBadAsk, ErrReplayed, or
	// ErrTooManyRequests.
	Ask(ctx context.Context, app App, a Ask) (Asked, error)
	// Wait returns what the person has decided, ErrDenied, ErrNoRequest, or ErrUndecided when ctx or
	// 20 seconds end before that.
	Wait(ctx context.Context, app App, request string) (Answer, error)
	// Access returns what a session gives to read the vault: its replica id and read key. It returns
	// ErrNoSession.
	Access(ctx context.Context, app App, session string) (Access, error)
	// CatalogueKey returns the catalogue key to a session. It returns ErrNoSession.
	CatalogueKey(ctx context.Context, app App, session string) (CatalogueKey, error)

	// Requests returns what waits for the person.
	Requests(ctx context.Context) ([]Request, error)
	// Approve answers a request as an identity, which may be zero if there is only one. It returns
	// ErrNoRequest, ErrNoIdentity, ErrWhichIdentity or identity.ErrWrongPassword.
	Approve(ctx context.Context, request string, id identity.ID, password string) error
	// Deny answers a request with no. It returns ErrNoRequest.
	Deny(ctx context.Context, request string) error
}

// Errors of a Keyring, which cross a connection as they are.
var (
	ErrNoIdentity    = kind.New(kind.NotFound, "the keyring has no such identity")
	ErrWhichIdentity = kind.New(kind.Usage,
		"the keyring has several identities: name one of them (skerry identity ls)",
	)
	ErrIdentityExists = errors.New("the keyring has this identity already")
	ErrBadAsk         = kind.New(kind.Usage, "bad request to a keyring")
	ErrReplayed       = kind.New(kind.NotAllowed,
		"this challenge has been used before: a new one is needed for each request",
	)
	ErrTooManyRequests = kind.New(
		kind.NotAllowed, "too many requests wait for the person: try again later",
	)
	ErrNoRequest = kind.New(kind.NotFound, "there is no such request, or it has expired")
	ErrUndecided = kind.New(kind.Unreachable, "the person has not decided yet")
	ErrDenied    = kind.New(kind.NotAllowed, "the person has denied the request")
	ErrNoSession = kind.New(
		kind.NotAllowed, "there is no such session of this app, or it has ended: ask anew",
	)
)

// Identity is one whose key a keyring has.
type Identity struct {
	ID     identity.ID
	Kind   identity.Kind
	Public identity.PublicKey
	Nonce  identity.Nonce
}

// NewIdentity says how a key is to be made, and the password to keep it under: from words, from a
// keystore file, or at random.
type NewIdentity struct {
	Kind             identity.Kind
	Mnemonic         string
	Keystore         []byte
	KeystorePassword string
	Password         string
}

// ToSign is a message that a person's own programs may have signed: for the invite of a wallet, if
// Invite is set, or to ask something of a seed, if Seed is. Nothing else is signed so: who the
// person is, an application is told when the person approves.
type ToSign struct {
	Invite *identity.InviteAsk `json:"invite,omitempty"`
	Seed   *identity.SeedAsk   `json:"seed,omitempty"`
	At     int64               `json:"at"` // Unix seconds
}

// Message returns the message, or ErrBadAsk.
func (t *ToSign) Message(id identity.ID) (m identity.Message, err error) {
	at := time.Unix(t.At, 0)
	switch {
	case t.Invite != nil && t.Seed != nil:
		err = errors.New("two things are to be signed")
	case t.Invite != nil:
		m, err = t.Invite.Message(at)
	case t.Seed != nil:
		m, err = t.Seed.Message(id, at)
	default:
		err = errors.New("nothing that is signed for a program")
	}
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrBadAsk, err)
	}
	return m, nil
}

// Signed is a signature, with the nonce that shows whose it is.
type Signed struct {
	Signature identity.Signature
	Nonce     identity.Nonce
}

// Form is one in which a key leaves a keyring.
type Form string

// The forms.
const (
	Keystore Form = "keystore" // Skerry's, under the same password
	Ethereum Form = "ethereum" // version 3, under the same password
	Mnemonic Form = "mnemonic" // 24 words, which are the key
)

// App is who asks a keyring. The node says who it is, not the app.
type App struct {
	Peer string // the peer id, or empty for a program on the keyring's own machine
	// Net names the IP network that the peer is connected from; it is empty if that is not known.
	Net string
	// Named tells that a person has named the peer to the keyring's node. Others, also those that hold
	// a replica in common with it, can be any number of peers.
	Named bool
}

// stranger reports whether anybody could be the app.
func (a App) stranger() bool { return a.Peer != "" && !a.Named }

// Ask is an app's request to be told who the person is, and to read the person's vault.
type Ask struct {
	Application string `json:"application"` // its domain
	Challenge   []byte `json:"challenge"`   // at least 32 bytes
	// who is wanted, or zero for whom the person chooses
	Identity identity.ID `json:"identity,omitzero"`
	Reason   string      `json:"reason,omitempty"` // shown to the person
}

// Asked is a request that waits for the person.
type Asked struct {
	Request string `json:"request"`
	// six digits, that the app shows and the keyring, too, so that the person knows which request is
	// which
	Code    string    `json:"code"`
	Expires time.Time `json:"expires"`
}

// Request is one as the person sees it.
type Request struct {
	Asked
	Application string      `json:"application"`
	Reason      string      `json:"reason,omitempty"`
	Peer        string      `json:"peer,omitempty"`
	Identity    identity.ID `json:"identity,omitzero"`
	At          time.Time   `json:"at"`
}

// Answer shows who the person is, and names a session with the keyring.
type Answer struct {
	Identity  identity.ID
	Nonce     identity.Nonce
	Signature identity.Signature // over the message Authenticate
	At        time.Time          // to the second
	Session   string
	Ends      time.Time // of the session
}

// Access is what one needs to read a vault, besides the catalogue key.
type Access struct {
	Replica replica.ID
	ReadKey replica.EpochKey // of the first epoch
	// Ticket is a read-only ticket with the person's devices as peers. A keyring that knows no devices
	// leaves it out; the node that it belongs to puts it in.
	Ticket string
}

// Limits of an Ask.
const (
	maxChallenge   = 256
	maxApplication = 253 // a domain name
	maxReason      = 256
)

// check returns ErrBadAsk, with the reason.
func (a *Ask) check() error {
	switch {
	case len(a.Challenge) < identity.MinChallenge || len(a.Challenge) > maxChallenge:
		return fmt.Errorf(
			"%w: a challenge of %d bytes, expected %d to %d", ErrBadAsk, len(a.Challenge),
			identity.MinChallenge, maxChallenge,
		)
	case a.Application == "" || len(a.Application) > maxApplication ||
		strings.ContainsFunc(a.Application, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("%w: the application is to be named by its domain", ErrBadAsk)
	case len(a.Reason) > maxReason ||
		strings.ContainsFunc(a.Reason, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf(
			"%w: a reason of more than %d characters, or with line breaks", ErrBadAsk, maxReason,
		)
	}
	if err := identity.CheckApplication(a.Application); err != nil {
		return fmt.Errorf("%w: %w", ErrBadAsk, err)
	}
	return nil
}

// Code returns the six digits that both sides show for a request.
func (a *Ask) Code(app App) string {
	h := blake3.New(8, nil)
	for _, part := range [][]byte{
		[]byte("skerry code 1\n"), []byte(app.Peer), {0}, []byte(a.Application), {0}, a.Challenge,
	} {
		_, _ = h.Write(part) // never fails
	}
	n := uint64(0)
	for _, b := range h.Sum(nil) {
		n = n<<8 | uint64(b)
	}
	return fmt.Sprintf("%06d", n%1_000_000)
}

// Challenge is an app's, for one request.
type Challenge struct {
	Ask  Ask
	used bool
}

// ErrForeignAnswer reports an answer that is not one to the app's challenge.
var ErrForeignAnswer = kind.New(
	kind.Verification, "the keyring's answer is not one to this request",
)

// Check returns nil if an answer shows who the person is: the identity's key has signed this
// challenge for this application, within the last five minutes, and no answer to it has been taken
// before. It returns ErrForeignAnswer, ErrReplayed, identity.ErrBadSignature or
// identity.ErrOutOfTime.
func (c *Challenge) Check(a *Answer, now time.Time) error {
	if c.used {
		return ErrReplayed
	}
	if c.Ask.Identity != (identity.ID{}) &&
		subtle.ConstantTimeCompare(c.Ask.Identity[:], a.Identity[:]) != 1 {
		return fmt.Errorf("%w: it is by %s", ErrForeignAnswer, a.Identity)
	}
	m, err := identity.Authenticate(c.Ask.Application, c.Ask.Challenge, a.At)
	if err != nil {
		return err
	}
	if err := m.CheckTime(
		now, identity.AuthenticationWindow, identity.AuthenticationWindow,
	); err != nil {
		return err
	}
	if err := a.Signature.Verify(m, a.Identity, a.Nonce); err != nil {
		return err
	}
	c.used = true
	return nil
}

func sortRequests(all []Request) {
	slices.SortFunc(all, func(a, b Request) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Request, b.Request))
	})
}

// token is a name that nobody can guess.
func token() string { return base64.RawURLEncoding.EncodeToString(randomBytes(24)) }
