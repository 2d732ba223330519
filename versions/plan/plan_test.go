package plan

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/record"
)

var testReplica = replica.ID{7}

// author returns the n-th author; a greater one stands before a smaller one.
func author(n byte) (a replica.AuthorID) {
	for i := range a {
		a[i] = n
	}
	return a
}

// world makes versions of one item.
type world struct {
	t    require.TestingT
	time uint64
	next map[byte]uint64
	text map[record.ShortHash]string // of contents
}

func newWorld(t require.TestingT) *world {
	return &world{t: t, time: 1000, next: map[byte]uint64{}, text: map[record.ShortHash]string{}}
}

// write returns a version by an author with a content, over some heads; no content deletes.
func (w *world) write(by byte, content string, over ...*Version) *Version {
	w.next[by]++
	w.time++
	d := record.Device{Author: record.TagOf(author(by)), Incarnation: record.Incarnation{by}}
	r := Over(over, d, nil, func(record.Ancestor) bool { return true })
	r.Dot.Counter = w.next[by]
	r.Kind, r.Content = record.Deletion, record.Content{}
	if content != "" {
		h := record.HashOf(testReplica, []byte(content))
		w.text[h.Short()] = content
		r.Kind, r.Content = record.Value, record.Content{Size: uint64(len(content)), Hash: h}
	}
	return w.sent(by, r)
}

// sent returns a version as others read it.
func (w *world) sent(by byte, r *record.Record) *Version {
	b, err := r.Append(nil)
	require.NoError(w.t, err)
	r, err = record.Parse(b, author(by))
	require.NoError(w.t, err)
	return &Version{Record: r, Author: author(by), Time: w.time}
}

// merge returns the version that a device writes for a plan.
func (w *world) merge(by byte, p *Plan) *Version {
	require.True(w.t, p.Write)
	v := w.write(by, string(p.Show.Merged.(letters)), p.Heads...)
	v.Generation = p.Generation
	return w.sent(by, v.Record)
}

// letters is a set of letters, in order, which merges as a set does. A capital letter cannot be
// merged with another one.
type letters string

func (l letters) Hash() record.Hash { return record.HashOf(testReplica, []byte(l)) }

func (w *world) textOf(s *Side) string {
	switch {
	case s == nil:
		return ""
	case s.Version == nil:
		return string(s.Merged.(letters))
	case s.Ancestor < 0:
		return w.text[s.Version.Content.Hash.Short()]
	}
	return w.text[s.Version.Ancestors[s.Ancestor].Hash]
}

// of returns the text of a version.
func (w *world) of(v *Version) string { return w.textOf(&Side{Version: v, Ancestor: -1}) }

func isCapital(r rune) bool { return r >= 'A' && r <= 'Z' }

