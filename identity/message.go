package identity

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/kind"
)

// Windows of time within which a signature counts.
const (
	AuthenticationWindow = 5 * time.Minute // both ways
	RegistryAhead        = 5 * time.Minute
	RegistryBehind       = 24 * time.Hour
)

// ErrOutOfTime reports a signature whose timestamp is too far from now.
var ErrOutOfTime = kind.New(kind.Verification, "the signature's time is too far from now")

// Message is what an identity signs: an action with its fields, at a time. Its text is
//
//	OBJECTS Identity Protocol v1
//	Action: ACTION
//	NAME: VALUE
//	Timestamp: SECONDS
//
// with a line for each field, in order, lines separated by LF, and none at the end. Wallets may
// sign a struct instead (EIP-712), if the action has one.
type Message struct {
	action string
	fields [][2]string
	time   uint64 // Unix seconds
	kind   string // as EIP-712 encodes it, without the timestamp; empty if there is none
	typed  []eth.Value
}

func newMessage(action string, at time.Time, fields ...[2]string) Message {
	return Message{action: action, fields: fields, time: uint64(max(at.Unix(), 0))}
}

func (m Message) as(kind string, typed ...eth.Value) Message {
	m.kind, m.typed = kind, typed
	return m
}

// CreateIdentity is signed to register an identity under a handle.
func CreateIdentity(id ID, handle string, at time.Time) Message {
	return newMessage(
		"Create Identity", at, [2]string{"Identity", id.String()}, [2]string{"Handle", handle},
	).
		as(
			"CreateIdentity(string identity,string handle,uint256 timestamp)", eth.String(id.String()),
			eth.String(handle),
		)
}

// LinkWallet is signed to link a wallet to an identity.
func LinkWallet(id ID, wallet eth.Address, at time.Time) Message {
	return newMessage(
		"Link Wallet", at, [2]string{"Identity", id.String()}, [2]string{"Wallet", wallet.Lower()},
	).
		as(
			"LinkWallet(string identity,address wallet,uint256 timestamp)", eth.String(id.String()),
			eth.Of(wallet),
		)
}

// ChangeHandle is signed to give an identity another handle.
func ChangeHandle(id ID, handle string, at time.Time) Message {
	return newMessage(
		"Change Handle", at, [2]string{"Identity", id.String()}, [2]string{"New Handle", handle},
	).
		as(
			"ChangeHandle(string identity,string newHandle,uint256 timestamp)", eth.String(id.String()),
			eth.String(handle),
		)
}

// SignAsset is signed by the author of an asset; content is its hash.
func SignAsset(id ID, content [32]byte, at time.Time) Message {
	return newMessage(
		"Sign Asset", at, [2]string{"Identity", id.String()},
		[2]string{"Asset", hex.EncodeToString(content[:])},
	).
		as("SignAsset(string identity,bytes32 asset,uint256 timestamp)", eth.String(id.String()), content)
}

// MinChallenge is the length of the shortest challenge in bytes.
const MinChallenge = 32

// Authenticate is signed to show to an application who one is. The application is named by its
// domain, and has chosen a challenge of at least MinChallenge bytes; only one of 32 bytes can be
// signed as a struct.
func Authenticate(application string, challenge []byte, at time.Time) (Message, error) {
	if len(challenge) < MinChallenge {
		return Message{}, fmt.Errorf(
			"a challenge of %d bytes: expected at least %d", len(challenge), MinChallenge,
		)
	}
	if application == "" || strings.ContainsAny(application, "\r\n") {
		return Message{}, fmt.Errorf("bad name of an application %q", application)
	}
	m := newMessage(
		"Authenticate", at, [2]string{"Application", application},
		[2]string{"Challenge", hex.EncodeToString(challenge)},
	)
	if len(challenge) == 32 {
		m = m.as(
			"Authenticate(string application,bytes32 challenge,uint256 timestamp)", eth.String(application),
			eth.Value(challenge),
		)
	}
	return m, nil
}

// RegisterBackup is OBJECTS' text to register a replica at a seed, and to end that. It names
// neither the seed nor which of both is meant, so one seed could use it at another: Skerry neither
// signs nor accepts it. See SeedAsk.
func RegisterBackup(id ID, replica string, at time.Time) Message {
	return newMessage(
		"Register Backup", at, [2]string{"Identity", id.String()}, [2]string{"Replica", replica},
	)
}

// Text returns the plain text.
func (m Message) Text() string {
	b := &strings.Builder{}
	b.WriteString("OBJECTS Identity Protocol v1\nAction: " + m.action + "\n")
	for _, f := range m.fields {
		b.WriteString(f[0] + ": " + f[1] + "\n")
	}
	b.WriteString("Timestamp: " + strconv.FormatUint(m.time, 10))
	return b.String()
}

// Time returns the timestamp.
func (m Message) Time() time.Time { return time.Unix(int64(m.time), 0) }

// typedDigest returns what a wallet signs on a chain, or false if the action has no struct.
func (m Message) typedDigest(chain uint64) ([32]byte, bool) {
	if m.kind == "" {
		return [32]byte{}, false
	}
	d := eth.Domain{Name: "OBJECTS Identity Protocol", Version: "1", ChainID: chain}
	return eth.TypedDigest(
		d, eth.StructHash(m.kind, append(m.typed[:len(m.typed):len(m.typed)], eth.Uint64(m.time))...),
	), true
}

// CheckTime returns ErrOutOfTime unless the message is at most so much ahead of now, and so much
// behind.
func (m Message) CheckTime(now time.Time, ahead, behind time.Duration) error {
	if d := m.Time().Sub(now); d > ahead || -d > behind {
		return fmt.Errorf(
			"%w: it is of %s, and now is %s", ErrOutOfTime, m.Time().UTC().Format(time.RFC3339),
			now.UTC().Format(time.RFC3339),
		)
	}
	return nil
}
