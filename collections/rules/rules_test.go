package rules_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/pairing"
	"github.com/skerry-sync/skerry/collections/rules"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// capRequest is a push that the holder of a certificate has signed.
func capRequest(t testing.TB, root *pairing.Device, path, body string) *http.Request {
	cert, err := pairing.RootCert(root, time.Now().Unix())
	require.NoError(t, err)
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	nonce := sha256.Sum256([]byte(body + path))
	signed := capcert.Request{
		Method: r.Method, PathAndQuery: path, Body: []byte(body), Host: "example.com",
	}
	s := signed.Sign(root.Key, time.Now().UnixMilli(), nonce[:capcert.NonceSize])
	r.Header.Set("Content-Type", config.JSON)
	r.Header.Set("Authorization", cert.Authorization())
	r.Header.Set(access.HeaderSignature, s.Signature)
	r.Header.Set(access.HeaderTime, strconv.FormatInt(s.Time, 10))
	r.Header.Set(access.HeaderNonce, s.Nonce)
	return r
}

// What the door of one node has let in, the others let count: documents, files, elements of logs,
// of wallets, of certificates and of nobody in particular, also where the author is no server of
// the rules.
func TestWhatIsAllowed(t *testing.T) {
	x := newTown(t)
	root, err := pairing.Root("correct horse battery staple")
	require.NoError(t, err)
	id, err := capcert.UserID(root.Key.Public)
	require.NoError(t, err)
	for _, m := range []*member{x.founder, x.honest} {
		m.chain.set("42", alice.Key.Address(), false)
	}
	mine := "users/" + alice.Key.Address().String() + "/settings"
	writer, reader := x.honest, x.founder // who is none of the servers, and who reads it
	writer.pushed(alice, mine, `{"a":1}`)
	writer.pushed(alice, mine, `{"b":"é <&> \u2028"}`)
	writer.pushed(alice, "products/42/signals", `{"n":1}`)
	writer.pushed(admin, "news/a", `{"n":1}`)
	writer.pushed(editor, "news/b", `{"n":2}`)
	writer.pushed(nil, "wall/a", `{"anything":true}`)
	writer.pushed(admin, "users/"+bob.Key.Address().String()+"/entitlements", `{"features":["news"]}`)
	writer.pushed(bob, "news/c", `{"n":3}`)
	for i := range 3 {
		status, answer := writer.send(
			alice, "POST", "/v1/push/events/e", config.JSON,
			`{"data":{"i":`+strconv.Itoa(i)+`},"authorSignature":"`+evm.SignData(
				alice.Key, object(t, `{"i":`+strconv.Itoa(i)+`}`),
			)+`"}`,
		)
		require.Equal(t, http.StatusOK, status, answer)
	}
	status, answer := writer.do(capRequest(t, root, "/v1/push/events/e", `{"data":{"i":3}}`))
	require.Equal(t, http.StatusOK, status, answer)
	status, answer = writer.do(
		capRequest(t, root, "/push/caps/"+id, `{ "data" : {"n": 1} , "baseHash" : null }`),
	) // as published clients sign it
	require.Equal(t, http.StatusNotFound, status, answer)
	r := capRequest(t, root, "/push/caps/"+id, `{ "data" : {"n": 1} , "baseHash" : null }`)
	r.URL.Path = "/v1" + r.URL.Path
	status, answer = writer.do(r)
	require.Equal(t, http.StatusOK, status, answer)
	status, answer = writer.send(
		alice, "POST", "/v1/push/logos/"+alice.Key.Address().String(), "image/png", "\x89PNG\xff\x00",
	)
	require.Equal(t, http.StatusOK, status, answer)
	reader.learn(writer)
	for path, want := range map[string]string{
		mine: `{"b":"é <&> ` + "\u2028" + `"}`, "products/42/signals": `{"n":1}`, "news/a": `{"n":1}`,
		"news/b": `{"n":2}`, "news/c": `{"n":3}`, "wall/a": `{"anything":true}`, "caps/" + id: `{"n":1}`,
		"logos/" + alice.Key.Address().String(): "\x89PNG\xff\x00",
	} {
		require.Equal(t, want, writer.has(path), path)
		require.Equal(t, want, reader.has(path), path)
	}
	_, events := reader.send(nil, "GET", "/v1/pull/events/e?full=1", "", "")
	require.Equal(t, 4, strings.Count(events, `"i":`), events)
	require.NotContains(t, events, "proof")
	_, again := writer.send(nil, "GET", "/v1/pull/events/e?full=1", "", "")
	require.Equal(t, hashIn(t, events), hashIn(t, again))
	require.NotContains(t, string(writer.kept("doc/wall/a")), "proof")
	require.NotContains(
		t, string(writer.kept("doc/"+mine)), `"b":"é <&> `+"\u2028"+`"},"baseHash"`,
		"the data is kept once",
	)

	// Both write, and in the end both have the same.
	reader.pushed(alice, mine, `{"c":1}`)
	time.Sleep(5 * time.Millisecond) // at the same millisecond, the greater hash would stand
	writer.pushed(alice, mine, `{"d":1}`)
	reader.learn(writer)
	writer.learn(reader)
	require.Equal(t, writer.has(mine), reader.has(mine))
	require.Equal(t, `{"d":1}`, reader.has(mine), "the later one, whole")
}

