package replica

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica/seal"
)

func plain(t require.TestingT, s *Store, id ID) *Plain {
	p, err := s.Plain(bg, id)
	require.NoError(t, err)
	return p
}

func plainWrite(t require.TestingT, s *Store, id ID, author SecretKey, pairs ...string) []Item {
	var changes []Change
	for i := 0; i < len(pairs); i += 2 {
		changes = append(changes, change(pairs[i], pairs[i+1]))
	}
	out, err := s.WritePlain(bg, plain(t, s, id), author, changes)
	require.NoError(t, err)
	return out
}

// listed is what a view yields, without what differs between an encrypted replica and another.
func listed(t require.TestingT, seq func(func(Item, error) bool)) (out []string) {
	for it, err := range seq {
		require.NoError(t, err)
		out = append(
			out,
			fmt.Sprintf(
				"%s %s %x %v", it.Key, it.Entry.Author.String()[:4], it.Entry.Hash[:4], it.Entry.IsTombstone(),
			),
		)
	}
	return out
}

func authorOn(t require.TestingT, s *Store) SecretKey {
	id, err := s.NewAuthor(bg)
	require.NoError(t, err)
	key, err := s.AuthorKey(bg, id)
	require.NoError(t, err)
	return key
}

// However epochs change, an encrypted replica shows what one that is not encrypted shows after the
// same writes.
func TestEncryptedShowsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		s := newStore(t, c)
		open, err := s.Create(bg, "open")
		require.NoError(t, err)
		sealed, err := s.CreateEncrypted(bg, "sealed")
		require.NoError(t, err)
		require.True(t, sealed.Encrypted)
		authors := []SecretKey{authorOn(t, s), authorOn(t, s)}
		names := []string{"a", "a/", "a/b", "a/b/c", "a/bc", "b", "", "\x00", "a//b", "z/é"}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			c.t = c.t.Add(time.Duration(rapid.IntRange(-5, 20).Draw(t, "microseconds")) * time.Microsecond)
			if rapid.IntRange(0, 5).Draw(t, "what") == 0 {
				_, err := s.Rotate(bg, sealed.ID)
				require.NoError(t, err)
				continue
			}
			author := rapid.SampledFrom(authors).Draw(t, "author")
			var changes []Change
			for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 1, 3).Draw(t, "names") {
				if rapid.Bool().Draw(t, "delete") {
					changes = append(changes, Change{Key: []byte(name)})
				} else {
					changes = append(changes, change(name, rapid.StringN(1, 3, 5).Draw(t, "value")))
				}
			}
			for _, r := range []Replica{open, sealed} {
				_, err := s.WritePlain(bg, plain(t, s, r.ID), author, slices.Clone(changes))
				require.NoError(t, err)
			}
		}
		q := Query{
			Prefix: []byte(
				rapid.SampledFrom([]string{"", "a", "a/", "a/b", "a/b/", "c"}).Draw(t, "prefix"),
			),
			Reverse: rapid.Bool().Draw(t, "reverse"),
			Limit:   rapid.IntRange(0, 3).Draw(t, "limit"), Tombstones: rapid.Bool().Draw(t, "tombstones"),
		}
		p, o := plain(t, s, sealed.ID), plain(t, s, open.ID)
		require.Equal(t, listed(t, o.Latest(bg, q)), listed(t, p.Latest(bg, q)))
		require.Equal(t, listed(t, o.Entries(bg, q)), listed(t, p.Entries(bg, q)))
		for _, name := range names {
			a, errA := o.LatestOf(bg, []byte(name))
			b, errB := p.LatestOf(bg, []byte(name))
			require.Equal(t, errA, errB)
			require.Equal(t, a.Entry.Hash, b.Entry.Hash)
		}
		for _, view := range []*Plain{o, p} {
			requireLooks(t, view, authors, names)
		}
		require.Zero(t, p.Unreadable())
		wholesome(t, s, sealed.ID)
	})
}

