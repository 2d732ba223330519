package versions

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/versions/merge"
)

// BenchmarkMergeOfTwoHeads reads an item of two heads that are merged, and one of one head, from
// memory; contents/op is the merge of the contents alone. What a merge costs beyond that is the
// difference of the first two less the third.
func BenchmarkMergeOfTwoHeads(b *testing.B) {
	base := []byte("one\ntwo\nthree\nfour\nfive\n")
	local := []byte("one and\ntwo\nthree\nfour\nfive\n")
	remote := []byte("one\ntwo\nthree\nfour\nfive and\n")
	items := func(b *testing.B, merges bool) *device {
		l := newLab(b)
		x, y := l.device(), l.device()
		x.set("k", string(base))
		l.sync()
		x.set("k", string(local))
		if merges {
			y.set("k", string(remote))
		}
		x.from(y)
		x.cfg.Merge = merge.Func(merge.Text).Keyed
		return x
	}
	for name, merges := range map[string]bool{"one head": false, "two heads": true} {
		b.Run(name, func(b *testing.B) {
			d := items(b, merges)
			for b.Loop() {
				item, err := d.Read(b.Context(), []byte("k"), Looked{})
				require.NoError(b, err)
				require.Equal(b, merges, item.Write)
			}
		})
	}
	b.Run("contents", func(b *testing.B) {
		for b.Loop() {
			_, err := merge.Text(base, local, remote)
			require.NoError(b, err)
		}
	})
}