func hashIn(t testing.TB, answer string) string {
	s, _ := object(t, answer).String("hash")
	require.NotEmpty(t, s)
	return s
}

// What no door would have let in is as if it was not there, whoever has written it to the replica.
func TestWhatIsRefused(t *testing.T) {
	x := newTown(t)
	mine, other := "users/"+alice.Key.Address().String()+"/settings", "users/"+
		bob.Key.Address().String()+"/settings"
	x.founder.pushed(alice, mine, `{"n":1}`)
	x.founder.pushed(admin, "news/a", `{"n":1}`)
	status, answer := x.founder.send(
		alice, "POST", "/v1/push/events/e", config.JSON,
		`{"data":{"i":1},"ts":1700000000000,"authorSignature":"`+evm.SignData(
			alice.Key, object(t, `{"i":1}`),
		)+`"}`,
	)
	require.Equal(t, http.StatusOK, status, answer)
	logo := "logos/" + alice.Key.Address().String()
	status, answer = x.founder.send(alice, "POST", "/v1/push/"+logo, "image/png", "picture")
	require.Equal(t, http.StatusOK, status, answer)
	doc, news, picture := x.founder.kept("doc/"+mine), x.founder.kept(
		"doc/news/a",
	), x.founder.kept("type/"+logo)
	element := x.founder.kept("log/events/e\x000001700000000000")

	changed := func(kept []byte, change func(o *value.Object)) []byte {
		o, err := value.ParseObject(kept, value.MaxDepth+4)
		require.NoError(t, err)
		change(o)
		return value.Append(nil, o)
	}
	set := func(key string, v any) func(o *value.Object) {
		return func(o *value.Object) { o.Set(key, v) }
	}
	proof := func(key string, v any) func(o *value.Object) {
		return func(o *value.Object) {
			p, _ := o.Get("proof")
			c := p.(*value.Object).Clone()
			c.Set(key, v)
			o.Set("proof", c)
		}
	}
	header := func(key, v string) func(o *value.Object) {
		return func(o *value.Object) {
			p, _ := o.Get("proof")
			h, _ := p.(*value.Object).Get("headers")
			c := h.(*value.Object).Clone()
			if c.Delete(key); v != "" {
				c.Set(key, v)
			}
			proof("headers", c)(o)
		}
	}
	now := float64(time.Now().UnixMilli())
	evilData := func(o *value.Object) {
		d := object(t, `{"evil":1}`)
		o.Set("data", d)
		o.Set("hash", value.Hash(d))
	}
	for name, forged := range map[string]struct {
		key  string
		kept []byte
		path string // "" is the key's
		want string
	}{
		"no proof": {"doc/" + other, changed(doc, func(o *value.Object) {
			o.Delete("proof")
		}), other, `{}`},
		"nothing but data": {"doc/" + other, []byte(
			`{"v":1,"data":{"evil":1},"ts":1,"hash":""}`,
		), other, `{}`},
		"under another path": {"doc/" + other, doc, other, `{}`},
		"other data":         {"doc/" + other, changed(doc, evilData), other, `{}`},
		"other data here": {"doc/" + mine, changed(doc, func(o *value.Object) {
			evilData(o)
			o.Set("ts", now+5)
		}), mine, `{"n":1}`},
		"other hash": {"doc/" + mine, changed(doc, func(o *value.Object) {
			o.Set("hash", "ff")
			o.Set("ts", now+5)
		}), mine, `{"n":1}`},
		"other author": {"doc/" + mine, changed(doc, func(o *value.Object) {
			o.Set("authorPubkey", bob.Key.Address().String())
			o.Set("ts", now+5)
		}), mine, `{"n":1}`},
		"no author": {"doc/" + mine, changed(doc, func(o *value.Object) {
			o.Delete("authorSignature")
			o.Set("ts", now+5)
		}), mine, `{"n":1}`},
		"later than signed": {"doc/" + mine, changed(
			doc, set("ts", now+3_600_000),
		), mine, `{"n":1}`},
		"earlier than signed": {"doc/" + mine, changed(
			doc, set("ts", now-60_000),
		), mine, `{"n":1}`},
		"times of fields": {"doc/" + mine, changed(doc, func(o *value.Object) {
			o.Set("times", object(t, `{"n":9e12}`))
			o.Set("ts", now+5)
		}), mine, `{"n":1}`},
		"to be merged": {"doc/" + mine, changed(doc, func(o *value.Object) {
			o.Delete("whole")
			o.Set("ts", now+5)
		}), mine, `{"n":1}`},
		"other target": {"doc/" + mine, changed(doc, func(o *value.Object) {
			proof("target", "/v2/push/"+mine)(o)
			o.Set("ts", now+5)
		}), mine, `{"n":1}`},
		"a pull": {"doc/" + mine, changed(doc, func(o *value.Object) {
			proof("target", "/v1/pull/"+mine)(o)
			o.Set("ts", now+5)
		}), mine, `{"n":1}`},
		"other chain": {"doc/" + mine, changed(doc, func(o *value.Object) {
			header("X-Octobot-Chain", "evm:1")(o)
			o.Set("ts", now+5)
		}), mine, `{"n":1}`},
		"other nonce": {"doc/" + mine, changed(doc, func(o *value.Object) {
			header("X-Octobot-Nonce", "x")(o)
			o.Set("ts", now+5)
		}), mine, `{"n":1}`},
		"no signature": {"doc/" + mine, changed(doc, func(o *value.Object) {
			header("X-Octobot-Signature", "")(o)
			o.Set("ts", now+5)
		}), mine, `{"n":1}`},
		"no headers": {"doc/" + mine, changed(doc, func(o *value.Object) {
			proof("headers", &value.Object{})(o)
			o.Set("ts", now+5)
		}), mine, `{"n":1}`},
		"a proof of no form": {"doc/" + mine, changed(doc, func(o *value.Object) {
			o.Set("proof", "x")
			o.Set("ts", now+5)
		}), mine, `{"n":1}`},
		"no document": {"doc/" + other, []byte("x"), other, `{}`},
		"news by nobody": {"doc/news/b", changed(news, func(o *value.Object) {
			o.Delete("proof")
		}), "news/b", `{}`},
		"of the far future": {"doc/wall/z", []byte(
			`{"v":1,"data":{},"ts":9000000000000,"hash":"` + value.Hash(&value.Object{}) + `","whole":true}`,
		), "wall/z", `{}`},
		"no schema's": {"doc/wall/x", []byte(
			`{"v":1,"data":[],"ts":1,"hash":""}`,
		), "wall/x", `{}`},
		"read only": {"doc/catalog", changed(news, func(o *value.Object) {
			o.Delete("proof")
		}), "catalog", `{}`},
		"too long": {"doc/wall/y", []byte(
			`{"v":1,"data":{"x":"` + strings.Repeat("y", 3000) + `"},"ts":1,"hash":"` + value.Hash(
				object(t, `{"x":"`+strings.Repeat("y", 3000)+`"}`),
			) + `","whole":true}`,
		), "wall/y", `{}`},
		"a log as a document": {"doc/events/f", changed(doc, func(o *value.Object) {
			o.Delete("proof")
		}), "events/f?full=1", `{"items":[]}`},
		"an element at another time": {"log/events/f\x000001700000000001", element, "events/f?full=1", `{"items":[]}`},
		"an element of another log":  {"log/events/f\x000001700000000000", element, "events/f?full=1", `{"items":[]}`},
		"a document that is not kept": {"doc/signal", changed(news, func(o *value.Object) {
			o.Delete("proof")
		}), "signal", `{}`},
		"an element that is not kept": {"log/signal\x000001700000000000", element, "signal", `{}`},
		"an element of a document":    {"log/news/z\x000001700000000000", element, "news/z", `{}`},
	} {
		_, key, _ := strings.Cut(forged.key, "/")
		_, err := x.honest.guard.Check(
			t.Context(),
			&replicas.Version{Key: key, Kept: forged.kept, Author: x.evil.key.Author(), Time: int64(now)},
		)
		require.ErrorIs(t, err, replicas.ErrRefused, name)
		x.evil.forge(forged.key, forged.kept)
		x.tell()
		got := x.honest.has(forged.path)
		require.Equal(t, forged.want, got, name)
		require.Equal(t, `{"n":1}`, x.honest.has(mine), name)
	}
	// Files.
	require.Equal(t, "picture", x.founder.has(logo))
	_, of, _ := bytes.Cut(picture, []byte("\n"))
	for name, forged := range map[string][2]string{
		"other bytes": {"else", string(picture)},
		"other type":  {"picture", "image/gif\n" + string(of)},
		"no proof":    {"picture", "image/png"},
		"no JSON":     {"picture", "image/png\nx"},
	} {
		x.evil.forge("file/"+logo, []byte(forged[0]))
		x.evil.forge("type/"+logo, []byte(forged[1]))
		x.tell()
		require.Equal(t, "picture", x.honest.has(logo), name)
	}
	// One that was replaced does not come back, whoever writes it again and when.
	old := [2][]byte{x.founder.kept("file/" + logo), picture}
	time.Sleep(2 * time.Millisecond)
	status, answer = x.founder.send(alice, "POST", "/v1/push/"+logo, "image/png", "painting")
	require.Equal(t, http.StatusOK, status, answer)
	require.Equal(t, "painting", x.founder.has(logo))
	x.evil.forge("file/"+logo, old[0])
	x.evil.forge("type/"+logo, old[1])
	x.tell()
	require.Equal(t, "painting", x.honest.has(logo))

	// Whoever may write deletes nothing that others have written.
	require.NoError(t, deleted(x.evil, "doc/"+mine, "file/"+logo))
	x.tell()
	require.Equal(t, `{"n":1}`, x.honest.has(mine))
	require.Equal(t, "painting", x.honest.has(logo))

	// A log goes on, whatever the evil node has appended to it.
	x.evil.forge("log/events/e\x000009999999999999", []byte(`{"ts":9999999999999,"data":{"evil":1}}`))
	x.tell()
	status, answer = x.honest.send(
		bob, "POST", "/v1/push/events/e", config.JSON,
		`{"data":{"i":2},"authorSignature":"`+evm.SignData(bob.Key, object(t, `{"i":2}`))+`"}`,
	)
	require.Equal(t, http.StatusOK, status, answer)
	_, last := x.honest.send(nil, "GET", "/v1/pull/events/e?last=1", "", "")
	require.Contains(t, last, `"data":{"i":2}`)
	require.NotContains(t, last, "evil")
}

