package ids

import (
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// key is an Ed25519 key.
func key() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) }

func public() [32]byte { return [32]byte(key().Public().(ed25519.PublicKey)) }

// An id has one text, which is read in capitals, too; none is zeros.
func TestTexts(t *testing.T) {
	r, a := Replica(public()), Author(public())
	const text = "hnvcppgow2sc2yvdvdicu3ynonsteflxdxrehjr2ybekdc2z3iuq"
	require.Equal(t, text, r.String())
	require.Equal(t, text, a.String())
	require.Equal(t, "hnvcppgow2", r.Short())
	require.NoError(t, r.Check())
	for _, s := range []string{text, strings.ToUpper(text)} {
		replica, err := ParseReplica(s)
		require.NoError(t, err)
		require.Equal(t, r, replica)
		author, err := ParseAuthor(s)
		require.NoError(t, err)
		require.Equal(t, a, author)
	}
	type both struct {
		R Replica
		A Author
	}
	for _, want := range []both{{r, a}, {}} {
		b, err := json.Marshal(want)
		require.NoError(t, err)
		back := both{Replica{1}, Author{1}}
		require.NoError(t, json.Unmarshal(b, &back))
		require.Equal(t, want, back)
	}
}

func TestTextsThatAreNoIDs(t *testing.T) {
	good := Replica(public()).String()
	for _, bad := range []string{
		"", good[1:], good + "a", good[:51] + "1", "hex:" + good,
		good[:51] + "r", // spare bits are set
		good[:20] + "\n" + good[20:],
	} {
		_, err := ParseReplica(bad)
		require.ErrorContains(t, err, "not a replica id", bad)
		_, err = ParseAuthor(bad)
		require.ErrorContains(t, err, "not an author id", bad)
		require.Error(t, new(Replica).UnmarshalText([]byte(bad)))
		require.Error(t, new(Author).UnmarshalText([]byte(bad)))
	}
}

// A key of small order is no id of a replica: anybody could sign for it. That of an author is told,
// so that what it wrote can be named.
func TestWeakKeys(t *testing.T) {
	weak := [32]byte{1} // the neutral point
	text := text32.EncodeToString(weak[:])
	r, err := ParseReplica(text)
	require.ErrorIs(t, err, ErrWeakKey)
	require.Zero(t, r)
	require.ErrorIs(t, Replica(weak).Check(), ErrWeakKey)
	a, err := ParseAuthor(text)
	require.ErrorIs(t, err, ErrWeakKey)
	require.Equal(t, Author(weak), a)
	b, err := Decode(text, "an id")
	require.NoError(t, err)
	require.Equal(t, weak, b)
	require.False(t, Author(weak).Verify([]byte("m"), [64]byte{1}))
}

func TestVerify(t *testing.T) {
	sig := [64]byte(ed25519.Sign(key(), []byte("m")))
	require.True(t, Author(public()).Verify([]byte("m"), sig))
	require.False(t, Author(public()).Verify([]byte("n"), sig))
}

func TestCapabilities(t *testing.T) {
	for c, text := range map[Capability]string{Sync: "sync", Read: "read", Write: "write"} {
		b, err := c.MarshalText()
		require.NoError(t, err)
		require.Equal(t, text, string(b))
		var back Capability
		require.NoError(t, back.UnmarshalText(b))
		require.Equal(t, c, back)
	}
	require.True(t, Sync < Read && Read < Write, "each includes the ones before it")
	require.Equal(t, "capability 4", Capability(4).String())
	_, err := ParseCapability("admin")
	require.ErrorContains(t, err, `"admin"`)
}
