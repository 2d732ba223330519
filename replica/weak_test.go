package replica

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica/seal"
)

// weakPoints are encodings of points of small order, canonical or not.
var weakPoints = []string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000080",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

// Keys of small order: a signature of zeros is right for any message under them. Nothing that names
// one counts, and none is read.
func TestKeysOfSmallOrderAreRefused(t *testing.T) {
	s := newStore(t, newClock())
	for _, text := range weakPoints {
		b, err := hex.DecodeString(text)
		require.NoError(t, err)
		id := AuthorID(b)
		for _, r := range weakPoints {
			var sig [64]byte
			_, err := hex.Decode(sig[:32], []byte(r))
			require.NoError(t, err)
			require.False(t, id.Verify([]byte("anything"), sig), text)
		}
		e := Entry{Replica: testKey(1).Replica(), Author: id, Size: 1, Key: []byte("k")}
		require.ErrorIs(t, e.Verify(), ErrBadSignature)
		batch := make([]Entry, 2*worthwhile)
		for i := range batch {
			batch[i] = e
			batch[i].Timestamp = uint64(i)
		}
		good, err := s.verifyAll(batch)
		require.Empty(t, good)
		require.ErrorIs(t, err, ErrBadSignature)
		g := Grant{Replica: ID(id), Author: testKey(2).Author(), NotAfter: Forever}
		require.Error(t, g.Verify())
		_, err = ParseAuthorID(id.String())
		require.ErrorIs(t, err, ErrWeakKey)
		_, err = ParseID(id.String())
		require.ErrorIs(t, err, ErrWeakKey)
		_, err = s.Join(bg, Replica{ID: ID(id), Name: "weak", Capability: Read})
		require.ErrorIs(t, err, ErrWeakKey)
	}
	id := testKey(1).Replica()
	back, err := ParseID(id.String())
	require.NoError(t, err)
	require.Equal(t, id, back)
}

// All texts of weak keys that were found in attacks are on the list.
func TestWeakPointsAreKnown(t *testing.T) {
	for _, text := range weakPoints {
		b, err := hex.DecodeString(text)
		require.NoError(t, err)
		require.True(t, isWeak([32]byte(b)), text)
	}
}

// weakly stores, as a program that does not know the rule, what anybody has signed for the author
// of zeros: a grant to it by a delegate, one by it, a revocation by it, and entries.
func weakly(
	t *testing.T, s *Store, id ID, parent *Grant, by SecretKey,
) (entries []Entry, stated []Statement) {
	toZero := grantFrom(parent, by, testKey(9), 20, delegable)
	toZero.Author = AuthorID{}
	toZero.Sign(by)
	byZero := Grant{Replica: id, Author: testKey(8).Author(), Issued: 30, NotAfter: Forever,
		Delegable: true, Parent: &toZero}
	deeper := grantFrom(&byZero, testKey(8), testKey(7), 40, nil)
	revokes := Revocation{Replica: id, Author: testKey(8).Author(), Issued: 50, Authority: &toZero}
	stated = []Statement{&toZero, &byZero, &deeper, &revokes}
	for i := range 3 {
		h := blobs.HashOf([]byte("planted"))
		entries = append(entries, Entry{Replica: id, Key: fmt.Appendf(nil, "planted/%d", i),
			Timestamp: uint64(1000 + i), Size: 7, Hash: h})
	}
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
		v, changes := s.sieve(tx, id), statementChanges{}
		for _, st := range stated {
			b, r := rankOf(st, chainOf(st))
			if err := errors.Join(tx.Set(statementKey(st), st.Bytes()),
				tx.Set(rankKey(v.id, b, &r), r.about[:])); err != nil {
				return err
			}
			changes.note(statementKey(st), true)
		}
		r, err := getReplica(tx, id)
		if err != nil {
			return err
		}
		p := s.putter(tx, &r)
		for i := range entries {
			if _, err := p.put(&entries[i]); err != nil {
				return err
			}
		}
		return errors.Join(p.finish(bg), s.sumStatements(bg, tx, id, changes),
			touchStatements(tx, id))
	}))
	s.statementsChanged(id)
	return entries, stated
}