func deleted(m *member, keys ...string) error {
	var all []node.Change
	for _, k := range keys {
		all = append(all, node.Change{Key: []byte(k), Delete: true})
	}
	as := node.WriteOptions{As: m.key}
	_, err := m.n.ReplicaOf(m.r.ID).Apply(m.t.Context(), as, all...)
	return err
}

// What a caller has signed for a time to come does not count, or it would stand until then.
func TestSignedAhead(t *testing.T) {
	x := newTown(t)
	ahead := *alice
	ahead.Clock = func() time.Time { return time.Now().Add(time.Hour) }
	mine := "users/" + alice.Key.Address().String() + "/settings"
	path, body := "/v1/push/"+mine, `{"data":{"n":1},"baseHash":null,"authorSignature":"`+evm.SignData(
		alice.Key, object(t, `{"n":1}`),
	)+`"}`
	h, err := ahead.Sign("POST", path, []byte(body))
	require.NoError(t, err)
	headers := &value.Object{}
	for name := range h {
		headers.Set(name, h.Get(name))
	}
	at := time.Now().Add(time.Hour).UnixMilli()
	proof := value.NewObject(
		value.Member{Key: "target", Value: path}, value.Member{Key: "media", Value: config.JSON},
		value.Member{Key: "headers", Value: headers}, value.Member{Key: "body", Value: body},
	)
	d := object(t, `{"n":1}`)
	kept := fmt.Appendf(
		nil,
		`{"v":1,"data":{"n":1},"ts":%d,"hash":"%s","authorPubkey":"%s","authorSignature":"%s","whole":true,"proof":%s}`,
		at, value.Hash(d), alice.Key.Address(), evm.SignData(alice.Key, d), value.Append(nil, proof),
	)
	v := &replicas.Version{Key: mine, Kept: kept, Time: at}
	x.honest.ahead.Store(int64(time.Hour))
	_, err = x.honest.guard.Check(t.Context(), v)
	require.NoError(t, err, "then")
	x.honest.ahead.Store(0)
	v.Time = time.Now().Add(replica.MaxAhead).UnixMilli()
	_, err = x.honest.guard.Check(t.Context(), v)
	require.ErrorIs(t, err, replicas.ErrRefused)
}

