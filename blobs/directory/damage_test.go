package directory

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// A manifest that is damaged in this store is told as damage, not as something else than a
// directory or as names that nobody may have sent.
func TestDamagedManifestIsDamage(t *testing.T) {
	for name, at := range map[string]int{"magic": 2, "a path": 900} {
		t.Run(name, func(t *testing.T) {
			db, err := pebble.Open("", pebble.Options{})
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			dir := t.TempDir()
			content, err := files.Open(dir, files.Options{})
			require.NoError(t, err)
			defer func() { require.NoError(t, content.Close()) }()
			s, err := blobs.Open(bg, db, content)
			require.NoError(t, err)
			var m Manifest
			seq := blobs.Sequence{{}}
			one, err := s.ImportBytes(bg, []byte("x"))
			require.NoError(t, err)
			for i := range 200 {
				m = append(
					m, Entry{Path: "name" + string(rune('a'+i/26)) + string(rune('a'+i%26)), Kind: File, Size: 1},
				)
				seq = append(seq, one.Hash)
			}
			manifest, err := s.ImportBytes(bg, m.Bytes())
			require.NoError(t, err)
			seq[0] = manifest.Hash
			root, err := s.ImportBytes(bg, seq.Bytes())
			require.NoError(t, err)
			_, err = Load(bg, s, root.Hash)
			require.NoError(t, err)

			pack := filepath.Join(dir, "packs", "00000001")
			b, err := os.ReadFile(pack)
			require.NoError(t, err)
			i := bytes.Index(b, m.Bytes())
			require.Positive(t, i+1)
			f, err := os.OpenFile(pack, os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte{b[i+at] ^ 0xff}, int64(i+at))
			require.NoError(t, err)
			require.NoError(t, f.Close())
			_, err = Load(bg, s, root.Hash)
			var damage *blobs.DamageError
			require.ErrorAs(t, err, &damage)
			require.Equal(t, manifest.Hash, damage.Hash)
		})
	}
}
