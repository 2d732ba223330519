package rules_test

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/chain"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/pairing"
	"github.com/skerry-sync/skerry/collections/rules"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/replica"
)

// The tests of this file ask a guard about one version at a time, on both sides of each limit.

// noon is when requests of these tests are signed, in Unix milliseconds.
const noon = 1_700_000_000_000

// court is a guard with rules, its clock, and the server that they name.
type court struct {
	t      testing.TB
	guard  *rules.Guard
	chain  *items
	now    time.Time
	owner  replica.SecretKey // of the replica
	server replica.AuthorID
	rules  rules.Rules
}

func newCourt(t testing.TB) *court {
	c := &court{t: t, chain: &items{}, now: time.UnixMilli(noon), owner: replica.NewSecretKey()}
	c.server = replica.NewSecretKey().Author()
	cfg := strings.Replace(
		fmt.Sprintf(text, admin.Key.Address(), editor.Key.Address()), `"collections": [`,
		`"collections": [
		{"name": "open", "storagePath": "open/{id}", "readRoles": ["public"], "writeRoles": ["public"], "allowedMimeTypes": ["image/*"], "encryption": "none", "maxBodyBytes": 2000},
		{"name": "seal", "storagePath": "seal", "readRoles": ["public"], "writeRoles": [], "pullOnly": true, "allowedMimeTypes": ["image/*"], "encryption": "none", "maxBodyBytes": 2000},
		{"name": "badge", "storagePath": "badges/{identity}", "readRoles": ["public"], "writeRoles": [], "allowedMimeTypes": ["image/*"], "encryption": "none", "maxBodyBytes": 2000},`,
		1,
	)
	cfg = strings.Replace(cfg, `"extensions":`, `"namespaces": {"art": {"collections": [
		{"name": "shared", "storagePath": "shared/{id}", "readRoles": ["public"], "writeRoles": ["public"], "allowedMimeTypes": ["image/*"], "encryption": "none", "maxBodyBytes": 2000},
		{"name": "pictures", "storagePath": "art/{identity}", "readRoles": ["public"], "writeRoles": ["self"], "allowedMimeTypes": ["image/*"], "encryption": "none", "maxBodyBytes": 2000}]}}, "extensions":`,
		1)
	parsed, err := config.Parse([]byte(cfg))
	require.NoError(t, err)
	c.rules = rules.Rules{
		Serial: 1, Prefix: "/v1", Config: parsed, Servers: []replica.AuthorID{c.server},
		Hosts: []string{"example.com"}, Since: noon - 1000,
	}
	c.set()
	return c
}

// set makes the rules count, as they are now, for a new guard.
func (c *court) set() {
	var known chain.Registry
	known.Register(c.chain)
	c.guard = rules.NewGuard(
		rules.Options{Chains: &known, Log: slog.New(slog.DiscardHandler), Clock: func() time.Time {
			return c.now
		}},
	)
	require.NoError(c.t, c.guard.Set(rules.Sign(c.rules, c.owner)))
}

// counts reports whether a version counts; it fails the test if that cannot be told.
func (c *court) counts(v *replicas.Version) bool {
	_, err := c.guard.Check(c.t.Context(), v)
	if err != nil {
		require.ErrorIs(c.t, err, replicas.ErrRefused)
	}
	return err == nil
}

// doc is a document as it is kept, with the proof of a request; headers nil is a request of nobody.
func doc(
	t testing.TB, data string, ts int64, who *evm.Signer, target, body string, headers http.Header,
) []byte {
	d := object(t, data)
	o := value.NewObject(value.Member{Key: "v", Value: 1.0}, value.Member{Key: "data", Value: d},
		value.Member{Key: "ts", Value: float64(ts)}, value.Member{Key: "hash", Value: value.Hash(d)})
	if who != nil {
		o.Set("authorPubkey", who.Key.Address().String())
		o.Set("authorSignature", evm.SignData(who.Key, d))
	}
	o.Set("whole", true)
	if headers != nil {
		o.Set("proof", proofOf(target, config.JSON, headers, body))
	}
	return value.Append(nil, o)
}

