package replica

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/replica/seal"
)

// sealingKey is the key that a store seals with, which no error keeps it from.
func sealingKey(t require.TestingT, s *Store, id ID) EpochKey {
	k, err := plain(t, s, id).Sealing()
	require.NoError(t, err)
	return k
}

// What a stranger can say about a replica of which he knows the id: each of these is given to
// somebody who holds the replica already. It opens nothing, seals nothing, and ends nothing.
func TestJoiningWhatIsHeldAddsNothingUnproved(t *testing.T) {
	for _, epoch := range []uint32{1, 2, 3, 4_000_000_000, math.MaxUint32} {
		t.Run(fmt.Sprint(epoch), func(t *testing.T) {
			c := newClock()
			owner, reader, host := newStore(t, c), newStore(t, c), newStore(t, c)
			r, err := owner.CreateEncrypted(bg, "letters")
			require.NoError(t, err)
			author := authorOn(t, owner)
			plainWrite(t, owner, r.ID, author, "a", "1")
			_, err = owner.Rotate(bg, r.ID)
			require.NoError(t, err)
			present := sealingKey(t, owner, r.ID)
			_, err = reader.Join(bg, Replica{ID: r.ID, Capability: Read}, present)
			require.NoError(t, err)
			_, err = host.Join(bg, Replica{ID: r.ID, Capability: Sync})
			require.NoError(t, err)
			exchange(t, owner, reader, r.ID)
			exchange(t, owner, host, r.ID)

			planted := EpochKey{epoch, seal.NewReadKey()}
			for _, capability := range []Capability{Read, Sync} {
				for _, s := range []*Store{owner, reader, host} {
					before, err := s.Get(bg, r.ID)
					require.NoError(t, err)
					_, err = s.Join(bg, Replica{ID: r.ID, Capability: capability}, planted)
					require.NoError(t, err)
					after, err := s.Get(bg, r.ID)
					require.NoError(t, err)
					require.Equal(t, before, after)
				}
			}
			require.Equal(t, present, sealingKey(t, owner, r.ID))
			require.Equal(t, present, sealingKey(t, reader, r.ID))
			_, err = host.Plain(bg, r.ID)
			require.ErrorIs(t, err, ErrNoReadKey)
			_, err = host.ReadKey(bg, r.ID)
			require.ErrorIs(t, err, ErrNoReadKey)
			for _, it := range plainWrite(t, owner, r.ID, author, "a", "2", "b", "secret") {
				_, err := planted.Key.Names(planted.Epoch).Open(it.Entry.Key)
				require.ErrorIs(t, err, seal.ErrSealed)
				n, err := seal.EpochOf(it.Entry.Key)
				require.NoError(t, err)
				require.Equal(t, present.Epoch, n)
			}
			next, err := owner.Rotate(bg, r.ID)
			require.NoError(t, err)
			require.Equal(t, present.Epoch+1, next.Epoch, "epochs grow by one")
			require.Equal(t, next, sealingKey(t, owner, r.ID))
			exchange(t, owner, reader, r.ID)
			require.Len(t, listed(t, plain(t, owner, r.ID).Latest(bg, Query{})), 2)
			require.Len(t, listed(t, plain(t, reader, r.ID).Latest(bg, Query{})), 2)
		})
	}
}

// A replica that is not encrypted stays so, and readable, whatever key a ticket names for it.
func TestPlainReplicaStaysPlain(t *testing.T) {
	c := newClock()
	owner, reader := newStore(t, c), newStore(t, c)
	r, err := owner.Create(bg, "notes")
	require.NoError(t, err)
	empty, err := owner.Create(bg, "empty")
	require.NoError(t, err)
	author := authorOn(t, owner)
	plainWrite(t, owner, r.ID, author, "a", "1")
	_, err = reader.Join(bg, Replica{ID: r.ID, Capability: Sync})
	require.NoError(t, err)
	exchange(t, owner, reader, r.ID)
	for _, s := range []*Store{owner, reader} {
		_, err := s.Join(bg, Replica{ID: r.ID, Capability: Read}, EpochKey{9, seal.NewReadKey()})
		require.NoError(t, err)
		held, err := s.Get(bg, r.ID)
		require.NoError(t, err)
		require.False(t, held.Encrypted)
		require.Len(t, listed(t, plain(t, s, r.ID).Latest(bg, Query{})), 1)
	}
	plainWrite(t, owner, r.ID, author, "a", "2")
	_, err = owner.Join(bg, Replica{ID: empty.ID, Capability: Read}, EpochKey{9, seal.NewReadKey()})
	require.NoError(t, err)
	plainWrite(t, owner, empty.ID, author, "first", "1")
	require.Len(t, listed(t, plain(t, owner, empty.ID).Latest(bg, Query{})), 1)
	// A ticket to read that names no key lets whoever holds it read, as everybody may who has it.
	_, err = reader.Join(bg, Replica{ID: r.ID, Capability: Read})
	require.NoError(t, err)
	held, err := reader.Get(bg, r.ID)
	require.NoError(t, err)
	require.Equal(t, Read, held.Capability)
}

