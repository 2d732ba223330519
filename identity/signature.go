package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/kind"
)

// Signature is an identity's signature over a Message, as OBJECTS has it (Signature in
// objects.data.v1).
type Signature struct {
	Kind      Kind
	Signature []byte // Wallet: r ‖ s ‖ v, 65 bytes, v 27 or 28; Passkey: ASN.1 DER
	PublicKey PublicKey
	Address   string // of a wallet, in lower case

	// Of a passkey: what it has signed besides.
	AuthenticatorData []byte
	ClientDataJSON    []byte
}

// ErrBadSignature reports a signature that the identity's key has not made over the message.
var ErrBadSignature = kind.New(kind.Verification, "bad signature")

// Limits of what a passkey signs, in bytes.
const (
	minAuthenticatorData = 37 // hash of the relying party's id, flags, counter
	maxAuthenticatorData = 4 << 10
	maxClientData        = 8 << 10
	userPresent          = 1 // flag
)

// clientData is what the browser has told a passkey.
type clientData struct {
	Type      string `json:"type"`
	Challenge string `json:"challenge"`
	Origin    string `json:"origin"`
}

// Sign signs a message: as a wallet signs a text (EIP-191), or as a passkey would, for the relying
// party "skerry".
func (k Key) Sign(m Message) (s Signature, err error) {
	s = Signature{Kind: k.kind, PublicKey: k.Public()}
	if k.kind == Wallet {
		sig := k.wallet.Sign(eth.TextDigest([]byte(m.Text())))
		s.Signature, s.Address = sig[:], k.wallet.Address().Lower()
		return s, nil
	}
	party := sha256.Sum256([]byte("skerry"))
	s.AuthenticatorData = binary.BigEndian.AppendUint32(append(party[:], userPresent), 0)
	s.ClientDataJSON, err = json.Marshal(
		clientData{"webauthn.get", base64.RawURLEncoding.EncodeToString([]byte(m.Text())), "skerry:"},
	)
	if err != nil {
		return s, err
	}
	digest := s.passkeyDigest()
	s.Signature, err = ecdsa.SignASN1(rand.Reader, k.p256, digest[:])
	return s, err
}

// SignTyped signs a message as a wallet signs a struct on a chain (EIP-712). It returns an error
// for passkeys, and for actions that have no struct.
func (k Key) SignTyped(m Message, chain uint64) (s Signature, err error) {
	digest, ok := m.typedDigest(chain)
	if !ok || k.kind != Wallet {
		return s, fmt.Errorf("%s: a %s cannot sign it as a struct", m.action, k.kind)
	}
	sig := k.wallet.Sign(digest)
	return Signature{
		Kind: Wallet, Signature: sig[:], PublicKey: k.Public(), Address: k.wallet.Address().Lower(),
	}, nil
}

func (s *Signature) passkeyDigest() [32]byte {
	client := sha256.Sum256(s.ClientDataJSON)
	return sha256.Sum256(
		append(s.AuthenticatorData[:len(s.AuthenticatorData):len(s.AuthenticatorData)], client[:]...),
	)
}

// Verify returns ErrBadSignature unless the holder of the public key has signed the message, and
// the identity is that of this key with this nonce. Of a wallet either form counts, the text or, on
// one of the chains given, the struct. When the message was signed is for CheckTime.
func (s *Signature) Verify(m Message, id ID, nonce Nonce, chains ...uint64) error {
	if IDOf(s.PublicKey, nonce) != id {
		return fmt.Errorf("%w: its key is not that of identity %s", ErrBadSignature, id)
	}
	return s.VerifyKey(m, chains...)
}

// VerifyKey is Verify without asking whose the public key is.
func (s *Signature) VerifyKey(m Message, chains ...uint64) error {
	var err error
	switch s.Kind {
	case Wallet:
		err = s.verifyWallet(m, chains)
	case Passkey:
		err = s.verifyPasskey(m)
	default:
		err = fmt.Errorf("unknown %s", s.Kind)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	return nil
}

func (s *Signature) verifyWallet(m Message, chains []uint64) error {
	if len(s.Signature) != 65 || s.Signature[64] != 27 && s.Signature[64] != 28 {
		return errors.New("expected 65 bytes of which the last is 27 or 28")
	}
	address, err := eth.AddressOf(s.PublicKey)
	if err != nil {
		return err
	}
	if s.Address != "" && !strings.EqualFold(s.Address, address.Lower()) {
		return fmt.Errorf(
			"its key has the address %s, not %s", address.Lower(), s.Address[:min(len(s.Address), 64)],
		)
	}
	digests := [][32]byte{eth.TextDigest([]byte(m.Text()))}
	for _, chain := range chains {
		if d, ok := m.typedDigest(chain); ok {
			digests = append(digests, d)
		}
	}
	for _, d := range digests {
		public, err := eth.Recover(d, eth.Signature(s.Signature))
		if err != nil {
			return err
		}
		if public == s.PublicKey {
			return nil
		}
	}
	return errors.New("another key has made it, or over something else")
}

func (s *Signature) verifyPasskey(m Message) error {
	switch n := len(s.AuthenticatorData); {
	case n < minAuthenticatorData || n > maxAuthenticatorData:
		return fmt.Errorf("%d bytes of authenticator data", n)
	case s.AuthenticatorData[32]&userPresent == 0:
		return errors.New("nobody was present when it was made")
	case len(s.ClientDataJSON) > maxClientData:
		return fmt.Errorf("%d bytes of client data", len(s.ClientDataJSON))
	}
	var client clientData
	if err := json.Unmarshal(s.ClientDataJSON, &client); err != nil {
		return fmt.Errorf("client data: %w", err)
	}
	if client.Type != "webauthn.get" {
		return fmt.Errorf("client data of type %q", client.Type)
	}
	challenge, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(client.Challenge, "="))
	if err != nil || !bytes.Equal(challenge, []byte(m.Text())) {
		return errors.New("the challenge is another message")
	}
	public, err := p256Key(s.PublicKey)
	if err != nil {
		return err
	}
	if digest := s.passkeyDigest(); !ecdsa.VerifyASN1(public, digest[:], s.Signature) {
		return errors.New("another key has made it, or over something else")
	}
	return nil
}
