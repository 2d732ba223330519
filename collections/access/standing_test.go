package access_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/store"
)

// Nobody switches revocation off: whoever makes issuers, of whatever kind and from wherever, takes
// the list of nobody who matters, and those who matter can go on to revoke.
func TestNobodySwitchesRevocationOff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const most = 400
		x := newRanked(t, most)
		// A loopback address is that of a proxy which does not tell who is behind it.
		home := rapid.SampledFrom([]string{"192.0.2.7", "2001:db8:7::1", "127.0.0.1"}).Draw(t, "home")
		x.standing("admin", access.Named, time.Time{})
		x.standing("owner", access.Owner, x.now.Add(-2*access.Old))
		x.standing("owner2", access.Owner, x.now.Add(-2*access.Old))
		x.standing("owner3", access.Owner, x.now.Add(-2*access.Old))
		x.Present(keyOf(t, "known").Public)
		for _, name := range []string{"admin", "owner", "known"} {
			require.NoError(t, x.accept(name, home))
		}
		kept := []string{"admin", "owner", "known"}

		n := 0
		var last []string
		attack := func(at string, rank access.Rank) {
			x.now = x.now.Add(time.Minute)
			for range rapid.SampledFrom([]int{1, 20, 250, 450}).Draw(t, "lists") {
				name := fmt.Sprint("made", n)
				n++
				switch rank {
				case access.Owner:
					x.rank(name, access.Owner)
				case access.Presented:
					x.Present(keyOf(t, name).Public)
				}
				_ = x.accept(name, strings.Replace(at, "N", fmt.Sprintf("%x", n%256), 1))
				last = append(last, name)
			}
		}
		for range rapid.IntRange(1, 5).Draw(t, "steps") {
			rank := access.Rank(rapid.IntRange(int(access.Stranger), int(access.Owner)).Draw(t, "rank"))
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				attack("198.51.100.1", rank)
			case 1: // a network of 48 bits, 256 of 56
				attack("2001:db8:6:N00::1", rank)
			case 2:
				attack("127.0.0.1", rank)
			case 3:
				x.loadAll() // as each 10 s
				x.open(most)
			case 4: // some time goes by in which they are old, too
				x.now = x.now.Add(access.Old)
				require.NoError(t, x.Load(t.Context()))
			}
			for _, name := range kept {
				require.True(t, x.has(name), name)
			}
		}
		for _, name := range []string{"owner2", "owner3"} {
			require.NoError(t, x.accept(name, home))
			require.True(t, x.has(name))
		}
		x.standing("admin2", access.Named, time.Time{})
		require.NoError(t, x.accept("admin2", home))
		x.Present(keyOf(t, "known2").Public)
		require.NoError(t, x.accept("known2", "203.0.113.99"), "from an address of its own")
		x.open(most)
		for _, name := range append(kept, "owner2", "owner3", "admin2", "known2") {
			require.True(t, x.has(name), name)
		}
	})
}

// What another server of the store has noted counts: a list is not removed whose issuer was
// presented there.
func TestOtherServersNotes(t *testing.T) {
	const most = 5
	x := newRanked(t, most)
	require.NoError(t, x.accept("known", "192.0.2.1"))
	here := x.Revocations
	x.open(most) // another one
	x.Present(keyOf(t, "known").Public)
	require.NoError(t, x.Load(t.Context()), "keeps the notes")
	x.Revocations = here
	for i := range 20 {
		_ = x.accept(fmt.Sprint("stranger", i), fmt.Sprintf("198.%d.2.1", i))
	}
	require.True(t, x.has("known"))
	x.open(most)
	require.True(t, x.has("known"))
}

