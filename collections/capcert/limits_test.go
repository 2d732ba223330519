package capcert_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/value"
)

// A header of the greatest length is read; one that is longer is not looked at.
func TestLongestHeader(t *testing.T) {
	const around = len(`{"x":""}`)
	header := func(size int) string {
		object := `{"x":"` + strings.Repeat("a", size-around) + `"}`
		return "Cap " + base64.StdEncoding.EncodeToString([]byte(object))
	}
	longest := header((capcert.MaxAuthorization - len("Cap ")) / 4 * 3)
	require.Len(t, longest, capcert.MaxAuthorization)
	_, err := capcert.ParseAuthorization(longest)
	require.Equal(t, "malformed-shape", code(err))
	_, err = capcert.ParseAuthorization(longest + "A")
	require.ErrorIs(t, err, capcert.ErrNoCert)
	require.ErrorContains(t, err, "longer than")
}

// Globs around the length that is matched without allocating work like the others.
func TestLongGlobs(t *testing.T) {
	for n := range 200 {
		text := strings.Repeat("a", n)
		require.True(t, capcert.Covers(text, text), n)
		require.True(t, capcert.Covers(text+"*", text+"b"), n)
		require.False(t, capcert.Covers(text+"b", text+"c"), n)
		require.Equal(t, n == 0, capcert.Covers(text, ""), n)
	}
}

func TestVerify(t *testing.T) {
	k, err := capcert.NewKey(make([]byte, 32))
	require.NoError(t, err)
	sig := k.Sign([]byte("text"))
	require.True(t, capcert.Verify(k.Public, []byte("text"), sig))
	require.False(t, capcert.Verify(k.Public, []byte("other"), sig))
	require.False(t, capcert.Verify(k.Public, []byte("text"), sig+"!"))
	require.False(t, capcert.Verify(k.Public[1:], []byte("text"), sig))
	require.False(t, capcert.Verify(k.Public, []byte("text"), ""))
}

// No paths are no restriction, which differs from a list of none.
func TestExpandPaths(t *testing.T) {
	require.Nil(t, (&capcert.Scope{}).ExpandPaths("alice"))
	require.Equal(t, []string{}, (&capcert.Scope{Paths: []string{}}).ExpandPaths("alice"))
	s := capcert.Scope{Paths: []string{"users/{identity}/**", "!x"}}
	require.Equal(t, []string{"users/alice/**", "!x"}, s.ExpandPaths("alice"))
}

// A list of revocations holds integers that every reader represents exactly, and names subjects
// only if there are some.
func TestRevocationsLimits(t *testing.T) {
	k, err := capcert.NewKey(make([]byte, 32))
	require.NoError(t, err)
	l, err := capcert.SignRevocations(k, 1<<53, nil, nil)
	require.NoError(t, err)
	_, has := l.Object().Get("revokedSubjects")
	require.False(t, has)
	back, err := capcert.ParseRevocations(parse(t, value.Append(nil, l.Object())))
	require.NoError(t, err)
	require.EqualValues(t, 1<<53, back.Generation)
	l, err = capcert.SignRevocations(k, 1<<53+2, nil, []string{"s"})
	require.NoError(t, err)
	_, has = l.Object().Get("revokedSubjects")
	require.True(t, has)
	_, err = capcert.ParseRevocations(l.Object())
	require.ErrorIs(t, err, capcert.ErrRevocations)
}