// What whoever may only sync holds has nothing of the names in it.
func TestSyncHolderSeesNoNames(t *testing.T) {
	c := newClock()
	owner, host := newStore(t, c), newStore(t, c)
	r, err := owner.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	plainWrite(t, owner, r.ID, authorOn(t, owner), "diary/monday", "1", "diary/tuesday", "2")
	_, err = host.Join(bg, Replica{ID: r.ID, Name: "theirs", Capability: Sync})
	require.NoError(t, err)
	exchange(t, owner, host, r.ID)

	held, err := host.Get(bg, r.ID)
	require.NoError(t, err)
	require.True(t, held.Encrypted, "the statements say so")
	require.Equal(t, Sync, held.Capability)
	_, err = host.Plain(bg, r.ID)
	require.ErrorIs(t, err, ErrNoReadKey)
	entries := collect(t, host.Entries(bg, r.ID, Query{}))
	require.Len(t, entries, 2)
	for _, e := range entries {
		require.NotContains(t, string(e.Key), "diary")
	}
	require.True(
		t, bytes.Equal(entries[0].Key[:4+24], entries[1].Key[:4+24]),
		"the first parts are the same, and look the same",
	)
}

// A ticket's key is enough to read; one for another replica is not.
func TestJoinWithReadKey(t *testing.T) {
	c := newClock()
	owner, friend, other := newStore(t, c), newStore(t, c), newStore(t, c)
	r, err := owner.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	author := authorOn(t, owner)
	plainWrite(t, owner, r.ID, author, "diary/monday", "1")
	key, err := owner.ReadKey(bg, r.ID)
	require.NoError(t, err)
	joined, err := friend.Join(bg, Replica{ID: r.ID, Capability: Read}, key)
	require.NoError(t, err)
	require.True(t, joined.Encrypted)
	_, err = other.Join(bg, Replica{ID: r.ID, Capability: Read}, EpochKey{1, seal.NewReadKey()})
	require.NoError(t, err)
	exchange(t, owner, friend, r.ID)
	exchange(t, owner, other, r.ID)
	it, err := plain(t, friend, r.ID).LatestOf(bg, []byte("diary/monday"))
	require.NoError(t, err)
	require.Equal(t, change("", "1").Hash, it.Entry.Hash)
	_, err = other.Plain(bg, r.ID)
	require.ErrorIs(t, err, ErrNoReadKey, "no epoch commits to that key")
	_, err = other.Join(bg, Replica{ID: r.ID, Capability: Read}, key)
	require.NoError(t, err)
	require.Len(t, listed(t, plain(t, other, r.ID).Latest(bg, Query{})), 1, "the right one mends it")

	// A sync ticket first, a read ticket later.
	late := newStore(t, c)
	_, err = late.Join(bg, Replica{ID: r.ID, Capability: Sync})
	require.NoError(t, err)
	exchange(t, owner, late, r.ID)
	_, err = late.Join(bg, Replica{ID: r.ID, Capability: Read}, key)
	require.NoError(t, err)
	require.Len(t, listed(t, plain(t, late, r.ID).Latest(bg, Query{})), 1)

	// Who has left has no keys left.
	require.NoError(t, late.Leave(bg, r.ID))
	_, err = late.Join(bg, Replica{ID: r.ID, Capability: Read})
	require.NoError(t, err)
	exchange(t, owner, late, r.ID)
	_, err = late.Plain(bg, r.ID)
	require.ErrorIs(t, err, ErrNoReadKey)
}