// Whatever times somebody gives a version, what is pushed over it counts at all nodes.
func TestPushesOverTimesToCome(t *testing.T) {
	x := newTown(t)
	for _, ahead := range []time.Duration{0, replica.MaxAhead / 2, replica.MaxAhead - 2*time.Second} {
		path := "wall/" + strconv.Itoa(int(ahead.Minutes()))
		at := time.Now().Add(ahead)
		ts := at.Add(rules.Ahead).UnixMilli()
		b := doc(t, `{"evil":1}`, ts, nil, "", "", nil)
		info, err := x.founder.n.Blobs().ImportBytes(t.Context(), b)
		require.NoError(t, err)
		e := replica.Entry{
			Replica: x.founder.r.ID, Key: []byte("doc/" + path), Hash: info.Hash, Size: info.Size,
			Timestamp: uint64(at.UnixMicro()),
		}
		x.evil.forge("doc/other", []byte("{}")) // which takes a grant
		x.honest.learn(x.evil)
		x.founder.learn(x.evil)
		e.Sign(x.evil.key)
		_, err = x.founder.n.TakeEntries(t.Context(), e.Replica, []replica.Entry{e}, replica.Origin{})
		require.NoError(t, err)
		x.founder.pushed(nil, path, `{"n":1}`)
		x.founder.pushed(nil, path, `{"n":2}`)
		x.honest.learn(x.founder)
		require.Equal(t, `{"n":2}`, x.honest.has(path), ahead)
	}
}