func (w *world) mergeLetters(base *Side, local, remote Side) (Merged, bool, error) {
	if base != nil && !base.Version.Ancestors[base.Ancestor].Kept {
		return nil, false, ErrMissing
	}
	b, l, r := w.textOf(base), w.textOf(&local), w.textOf(&remote)
	var out []rune
	for _, c := range l + r {
		inBase, inBoth := slices.Contains([]rune(b), c), slices.Contains([]rune(l), c) &&
			slices.Contains([]rune(r), c)
		if (inBoth || !inBase) && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	if i := slices.IndexFunc(out, isCapital); i >= 0 && i+1 < len(out) && isCapital(out[i+1]) {
		return nil, false, nil
	}
	return letters(out), true, nil
}

func (w *world) options(by byte) Options {
	return Options{Merge: w.mergeLetters, Author: record.TagOf(author(by))}
}

func (w *world) plan(o Options, all ...*Version) *Plan {
	p, err := Make(all, o)
	require.NoError(w.t, err)
	return p
}

// What two have written on top of the same is merged, with what they had in common as the base; the
// author of the greatest writes it at once.
func TestTwoEdits(t *testing.T) {
	w := newWorld(t)
	base := w.write(1, "abc")
	a, b := w.write(1, "abcx", base), w.write(2, "bcy", base)
	for by := range byte(4) {
		p := w.plan(w.options(by), base, a, b)
		require.Equal(t, []*Version{b, a}, p.Heads)
		require.Equal(t, letters("bcxy"), p.Show.Merged)
		require.True(t, p.Write)
		require.EqualValues(t, 1, p.Generation)
		require.Equal(t, by == 2, p.First)
		require.Equal(t, p.Heads, p.Basis)
		require.NoError(t, p.Conflict)
	}
	m := w.merge(2, w.plan(w.options(2), a, b))
	p := w.plan(w.options(3), base, a, b, m)
	require.Equal(t, []*Version{m}, p.Heads)
	require.Equal(t, Side{Version: m, Ancestor: -1}, p.Show)
	require.False(t, p.Write)
	require.Equal(t, []record.Dot{a.Dot, b.Dot}, m.Resolved)
	require.Equal(t, record.Vector{a.Dot, b.Dot}, m.Context)
	require.Equal(t, uint64(3), m.Height)
	require.Len(t, m.Ancestors, 3)
}

// A version that nobody has seen anything before has no base; one whose base is lost does not get
// none.
func TestBases(t *testing.T) {
	w := newWorld(t)
	a, b := w.write(1, "ab"), w.write(2, "bc")
	require.Equal(t, letters("abc"), w.plan(w.options(1), a, b).Show.Merged)

	// Both go on for so long that none of the ancestors that they name are the same.
	base := w.write(1, "abc")
	a, b = base, base
	for range record.MaxAncestors + 1 {
		a, b = w.write(1, w.of(a)+"x", a), w.write(2, "bc", b)
	}
	require.True(t, a.Cut)
	p := w.plan(w.options(1), a, b)
	require.ErrorIs(t, p.Conflict, ErrNoBase)
	require.False(t, p.Write)

	// Its content is not here.
	a, b = w.write(1, "abcx", base), w.write(2, "bcy", base)
	a.Ancestors[0].Kept, b.Ancestors[0].Kept = false, false
	p = w.plan(w.options(1), a, b)
	require.True(t, p.Missing)
	require.NoError(t, p.Conflict)
	require.False(t, p.Write)
	require.Equal(t, []*Version{a}, p.Basis, "the device goes on with its own")
	o := w.options(1)
	o.GiveUp = true
	p = w.plan(o, a, b)
	require.ErrorIs(t, p.Conflict, ErrNoBase)
	// One of the two keeps it.
	b.Ancestors[0].Kept = true
	require.Equal(t, letters("bcxy"), w.plan(w.options(1), a, b).Show.Merged)

	// What was deleted before both is no base.
	gone := w.write(1, "", w.write(1, "q"))
	a, b = w.write(1, "a", gone), w.write(2, "b", gone)
	require.Equal(t, letters("ab"), w.plan(w.options(1), a, b).Show.Merged)

	// Two that say different things of the ancestor do not have it in common.
	a, b = w.write(1, "abcx", base), w.write(2, "bcy", base)
	b.Ancestors[0].Hash[0]++
	require.ErrorIs(t, w.plan(w.options(1), a, b).Conflict, ErrNoBase)
}

// What only one side has changed is taken without a merge.
func TestOneSideUnchanged(t *testing.T) {
	w := newWorld(t)
	base := w.write(1, "P")
	o := w.options(1)
	o.Merge = nil
	touched, edit := w.write(1, "P", base), w.write(2, "Q", base)
	for _, all := range [][]*Version{{touched, edit}, {edit, touched}} {
		p := w.plan(o, all...)
		require.Equal(t, Side{Version: edit, Ancestor: -1}, p.Show)
		require.Len(t, p.Basis, 2)
		require.NoError(t, p.Conflict)
		require.False(t, p.Write)
	}
	later := w.write(1, "P", base) // now it is the greatest
	require.Equal(t, edit, w.plan(o, edit, later).Show.Version)
}

// Equal contents are one, whoever wrote them.
func TestEqualContents(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.write(1, "Z"), w.write(2, "Z"), w.write(3, "Z")
	p := w.plan(w.options(1), a, b, c)
	require.Equal(t, c, p.Show.Version)
	require.Equal(t, []*Version{c, b, a}, p.Basis)
	require.False(t, p.Write)
	require.NoError(t, p.Conflict)
	// A merge that gives what one of them has is not written.
	base := w.write(1, "ab")
	a, b = w.write(1, "abc", base), w.write(2, "abcd", base)
	p = w.plan(w.options(1), a, b)
	require.Equal(t, b, p.Show.Version)
	require.Len(t, p.Basis, 2)
	require.False(t, p.Write)
}

// An edit stands against a deletion that did not know of it, unless the deletion is to stand.
func TestEditAndDeletion(t *testing.T) {
	w := newWorld(t)
	base := w.write(1, "a")
	edit, gone := w.write(1, "ab", base), w.write(2, "", base)
	p := w.plan(w.options(1), edit, gone)
	require.Equal(t, edit, p.Show.Version)
	require.False(t, p.Deleted())
	require.Len(t, p.Basis, 2)
	o := w.options(1)
	o.DeletionStands = true
	p = w.plan(o, edit, gone)
	require.True(t, p.Deleted())
	require.Len(t, p.Basis, 2)
	both := w.write(1, "", base)
	require.True(t, w.plan(w.options(1), both, gone).Deleted())
	known := w.write(2, "", edit)
	require.True(t, w.plan(w.options(1), base, edit, known).Deleted())
	require.True(t, w.plan(w.options(1)).Deleted())
}

// What cannot be merged is a conflict of all; each device goes on with its own, and an edit of that
// supersedes nothing else, until somebody resolves it.
func TestConflict(t *testing.T) {
	w := newWorld(t)
	base := w.write(1, "a")
	a, b, c := w.write(1, "Xa", base), w.write(2, "Ya", base), w.write(3, "ab", base)
	all := []*Version{a, b, c}
	for i, mine := range all {
		p := w.plan(w.options(byte(i)+1), all...)
		require.ErrorIs(t, p.Conflict, ErrContents)
		require.Equal(t, mine, p.Show.Version)
		require.Equal(t, []*Version{mine}, p.Basis)
		require.False(t, p.Write)
	}
	require.Equal(t, c, w.plan(w.options(9), all...).Show.Version, "the greatest")
	// One who has shown a goes on with it, and with what follows on it.
	o := w.options(9)
	o.Applied, o.AppliedHash = a.Vector(), a.Content.Hash
	require.Equal(t, a, w.plan(o, all...).Show.Version)
	d := w.write(4, "aZ", a)
	require.Equal(t, d, w.plan(o, d, b, c).Show.Version)
	// So does one who has shown what a and c are together.
	o.Applied, o.AppliedHash = Vector([]*Version{a, c}), a.Content.Hash
	require.Equal(t, a, w.plan(o, all...).Show.Version)
	end := w.write(5, "q", all...)
	require.Equal(t, end, w.plan(w.options(1), a, b, c, end).Show.Version)
	require.NoError(t, w.plan(w.options(1), a, b, c, end).Conflict)
}

// Two merges of the same are not merged with each other; the one with the greater hash stands.
func TestMergesOfTheSame(t *testing.T) {
	w := newWorld(t)
	a, b := w.write(1, "Xa"), w.write(2, "b")
	m, n := w.write(1, "Pab", a, b), w.write(2, "Qab", a, b)
	m.Generation, n.Generation = 1, 1
	want := m
	if compareHashes(n, m) > 0 {
		want = n
	}
	for _, all := range [][]*Version{{m, n}, {n, m}} {
		p := w.plan(w.options(1), all...)
		require.NoError(t, p.Conflict)
		require.Equal(t, want, p.Show.Version)
		require.Len(t, p.Basis, 2)
	}
	n.Generation = 0 // an edit
	require.Error(t, w.plan(w.options(1), m, n).Conflict)
}

// Merges that never settle end in a conflict.
func TestGenerations(t *testing.T) {
	w := newWorld(t)
	a, b := w.write(1, "a"), w.write(2, "b")
	a.Generation = MaxGeneration - 1
	p := w.plan(w.options(1), a, b)
	require.EqualValues(t, MaxGeneration, p.Generation)
	b.Generation = MaxGeneration
	require.ErrorIs(t, w.plan(w.options(1), a, b).Conflict, ErrGenerations)
	b.Generation = 255
	require.ErrorIs(t, w.plan(w.options(1), a, b).Conflict, ErrGenerations)
}

// A version supersedes what it names. That its context covers more counts only if it cannot name
// all.
func TestSupersedes(t *testing.T) {
	w := newWorld(t)
	a := w.write(1, "a")
	b := w.write(1, "b", a)
	c := w.write(2, "c", a)
	require.True(t, c.Supersedes(a))
	c.Context = c.Context.With(record.Dot{Device: b.Dot.Device, Counter: 9})
	require.False(t, c.Supersedes(b))
	require.Equal(t, []*Version{c, b}, Heads([]*Version{a, b, c}))
	c.Cut = true
	require.True(t, c.Supersedes(b))
	b.Displaced = true
	require.False(t, c.Supersedes(b))
	require.True(t, c.Supersedes(a))
	other := w.write(3, "x")
	other.Dot = a.Dot // the same dot with another content
	c.Cut = false
	require.False(t, c.Supersedes(other))
}

// Whoever lies about what came before takes nothing away from view.
func TestCircles(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.write(1, "a"), w.write(2, "b"), w.write(3, "c")
	lie := func(v, over *Version) {
		v.Context = v.Context.With(record.Dot{Device: over.Dot.Device, Counter: over.Dot.Counter + 5})
		v.Cut = true // so it need not name what it says it supersedes
	}
	lie(a, b)
	require.Equal(t, []*Version{c, a}, Heads([]*Version{a, b, c}))
	lie(b, c)
	require.Equal(t, []*Version{a}, Heads([]*Version{a, b, c}))
	lie(c, a)
	require.Equal(t, []*Version{c, b, a}, Heads([]*Version{a, b, c}))
	d := w.write(4, "d", a)
	require.Equal(t, []*Version{d, c}, Heads([]*Version{a, b, c, d}), "one that is not of the circle")
}

// A very long chain, and very many that stand beside each other.
func TestManyVersions(t *testing.T) {
	w := newWorld(t)
	var chain []*Version
	for i := range 3000 {
		v := w.write(1, "a")
		v.Context = record.Vector{}
		if i > 0 {
			v.Context, v.Cut = v.Context.With(chain[i-1].Dot), true
		}
		chain = append(chain, v)
	}
	require.Equal(t, chain[len(chain)-1:], Heads(chain))
	for i := range chain {
		chain[i].Context = nil
	}
	p := w.plan(w.options(1), chain...)
	require.ErrorIs(t, p.Conflict, ErrManyHeads)
	require.Len(t, p.Heads, len(chain))
	end := w.write(2, "b", p.Heads...)
	require.Len(t, end.Resolved, record.MaxResolved)
	require.Len(t, Heads(append(chain, end)), 1)
}

// Whatever is written in whatever order it comes: all devices plan the same, and once the merge is
// written, there is one head that has all that was ever added.
func TestAllPlanAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		all := []*Version{w.write(1, "a")}
		for i := range rapid.IntRange(1, 12).Draw(t, "edits") {
			known := rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, 3, func(v *Version) record.Dot {
				return v.Dot
			}).Draw(t, "known")
			by := rapid.ByteRange(1, 5).Draw(t, "by")
			for _, v := range all { // nobody forgets what he wrote
				if v.Author == author(by) {
					known = append(known, v)
				}
			}
			over := Heads(known)
			content := string(rune('b' + i))
			if rapid.Bool().Draw(t, "keeps") {
				for _, v := range over {
					content += w.of(v)
				}
			}
			l := []rune(content)
			slices.Sort(l)
			all = append(all, w.write(by, string(slices.Compact(l)), over...))
		}
		var first *Plan
		for by := range byte(6) {
			p := w.plan(w.options(by), rapid.Permutation(all).Draw(t, "order")...)
			if first == nil {
				first = p
			}
			require.Equal(t, first.Heads, p.Heads)
			require.Equal(t, first.Conflict, p.Conflict)
			if p.Conflict == nil {
				require.Equal(t, first.Show, p.Show)
				require.Equal(t, first.Write, p.Write)
			}
		}
		if first.Write {
			m := w.merge(1, first)
			p := w.plan(w.options(2), append(all, m)...)
			require.Equal(t, []*Version{m}, p.Heads)
			require.False(t, p.Write)
		}
	})
}

// BenchmarkMake plans an item with two heads, whose merge costs nothing.
func BenchmarkMake(b *testing.B) {
	w := newWorld(b)
	base := w.write(1, "abc")
	for range 5 {
		base = w.write(byte(w.time%5)+1, "abc", base)
	}
	all := []*Version{w.write(1, "abcx", base), w.write(2, "bcy", base)}
	o := w.options(1)
	o.Merge = func(*Side, Side, Side) (Merged, bool, error) { return letters("abxy"), true, nil }
	for b.Loop() {
		p, err := Make(all, o)
		if err != nil || !p.Write {
			b.Fatal(p, err)
		}
	}
}
