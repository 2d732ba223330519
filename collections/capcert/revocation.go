package capcert

import (
	"errors"
	"fmt"
	"math"

	"github.com/skerry-sync/skerry/collections/value"
)

// ErrRevocations reports a list of revocations that is malformed, or that its issuer has not
// signed.
var ErrRevocations = errors.New("not a valid list of revocations")

const revocationDomain = "starfish-revlist-v1\n"

// Revoked names a certificate that its issuer has revoked.
type Revoked struct {
	Subject string // public key in hex; "" for an audience certificate
	Nonce   string // of the certificate
	// when the certificate ends, in Unix seconds; the entry must be kept until Skew later
	Expires int64
}

// Revocations is an issuer's list of what it has revoked. Of an issuer's lists the one with the
// highest generation counts, alone.
type Revocations struct {
	Issuer     string
	Generation int64
	Certs      []Revoked
	Subjects   []string // whose certificates are all revoked
	object     *value.Object
}

// Object returns the list as JSON.
func (l *Revocations) Object() *value.Object { return l.object }

// SigningInput returns what the issuer signs.
func (l *Revocations) SigningInput() []byte {
	unsigned := l.object.Clone()
	unsigned.Delete("sig")
	return value.AppendCanonical([]byte(revocationDomain), unsigned)
}

// SignRevocations makes a list.
func SignRevocations(
	issuer Key, generation int64, certs []Revoked, subjects []string,
) (*Revocations, error) {
	id, err := UserID(issuer.Public)
	if err != nil {
		return nil, err
	}
	entries := make(value.Array, len(certs))
	for i, r := range certs {
		entries[i] = value.NewObject(
			value.Member{Key: "sub", Value: r.Subject}, value.Member{Key: "nonce", Value: r.Nonce},
			value.Member{Key: "exp", Value: float64(r.Expires)},
		)
	}
	o := value.NewObject(
		value.Member{Key: "v", Value: 1.0}, value.Member{Key: "iss", Value: issuer.Public},
		value.Member{Key: "issUserId", Value: id},
		value.Member{Key: "generation", Value: float64(generation)},
		value.Member{Key: "revoked", Value: entries},
	)
	if len(subjects) > 0 {
		all := make(value.Array, len(subjects))
		for i, s := range subjects {
			all[i] = value.NewObject(value.Member{Key: "sub", Value: s})
		}
		o.Set("revokedSubjects", all)
	}
	l := &Revocations{
		Issuer: issuer.Public, Generation: generation, Certs: certs, Subjects: subjects, object: o,
	}
	o.Set("sig", issuer.sign(l.SigningInput()))
	return l, nil
}

// ParseRevocations reads a list and checks its signature. It returns an error that is
// ErrRevocations.
func ParseRevocations(v any) (*Revocations, error) {
	bad := func(what string) (*Revocations, error) {
		return nil, fmt.Errorf("%w: %s", ErrRevocations, what)
	}
	o, ok := v.(*value.Object)
	if !ok {
		return bad("it is no object")
	}
	l := &Revocations{object: o}
	if l.Issuer, ok = o.String("iss"); !ok {
		return bad("no iss")
	}
	sig, _ := o.String("sig")
	if b, err := decode64(sig); err != nil || !verify(l.Issuer, l.SigningInput(), b) {
		return bad("the signature is wrong")
	}
	g, _ := o.Get("generation")
	f, ok := g.(float64)
	if !ok || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return bad("generation is no integer")
	}
	l.Generation = int64(f)
	entries, _ := o.Get("revoked")
	all, ok := entries.(value.Array)
	if !ok {
		return bad("revoked is no array")
	}
	for _, x := range all {
		e, _ := x.(*value.Object)
		var r Revoked
		var has [2]bool
		r.Subject, has[0] = e.String("sub")
		r.Nonce, has[1] = e.String("nonce")
		if !has[0] || !has[1] {
			return bad("an entry of revoked lacks sub or nonce")
		}
		if exp, _ := e.Get("exp"); exp != nil {
			f, _ := exp.(float64)
			r.Expires = int64(max(-1<<62, min(1<<62, f)))
		}
		l.Certs = append(l.Certs, r)
	}
	if v, ok := o.Get("revokedSubjects"); ok {
		all, ok := v.(value.Array)
		if !ok {
			return bad("revokedSubjects is no array")
		}
		for _, x := range all {
			e, _ := x.(*value.Object)
			s, ok := e.String("sub")
			if !ok {
				return bad("an entry of revokedSubjects lacks sub")
			}
			l.Subjects = append(l.Subjects, s)
		}
	}
	return l, nil
}