// A signed document of somebody who may not write there is refused, although the node that has let
// it in is an honest one by other rules.
func TestOtherRoles(t *testing.T) {
	x := newTown(t)
	lax := strings.Replace(
		text, `"writeRoles": ["admin", "editor", "entitlement:news"]`, `"writeRoles": ["user"]`, 1,
	)
	lax = strings.Replace(lax, `"writeRoles": ["self"]`, `"writeRoles": ["user"]`, 1)
	c, err := config.Parse([]byte(strings.ReplaceAll(lax, "%s", admin.Key.Address().String())))
	require.NoError(t, err)
	x.evil.serve(rules.Sign(rules.Rules{Serial: 1, Prefix: "/v1", Config: c}, x.founder.r.Secret))
	mine := "users/" + alice.Key.Address().String() + "/settings"
	for _, path := range []string{
		mine, "news/a", "users/" + bob.Key.Address().String() + "/settings",
	} {
		x.evil.pushed(bob, path, `{"n":1}`)
	}
	x.evil.pushed(admin, "news/b", `{"n":1}`)
	x.evil.pushed(bob, "users/"+bob.Key.Address().String()+"/settings", `{"n":1}`)
	x.tell()
	require.Equal(t, `{}`, x.honest.has(mine))
	require.Equal(t, `{}`, x.honest.has("news/a"))
	require.Equal(t, `{"n":1}`, x.honest.has("news/b"))
	require.Equal(t, `{"n":1}`, x.honest.has("users/"+bob.Key.Address().String()+"/settings"))
	carol := wallet(5)
	// Somebody who writes before it is known to be entitled to is believed when that is.
	dave := wallet(6)
	early := "users/" + dave.Key.Address().String() + "/entitlements"
	x.founder.pushed(admin, early, `{"features":["news"]}`)
	x.founder.pushed(dave, "news/d", `{"n":4}`)
	entitlement := x.founder.kept("doc/" + early)
	x.evil.forge("doc/news/d", x.founder.kept("doc/news/d"))
	x.honest.learn(x.evil)
	require.Equal(t, `{}`, x.honest.has("news/d"))
	x.evil.forge("doc/"+early, entitlement)
	x.honest.learn(x.evil)
	x.honest.ahead.Store(int64(time.Minute))
	require.Equal(t, `{"n":4}`, x.honest.has("news/d"))

	// Nobody is entitled to write what it is entitled to.
	x.founder.pushed(
		admin, "users/"+carol.Key.Address().String()+"/entitlements", `{"features":["news"]}`,
	)
	x.evil.learn(x.founder)
	path := "users/" + alice.Key.Address().String() + "/entitlements"
	x.evil.pushed(carol, path, `{"features":["news"]}`)
	x.tell()
	require.Equal(t, `{}`, x.honest.has(path))
}