func proofOf(target, media string, headers http.Header, body string) *value.Object {
	all := &value.Object{}
	for name := range headers {
		all.Set(name, headers.Get(name))
	}
	o := value.NewObject(
		value.Member{Key: "target", Value: target}, value.Member{Key: "media", Value: media},
		value.Member{Key: "headers", Value: all},
	)
	if body != "" {
		o.Set("body", body)
	}
	return o
}

// signed is a push of a wallet, signed at noon, done at ts and in an entry of the time entry.
func (c *court) signed(who *evm.Signer, path string, ts, entry int64) *replicas.Version {
	s := *who
	s.Clock = func() time.Time { return time.UnixMilli(noon) }
	const data = `{"n":1}`
	target, body := "/v1/push/"+path, `{"data":`+data+`,"baseHash":null,"authorSignature":"`+
		evm.SignData(
			who.Key, object(c.t, data),
		)+`"}`
	h, err := s.Sign("POST", target, []byte(body))
	require.NoError(c.t, err)
	return &replicas.Version{Key: path, Kept: doc(c.t, data, ts, who, target, body, h), Time: entry}
}

// plain is a document without a proof.
func (c *court) plain(
	path, data string, ts, entry int64, author replica.AuthorID,
) *replicas.Version {
	return &replicas.Version{
		Key: path, Kept: doc(c.t, data, ts, nil, "", "", nil), Time: entry, Author: author,
	}
}

func settingsOf(who *evm.Signer) string {
	return "users/" + who.Key.Address().String() + "/settings"
}

// What is signed, done and entered lies within the skew of clocks, and no further.
func TestTimes(t *testing.T) {
	c := newCourt(t)
	skew, ahead := evm.Window.Milliseconds(), rules.Ahead.Milliseconds()
	path := settingsOf(alice)
	c.now = time.UnixMilli(noon + skew + ahead)
	for _, x := range []struct {
		what      string
		ts, entry int64
		counts    bool
	}{
		{"all at once", noon, noon, true},
		{"done a skew before it was signed", noon - skew, noon, true},
		{"done earlier", noon - skew - 1, noon, false},
		{"done a skew and what entries may be ahead later", noon + skew + ahead, noon, true},
		{"done later", noon + skew + ahead + 1, noon, false},
		{"signed a skew after the entry", noon, noon - skew, true},
		{"signed later after the entry", noon, noon - skew - 1, false},
	} {
		require.Equal(t, x.counts, c.counts(c.signed(alice, path, x.ts, x.entry)), x.what)
	}
	// Of nobody in particular.
	none := replica.AuthorID{1}
	require.True(t, c.counts(c.plain("wall/a", `{}`, noon+ahead, noon, none)))
	require.False(t, c.counts(c.plain("wall/a", `{}`, noon+ahead+1, noon, none)))
	// No time is too far ahead of the clock, or what is written over it would be too late.
	c.now = time.UnixMilli(noon)
	almost := noon + ahead - time.Second.Milliseconds()
	require.True(t, c.counts(c.plain("wall/b", `{}`, almost, noon+ahead, none)))
	over := c.plain("wall/b", `{}`, almost+1, noon+ahead, none)
	require.False(t, c.counts(over))
	c.now = c.now.Add(time.Millisecond)
	require.True(t, c.counts(over), "when its time has come")
	// A time that is none is no request of nobody.
	v := c.signed(alice, path, noon, noon)
	v.Kept = []byte(
		strings.Replace(
			string(v.Kept), fmt.Sprintf(`"X-Octobot-Timestamp":"%d"`, int64(noon)),
			`"X-Octobot-Timestamp":"0"`, 1,
		),
	)
	_, err := c.guard.Check(t.Context(), v)
	require.ErrorIs(t, err, replicas.ErrRefused)
	require.ErrorContains(t, err, "malformed")
}

// SignedAt is when the request of a file was signed, or the entry's time if nothing tells.
func TestSignedAt(t *testing.T) {
	c := newCourt(t)
	at := func(proof string) int64 {
		v := &replicas.Version{Time: 7, Proof: []byte(proof)}
		if proof == "" {
			v.Proof = nil
		}
		return c.guard.SignedAt(v)
	}
	with := func(time string) string {
		return `{"target":"/v1/push/x","media":"image/png","headers":{"` + http.CanonicalHeaderKey(
			access.HeaderTime,
		) + `":"` + time + `"}}`
	}
	require.EqualValues(t, 7, at(""))
	require.EqualValues(t, 7, at("x"), "no JSON")
	require.EqualValues(t, 7, at("{}"), "no proof")
	require.EqualValues(t, 7, at(`{"target":"/v1/push/x","headers":{}}`), "of nobody")
	require.EqualValues(t, 7, at(with("0")))
	require.EqualValues(t, 7, at(with("soon")))
	require.EqualValues(t, 5, at(with("5")))
	require.EqualValues(t, 1, at(with("1")))
}

