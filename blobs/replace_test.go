package blobs

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
)

// damageIn flips a byte of a stored blob: of its content, or of the tree of its first segment.
func damageIn(t *testing.T, s *Store, data []byte, at int, tree bool) {
	t.Helper()
	h := HashOf(data)
	rec, err := s.lookUp(bg, h)
	require.NoError(t, err)
	flip := func(key []byte, at int) {
		require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
			b, err := tx.Get(key)
			require.NoError(t, err)
			b = bytes.Clone(b)
			b[at] ^= 1
			return tx.Set(key, b)
		}))
	}
	switch {
	case rec.state == stateInline:
		flip(inlineKey(h), at)
		return
	case tree:
		flip(blockKey(rec.id, 0, 0), 10)
		return
	}
	names, err := filepath.Glob(filepath.Join(s.files.Dir(), "*", "*"))
	require.NoError(t, err)
	own, err := filepath.Glob(filepath.Join(s.files.Dir(), "own", "*", "*"))
	require.NoError(t, err)
	for _, name := range append(names, own...) {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // a directory
		}
		if i := bytes.Index(b, data[:100]); i >= 0 {
			f, err := os.OpenFile(name, os.O_RDWR, 0)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte{b[i+at] ^ 1}, int64(i+at))
			require.NoError(t, err)
			require.NoError(t, f.Close())
			return
		}
	}
	t.Fatal("the content is not found")
}

// What is damaged is replaced by what a stream brings, wherever it lies; a stream that is wrong
// changes nothing of what is here.
func TestDamageIsReplacedInItsPlace(t *testing.T) {
	large := 3*SegmentSize + 100
	for name, c := range map[string]struct {
		size, at int
		tree     bool
	}{
		"record":           {500, 7, false},
		"pack":             {5 * GroupSize, 2 * GroupSize, false},
		"a group":          {large, SegmentSize + 5, false},
		"the last group":   {large, large - 1, false},
		"tree of segments": {large, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			from, s := newStore(t), newStore(t)
			data := testkit.Random(1, c.size)
			h := mustImport(t, from, data)
			mustImport(t, s, data)
			damageIn(t, s, data, c.at, c.tree)
			damage, err := s.Verify(bg, h, nil)
			require.NoError(t, err)
			require.NotEmpty(t, damage)
			size, ranges, whole, ok, err := s.Replaceable(bg, h, damage)
			require.NoError(t, err)
			require.True(t, ok)
			require.EqualValues(t, c.size, size)
			stream := func() []byte {
				var b bytes.Buffer
				if whole {
					last := Ranges{{size - 1, size}}.Align().Intersect(Ranges{{0, size}})
					require.NoError(t, from.Encode(bg, &b, h, last))
					ranges = ranges.Intersect(Ranges{{0, size}}).Without(last)
				}
				if len(ranges) > 0 {
					require.NoError(t, from.Encode(bg, &b, h, ranges))
				}
				return b.Bytes()
			}
			receive := func(b []byte) error {
				rc := s.NewReplacer(bg)
				r := bufio.NewReader(bytes.NewReader(b))
				var err error
				if whole {
					err = rc.ReceiveNew(r, h, size, ranges, Hooks{})
				} else {
					err = rc.Receive(r, h, size, ranges, Hooks{})
				}
				require.NoError(t, rc.Close())
				return err
			}
			wrong := stream()
			wrong[len(wrong)/2] ^= 1
			require.Error(t, receive(wrong))
			has, err := s.Has(bg, h)
			require.NoError(t, err)
			require.True(t, has)

			require.NoError(t, receive(stream()))
			require.NoError(t, s.Check(bg, h, Everything))
			require.NoError(t, s.Sync(bg))
			got, err := s.ReadAll(bg, h, uint64(c.size))
			require.NoError(t, err)
			require.Equal(t, data, got)
			_, err = s.Collect(bg, CollectOptions{DryRun: true})
			require.NoError(t, err)
		})
	}
}
