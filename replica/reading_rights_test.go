package replica

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/kv"
)

// What is remembered of an author's rights is always what the statements say, also when it outlives
// a change of statements about others.
func TestRememberedRightsAreRight(t *testing.T) {
	c := newClock()
	rapid.Check(t, func(rt *rapid.T) {
		owner := testKey(1)
		s := newStore(rt, c)
		s.keep = keepLimits{all: 4, about: 2}
		id := hold(rt, s, owner, Read)
		keys := map[AuthorID]SecretKey{}
		var authors []SecretKey
		for k := byte(2); k <= 6; k++ {
			authors = append(authors, testKey(k))
			keys[testKey(k).Author()] = testKey(k)
		}
		one := rapid.SampledFrom(authors)
		time := rapid.Uint64Range(0, 12)
		var grants []Grant
		for range rapid.IntRange(1, 30).Draw(rt, "statements") {
			by, parent := owner, (*Grant)(nil)
			if len(grants) > 0 && rapid.IntRange(0, 3).Draw(rt, "delegated") > 0 {
				parent = &grants[rapid.IntRange(0, len(grants)-1).Draw(rt, "parent")]
				by = keys[parent.Author]
			}
			about := one.Draw(rt, "author")
			var st Statement
			if rapid.IntRange(0, 2).Draw(rt, "revocation") == 0 {
				st = ref(revocation(by, parent, about, time.Draw(rt, "issued"), time.Draw(rt, "from")))
			} else {
				g := grantFrom(parent, by, about, time.Draw(rt, "issued"), delegable)
				if _, err := ParseGrant(g.Bytes()); err != nil {
					continue // too long a chain
				}
				st = &g
				grants = append(grants, g)
			}
			_, err := s.InsertStatements(bg, id, []Statement{st})
			require.NoError(rt, err)
			require.NoError(rt, s.kv.View(bg, func(rd kv.Reader) error {
				for range 3 {
					e := Entry{Author: one.Draw(rt, "by").Author(), Timestamp: time.Draw(rt, "time")}
					got, err := s.may(rd, id, map[AuthorID]*rights{}, &e, true)
					require.NoError(rt, err)
					want, err := authority(rd, id, e.Author)
					require.NoError(rt, err)
					require.Equal(rt, want.Allows(&e), got)
				}
				return nil
			}))
		}
		require.NoError(rt, s.kv.Close())
	})
}