// Rules that name hosts let count what was signed for one of them; rules that name none ask for no
// host.
func TestHosts(t *testing.T) {
	root, err := pairing.Root("correct horse battery staple")
	require.NoError(t, err)
	id, err := capcert.UserID(root.Key.Public)
	require.NoError(t, err)
	cert, err := pairing.RootCert(root, noon/1000)
	require.NoError(t, err)
	for _, host := range []string{"example.com", "other.example"} {
		body := `{"data":{"n":1},"baseHash":null}`
		r := capcert.Request{
			Method: "POST", PathAndQuery: "/v1/push/caps/" + id, Body: []byte(body), Host: host,
		}
		s := r.Sign(root.Key, noon, make([]byte, capcert.NonceSize))
		h := http.Header{"Authorization": {cert.Authorization()}}
		h.Set(access.HeaderSignature, s.Signature)
		h.Set(access.HeaderTime, fmt.Sprint(int64(noon)))
		h.Set(access.HeaderNonce, s.Nonce)
		kept := object(t, string(doc(t, `{"n":1}`, noon, nil, "/v1/push/caps/"+id, body, h)))
		p, _ := kept.Get("proof")
		p.(*value.Object).Set("host", host)
		v := &replicas.Version{Key: "caps/" + id, Kept: value.Append(nil, kept), Time: noon}
		c := newCourt(t)
		require.Equal(t, host == "example.com", c.counts(v), host)
		c.rules.Hosts = nil
		c.set()
		require.True(t, c.counts(v), host)
	}
}

// What was written with a narrow certificate before operations and collections bound stays, and
// what is signed since counts within them alone.
func TestScopesOfBefore(t *testing.T) {
	testkit.OneGoroutine(t)
	root, err := pairing.Root("correct horse battery staple")
	require.NoError(t, err)
	id, err := capcert.UserID(root.Key.Public)
	require.NoError(t, err)
	writes := func(scope capcert.Scope) *replicas.Version {
		device, err := pairing.Root("staple battery horse correct")
		require.NoError(t, err)
		cert, err := capcert.MintDevice(
			root.Key, device.Subject(), scope,
			capcert.Terms{
				NotBefore: noon/1000 - 60, Expires: noon/1000 + 3600,
				Nonce: make([]byte, capcert.NonceSize),
			},
		)
		require.NoError(t, err)
		body := `{"data":{"n":1},"baseHash":null}`
		target := "/v1/push/caps/" + id
		r := capcert.Request{
			Method: "POST", PathAndQuery: target, Body: []byte(body),
			Host: "example.com",
		}
		s := r.Sign(device.Key, noon, make([]byte, capcert.NonceSize))
		h := http.Header{"Authorization": {cert.Authorization()}}
		h.Set(access.HeaderSignature, s.Signature)
		h.Set(access.HeaderTime, fmt.Sprint(int64(noon)))
		h.Set(access.HeaderNonce, s.Nonce)
		kept := object(t, string(doc(t, `{"n":1}`, noon, nil, target, body, h)))
		p, _ := kept.Get("proof")
		p.(*value.Object).Set("host", "example.com")
		return &replicas.Version{Key: "caps/" + id, Kept: value.Append(nil, kept), Time: noon}
	}
	all := []string{"**"}
	within := capcert.Scope{Ops: []string{capcert.Write}, Paths: all, Collections: []string{"caps"}}
	otherwise := []capcert.Scope{
		{Ops: []string{capcert.Read}, Paths: all, Collections: []string{"caps"}},
		{Ops: []string{capcert.Write}, Paths: all, Collections: []string{"posts"}},
	}
	elsewhere := capcert.Scope{
		Ops: []string{capcert.Write}, Paths: []string{"posts/**"},
		Collections: []string{"caps"},
	}
	for since, counts := range map[int64]bool{
		0: true, noon - 1000: false, noon: false, noon + 1: true,
	} {
		c := newCourt(t)
		c.rules.Scopes = since
		c.set()
		require.True(t, c.counts(writes(within)), since)
		require.False(t, c.counts(writes(elsewhere)), "paths have always bound")
		for _, scope := range otherwise {
			require.Equal(t, counts, c.counts(writes(scope)), "%v, rules of %d", scope, since)
		}
	}
}