// Servers of the rules write what no caller has signed, where nobody else writes, and what they
// have written before there were rules stays.
func TestServers(t *testing.T) {
	x := newTown(t)
	plain := func(n int, at int64) []byte {
		d := object(t, `{"n":`+strconv.Itoa(n)+`}`)
		return []byte(
			`{"v":1,"data":` + string(
				value.Append(nil, d),
			) + `,"ts":` + strconv.FormatInt(at, 10) + `,"hash":"` + value.Hash(d) + `"}`,
		)
	}
	x.founder.forge("doc/users/"+alice.Key.Address().String()+"/settings", plain(9, 500))
	for _, m := range []*member{x.founder, x.evil} {
		n := map[*member]int{x.founder: 1, x.evil: 2}[m]
		m.forge("doc/catalog", plain(n, 5))
		m.forge("doc/list/a", plain(n, 5))
		m.forge("doc/news/a", plain(n, 5))
		m.forge("doc/news/b", plain(n, 50))
	}
	r := *x.rules
	r.Serial, r.Since, r.Own = 2, 10, []string{"list/{x}"}
	r.Config.Remotes = nil
	require.NoError(t, x.honest.guard.Set(rules.Sign(r, x.founder.r.Secret)))
	x.tell()
	require.Equal(t, `{"n":1}`, x.honest.has("catalog"))
	require.Equal(t, `{"n":1}`, x.honest.has("news/a"))
	require.Equal(t, `{}`, x.honest.has("news/b"), "when there were rules")
	require.Equal(
		t, `{}`, x.honest.has("users/"+alice.Key.Address().String()+"/settings"),
		"also where there is a collection to read from the same path",
	)
	o, err := x.honest.store.Get(t.Context(), "list/a")
	require.NoError(t, err)
	require.Contains(t, string(o.Body), `"n":1`)
}

// Roles of chains are asked for by each node; a server of the rules is believed what they were.
func TestChains(t *testing.T) {
	x := newTown(t)
	const path = "products/42/signals"
	for _, m := range []*member{x.founder, x.honest} {
		m.chain.set("42", alice.Key.Address(), false)
	}
	x.founder.pushed(alice, path, `{"n":1}`)
	x.evil.serve(x.rules)
	x.evil.chain.set("42", bob.Key.Address(), false)
	x.evil.pushed(bob, path, `{"n":2}`)
	x.honest.chain.set("42", alice.Key.Address(), true)
	x.tell()
	require.Equal(t, "503", x.honest.has(path), "while the chain is away")
	x.honest.chain.set("42", alice.Key.Address(), false)
	require.Equal(t, `{"n":1}`, x.honest.has(path))

	// Alice has sold it. What she wrote when it was hers stays, on the word of a server; bob's was not
	// his.
	x.honest.chain.set("42", admin.Key.Address(), false)
	x.honest.store.Forget()
	require.NoError(t, x.honest.guard.Set(x.rules))
	require.Equal(t, `{}`, x.honest.has(path))
	x.honest.ahead.Store(int64(rules.Fresh + time.Minute))
	x.honest.store.Forget()
	require.Equal(t, `{"n":1}`, x.honest.has(path))
}

