package localfirst

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/record"
)

// Golden: what devices must agree on, or what is kept.
func TestFormatsGolden(t *testing.T) {
	n := newNamer(replica.ID{1})
	require.Equal(t, golden["key"], string(n.of("notes", "k")))
	require.Len(t, n.of("notes", strings.Repeat("x", MaxKey)), len(golden["key"]))
	require.NotEqual(t, n.of("a", "bc"), n.of("ab", "c"))
	require.NotEqual(t, n.of("a", "b"), newNamer(replica.ID{2}).of("a", "b"))
	e := appendEnvelope(nil, "notes", "k", []byte("value"))
	require.Equal(t, golden["envelope"], hex.EncodeToString(e))
	s := itemState{
		Has: true, Base: [32]byte{1}, Conflict: true, Intent: record.Hash{2}, Fault: "why",
	}
	b, err := s.marshal()
	require.NoError(t, err)
	require.Equal(t, golden["state"], strings.ReplaceAll(hex.EncodeToString(b), zeros, "…"))
	i := NamespaceInvite{
		Secret: [32]byte{3}, By: replica.AuthorID{5}, Expires: time.Unix(4, 0).UTC(),
		Addrs: []string{"/a"},
	}
	uri, err := InviteURI(i)
	require.NoError(t, err)
	require.Equal(t, golden["invite"], uri)
	require.Equal(t, golden["id"], i.ID())
}

const zeros = "00000000000000000000000000000000000000000000000000000000000000"

var golden = map[string]string{
	"key":      "sc3vfbuybhcehnlmcw4k6chc6aubkjob7w2trvekbrlxlfflcnya",
	"envelope": "01056e6f74657300016b76616c7565",
	"state":    "010501…02…000377687901…0000",
	"invite": "skerry-namespace:AgMAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABQAAAAAAA" +
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABAEAAi9h2YBrEA",
	"id": "10c5b2be8148be480d03c005b16a5682",
}

// An envelope in the place of another item is none.
func TestEnvelope(t *testing.T) {
	n := newNamer(replica.ID{1})
	e := appendEnvelope(nil, "notes", "k", []byte{})
	_, _, v, err := n.open(e, n.of("notes", "k"))
	require.NoError(t, err)
	require.Empty(t, v)
	_, _, _, err = n.open(e, n.of("notes", "l"))
	require.ErrorIs(t, err, errEnvelope)
	for i := range e {
		_, _, _, err := n.open(e[:i], n.of("notes", "k"))
		require.ErrorIs(t, err, errEnvelope, i)
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add(appendEnvelope(nil, "notes", "k", []byte("value")))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, k, at, err := parseEnvelope(b)
		if err == nil {
			require.Equal(t, b, appendEnvelope(nil, c, k, b[at:]))
		}
	})
}

func FuzzState(f *testing.F) {
	b, _ := (&itemState{Has: true, Fault: "x"}).marshal()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseState(b)
		if err != nil {
			return
		}
		again, err := s.marshal()
		require.NoError(t, err)
		require.Equal(t, b, again)
		base, _, ok := baseOf(b)
		require.True(t, ok)
		require.Equal(t, s.Base, base)
	})
}

// An invite is read as it was written, and a damaged one is none.
func TestInviteURI(t *testing.T) {
	i := NamespaceInvite{
		Secret: [32]byte{1}, By: replica.AuthorID{2}, Expires: time.Unix(1<<33, 0).UTC(),
	}
	for range maxInviteAddrs + 1 {
		i.Addrs = append(i.Addrs, "/ip4/192.0.2.1/tcp/4001")
	}
	uri, err := InviteURI(i)
	require.NoError(t, err)
	got, err := ParseInviteURI(" " + uri + "\n")
	require.NoError(t, err)
	i.Addrs = i.Addrs[:maxInviteAddrs]
	require.Equal(t, i, got)
	for at := range uri {
		_, err := ParseInviteURI(uri[:at])
		require.ErrorIs(t, err, ErrBadInvite)
	}
	i.Addrs = []string{strings.Repeat("x", maxInviteAddr+1)}
	_, err = InviteURI(i)
	require.ErrorIs(t, err, ErrBadInvite)
}

func FuzzParseInviteURI(f *testing.F) {
	uri, _ := InviteURI(NamespaceInvite{Addrs: []string{"/a", ""}})
	f.Add(uri)
	f.Fuzz(func(t *testing.T, s string) {
		i, err := ParseInviteURI(s)
		if err != nil {
			require.ErrorIs(t, err, ErrBadInvite)
			return
		}
		again, err := InviteURI(i)
		require.NoError(t, err)
		require.Equal(t, strings.TrimSpace(s), again)
	})
}