// A server is believed what a chain has said once an hour has passed since the request was signed,
// and not before.
func TestFresh(t *testing.T) {
	c := newCourt(t)
	c.chain.set("42", bob.Key.Address(), false)
	v := c.signed(alice, "products/42/signals", noon, noon)
	v.Author = c.server
	for _, x := range []struct {
		after  time.Duration
		counts bool
	}{{rules.Fresh, false}, {rules.Fresh + time.Millisecond, true}} {
		c.now = time.UnixMilli(noon).Add(x.after)
		c.set()
		require.Equal(t, x.counts, c.counts(v), x.after)
	}
	v.Author = replica.AuthorID{1}
	require.False(t, c.counts(v), "somebody else is not believed")
}

// A server writes by itself where nobody else may write, or what lies before the rules.
func TestServersAlone(t *testing.T) {
	c := newCourt(t)
	other := replica.AuthorID{1}
	mine := settingsOf(alice)
	for _, x := range []struct {
		what, path string
		ts         int64
		author     replica.AuthorID
		counts     bool
	}{
		{"before the rules", mine, c.rules.Since - 1, c.server, true},
		{"when there were rules", mine, c.rules.Since, c.server, false},
		{"before the rules, by another", mine, c.rules.Since - 1, other, false},
		{"where only servers write", "catalog", noon, c.server, true},
		{"where only servers write, by another", "catalog", noon, other, false},
		{"where no collection is", "elsewhere", noon, c.server, true},
		{"where no collection is, by another", "elsewhere", noon, other, false},
	} {
		require.Equal(t, x.counts, c.counts(c.plain(x.path, `{"n":1}`, x.ts, x.ts, x.author)), x.what)
	}
	badge, logo := "badges/"+alice.Key.Address().String(), "logos/"+alice.Key.Address().String()
	for _, x := range []struct {
		what, path string
		time       int64
		author     replica.AuthorID
		counts     bool
	}{
		{"a file of a server", "seal", noon, c.server, true},
		{"a file of another there", "seal", noon, other, false},
		{"a file where nobody has a role", badge, noon, c.server, true},
		{"a file of another there", badge, noon, other, false},
		{"a file where no collection is", "elsewhere", noon, c.server, true},
		{"a file of another there", "elsewhere", noon, other, false},
		{"a file before the rules", logo, c.rules.Since - 1, c.server, true},
		{"a file when there were rules", logo, c.rules.Since, c.server, false},
		{"a file before the rules, by another", logo, c.rules.Since - 1, other, false},
		{"a file where documents are", mine, noon, other, false},
	} {
		v := &replicas.Version{
			Key: x.path, Kept: []byte("picture"), Media: "image/png", Time: x.time, Author: x.author,
		}
		require.Equal(t, x.counts, c.counts(v), x.what)
	}
	c.rules.Own = []string{"logos/{x}", "users/{x}/settings"}
	c.set()
	require.True(
		t,
		c.counts(
			&replicas.Version{
				Key: logo, Kept: []byte("picture"), Media: "image/png", Time: noon, Author: c.server,
			},
		),
		"its own",
	)
	require.False(
		t,
		c.counts(
			&replicas.Version{
				Key: logo, Kept: []byte("picture"), Media: "image/png", Time: noon, Author: other,
			},
		),
	)
	require.True(t, c.counts(c.plain(mine, `{"n":1}`, noon, noon, c.server)), "its own")
}