func TestForm(t *testing.T) {
	x := newTown(t)
	id, b := x.founder.r.ID, x.rules.Bytes()
	got, err := rules.Parse(b, id)
	require.NoError(t, err)
	require.Equal(t, x.rules.Servers, got.Servers)
	require.Equal(t, "/v1", got.Prefix)
	require.True(t, got.Same(x.rules))
	require.Equal(t, b, got.Bytes())
	require.NotContains(t, string(b), "rpc")
	for _, bad := range [][]byte{
		nil, []byte("{}"), bytes.Replace(b, []byte(`"serial":1`), []byte(`"serial":2`), 1),
		bytes.Replace(b, []byte(`"v":1`), []byte(`"v":2`), 1),
		bytes.Replace(b, []byte("news"), []byte("olds"), 1), append(
			bytes.Repeat([]byte(" "), rules.MaxSize), b...,
		),
	} {
		_, err = rules.Parse(bad, id)
		require.ErrorIs(t, err, rules.ErrInvalid)
	}
	_, err = rules.Parse(b, replica.ID{1})
	require.ErrorIs(t, err, rules.ErrInvalid)
	r := *x.rules
	r.Serial = 7
	newer := rules.Sign(r, x.founder.r.Secret)
	require.True(t, newer.Same(x.rules))
	forged := rules.Sign(r, replica.NewSecretKey())
	require.Equal(
		t, uint64(7), newest(t, [][]byte{b, newer.Bytes(), forged.Bytes(), []byte("x")}, id).Serial,
	)
	require.Nil(t, newest(t, [][]byte{forged.Bytes()}, id))
	r.Scopes = 1
	scoped := rules.Sign(r, x.founder.r.Secret)
	require.False(t, scoped.Same(x.rules), "the holder of the key makes it count at its next start")
	got, err = rules.Parse(scoped.Bytes(), id)
	require.NoError(t, err)
	require.Equal(t, int64(1), got.Scopes)
	r.Scopes = 0
	r.Prefix = "/v2"
	require.False(t, rules.Sign(r, x.founder.r.Secret).Same(x.rules))
}

// goldenTime is when that document was written.
const goldenTime = 1795337127000

// golden is a document with its proof, and the rules that it counts by, as they stay.
func golden(t testing.TB) (r *rules.Rules, kept []byte) {
	b, err := os.ReadFile(filepath.Join("testdata", "golden.json"))
	require.NoError(t, err)
	o := object(t, string(b))
	text, _ := o.Get("rules")
	key, err := hex.DecodeString("0000000000000000000000000000000000000000000000000000000000000001")
	require.NoError(t, err)
	secret := replica.SecretKeyFromSeed([32]byte(key))
	r, err = rules.Parse(value.Append(nil, text), secret.Replica())
	require.NoError(t, err)
	doc, _ := o.Get("document")
	return r, value.Append(nil, doc)
}

func TestGolden(t *testing.T) {
	r, kept := golden(t)
	g := rules.NewGuard(rules.Options{Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, g.Set(r))
	body, err := g.Check(
		t.Context(),
		&replicas.Version{
			Key: "users/" + alice.Key.Address().String() + "/settings", Kept: kept, Time: goldenTime,
		},
	)
	require.NoError(t, err)
	require.Contains(t, string(body), `"data":{"theme":"dark"}`)
	require.NotContains(t, string(body), "proof")
}

// Rules that say since when scopes bind stay in their form, too.
func TestGoldenScopes(t *testing.T) {
	want, err := os.ReadFile(filepath.Join("testdata", "scopes.json"))
	require.NoError(t, err)
	r, _ := golden(t)
	key, err := hex.DecodeString("0000000000000000000000000000000000000000000000000000000000000001")
	require.NoError(t, err)
	secret := replica.SecretKeyFromSeed([32]byte(key))
	r.Scopes = 7
	require.Equal(t, strings.TrimSpace(string(want)), string(rules.Sign(*r, secret).Bytes()))
	got, err := rules.Parse(want, secret.Replica())
	require.NoError(t, err)
	require.Equal(t, int64(7), got.Scopes)
}

// Rules by which one node could refuse what another accepts, as it matches faster, do not count.
func TestSlowPatternsAreNoRules(t *testing.T) {
	key := replica.NewSecretKey()
	g := rules.NewGuard(rules.Options{Log: slog.New(slog.DiscardHandler)})
	for pattern, want := range map[string]string{
		`^(a+)+$`: "", `^(?=a)`: "lookaround", `(`: "flag u",
	} {
		c, err := config.Parse(fmt.Appendf(nil, `{"version": 1, "collections": [{"name": "c",
			"storagePath": "c/{id}", "readRoles": ["public"], "writeRoles": ["public"],
			"maxBodyBytes": 1000, "objectSchema": {"properties": {"a": {"pattern": %q}}}}]}`, pattern))
		require.NoError(t, err)
		err = g.Set(rules.Sign(rules.Rules{Serial: 1, Config: c}, key))
		if want == "" {
			require.NoError(t, err)
			require.True(t, g.InForce())
			g = rules.NewGuard(rules.Options{Log: slog.New(slog.DiscardHandler)})
			continue
		}
		require.ErrorContains(t, err, want)
		require.False(t, g.InForce())
	}
}

// FuzzCheck finds nothing that counts but what was signed.
func FuzzCheck(f *testing.F) {
	r, kept := golden(f)
	g := rules.NewGuard(rules.Options{Log: slog.New(slog.DiscardHandler)})
	require.NoError(f, g.Set(r))
	f.Add(kept)
	f.Fuzz(func(t *testing.T, kept []byte) {
		body, err := g.Check(
			t.Context(),
			&replicas.Version{
				Key: "users/" + alice.Key.Address().String() + "/settings", Kept: kept, Time: goldenTime,
			},
		)
		if err != nil {
			return
		}
		v, _ := object(t, string(body)).Get("data")
		require.Equal(t, `{"theme":"dark"}`, string(value.Append(nil, v)))
	})
}

func FuzzParse(f *testing.F) {
	r, _ := golden(f)
	f.Add(r.Bytes())
	scopes, err := os.ReadFile(filepath.Join("testdata", "scopes.json"))
	require.NoError(f, err)
	f.Add(scopes)
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := rules.Parse(b, r.Replica); err == nil && got.Scopes == 0 {
			require.True(t, got.Same(r))
		}
	})
}