// Whoever joins with nothing but a read key can open what it opens, and seals nothing with it
// before a signed epoch commits to it.
func TestReadKeyOfATicketIsProvedBySync(t *testing.T) {
	c := newClock()
	owner, friend, duped := newStore(t, c), newStore(t, c), newStore(t, c)
	r, err := owner.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	present, err := owner.ReadKey(bg, r.ID)
	require.NoError(t, err)
	key, dupedKey := authorOn(t, friend), authorOn(t, duped)
	for _, a := range []AuthorID{key.Author(), dupedKey.Author()} {
		g, err := owner.Grant(bg, r.ID, a, Permission{})
		require.NoError(t, err)
		// grants alone, as a host that withholds the rest shows them
		for _, s := range []*Store{friend, duped} {
			if _, err := s.Get(bg, r.ID); err != nil {
				k := present
				if s == duped {
					k = EpochKey{4_000_000_000, seal.NewReadKey()}
				}
				_, err = s.Join(bg, Replica{ID: r.ID, Capability: Read}, k)
				require.NoError(t, err)
			}
			_, err := s.InsertStatements(bg, r.ID, []Statement{&g})
			require.NoError(t, err)
		}
	}
	for _, s := range []*Store{friend, duped} {
		p := plain(t, s, r.ID)
		require.True(t, p.Encrypted())
		_, err := p.Sealing()
		require.ErrorIs(t, err, ErrNoReadKey)
		_, err = s.ReadKey(bg, r.ID)
		require.ErrorIs(t, err, ErrNoReadKey, "and it is not passed on")
		for _, k := range []SecretKey{key, dupedKey} {
			_, err = p.s.WritePlain(bg, p, k, []Change{change("x", "y")})
			require.ErrorIs(t, err, ErrNoReadKey)
		}
		exchange(t, owner, s, r.ID)
		require.Equal(t, present, sealingKey(t, s, r.ID), "the owner has wrapped it for the author")
	}
	plainWrite(t, friend, r.ID, key, "x", "y")
	plainWrite(t, duped, r.ID, dupedKey, "x", "y")
}

// A ticket with the replica key proves itself: its holder writes before the first session, and what
// it wrote is the same to all afterwards.
func TestWriteTicketSealsBeforeTheFirstSync(t *testing.T) {
	c := newClock()
	owner, device := newStore(t, c), newStore(t, c)
	r, err := owner.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	_, err = owner.Rotate(bg, r.ID)
	require.NoError(t, err)
	present, err := owner.ReadKey(bg, r.ID)
	require.NoError(t, err)
	// A stranger's ticket came first; it is the newer only by its own word.
	_, err = device.Join(
		bg, Replica{ID: r.ID, Capability: Read}, EpochKey{math.MaxUint32, seal.NewReadKey()},
	)
	require.NoError(t, err)
	_, err = device.Join(bg, Replica{ID: r.ID, Capability: Write, Secret: r.Secret}, present)
	require.NoError(t, err)
	require.Equal(t, present, sealingKey(t, device, r.ID))
	_, err = device.Rotate(bg, r.ID)
	require.ErrorIs(
		t, err, ErrNoReadKey, "the epochs before it are not here, so the next would not count",
	)
	plainWrite(t, device, r.ID, authorOn(t, device), "offline", "1")
	exchange(t, owner, device, r.ID)
	require.Len(t, listed(t, plain(t, owner, r.ID).Latest(bg, Query{})), 1)
	require.Equal(t, present, sealingKey(t, device, r.ID))
	next, err := device.Rotate(bg, r.ID)
	require.NoError(t, err)
	require.EqualValues(t, 3, next.Epoch)
	exchange(t, owner, device, r.ID)
	require.Equal(t, next, sealingKey(t, owner, r.ID))

	// Also of one that was only synced until then, and is empty.
	late := newStore(t, c)
	_, err = late.Join(bg, Replica{ID: r.ID, Capability: Sync})
	require.NoError(t, err)
	_, err = late.Join(bg, Replica{ID: r.ID, Capability: Write, Secret: r.Secret}, next)
	require.NoError(t, err)
	require.True(t, plain(t, late, r.ID).Encrypted(), "nothing is written in plain")
	require.Equal(t, next, sealingKey(t, late, r.ID))
}