// A file is proved by a wallet, which signs its bytes, or by a server on the word of which a
// certificate counts; in a namespace, too.
func TestFiles(t *testing.T) {
	c := newCourt(t)
	s := *alice
	s.Clock = func() time.Time { return time.UnixMilli(noon) }
	file := func(path, target string, change func(h http.Header)) *replicas.Version {
		h, err := s.Sign("POST", target, []byte("picture"))
		require.NoError(t, err)
		change(h)
		return &replicas.Version{
			Key: path, Kept: []byte("picture"), Media: "image/png", Time: noon,
			Proof: value.Append(nil, proofOf(target, "image/png", h, "")),
		}
	}
	as := func(http.Header) {}
	me := alice.Key.Address().String()
	require.True(t, c.counts(file("logos/"+me, "/v1/push/logos/"+me, as)))
	require.True(t, c.counts(file("art/"+me, "/v1/art/push/art/"+me, as)))
	require.False(
		t, c.counts(file("art/"+me, "/v1/push/art/"+me, as)), "as if it were in no namespace",
	)
	require.False(t, c.counts(file("logos/"+me, "/v1/art/push/logos/"+me, as)))
	// These are by nobody in particular, in a namespace or not.
	for _, path := range []string{"open/a", "shared/a"} {
		v := &replicas.Version{
			Key: path, Kept: []byte("picture"), Media: "image/png", Time: noon, Author: replica.AuthorID{1},
		}
		require.True(t, c.counts(v), path)
		v.Media = "text/plain"
		require.False(t, c.counts(v), path)
	}
	later := file("logos/"+me, "/v1/push/logos/"+me, as)
	later.Time = noon + 48*time.Hour.Milliseconds()
	require.True(t, c.counts(later), "a file may be entered again, much later")

	root, err := pairing.Root("correct horse battery staple")
	require.NoError(t, err)
	id, err := capcert.UserID(root.Key.Public)
	require.NoError(t, err)
	cert, err := pairing.RootCert(root, noon/1000)
	require.NoError(t, err)
	target := "/v1/push/logos/" + id
	r := capcert.Request{Method: "POST", PathAndQuery: target, Host: "example.com"}
	sig := r.Sign(root.Key, noon, make([]byte, capcert.NonceSize))
	h := http.Header{"Authorization": {cert.Authorization()}}
	h.Set(access.HeaderSignature, sig.Signature)
	h.Set(access.HeaderTime, fmt.Sprint(int64(noon)))
	h.Set(access.HeaderNonce, sig.Nonce)
	p := proofOf(target, "image/png", h, "")
	p.Set("host", "example.com")
	v := &replicas.Version{
		Key: "logos/" + id, Kept: []byte("picture"), Media: "image/png", Time: noon,
		Proof: value.Append(nil, p), Author: c.server,
	}
	require.True(t, c.counts(v), "a server says so")
	v.Author = replica.AuthorID{1}
	_, err = c.guard.Check(t.Context(), v)
	require.ErrorIs(t, err, replicas.ErrRefused)
	require.ErrorContains(t, err, "only servers")
}

// The document that lists a log says nothing, and by nobody.
func TestHeads(t *testing.T) {
	c := newCourt(t)
	head := func(change func(o *value.Object)) *replicas.Version {
		v := c.plain("events/e", `{}`, noon, noon, replica.AuthorID{1})
		o := object(t, string(v.Kept))
		change(o)
		v.Kept = value.Append(nil, o)
		return v
	}
	require.True(t, c.counts(head(func(*value.Object) {})))
	require.False(t, c.counts(head(func(o *value.Object) { o.Set("data", object(t, `{"n":1}`)) })))
	require.False(t, c.counts(head(func(o *value.Object) { o.Set("proof", object(t, `{}`)) })))
	require.False(t, c.counts(head(func(o *value.Object) {
		o.Set("authorPubkey", "a")
		o.Set("authorSignature", "b")
	})))
}

// An element of a log counts at the time that its request asks for.
func TestElementTimes(t *testing.T) {
	c := newCourt(t)
	s := *alice
	s.Clock = func() time.Time { return time.UnixMilli(noon) }
	element := func(asked string, ts int64) *replicas.Version {
		body := `{"data":{"i":1},"authorSignature":"` + evm.SignData(
			alice.Key, object(t, `{"i":1}`),
		) + `"` + asked + `}`
		h, err := s.Sign("POST", "/v1/push/events/e", []byte(body))
		require.NoError(t, err)
		return &replicas.Version{
			Key: fmt.Sprintf("events/e\x00%016d", ts), Time: noon,
			Kept: doc(t, `{"i":1}`, ts, alice, "/v1/push/events/e", body, h),
		}
	}
	require.True(t, c.counts(element("", noon+3)))
	asked := fmt.Sprintf(`,"ts":%d`, int64(noon+3))
	require.True(t, c.counts(element(asked, noon+3)))
	require.False(t, c.counts(element(asked, noon+4)))
}