// What weak keys have signed, and another program has stored, a host sends in good faith: it is
// passed over, and nothing is wrong with the host.
func TestStoredByWeakKeys(t *testing.T) {
	for _, trees := range []int{1, treeFrom} {
		owner, a := testKey(1), testKey(2)
		c := newClock()
		old, fresh := newStore(t, c), newStore(t, c)
		old.treeFrom = trees
		id := hold(t, old, owner, Write)
		hold(t, fresh, owner, Read)
		toA := grantFrom(nil, owner, a, 10, delegable)
		_, err := old.InsertStatements(bg, id, []Statement{&toA})
		require.NoError(t, err)
		write(t, old, id, owner, "k", "v", "l", "v")
		exchange(t, old, fresh, id)
		entries, stated := weakly(t, old, id, &toA, a)

		out, err := fresh.InsertStatements(bg, id, stated)
		require.NoError(t, err, "nobody is to blame")
		require.Equal(t, Stated{Added: 1, Refused: 3, Void: 3}, out,
			"a grant to such a key allows nothing")
		got, err := fresh.Insert(bg, id, entries, Origin{})
		require.NoError(t, err)
		require.Equal(t, Inserted{Void: 3}, got)
		x := fresh.NewInserter(bg, id, Origin{Peer: "peer"})
		var items [][]byte
		for i := range entries {
			b, err := entries[i].AppendBinary(nil)
			require.NoError(t, err)
			items = append(items, b)
		}
		require.NoError(t, x.Add(items))
		got, err = x.Close()
		require.NoError(t, err)
		require.Equal(t, 3, got.Void)
		write(t, old, id, owner, "m", "v")
		exchange(t, old, fresh, id)
		require.Len(t, collect(t, fresh.Entries(bg, id, Query{})), 3)
	}
}

// No way of printing shows a key.
func TestKeysDoNotPrint(t *testing.T) {
	secret, read := testKey(7), seal.ReadKey{7, 7, 7, 7, 7}
	seed := secret.Seed()
	shown := []string{
		fmt.Sprint(seed[:4]), hex.EncodeToString(seed[:4]), strings.ToUpper(hex.EncodeToString(seed[:4])),
		string(seed[:4]), fmt.Sprint(read[:4]), hex.EncodeToString(read[:4]), "7,7,7", "0x7", "0x07",
	}
	for _, key := range []any{
		secret, &secret, read, &read, EpochKey{3, read}, &EpochKey{3, read},
		struct{ K SecretKey }{secret}, []EpochKey{{3, read}}, Replica{Secret: secret},
		heldKey{EpochKey{1, read}, true},
	} {
		for _, verb := range strings.Split("v +v #v s q x X d o b c U t e p T", " ") {
			text := fmt.Sprintf("%"+verb, key)
			for _, part := range shown {
				require.NotContains(t, text, part, "%%%s of %T", verb, key)
			}
		}
		text, err := json.Marshal(key)
		for _, part := range append(shown, "BwcH") {
			require.NotContains(t, string(text), part, "JSON of %T", key)
		}
		require.Error(t, err, "%T", key)
	}
}

// A replica that is left and joined again while its erasing has not ended keeps its new statements
// at the next start.
func TestJoinedAgainBeforeItWasErased(t *testing.T) {
	c := newClock()
	s := newStore(t, c)
	id, alice := hold(t, s, testKey(1), Write), testKey(2)
	write(t, s, id, alice, "a", "1")
	// Leave is cut after its first step, as by a full disk.
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
		r, err := getReplica(tx, id)
		if err != nil {
			return err
		}
		return errors.Join(
			tx.Delete(idKey(keyReplica, id)), tx.Delete(append([]byte(keyName), r.Name...)),
			tx.Set(leftKey(id, r.number), nil),
		)
	}))
	s.known.forget(id)
	hold(t, s, testKey(1), Write)
	write(t, s, id, alice, "b", "2")
	again, err := Open(bg, s.kv, s.cfg)
	require.NoError(t, err)
	rep, err := again.Check(bg, id, false, nil)
	require.NoError(t, err)
	require.Zero(t, rep.Bad, "the grant is still there")
	require.EqualValues(t, 1, rep.Entries)
}