// After a revocation the next key goes to everybody but who was revoked, by sessions alone.
func TestRotationOnRevocation(t *testing.T) {
	c := newClock()
	owner, writer, reader, bearer, gone, second := newStore(
		t, c,
	), newStore(t, c), newStore(t, c), newStore(t, c), newStore(t, c), newStore(t, c)
	r, err := owner.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	key, err := owner.ReadKey(bg, r.ID)
	require.NoError(t, err)
	own, writerKey, readerKey, goneKey := authorOn(t, owner), authorOn(
		t, writer,
	), authorOn(t, reader), authorOn(t, gone)
	_, err = owner.Grant(bg, r.ID, writerKey.Author(), Permission{Prefix: []byte("shared/")})
	require.NoError(t, err)
	_, err = owner.Grant(bg, r.ID, goneKey.Author(), Permission{})
	require.NoError(t, err)
	require.NoError(t, owner.AddReader(bg, r.ID, readerKey.Author()))
	require.NoError(t, owner.AddReader(bg, r.ID, readerKey.Author()), "once more changes nothing")
	for _, s := range []*Store{writer, reader, gone} { // a sync ticket and a statement are enough
		_, err := s.Join(bg, Replica{ID: r.ID, Capability: Sync})
		require.NoError(t, err)
	}
	_, err = bearer.Join(bg, Replica{ID: r.ID, Capability: Read}, key) // whose author nobody knows
	require.NoError(t, err)
	_, err = second.Join(bg, r) // who has the replica key
	require.NoError(t, err)
	everybody := []*Store{writer, reader, bearer, gone, second}
	spread := func() {
		for range 2 {
			for _, s := range everybody {
				exchange(t, owner, s, r.ID)
			}
		}
	}
	plainWrite(t, owner, r.ID, own, "shared/before", "1")
	spread()
	for i, s := range everybody {
		held, err := s.Get(bg, r.ID)
		require.NoError(t, err)
		require.GreaterOrEqual(t, held.Capability, Read, i)
		require.Len(t, listed(t, plain(t, s, r.ID).Latest(bg, Query{})), 1, i)
	}
	plainWrite(t, writer, r.ID, writerKey, "shared/theirs", "1")
	_, err = writer.WritePlain(bg, plain(t, writer, r.ID), writerKey, []Change{change("private", "1")})
	var no *NotAllowedError
	require.ErrorAs(t, err, &no, "outside of the prefix")
	plainWrite(t, gone, r.ID, goneKey, "shared/gone", "1")
	spread()

	c.t = c.t.Add(time.Second)
	_, err = owner.Revoke(bg, r.ID, goneKey.Author(), uint64(c.t.UnixMicro()))
	require.NoError(t, err)
	now, err := owner.ReadKey(bg, r.ID)
	require.NoError(t, err)
	require.EqualValues(t, 2, now.Epoch)
	plainWrite(t, owner, r.ID, own, "shared/after", "2", "shared/before", "2")
	spread()
	for i, s := range []*Store{owner, writer, reader, second} {
		p := plain(t, s, r.ID)
		require.Len(t, listed(t, p.Latest(bg, Query{})), 4, i)
		require.Zero(t, p.Unreadable(), i)
	}
	for i, s := range []*Store{gone, bearer} {
		p := plain(t, s, r.ID)
		require.Len(t, listed(t, p.Latest(bg, Query{})), 2, "what is old and has not been replaced", i)
		require.EqualValues(t, 2, p.Unreadable(), i)
		_, err := p.Sealing()
		require.ErrorIs(t, err, ErrNoReadKey, i)
	}
	// The prefix is sealed anew, so the writer can go on, and only there.
	plainWrite(t, writer, r.ID, writerKey, "shared/theirs", "2")
	_, err = writer.WritePlain(bg, plain(t, writer, r.ID), writerKey, []Change{change("private", "1")})
	require.ErrorAs(t, err, &no)
	spread()
	it, err := plain(t, owner, r.ID).LatestOf(bg, []byte("shared/theirs"))
	require.NoError(t, err)
	require.Equal(t, change("", "2").Hash, it.Entry.Hash)
	// A reader is revoked by name, without ever having been granted anything.
	_, err = owner.Revoke(bg, r.ID, readerKey.Author(), 0)
	require.NoError(t, err)
	plainWrite(t, owner, r.ID, own, "shared/last", "3")
	spread()
	require.Positive(t, func() uint64 {
		p := plain(t, reader, r.ID)
		_ = listed(t, p.Latest(bg, Query{}))
		return p.Unreadable()
	}())
	// Read again: with the replica key everything is open, also to a device that joins now.
	third := newStore(t, c)
	_, err = third.Join(bg, r)
	require.NoError(t, err)
	exchange(t, owner, third, r.ID)
	require.Len(t, listed(t, plain(t, third, r.ID).Latest(bg, Query{})), 5)
	// Who was revoked may be let in again.
	require.NoError(t, owner.AddReader(bg, r.ID, readerKey.Author()))
	spread()
	require.Len(t, listed(t, plain(t, reader, r.ID).Latest(bg, Query{})), 5)
	for _, s := range append(everybody, owner) {
		wholesome(t, s, r.ID)
	}
}

