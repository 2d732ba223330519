package capcert

import (
	"encoding/base64"

	"github.com/skerry-sync/skerry/collections/value"
)

func list(texts []string) value.Array {
	a := make(value.Array, len(texts))
	for i, s := range texts {
		a[i] = s
	}
	return a
}

func (s *Scope) object() *value.Object {
	o := value.NewObject(value.Member{Key: "ops", Value: list(s.Ops)})
	if s.Paths != nil {
		o.Set("paths", list(s.Paths))
	}
	o.Set("collections", list(s.Collections))
	return o
}

// RootScope is all that a root device may do.
func RootScope() Scope {
	return Scope{Ops: []string{Read, List, Write}, Paths: []string{"**"}, Collections: []string{"*"}}
}

// ReaderScope grants reading of a collection, but not who its members are.
func ReaderScope(collection string) Scope {
	return Scope{
		Ops: []string{Read, List}, Paths: []string{collection + "/**", "!" + collection + "/_members"},
		Collections: []string{collection},
	}
}

// WriterScope grants reading and writing of a collection, but neither its keyring nor who its
// members are.
func WriterScope(collection string) Scope {
	return Scope{
		Ops: []string{Read, List, Write},
		Paths: []string{
			collection + "/**", "!" + collection + "/_keyring", "!" + collection + "/_members",
		},
		Collections: []string{collection},
	}
}

// Terms are from when until when a certificate is valid, in Unix seconds, and its nonce of
// NonceSize bytes.
type Terms struct {
	NotBefore, Expires int64
	Nonce              []byte
}

// Subject is whom a certificate is for.
type Subject struct {
	Key string // Ed25519 public key, hex
	KEM string // X25519 public key, hex
}

// MintDevice makes the certificate of a device, which then acts for the issuer within scope. It
// returns a *RefusedError.
func MintDevice(issuer Key, sub Subject, scope Scope, t Terms) (*Cert, error) {
	return mint(
		issuer, Device, scope, t, value.Member{Key: "sub", Value: sub.Key},
		value.Member{Key: "subKem", Value: sub.KEM},
	)
}

// MintMember makes the certificate with which another identity may use a collection. It returns a
// *RefusedError.
func MintMember(issuer Key, sub Subject, collection string, scope Scope, t Terms) (*Cert, error) {
	id, err := UserID(sub.Key)
	if err != nil {
		return nil, err
	}
	scope.Collections = []string{collection}
	return mint(
		issuer, Member, scope, t, value.Member{Key: "sub", Value: sub.Key},
		value.Member{Key: "subKem", Value: sub.KEM}, value.Member{Key: "subUserId", Value: id},
	)
}

// MintAudience makes the certificate with which anybody, or those whose public keys audience lists,
// may use a collection. It returns a *RefusedError.
func MintAudience(
	issuer Key, collection string, scope Scope, audience []string, t Terms,
) (*Cert, error) {
	scope.Collections = []string{collection}
	if audience == nil {
		return mint(issuer, Audience, scope, t)
	}
	return mint(issuer, Audience, scope, t, value.Member{Key: "aud", Value: list(audience)})
}

func mint(issuer Key, kind string, scope Scope, t Terms, members ...value.Member) (*Cert, error) {
	id, err := UserID(issuer.Public)
	if err != nil {
		return nil, err
	}
	o := value.NewObject(
		value.Member{Key: "v", Value: 1.0}, value.Member{Key: "kind", Value: kind},
		value.Member{Key: "iss", Value: issuer.Public}, value.Member{Key: "issUserId", Value: id},
	)
	for _, m := range members {
		o.Set(m.Key, m.Value)
	}
	o.Set("scope", scope.object())
	o.Set("nbf", float64(t.NotBefore))
	o.Set("exp", float64(t.Expires))
	o.Set("nonce", base64.StdEncoding.EncodeToString(t.Nonce))
	c, err := Parse(o)
	if err == nil {
		err = c.CheckKind()
	}
	if err != nil {
		return nil, err
	}
	c.Signature = issuer.sign(c.SigningInput())
	o.Set("sig", c.Signature)
	return c, nil
}
