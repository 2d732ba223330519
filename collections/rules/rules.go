// Package rules lets nodes tell by themselves which documents of a replica count: what its callers
// have signed is kept with each document, and every node that holds the replica checks it by the
// same rules, which the replica's key has signed. A node that would write what the HTTP door
// refuses is not believed.
//
// What belongs here: the form of the rules and of proofs, and the check. What never belongs here:
// the rules' meaning, which is the configuration's and is applied by package collections, as by the
// HTTP door.
//
// Start at Rules and Guard. The forms are described in docs/protocol/rules.md.
package rules

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/replica"
)

// Key is the key of the entries that hold rules. Of all that the replica's key has signed, those
// with the greatest serial count.
const Key = "rules"

// MaxSize is how long rules may be in bytes.
const MaxSize = 4 << 20

const (
	version = 1
	domain  = "skerry collections rules 1\n"
)

// ErrInvalid reports what are no rules of a replica: it is malformed, or the replica's key has not
// signed it.
var ErrInvalid = errors.New("not rules that the replica's key has signed")

// Rules say what counts in a replica.
type Rules struct {
	Replica replica.ID
	Serial  uint64
	Since   int64 // Unix milliseconds: what Servers have written before needs no proof
	// Scopes is since when, in Unix milliseconds, what requests were signed with counts only within
	// the operations and collections of their certificates, as doors have it since; 0 is not at all.
	Scopes int64
	Prefix string // of all paths that callers sign
	// Hosts are those that callers may have signed requests for, where a signature names one; none is
	// all.
	Hosts []string
	// Servers write what no caller has signed, and are believed what chains have said.
	Servers []replica.AuthorID
	Own     []string       // templates of the keys of what servers write by themselves
	Config  *config.Config // of the collections
	object  *value.Object
}

// Sign makes rules of what r says, signed by the replica's key.
func Sign(r Rules, key replica.SecretKey) *Rules {
	r.Replica = key.Replica()
	o := value.NewObject(
		value.Member{Key: "v", Value: float64(version)},
		value.Member{Key: "replica", Value: r.Replica.String()},
		value.Member{Key: "serial", Value: float64(r.Serial)},
		value.Member{Key: "since", Value: float64(r.Since)}, value.Member{Key: "prefix", Value: r.Prefix},
		value.Member{Key: "hosts", Value: texts(r.Hosts)},
	)
	servers := make([]string, len(r.Servers))
	for i, s := range r.Servers {
		servers[i] = s.String()
	}
	o.Set("servers", texts(servers))
	o.Set("own", texts(r.Own))
	if r.Scopes > 0 {
		o.Set("scopes", float64(r.Scopes))
	}
	o.Set("config", r.Config.Shared())
	sig := key.Sign(signed(o))
	o.Set("signature", hex.EncodeToString(sig[:]))
	r.object = o
	return &r
}

func texts(all []string) value.Array {
	a := value.Array{}
	for _, s := range all {
		a = append(a, s)
	}
	return a
}

// signed is what the replica's key signs: the canonical form of all members but the signature.
func signed(o *value.Object) []byte {
	o = o.Clone()
	o.Delete("signature")
	return value.AppendCanonical([]byte(domain), o)
}

// Bytes returns the rules as JSON.
func (r *Rules) Bytes() []byte { return value.Append(nil, r.object) }

// Parse reads rules of a replica. It returns an error that is ErrInvalid.
func Parse(b []byte, id replica.ID) (*Rules, error) {
	r, err := parse(b, id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return r, nil
}

func parse(b []byte, id replica.ID) (*Rules, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("they have more than %d bytes", MaxSize)
	}
	o, err := value.ParseObject(b, value.MaxDepth+4)
	if err != nil {
		return nil, err
	}
	if s, _ := o.String("replica"); s != id.String() {
		return nil, errors.New("they are of another replica")
	}
	text, _ := o.String("signature")
	sig, err := hex.DecodeString(text)
	if err != nil || !ed25519.Verify(id[:], signed(o), sig) {
		return nil, errors.New("the signature is wrong")
	}
	r := &Rules{Replica: id, object: o}
	if err := r.read(o); err != nil {
		return nil, &UnreadError{r, err}
	}
	return r, nil
}