// BenchmarkCheck is what it costs to tell whether a document counts: the first time, and when it is
// read again.
func BenchmarkCheck(b *testing.B) {
	r, kept := golden(b)
	v := &replicas.Version{
		Key: "users/" + alice.Key.Address().String() + "/settings", Kept: kept, Time: goldenTime,
	}
	for _, again := range []bool{false, true} {
		b.Run(map[bool]string{false: "first", true: "again"}[again], func(b *testing.B) {
			g := rules.NewGuard(rules.Options{})
			require.NoError(b, g.Set(r))
			b.ReportAllocs()
			for b.Loop() {
				if !again {
					v.Time++ // which makes it another one
				}
				if _, err := g.Check(b.Context(), v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func newest(t *testing.T, all [][]byte, id replica.ID) *rules.Rules {
	t.Helper()
	r, err := rules.Newest(all, id)
	require.NoError(t, err)
	return r
}

// Rules that are signed and cannot be read are not as if there were none, and do not bring back
// older ones; newer ones end that.
func TestSignedRulesThatCannotBeRead(t *testing.T) {
	key := replica.NewSecretKey()
	id := key.Replica()
	c, err := config.Parse(
		[]byte(`{"version": 1, "collections": [{"name": "c", "storagePath": "c/{id}",
		"readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000}]}`),
	)
	require.NoError(t, err)
	signed := func(serial uint64, change func(o *value.Object)) []byte {
		r := rules.Sign(rules.Rules{Serial: serial, Since: 5, Config: c}, key)
		o, err := value.ParseObject(r.Bytes(), 64)
		require.NoError(t, err)
		change(o)
		o.Delete("signature")
		sig := key.Sign(value.AppendCanonical([]byte("skerry collections rules 1\n"), o))
		o.Set("signature", hex.EncodeToString(sig[:]))
		return value.Append(nil, o)
	}
	same := func(*value.Object) {}
	overlap := func(o *value.Object) {
		v, err := value.ParseObject([]byte(`{"version": 1, "collections": [
			{"name": "a", "storagePath": "c/{id}", "readRoles": ["public"], "writeRoles": ["public"], "maxBodyBytes": 1000},
			{"name": "b", "storagePath": "c/{x}", "readRoles": ["public"], "writeRoles": ["public"], "maxBodyBytes": 1000}]}`),
			64)
		require.NoError(t, err)
		o.Set("config", v)
	}
	later := func(o *value.Object) { o.Set("v", 2.0) }
	old, forged := signed(1, same), rules.Sign(
		rules.Rules{Serial: 9, Config: c}, replica.NewSecretKey(),
	).Bytes()
	require.Equal(t, uint64(1), newest(t, [][]byte{old, forged}, id).Serial)
	for name, change := range map[string]func(*value.Object){"config": overlap, "version": later} {
		for _, all := range [][][]byte{
			{signed(2, change)}, {old, signed(2, change)}, {signed(2, change), old, forged},
			{signed(1, change), old},
		} {
			r, err := rules.Newest(all, id)
			var unread *rules.UnreadError
			require.ErrorAs(t, err, &unread, name)
			require.Nil(t, r)
			require.EqualValues(t, 5, unread.Rules.Since)
		}
		require.Equal(t, uint64(3), newest(t, [][]byte{signed(2, change), signed(3, same)}, id).Serial)
	}
}
