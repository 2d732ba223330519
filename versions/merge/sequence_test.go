package merge

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func numbered(t *rapid.T, name string, below int) sequence {
	return rapid.SliceOfN(rapid.Int32Range(0, int32(below-1)), 0, 30).Draw(t, name)
}

// Whatever the sequences are, the changes make the side of the base; what is between them is equal
// and not empty; none begins or ends with what is equal, but for those that were widened.
func TestDiff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		below := rapid.IntRange(1, 20).Draw(t, "numbers")
		base, side := numbered(t, "base", below), numbered(t, "side", below)
		d := differ{base: base, side: side, seen: make([]seen, below)}
		d.gap(span{0, len(base)}, span{0, len(side)}, maxRounds)
		for _, s := range d.seen {
			require.Zero(t, s, "what was counted is forgotten")
		}
		made, at := sequence{}, 0
		for i, h := range d.hunks {
			require.True(t, h.was.from > at || i == 0, "something is between two changes")
			require.Equal(t, h.was.from-at, h.now.from-len(made))
			made = append(append(made, base[at:h.was.from]...), side[h.now.from:h.now.to]...)
			at = h.was.to
			was, now := base[h.was.from:h.was.to], side[h.now.from:h.now.to]
			require.NotZero(t, len(was)+len(now))
			if len(was) > 0 && len(now) > 0 {
				require.NotEqual(t, was[0], now[0])
				require.NotEqual(t, was[len(was)-1], now[len(now)-1])
			}
		}
		require.True(t, slices.Equal(side, append(made, base[at:]...)))

		for i, wide := range widen(base, d.hunks) {
			h := d.hunks[i]
			up, down := h.was.from-wide.was.from, wide.was.to-h.was.to
			require.Equal(t, span{h.now.from - up, h.now.to + down}, wide.now)
			if h.now.from < h.now.to {
				require.Zero(t, up+down, "only deletions are widened")
			}
			require.True(t, slices.Equal(base[wide.was.from:h.was.from], side[wide.now.from:h.now.from]))
			require.True(t, slices.Equal(base[h.was.to:wide.was.to], side[h.now.to:wide.now.to]))
		}
	})
}

// Of unique numbers all are found that are in the same order.
func TestLongestRun(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sides := rapid.Permutation([]int32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}).Draw(t, "sides")
		pairs := make([]pair, len(sides))
		longest := make([]int, len(sides)) // of those that end there
		for i, side := range sides {
			pairs[i] = pair{int32(i), side}
			longest[i] = 1
			for j := range i {
				if sides[j] < side {
					longest[i] = max(longest[i], longest[j]+1)
				}
			}
		}
		run := longestRun(pairs)
		require.Len(t, run, slices.Max(longest))
		for i := 1; i < len(run); i++ {
			require.Less(t, run[i-1].base, run[i].base)
			require.Less(t, run[i-1].side, run[i].side)
		}
	})
	require.Empty(t, longestRun(nil))
	// Of several that are as long, it is always this one.
	run := longestRun([]pair{{0, 1}, {1, 0}, {2, 3}, {3, 2}})
	require.Equal(t, []pair{{1, 0}, {3, 2}}, run)
}

// Sequences can be made of which each search finds one anchor. The search ends.
func TestRoundsAreBounded(t *testing.T) {
	const n = 3 * maxRounds
	var base, side sequence
	next := int32(n)
	junk := func() {
		side = append(side, next)
		next++
	}
	for i := int32(0); i < n; i++ {
		// Anchor i is here, and the later ones are here as well as in what follows.
		junk()
		for j := i + 1; j < n; j++ {
			base, side = append(base, j), append(side, j)
		}
		junk()
		base, side = append(base, i), append(side, i)
	}
	junk()
	hunks := diff(base, side, int(next))
	last := hunks[len(hunks)-1]
	require.Equal(t, len(base), last.was.to)
	left := n - maxRounds
	require.Equal(t, left*(left+1)/2, last.was.to-last.was.from, "the rest is one change")
	d := differ{base: base, side: side, seen: make([]seen, next)}
	d.gap(span{0, len(base)}, span{0, len(side)}, n+1)
	last = d.hunks[len(d.hunks)-1]
	require.Equal(t, span{len(base), len(base)}, last.was, "it would have gone on")

	slices.Reverse(base)
	slices.Reverse(side)
	first := diff(base, side, int(next))[0]
	require.Equal(t, span{0, left * (left + 1) / 2}, first.was, "also in the gaps before anchors")
}