// UnreadError reports rules that the replica's key has signed and this program does not take: it
// must not act as if there were none.
type UnreadError struct {
	Rules *Rules // of which Serial and Since are known, if they can be read
	Err   error
}

func (e *UnreadError) Error() string {
	return fmt.Sprintf("they are signed (serial %d) and cannot be applied: %v", e.Rules.Serial, e.Err)
}

func (e *UnreadError) Unwrap() error { return e.Err }

// read takes the rules from what has been signed.
func (r *Rules) read(o *value.Object) error {
	var ok [5]bool
	var serial, since int64
	serial, ok[0] = whole(o, "serial")
	since, ok[1] = whole(o, "since")
	if ok[0] && ok[1] {
		r.Serial, r.Since = uint64(serial), since
	}
	if v, _ := o.Get("v"); v != float64(version) {
		return fmt.Errorf("version %s is not known: this program is too old", value.Append(nil, v))
	}
	if _, there := o.Get("scopes"); there {
		var is bool
		if r.Scopes, is = whole(o, "scopes"); !is || r.Scopes == 0 {
			return errors.New("scopes is no time")
		}
	}
	r.Hosts, ok[2] = list(o, "hosts")
	r.Own, ok[3] = list(o, "own")
	var servers []string
	servers, ok[4] = list(o, "servers")
	if slices.Contains(ok[:], false) {
		return errors.New("a member is missing, or of another kind")
	}
	r.Prefix, _ = o.String("prefix")
	for _, s := range servers {
		// A weak key is named in vain: no entry by it is ever right. What has been signed stays readable.
		a, err := replica.ParseAuthorID(s)
		if err != nil && !errors.Is(err, replica.ErrWeakKey) {
			return fmt.Errorf("servers: %w", err)
		}
		r.Servers = append(r.Servers, a)
	}
	c, _ := o.Get("config")
	var err error
	r.Config, err = config.Parse(value.Append(nil, c))
	return err
}

func whole(o *value.Object, key string) (int64, bool) {
	v, _ := o.Get(key)
	f, ok := v.(float64)
	return int64(f), ok && f >= 0 && f < 1<<53 && f == math.Trunc(f)
}

func list(o *value.Object, key string) (all []string, ok bool) {
	v, _ := o.Get(key)
	a, ok := v.(value.Array)
	for _, x := range a {
		s, is := x.(string)
		ok = ok && is
		all = append(all, s)
	}
	return all, ok
}

// Newest returns those that count of what was found under Key, or nil if none does. It returns an
// *UnreadError if that is not known, since the newest signed ones cannot be read.
func Newest(all [][]byte, id replica.ID) (newest *Rules, err error) {
	var unread *UnreadError
	for _, b := range all {
		r, err := Parse(b, id)
		var u *UnreadError
		if errors.As(err, &u) && (unread == nil || u.Rules.Serial > unread.Rules.Serial) {
			unread = u
		}
		if err != nil {
			continue // whoever may write to the replica can write what is none
		}
		if newest == nil || r.Serial > newest.Serial ||
			r.Serial == newest.Serial && string(r.Bytes()) > string(newest.Bytes()) {
			newest = r
		}
	}
	if unread != nil && (newest == nil || newest.Serial <= unread.Rules.Serial) {
		return nil, unread
	}
	return newest, nil
}

// Same reports whether both ask for the same, whatever their serials and since when they count.
func (r *Rules) Same(o *Rules) bool {
	plain := func(r *Rules) string {
		x := r.object.Clone()
		for _, k := range []string{"serial", "since", "signature"} {
			x.Delete(k)
		}
		return string(value.AppendCanonical(nil, x))
	}
	return plain(r) == plain(o)
}

// IsServer reports whether an author is one of those that write what no caller has signed.
func (r *Rules) IsServer(a replica.AuthorID) bool { return slices.Contains(r.Servers, a) }

// isOwn reports whether servers write under a key by themselves: it is one of theirs, and of no
// collection that stands for less.
func (r *inForce) isOwn(key string) bool {
	paths := r.server.Reach()
	return slices.ContainsFunc(r.Own, func(t string) bool {
		return paths.MadeBy(config.ParseTemplate(t), key)
	})
}