// Two nodes begin the same epoch without knowing of each other: both agree in the end, and nothing
// is lost.
func TestEpochsAtTheSameTime(t *testing.T) {
	c := newClock()
	a, b := newStore(t, c), newStore(t, c)
	r, err := a.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	_, err = b.Join(bg, r)
	require.NoError(t, err)
	exchange(t, a, b, r.ID)
	keyA, keyB := authorOn(t, a), authorOn(t, b)
	for _, s := range []*Store{a, b} {
		_, err := s.Rotate(bg, r.ID)
		require.NoError(t, err)
	}
	plainWrite(t, a, r.ID, keyA, "k", "a", "only a", "a")
	c.t = c.t.Add(time.Second)
	plainWrite(t, b, r.ID, keyB, "k", "b", "only b", "b")
	exchange(t, a, b, r.ID)
	exchange(t, a, b, r.ID)
	first, err := a.ReadKey(bg, r.ID)
	require.NoError(t, err)
	second, err := b.ReadKey(bg, r.ID)
	require.NoError(t, err)
	require.Equal(t, [32]byte(first.Key), [32]byte(second.Key))
	_, err = a.Rotate(bg, r.ID)
	require.NoError(t, err)
	late := newStore(t, c)
	last, err := a.ReadKey(bg, r.ID)
	require.NoError(t, err)
	require.EqualValues(t, 3, last.Epoch)
	_, err = late.Join(bg, Replica{ID: r.ID, Capability: Read}, last)
	require.NoError(t, err)
	exchange(t, a, b, r.ID)
	exchange(t, a, late, r.ID)
	for i, s := range []*Store{a, b, late} {
		p := plain(t, s, r.ID)
		require.Len(t, listed(t, p.Latest(bg, Query{})), 3, i)
		require.Zero(t, p.Unreadable(), i)
		it, err := p.LatestOf(bg, []byte("k"))
		require.NoError(t, err)
		require.Equal(t, change("", "b").Hash, it.Entry.Hash, i)
	}
}

// A node that has the replica key and learns of another's revocation takes the key away, too: a
// delegate cannot.
func TestRotationForADelegatesRevocation(t *testing.T) {
	c := newClock()
	owner, delegate, gone := newStore(t, c), newStore(t, c), newStore(t, c)
	r, err := owner.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	delegateKey, goneKey := authorOn(t, delegate), authorOn(t, gone)
	_, err = owner.Grant(bg, r.ID, delegateKey.Author(), Permission{Delegable: true})
	require.NoError(t, err)
	_, err = delegate.Join(bg, Replica{ID: r.ID, Capability: Sync})
	require.NoError(t, err)
	exchange(t, owner, delegate, r.ID)
	_, err = delegate.Grant(bg, r.ID, goneKey.Author(), Permission{Prefix: []byte("their/")})
	require.NoError(t, err)
	_, err = delegate.Grant(bg, r.ID, goneKey.Author(), Permission{Prefix: []byte("their")})
	require.ErrorIs(t, err, seal.ErrName, "half a name cannot be sealed")
	exchange(t, owner, delegate, r.ID)
	_, err = owner.Rotate(bg, r.ID) // by which the delegate's guest is handed the key
	require.NoError(t, err)
	due, err := owner.RotateIfDue(bg, r.ID)
	require.NoError(t, err)
	require.False(t, due)
	exchange(t, owner, delegate, r.ID)
	c.t = c.t.Add(time.Second)
	_, err = delegate.Revoke(bg, r.ID, goneKey.Author(), uint64(c.t.UnixMicro()))
	require.NoError(t, err)
	exchange(t, owner, delegate, r.ID)
	due, err = owner.RotateIfDue(bg, r.ID)
	require.NoError(t, err)
	require.False(t, due, "a delegate does not begin epochs as it likes")
	begun, err := owner.RotateDeferred(bg)
	require.NoError(t, err)
	require.Empty(t, begun)
	c.t = c.t.Add(calmFor)
	again, err := Open(bg, owner.kv, owner.cfg)
	require.NoError(t, err)
	for i, s := range []*Store{again, owner} { // a node that was started anew goes on
		begun, err = s.RotateDeferred(bg)
		require.NoError(t, err)
		require.Len(t, begun, 1-i)
	}
	for _, want := range []bool{false, false} {
		due, err = owner.RotateIfDue(bg, r.ID)
		require.NoError(t, err)
		require.Equal(t, want, due)
	}
	_, err = delegate.Rotate(bg, r.ID)
	var no *NotAllowedError
	require.ErrorAs(t, err, &no)
}

