package replica

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica/seal"
)

// The shortest and the longest of each form are read as they were written, and what has one byte
// more or less is refused.
func TestLimitsOfForms(t *testing.T) {
	owner, a := testKey(1), testKey(2)
	long := bytes.Repeat([]byte("k"), MaxKey)
	keys := make([]seal.Older, MaxOlder)
	prefix := func(n int, delegable bool) *Grant {
		g := grantFrom(nil, owner, a, 1, func(g *Grant) { g.Prefix, g.Delegable = long[:n], delegable })
		return &g
	}
	parent := prefix(MaxDelegablePrefix, true)
	below := grantFrom(parent, a, testKey(3), 2, func(g *Grant) { g.Prefix = parent.Prefix })
	for name, st := range map[string]Statement{
		"a grant":                         prefix(0, false),
		"a grant with the longest prefix": prefix(MaxKey, false),
		"a delegable grant":               parent,
		"a delegated grant":               &below,
		"a revocation":                    ref(revocation(owner, nil, a, 1, 2)),
		"a delegate's revocation":         ref(revocation(a, parent, a, 1, 2)),
		"an epoch":                        &Epoch{Replica: ID{1}, Number: math.MaxUint32},
		"an epoch with many older keys":   &Epoch{Replica: ID{1}, Number: 1, Older: keys},
		"a wrapped key":                   &WrappedKey{Replica: ID{1}, Epoch: math.MaxUint32},
	} {
		b := slices.Clip(st.Bytes())
		back, err := ParseStatement(b)
		require.NoError(t, err, name)
		require.Equal(t, b, back.Bytes(), name)
		for cut := range b {
			if cut > 300 && cut < len(b)-300 {
				continue
			}
			_, err := ParseStatement(slices.Clip(bytes.Clone(b[:cut])))
			require.Error(t, err, "%s, the first %d bytes", name, cut)
		}
		_, err = ParseStatement(append(b, 0))
		require.Error(t, err, name)
	}
	_, err := ParseGrant(prefix(MaxDelegablePrefix+1, true).Bytes())
	require.ErrorIs(t, err, ErrMalformedGrant)
	_, err = ParseEpoch(
		(&Epoch{Replica: ID{1}, Number: 1, Older: make([]seal.Older, MaxOlder+1)}).Bytes(),
	)
	require.ErrorIs(t, err, ErrMalformedEpoch)
	_, err = ParseEpoch((&Epoch{Replica: ID{1}}).Bytes())
	require.ErrorIs(t, err, ErrMalformedEpoch)
	_, err = ParseWrappedKey((&WrappedKey{Replica: ID{1}}).Bytes())
	require.ErrorIs(t, err, ErrMalformedKey)
	b := ref(revocation(owner, nil, a, 1, 2)).Bytes()
	_, err = ParseRevocation(append(b, 0))
	require.ErrorContains(t, err, "65 bytes of authority and signature, expected 64")
}

func TestLimitsOfEntries(t *testing.T) {
	entry := func(keyLen int, size uint64) Entry {
		ch := change("", "v")
		e := Entry{Replica: ID{1}, Size: size, Hash: ch.Hash, Key: bytes.Repeat([]byte("k"), keyLen)}
		e.Sign(testKey(2))
		return e
	}
	for _, e := range []Entry{entry(0, 1), entry(MaxKey, 1), entry(1, blobs.MaxSize)} {
		b, err := e.AppendBinary(nil)
		require.NoError(t, err)
		back, err := ParseEntry(slices.Clip(b))
		require.NoError(t, err)
		require.Equal(t, e, back)
		require.NoError(t, back.Verify())
		_, err = ParseEntry(b[:len(b)-1])
		require.ErrorIs(t, err, ErrMalformed)
	}
	long := entry(MaxKey+1, 1)
	_, err := long.AppendBinary(nil)
	require.ErrorIs(t, err, ErrKeyTooLong)
	large := entry(1, blobs.MaxSize+1)
	b, err := large.AppendBinary(nil)
	require.NoError(t, err)
	_, err = ParseEntry(b)
	require.ErrorIs(t, err, ErrMalformed)
	small := entry(1, 1)
	b, err = small.AppendBinary(nil)
	require.NoError(t, err)
	_, err = ParseEntry(append(b, 0))
	require.ErrorContains(t, err, "66 bytes of key and signature, expected 65")

	// An error shows the first 64 bytes of a key.
	for n, cut := range map[int]bool{64: false, 65: true} {
		e := entry(n, 1)
		text := e.failed(ErrBadSignature).Error()
		require.Contains(t, text, strings.Repeat("k", 64))
		require.NotContains(t, text, strings.Repeat("k", 65))
		require.Equal(t, cut, strings.Contains(text, "…"))
	}
}

// Epochs are ordered by their numbers and, of one number, the smaller commitment comes last.
func TestOrderOfEpochs(t *testing.T) {
	sorted := []EpochID{
		{Number: 1, Commitment: [32]byte{9}}, {Number: 1, Commitment: [32]byte{8}},
		{Number: 2, Commitment: [32]byte{8}},
	}
	for i := range sorted {
		for j := range sorted {
			require.Equal(t, i < j, sorted[i].before(sorted[j]), "%d before %d", i, j)
		}
	}
}

// A wrapped key is the one that its epoch commits to, or none.
func TestWrappedKeyOfAnotherCommitment(t *testing.T) {
	owner, reader := testKey(1), testKey(2)
	k := EpochKey{1, seal.NewReadKey()}
	w, err := wrapKey(owner, reader.Author(), k, 5, false)
	require.NoError(t, err)
	got, err := w.open(reader)
	require.NoError(t, err)
	require.Equal(t, k, got)
	_, err = w.open(testKey(3))
	require.ErrorIs(t, err, seal.ErrSealed)

	w.Commitment = [32]byte{1}
	w.Wrapped, err = k.Key.Wrap(reader.Author(), wrapContext(w.Replica, w.Epoch, w.Commitment))
	require.NoError(t, err)
	_, err = w.open(reader)
	require.ErrorIs(t, err, seal.ErrSealed)
}

// What stems from a forged grant is refused, however much of it comes at once.
func TestForgedParentsAreNotRemembered(t *testing.T) {
	owner, a := testKey(1), testKey(2)
	forged := grantFrom(nil, testKey(9), a, 1, delegable)
	s := newStore(t, newClock())
	id := hold(t, s, owner, Read)
	var all []Statement
	for i := range byte(3) {
		all = append(
			all, ref(grantFrom(&forged, a, testKey(3+i), 2, nil)),
			ref(revocation(a, &forged, testKey(3+i), 2, 0)),
		)
	}
	out, err := s.InsertStatements(bg, id, all)
	require.ErrorIs(t, err, ErrBadSignature)
	require.Zero(t, out)
	require.Empty(t, statementIDs(t, s, id))
}