// What cannot be told now is asked for again, a refusal after a while, and what counts is
// remembered.
func TestRemembered(t *testing.T) {
	c := newCourt(t)
	v := c.signed(alice, "products/42/signals", noon, noon)
	c.chain.set("42", alice.Key.Address(), true)
	_, err := c.guard.Check(t.Context(), v)
	require.Error(t, err)
	require.NotErrorIs(t, err, replicas.ErrRefused, "the chain is away")
	c.chain.set("42", bob.Key.Address(), false)
	require.False(t, c.counts(v))
	c.chain.set("42", alice.Key.Address(), false)
	require.False(t, c.counts(v), "the refusal is not old yet")
	c.now = c.now.Add(time.Minute)
	require.True(t, c.counts(v))
	c.chain.set("42", bob.Key.Address(), false)
	require.True(t, c.counts(v), "it is remembered")
}

// Lists of revocations are checked by what they are, with and without rules.
func TestInternal(t *testing.T) {
	c := newCourt(t)
	owner, err := capcert.ParseKey(hex.EncodeToString(make([]byte, 32)))
	require.NoError(t, err)
	l, err := capcert.SignRevocations(owner, 1, nil, []string{"s"})
	require.NoError(t, err)
	kept := value.Append(nil, l.Object())
	key := fmt.Sprintf("__sync__/revocations/%s/%016d", owner.Public, 1)
	require.True(t, c.counts(&replicas.Version{Key: key, Kept: kept}))
	require.False(t, c.counts(&replicas.Version{Key: key, Kept: []byte("{}")}))
	none := rules.NewGuard(rules.Options{})
	require.Nil(t, none.Rules())
	require.False(t, none.InForce())
	require.False(t, none.IsServer(c.server))
	require.True(t, c.guard.IsServer(c.server))
	require.False(t, c.guard.IsServer(replica.AuthorID{1}))
	_, err = none.Check(t.Context(), &replicas.Version{Key: key, Kept: []byte("{}")})
	require.NoError(t, err)
	require.NotNil(t, c.guard.Rules())
	require.NoError(t, none.Set(rules.Sign(c.rules, c.owner)))
	_, err = none.Check(t.Context(), c.plain("news/a", `{}`, noon, noon, replica.AuthorID{1}))
	require.ErrorIs(t, err, replicas.ErrRefused, "a refusal is logged to the default log")
}

// Rules of the greatest length are read, integers as every reader represents them, and of several
// with one serial all nodes take the same.
func TestFormLimits(t *testing.T) {
	c := newCourt(t)
	id := c.owner.Replica()
	b := rules.Sign(c.rules, c.owner).Bytes()
	longest := append([]byte(strings.Repeat(" ", rules.MaxSize-len(b))), b...)
	_, err := rules.Parse(longest, id)
	require.NoError(t, err)
	_, err = rules.Parse(append([]byte(" "), longest...), id)
	require.ErrorIs(t, err, rules.ErrInvalid)

	for serial, good := range map[uint64]bool{0: true, 1<<53 - 1: true, 1 << 53: false} {
		r := c.rules
		r.Serial = serial
		_, err := rules.Parse(rules.Sign(r, c.owner).Bytes(), id)
		require.Equal(t, good, err == nil, serial)
	}
	one, two := c.rules, c.rules
	two.Prefix = "/v2"
	x, y := rules.Sign(one, c.owner).Bytes(), rules.Sign(two, c.owner).Bytes()
	want := max(string(x), string(y))
	require.Equal(t, want, string(newest(t, [][]byte{x, y}, id).Bytes()))
	require.Equal(t, want, string(newest(t, [][]byte{y, x}, id).Bytes()))
	three := c.rules
	three.Serial = 2
	z := rules.Sign(three, c.owner).Bytes()
	for _, all := range [][][]byte{{x, y, z}, {z, x, y}, {y, z, x}} {
		require.Equal(t, uint64(2), newest(t, all, id).Serial)
	}
}