// Golden: these statements never change their form.
func TestEpochGolden(t *testing.T) {
	one, two := testKey(1).Replica(), testKey(2).Author()
	e := Epoch{Replica: one, Number: 2, Issued: 7, Commitment: [32]byte{3}, Older: []seal.Older{{4}}}
	e.Sign(testKey(1))
	require.Equal(
		t,
		hex.EncodeToString(
			[]byte("skerry epoch 1\n"),
		)+hex.EncodeToString(one[:])+"00000002"+"0000000000000007"+"03"+fmt.Sprintf(
			"%062x", 0,
		)+"01"+"04"+fmt.Sprintf(
			"%0142x", 0,
		),
		hex.EncodeToString(e.signedBytes()),
	)
	w := WrappedKey{
		Replica: one, Author: two, Epoch: 2, Issued: 7, Commitment: [32]byte{3}, Wrapped: seal.Wrapped{5},
	}
	w.Sign(testKey(1))
	require.Equal(
		t,
		hex.EncodeToString(
			[]byte("skerry key 1\n"),
		)+hex.EncodeToString(
			one[:],
		)+hex.EncodeToString(two[:])+"00000002"+"0000000000000007"+"03"+fmt.Sprintf(
			"%062x", 0,
		)+"05"+fmt.Sprintf(
			"%0158x", 0,
		),
		hex.EncodeToString(w.signedBytes()),
	)
	leave := w
	leave.ByLeave = true
	leave.Sign(testKey(1))
	require.Equal(t, "skerry key 2\n"+string(w.signedBytes()[13:]), string(leave.signedBytes()))
	for _, st := range []Statement{&e, &w, &leave} {
		require.NoError(t, st.Verify())
		back, err := ParseStatement(st.Bytes())
		require.NoError(t, err)
		require.Equal(t, st, back)
		b := st.Bytes()
		b[20] ^= 1
		back, err = ParseStatement(b)
		require.NoError(t, err)
		require.ErrorIs(t, back.Verify(), ErrBadSignature)
	}
}

// Whoever has the replica key can write nonsense; nobody is kept from reading by it.
func TestNonsenseEpochs(t *testing.T) {
	c := newClock()
	s := newStore(t, c)
	r, err := s.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	author := authorOn(t, s)
	plainWrite(t, s, r.ID, author, "k", "v")
	nonsense := Epoch{
		Replica: r.ID, Number: 1, Issued: 1, Commitment: [32]byte{255}, Older: []seal.Older{{1}},
	}
	nonsense.Sign(r.Secret)
	forged := Epoch{Replica: r.ID, Number: 9, Issued: 1}
	forged.Sign(author)
	wrapped := WrappedKey{Replica: r.ID, Author: author.Author(), Epoch: 1}
	wrapped.Sign(r.Secret)
	added, err := s.InsertStatements(bg, r.ID, []Statement{&nonsense, &forged, &wrapped})
	require.ErrorIs(t, err, ErrBadSignature)
	require.Equal(t, 2, added.Added)
	require.Len(t, listed(t, plain(t, s, r.ID).Latest(bg, Query{})), 1)
	_, err = s.Rotate(bg, r.ID)
	require.NoError(t, err)
	plainWrite(t, s, r.ID, author, "k", "v2")
	it, err := plain(t, s, r.ID).LatestOf(bg, []byte("k"))
	require.NoError(t, err)
	require.Equal(t, blobs.HashOf([]byte("v2")), it.Entry.Hash)
}
