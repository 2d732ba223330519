package replica

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkSetWithManyStatements is what one write costs in a replica with 100,000 statements,
// right after one has come: of an author whom the replica key lets write, while all statements are
// of the replica key, or all but one of delegates; and of an author whom one of the delegates lets
// write, while the others have stated about it what they can.
func BenchmarkSetWithManyStatements(b *testing.B) {
	const many = 100_000
	owner := testKey(1)
	id := owner.Replica()
	other := func(i int) AuthorID {
		return AuthorID(binary.BigEndian.AppendUint64(make([]byte, 24), uint64(i)))
	}
	delegate := func(i int) SecretKey { return SecretKeyFromSeed([32]byte{9, byte(i), byte(i >> 8)}) }
	direct := func() (all []Statement) {
		for i := range many {
			all = append(all, ref(NewGrant(owner, other(i), uint64(i))))
		}
		return all
	}
	// delegates states all that delegates may, until there are enough, about the author each.
	delegates := func(author AuthorID, each int) (all []Statement) {
		for d := 0; len(all) < many; d++ {
			root := grantFrom(nil, owner, delegate(d), 5, delegable)
			all = append(all, &root)
			for k := range MaxDelegated {
				about := author
				if k >= each {
					about = other(k)
				}
				g := Grant{Replica: id, Author: about, Issued: uint64(10 + k), NotAfter: Forever,
					Parent: &root}
				g.Sign(delegate(d))
				// What is revoked leaves the author everything up to a time.
				r := Revocation{Replica: id, Author: about, Issued: uint64(10 + k), From: Forever,
					Authority: &root}
				r.Sign(delegate(d))
				all = append(all, &g, &r)
			}
		}
		return all
	}
	for _, c := range []struct {
		name   string
		author SecretKey
		all    []Statement
	}{
		{"of the replica key", testKey(3), direct()},
		{"of delegates", testKey(3), delegates(testKey(3).Author(), MaxAbout)},
		{"of delegates, by whom they let in", testKey(4), delegates(testKey(4).Author(), 1)},
		{"of delegates, all about the author", testKey(4), delegates(testKey(4).Author(), MaxAbout)},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := newStore(b, newClock())
			if hold(b, s, owner, Write); c.author.Author() == testKey(3).Author() {
				write(b, s, id, c.author, "k", "v")
			}
			for some := range slices.Chunk(c.all, 1024) {
				_, err := s.storeStatements(bg, id, some)
				require.NoError(b, err)
			}
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				_, err := s.storeStatements(bg, id, []Statement{ref(NewGrant(owner, other(many+i), 1))})
				require.NoError(b, err)
				b.StartTimer()
				write(b, s, id, c.author, "k", fmt.Sprint(i))
			}
		})
	}
}
