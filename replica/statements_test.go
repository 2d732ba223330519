package replica

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica/seal"
)

// Golden: statements never change their form.
func TestGrantGolden(t *testing.T) {
	g := NewGrant(testKey(1), testKey(2).Author(), 7)
	want := hex.EncodeToString([]byte("skerry grant 1\n")) +
		"cecc1507dc1ddd7295951c290888f095adb9044d1b73d696e6df065d683bd4fc" +
		"6b79c57e6a095239282c04818e96112f3f03a4001ba97a564c23852a3f1ea5fc" +
		"0000000000000007" + "0000000000000000" + "ffffffffffffffff" + "0000"
	require.Equal(t, want, hex.EncodeToString(g.signedBytes()))
	back, err := ParseGrant(g.Bytes())
	require.NoError(t, err)
	require.Equal(t, g.ID(), back.ID())
	require.NoError(t, back.Verify())
	back.NotAfter--
	require.ErrorIs(t, back.Verify(), ErrBadSignature)
}

func TestDelegatedGrantGolden(t *testing.T) {
	parent := grantFrom(nil, testKey(1), testKey(2), 7, delegable)
	g := grantFrom(&parent, testKey(2), testKey(3), 8, under("p/"))
	one, two, three := testKey(1).Replica(), testKey(2).Author(), testKey(3).Author()
	want := hex.EncodeToString(
		[]byte("skerry grant 2\n"),
	) + hex.EncodeToString(one[:]) + hex.EncodeToString(three[:]) +
		"0000000000000008" + "0000000000000000" + "ffffffffffffffff" + "0002702f" + "00" + "00ac" +
		hex.EncodeToString(
			[]byte("skerry grant 2\n"),
		) + hex.EncodeToString(one[:]) + hex.EncodeToString(two[:]) +
		"0000000000000007" + "0000000000000000" + "ffffffffffffffff" + "0000" + "01" + "0000" +
		hex.EncodeToString(
			parent.Signature[:],
		)
	require.Equal(t, want, hex.EncodeToString(g.signedBytes()))
	back, err := ParseGrant(g.Bytes())
	require.NoError(t, err)
	require.Equal(t, g.Bytes(), back.Bytes())
	require.NoError(t, back.Verify())
}

func TestRevocationGolden(t *testing.T) {
	r := revocation(testKey(1), nil, testKey(2), 7, 8)
	one, two := testKey(1).Replica(), testKey(2).Author()
	want := hex.EncodeToString(
		[]byte("skerry revoke 1\n"),
	) + hex.EncodeToString(
		one[:],
	) + hex.EncodeToString(two[:]) + "0000000000000007" + "0000000000000008" + "0000"
	require.Equal(t, want, hex.EncodeToString(r.signedBytes()))
	back, err := ParseRevocation(r.Bytes())
	require.NoError(t, err)
	require.Equal(t, r, back)
	require.NoError(t, back.Verify())
	back.From--
	require.ErrorIs(t, back.Verify(), ErrBadSignature)
}

func TestGrantLimits(t *testing.T) {
	g := Grant{Replica: ID{1}, Author: AuthorID{2}, NotBefore: 10, NotAfter: 20, Prefix: []byte("a/")}
	allows, err := authorityOf([]Grant{g}, func(AuthorID) ([]Revocation, error) { return nil, nil })
	require.NoError(t, err)
	for name, c := range map[string]struct {
		e    Entry
		want bool
	}{
		"inside":       {Entry{Timestamp: 10, Key: []byte("a/b")}, true},
		"last moment":  {Entry{Timestamp: 20, Key: []byte("a/")}, true},
		"too early":    {Entry{Timestamp: 9, Key: []byte("a/b")}, false},
		"too late":     {Entry{Timestamp: 21, Key: []byte("a/b")}, false},
		"other prefix": {Entry{Timestamp: 10, Key: []byte("a")}, false},
	} {
		require.Equal(t, c.want, allows.Allows(&c.e), name)
	}
}

func FuzzParseStatement(f *testing.F) {
	parent := grantFrom(nil, testKey(1), testKey(2), 7, delegable)
	delegated := grantFrom(&parent, testKey(2), testKey(3), 8, under("p/"))
	for _, st := range []Statement{ref(NewGrant(testKey(1), AuthorID{1}, 5)), &parent, &delegated,
		ref(revocation(testKey(1), nil, testKey(2), 7, 8)),
		ref(revocation(testKey(2), &parent, testKey(3), 9, 0)),
		&Epoch{
			Replica: ID{1}, Number: 2, Older: []seal.Older{{1}},
		}, &WrappedKey{Replica: ID{1}, Author: AuthorID{2}, Epoch: 1}} {
		f.Add(st.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := ParseStatement(b)
		if err != nil {
			return
		}
		require.Equal(t, b, st.Bytes(), "one statement has one encoding")
		require.LessOrEqual(t, len(b), MaxStatement)
	})
}
