// Package encrypted decides what a server of collections encrypts before it is stored, and by which
// key: what collections.json says under encryption.
//
// What belongs here: which documents are encrypted, the secrets, and how what is stored comes from
// one form or secret to another. What never belongs here: the forms themselves, which are package
// atrest's, and where the result lies, which is the stores'.
//
// Start at New, whose result is a store.Codec.
package encrypted

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/skerry-sync/skerry/collections/atrest"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
)

// ErrPlain reports what is stored in clear where it is to be encrypted.
var ErrPlain = errors.New(
	"it is stored in clear, although its collection is encrypted: skerry collections migrate " +
		"encrypts what is there already",
)

// Secrets are what keys are derived from.
type Secrets struct {
	// of the two kinds of encryption: the present one first, then those that came before it
	Identity, Server []string
	// Salts are the salt of keys of the kind "server", and others that it may have been.
	Salts []string
	// Spell, unless nil, returns the one spelling of an identity.
	Spell func(identity string) (string, bool)
}

// MissingError reports a secret without which a collection cannot be kept.
type MissingError struct {
	Collection string
	Encryption config.Encryption
	Salt       bool // it is the salt that is missing
}

func (e *MissingError) Error() string {
	what := "secret"
	if e.Salt {
		what = "salt"
	}
	return fmt.Sprintf(
		"collection %q: there is no %s for encryption %q", e.Collection, what, e.Encryption,
	)
}

// Codec encrypts the documents of some collections.
type Codec struct {
	secrets Secrets
	all     []template
}

// template is the template of the keys of a collection that is encrypted.
type template struct {
	segments []string // "" for a parameter
	kind     config.Encryption
	identity int // which of the segments names whose it is
}

// New returns the codec of a configuration. It returns a *MissingError if a secret is missing that
// the configuration needs.
func New(c *config.Config, s Secrets) (*Codec, error) {
	x := &Codec{secrets: s}
	for _, col := range c.All() {
		if !col.Encryption.AtRest() {
			continue
		}
		all := s.Server
		if col.Encryption == config.Identity {
			all = s.Identity
		}
		if len(all) == 0 || all[0] == "" {
			return nil, &MissingError{Collection: col.Name, Encryption: col.Encryption}
		}
		if col.Encryption == config.Server && (len(s.Salts) == 0 || s.Salts[0] == "") {
			return nil, &MissingError{Collection: col.Name, Encryption: col.Encryption, Salt: true}
		}
		t := template{kind: col.Encryption, segments: strings.Split(col.KeyTemplate(), "/")}
		for i, segment := range t.segments {
			if name, ok := strings.CutPrefix(segment, "{"); ok {
				t.segments[i] = ""
				if strings.TrimSuffix(name, "}") == config.IdentityParam {
					t.identity = i
				}
			}
		}
		x.all = append(x.all, t)
	}
	return x, nil
}

// IsEmpty reports whether nothing is encrypted.
func (c *Codec) IsEmpty() bool { return len(c.all) == 0 }

// Same reports whether another codec encrypts the same documents.
func (c *Codec) Same(other *Codec) bool { return reflect.DeepEqual(c.all, other.all) }

// of returns the template that a key is one of, nil if it is not encrypted, and the segments of the
// key of the document that it belongs to.
func (c *Codec) of(key string) (*template, []string) {
	if len(c.all) == 0 {
		return nil, nil
	}
	segments := strings.Split(document.Owner(key), "/")
next:
	for i := range c.all {
		t := &c.all[i]
		if len(t.segments) != len(segments) {
			continue
		}
		for i, s := range t.segments {
			if s != "" && s != segments[i] {
				continue next
			}
		}
		return t, segments
	}
	return nil, nil
}

// present is the key by which is encrypted.
func (c *Codec) present(t *template, segments []string) (*atrest.Key, error) {
	if t.kind == config.Server {
		return atrest.NewKey(c.secrets.Server[0], c.secrets.Salts[0], atrest.InfoServer)
	}
	return atrest.NewKey(c.secrets.Identity[0], c.salts(segments[t.identity])[0], atrest.InfoIdentity)
}

// salts returns what the salt of an identity's keys is, and what it may have been: other servers
// take the identity as it was sent.
func (c *Codec) salts(identity string) []string {
	spelled := identity
	if c.secrets.Spell != nil {
		if s, ok := c.secrets.Spell(identity); ok {
			spelled = s
		}
	}
	all := []string{spelled, identity}
	if strings.HasPrefix(identity, "0x") {
		all = append(all, strings.ToLower(identity))
	}
	slices.Sort(all[1:])
	return slices.Compact(all)
}

// former returns the keys that something may have been encrypted by, but for the present one.
func (c *Codec) former(t *template, segments []string) (all []*atrest.Key, err error) {
	secrets, salts, info := c.secrets.Server, c.secrets.Salts, atrest.InfoServer
	if t.kind == config.Identity {
		secrets, salts, info = c.secrets.Identity, c.salts(segments[t.identity]), atrest.InfoIdentity
	}
	for i, secret := range secrets {
		for j, salt := range salts {
			if i+j == 0 {
				continue
			}
			k, err := atrest.NewKey(secret, salt, info)
			if err != nil {
				return nil, err
			}
			all = append(all, k)
		}
	}
	return all, nil
}

// Encode implements store.Codec.
func (c *Codec) Encode(key string, body []byte) ([]byte, error) {
	t, segments := c.of(key)
	if t == nil {
		return body, nil
	}
	k, err := c.present(t, segments)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return k.Seal(key, body), nil
}

// Decode implements store.Codec. It returns an error that is ErrPlain, or what atrest.Open returns.
func (c *Codec) Decode(key string, kept []byte) ([]byte, error) {
	body, _, err := c.open(key, kept)
	return body, err
}

// open returns what is kept, and whether it is in the form and by the key of now.
func (c *Codec) open(key string, kept []byte) (body []byte, current bool, err error) {
	t, segments := c.of(key)
	if t == nil {
		return kept, true, nil
	}
	if isPlain(kept) {
		return nil, false, fmt.Errorf("%s: %w", key, ErrPlain)
	}
	k, err := c.present(t, segments)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", key, err)
	}
	body, current, err = atrest.Open(key, kept, k)
	if !errors.Is(err, atrest.ErrSealed) {
		return body, current, err
	}
	before, failed := c.former(t, segments)
	if failed != nil {
		return nil, false, fmt.Errorf("%s: %w", key, failed)
	}
	body, _, err = atrest.Open(key, kept, before...)
	return body, false, err
}

// isPlain reports whether bytes are a document or a part of a log: encrypted they are in base64.
func isPlain(kept []byte) bool { return len(kept) > 0 && (kept[0] == '{' || kept[0] == '[') }