// A node that was stopped between the making of an encrypted replica and its first epoch has one
// that it can write; the next epoch begins the chain.
func TestRotateBeginsTheChain(t *testing.T) {
	c := newClock()
	owner, reader := newStore(t, c), newStore(t, c)
	key, first := testKey(7), EpochKey{1, seal.NewReadKey()}
	r, err := owner.Join(
		bg, Replica{ID: key.Replica(), Name: "r", Capability: Write, Secret: key}, first,
	)
	require.NoError(t, err)
	author := authorOn(t, owner)
	plainWrite(t, owner, r.ID, author, "a", "1")
	next, err := owner.Rotate(bg, r.ID)
	require.NoError(t, err)
	require.EqualValues(t, 2, next.Epoch)
	require.Equal(t, next, sealingKey(t, owner, r.ID))
	plainWrite(t, owner, r.ID, author, "b", "1")
	_, err = reader.Join(bg, Replica{ID: r.ID, Capability: Read}, next)
	require.NoError(t, err)
	exchange(t, owner, reader, r.ID)
	require.Len(t, listed(t, plain(t, reader, r.ID).Latest(bg, Query{})), 2)
}

// Which epoch is the present one is a matter of the set of statements: their order does not count,
// and an epoch beyond a gap does not either.
func TestEpochsCountInAChain(t *testing.T) {
	testkit.OneGoroutine(t)
	c := newClock()
	rapid.Check(t, func(t *rapid.T) {
		key := testKey(9)
		var all []Statement
		var epochs []Epoch
		keys := map[[32]byte]EpochKey{}
		for _, n := range rapid.SliceOfN(rapid.Uint32Range(1, 6), 1, 8).Draw(t, "numbers") {
			k := EpochKey{n, seal.NewReadKey()}
			e := Epoch{
				Replica: key.Replica(), Number: n, Issued: uint64(len(all)), Commitment: k.Key.Commitment(),
			}
			e.Sign(key)
			w, err := wrapKey(key, AuthorID(key.Replica()), k, 1, false)
			require.NoError(t, err)
			all, epochs, keys[e.Commitment] = append(all, &e, w), append(epochs, e), k
		}
		// The rule in other words: of each number from 1 on, until there is none of it.
		var want EpochKey
		for n := uint32(1); ; n++ {
			var of []Epoch
			for _, e := range epochs {
				if e.Number == n {
					of = append(of, e)
				}
			}
			if len(of) == 0 {
				break
			}
			last := slices.MinFunc(of, func(a, b Epoch) int {
				return slices.Compare(a.Commitment[:], b.Commitment[:])
			})
			want = keys[last.Commitment]
		}
		for range 2 {
			s := newStore(t, c)
			_, err := s.Join(bg, Replica{ID: key.Replica(), Name: "r", Capability: Write, Secret: key})
			require.NoError(t, err)
			for _, st := range rapid.Permutation(all).Draw(t, "order") {
				_, err := s.InsertStatements(bg, key.Replica(), []Statement{st})
				require.NoError(t, err)
			}
			p, err := s.Plain(bg, key.Replica())
			if err == nil {
				var now EpochKey
				now, err = p.Sealing()
				require.Equal(t, want, now)
			}
			if want.Epoch == 0 {
				require.ErrorIs(t, err, ErrNoReadKey)
			} else {
				require.NoError(t, err)
			}
			require.NoError(t, s.kv.Close())
		}
	})
}
