package collections_test

import (
	"crypto/rand"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// One party with any number of keys of its own does not keep an owner from revoking what was
// stolen, nor take up all that lists may.
func TestNobodyFillsTheRevocations(t *testing.T) {
	kept := store.NewMemory()
	revocations, err := access.NewRevocations(t.Context(), kept, kept)
	require.NoError(t, err)
	w := newWorld(t, []byte(open), func(o *collections.Options) { o.Revocations = revocations })
	newKey := func() capcert.Key {
		var seed [32]byte
		_, _ = rand.Read(seed[:])
		k, err := capcert.NewKey(seed[:])
		require.NoError(t, err)
		return k
	}
	send := func(from string, k capcert.Key, generation int64, subjects ...string) int {
		l, err := capcert.SignRevocations(k, generation, nil, subjects)
		require.NoError(t, err)
		r := httptest.NewRequest(
			"POST", "/revocations", strings.NewReader(string(value.Append(nil, l.Object()))),
		)
		r.Header.Set("Content-Type", "application/json")
		r.RemoteAddr = from
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		return rec.Code
	}
	subject := strings.Repeat("ab", 32)
	answers := map[int]int{}
	for range 300 {
		answers[send("192.0.2.1:1", newKey(), 1, subject)]++
	}
	require.Less(t, answers[200], 100)
	require.Equal(t, 300-answers[200], answers[429])
	owner := newKey()
	require.Equal(t, 200, send("192.0.2.2:1", owner, 1, subject))
	require.True(t, revocations.IsRevoked(owner.Public, subject, "any"))
	require.Equal(
		t, 429, send("[::ffff:192.0.2.1]:1", newKey(), 1, subject), "another form of the address",
	)

	// A key that is kept already cannot be made to grow without end, either.
	long := make([]string, 800)
	for i := range long {
		long[i] = subject
	}
	big, taken := newKey(), 0
	for taken < 200 && send("192.0.2.3:1", newKey(), 1, long...) == 200 {
		taken++
	}
	require.Positive(t, taken)
	require.Less(t, taken, 100)
	require.Equal(
		t, 413, send("192.0.2.5:1", newKey(), 1, append(long, long...)...),
		"nobody knows the issuer",
	)
	require.Equal(t, 200, send("192.0.2.4:1", big, 1, subject))
	require.Equal(t, 200, send("192.0.2.4:1", big, 2, long...))
	require.Equal(t, 200, send("192.0.2.4:1", big, 3, subject), "a list may always shrink")
}

// Whoever owns something here, or is named by the configuration, may revoke also from where a flood
// of lists comes from.
func TestOwnersRevokeBesideAFlood(t *testing.T) {
	k := func(n byte) capcert.Key {
		var seed [32]byte
		seed[0], seed[1] = n, 77
		k, err := capcert.NewKey(seed[:])
		require.NoError(t, err)
		return k
	}
	owner, editor, member, stranger := k(1), k(2), k(3), k(4)
	id := func(k capcert.Key) string {
		id, err := capcert.UserID(k.Public)
		require.NoError(t, err)
		return id
	}
	text := strings.TrimSuffix(open, "]}") + `,
		{"name": "shared", "storagePath": "shared/{id}", "readRoles": ["delegated:` + id(member) + `:shared"],
		"writeRoles": ["editor"], "maxBodyBytes": 1000}],
		"extensions": {"roles": {"editor": ["` + id(editor) + `"]}}}`
	revocations, err := access.NewRevocations(t.Context(), nil, nil)
	require.NoError(t, err)
	w := newWorld(t, []byte(text), func(o *collections.Options) { o.Revocations = revocations })
	require.NoError(
		t, w.store.Put(t.Context(), "mine/"+id(owner), &store.Object{Body: []byte("{}")}, store.Whatever),
	)
	require.NoError(
		t,
		w.store.Put(
			t.Context(), "mine/"+id(stranger)+"0", &store.Object{Body: []byte("{}")}, store.Whatever,
		),
	)
	subject := strings.Repeat("ab", 32)
	send := func(k capcert.Key) int {
		l, err := capcert.SignRevocations(k, 1, nil, []string{subject})
		require.NoError(t, err)
		return ask(w, "POST", "/revocations", string(value.Append(nil, l.Object()))).Code
	}
	for i := range byte(200) {
		_ = send(k(10 + i))
	}
	require.Equal(t, 429, send(stranger))
	for name, k := range map[string]capcert.Key{"owner": owner, "editor": editor, "member": member} {
		require.Equal(t, 200, send(k), name)
		require.True(t, revocations.IsRevoked(k.Public, subject, "any"), name)
	}
}