// Lists that came with a replica, from another node, are not removed from it.
func TestListsOfOtherNodes(t *testing.T) {
	const most = 5
	x := newRanked(t, most)
	for i := range most {
		require.NoError(t, x.accept(fmt.Sprint("there", i), "192.0.2.1"))
	}
	notes := store.NewMemory()
	r, err := access.NewRevocations(t.Context(), x.store, notes)
	require.NoError(t, err)
	r.SetMost(most, 1<<30)
	require.Zero(t, r.Brought())
	x.Revocations = r
	x.Present(keyOf(t, "known").Public)
	require.NoError(t, x.accept("known", "192.0.2.2"))
	require.True(t, x.has("known"))
	require.Equal(t, 1, r.Brought())
	require.Equal(t, most+1, x.stored(), "one is not in memory here, and stays for others")
	keys, err := notes.List(t.Context(), "", "", 10)
	require.NoError(t, err)
	require.Equal(t, []string{"__sync__/standing/" + keyOf(t, "known").Public}, keys)
}

// looking counts what a store is asked for lists of.
type looking struct {
	store.Store
	under []string
}

func (l *looking) List(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	l.under = append(l.under, prefix)
	return l.Store.List(ctx, prefix, after, limit)
}

// Whoever brings a list does not make the server look at those of others, and a later one takes the
// place of the one before.
func TestListsOfOthersAreNotLookedAt(t *testing.T) {
	l := &looking{Store: store.NewMemory()}
	issuer := keyOf(t, "a")
	r, err := access.NewRevocations(t.Context(), l, l)
	require.NoError(t, err)
	const under = "__sync__/revocations/"
	for generation := int64(1); generation < 4; generation++ {
		list, err := capcert.SignRevocations(issuer, generation, nil, []string{"stolen"})
		require.NoError(t, err)
		l.under = nil
		require.NoError(t, r.Accept(t.Context(), list))
		require.Equal(t, []string{under + issuer.Public + "/"}, l.under)
		keys, err := l.Store.List(t.Context(), under, "", 10)
		require.NoError(t, err)
		require.Equal(t, []string{fmt.Sprintf("%s%s/%016d", under, issuer.Public, generation)}, keys)
	}
}

// An issuer who is not known for some time has shorter lists.
func TestLengthOfLists(t *testing.T) {
	x := newRanked(t, 100)
	list := func(name string, size int) error {
		l, err := capcert.SignRevocations(keyOf(t, name), 1, nil, []string{strings.Repeat("s", size)})
		require.NoError(t, err)
		return x.Accept(access.WithSource(t.Context(), "192.0.2.1"), l)
	}
	const around = 1000
	require.NoError(t, list("short", access.MaxUnknown-around))
	require.ErrorIs(t, list("long", access.MaxUnknown), access.ErrTooLong)
	x.rank("young", access.Owner)
	require.ErrorIs(t, list("young", access.MaxUnknown), access.ErrTooLong)
	x.standing("old", access.Owner, x.now.Add(-access.Old))
	require.NoError(t, list("old", access.MaxUnknown))
	x.rank("admin", access.Named)
	require.NoError(t, list("admin", access.MaxUnknown))
}

// The form of notes, a line each in testdata, behind what they are. Whatever else is there is none.
func TestNotes(t *testing.T) {
	b, err := os.ReadFile("testdata/standing.txt")
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	require.Len(t, lines, 9)
	for _, line := range lines {
		what, text, ok := strings.Cut(line, "\t")
		require.True(t, ok, line)
		if strings.HasPrefix(what, "note") {
			require.Equal(t, text, access.ParseNote([]byte(text)), what)
		} else {
			require.Empty(t, access.ParseNote([]byte(text)), what)
		}
	}
}

func FuzzParseNote(f *testing.F) {
	b, err := os.ReadFile("testdata/standing.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		_, text, _ := strings.Cut(strings.TrimSpace(line), "\t")
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n := access.ParseNote([]byte(text)); n != "" {
			require.Equal(t, n, access.ParseNote([]byte(n)))
		}
	})
}

// BenchmarkFull is what it costs to find room for a list where there is none.
func BenchmarkFull(b *testing.B) {
	const most = 1 << 16
	x := newRanked(b, most)
	for i := range most {
		name := fmt.Sprint("made", i)
		x.rank(name, access.Owner)
		require.NoError(b, x.accept(name, fmt.Sprintf("2001:db8:%x:%x00::1", i>>8&15, i&255)), i)
	}
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprint("other", i)
		x.rank(name, access.Owner)
		_ = x.accept(name, fmt.Sprintf("198.51.%d.%d", i>>8&255, i&255))
	}
}