// Each part of the result is in those inputs that are said to have it, and the parts follow each
// other in all of them.
func TestThreeWay(t *testing.T) {
	merged := 0
	rapid.Check(t, func(t *rapid.T) {
		below := rapid.IntRange(1, 40).Draw(t, "numbers")
		base := numbered(t, "base", below)
		edit := func(name string) sequence {
			side := slices.Clone(base)
			for range rapid.IntRange(0, 3).Draw(t, name) {
				at := rapid.IntRange(0, len(side)).Draw(t, "at")
				to := min(len(side), at+rapid.IntRange(0, 2).Draw(t, "removed"))
				new := rapid.SliceOfN(rapid.Int32Range(0, int32(below-1)), 0, 2).Draw(t, "added")
				side = slices.Replace(side, at, to, new...)
			}
			return side
		}
		local, remote := edit("local"), edit("remote")
		pieces, clash, ok := threeWay(base, local, remote, below)
		if !ok {
			require.True(t, clash.from >= 0 && clash.from <= clash.to && clash.to <= len(base))
			return
		}
		merged++
		var b, l, r int
		for _, p := range pieces {
			require.Equal(t, []int{b, l, r}, []int{p.base.from, p.local.from, p.remote.from})
			inBase, inLocal, inRemote := base[b:p.base.to], local[l:p.local.to], remote[r:p.remote.to]
			b, l, r = p.base.to, p.local.to, p.remote.to
			require.NotZero(t, len(inBase)+len(inLocal)+len(inRemote))
			if p.from == fromAll || p.from == fromLocal {
				require.True(t, slices.Equal(inBase, inRemote))
			}
			if p.from == fromAll || p.from == fromRemote {
				require.True(t, slices.Equal(inBase, inLocal))
			}
			if p.from == fromBoth {
				require.True(t, slices.Equal(inLocal, inRemote))
			}
		}
		require.Equal(t, []int{len(base), len(local), len(remote)}, []int{b, l, r})
	})
	require.NotZero(t, merged)
}

func TestValidXML(t *testing.T) {
	for text, valid := range map[string]bool{
		"<a/>":                              true,
		" \r\n\t<a><b c='1' d='1'/>x</a>\n": true,
		"<?xml version='1.0' encoding='latin1'?><!-- c --><a/><!-- d -->": true,
		"<a/><b/>":              false,
		"<a/>x":                 false,
		"x<a/>":                 false,
		"<a>":                   false,
		"<a></b>":               false,
		"<a b='1' b='2'/>":      false,
		"<a x:b='1' y:b='2'/>":  true,
		"<a><b/></a><!-- c -->": true,
		"<!-- c -->":            false,
		"{}":                    false,
		"":                      false,
	} {
		require.Equal(t, valid, validXML(text), text)
	}
}

// Numbers that are equal, and no others, have one exact form.
func TestExact(t *testing.T) {
	for _, equal := range [][]string{
		{"0", "0.0", "0e5", "0.00e-7"},
		{"-0", "-0.0", "-0e1"},
		{"1", "1.0", "10e-1", "0.1e1", "1e0", "1E+0", "1e-0"},
		{"-1", "-1.0"},
		{"100", "1e2", "1.00e2", "0.01E4"},
		{"0.001", "1e-3", "0.1e-2"},
		{"1e9999999999999999", "10e9999999999999998"},
		{"1e99999999999999999"},
		{"10e99999999999999999"},
		{"1e-99999999999999999"},
		{"9007199254740992"},
		{"9007199254740993", "9007199254740993.0", "900719925474099.3e1"},
	} {
		for _, number := range equal {
			require.Equal(t, exact(equal[0]), exact(number), number)
		}
	}
	forms := map[string]bool{}
	for _, number := range []string{"0", "-0", "1", "-1", "10", "1e99999999999999999",
		"10e99999999999999999", "1.5", "15", "0.15", "105", "1.05"} {
		require.False(t, forms[exact(number)], number)
		forms[exact(number)] = true
	}
}
