package replica

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

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

// No way of printing shows a key.
func TestKeysDoNotPrint(t *testing.T) {
	secret, read := testKey(7), seal.ReadKey{7, 7, 7, 7, 7}
	seed := secret.Seed()
	shown := []string{fmt.Sprint(seed[:4]), hex.EncodeToString(seed[:4]), strings.ToUpper(hex.EncodeToString(seed[:4])), string(seed[:4]),
		fmt.Sprint(read[:4]), hex.EncodeToString(read[:4]), "7,7,7", "0x7", "0x07"}
	for _, key := range []any{secret, &secret, read, &read, EpochKey{3, read}, &EpochKey{3, read}, struct{ K SecretKey }{secret},
		[]EpochKey{{3, read}}, Replica{Secret: secret}, heldKey{EpochKey{1, read}, true}} {
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
		return errors.Join(tx.Delete(idKey(keyReplica, id)), tx.Delete(append([]byte(keyName), r.Name...)),
			tx.Set(leftKey(id, r.number), nil))
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
