package blobs

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv/pebble"
)

const benchSize = 256 << 20

func diskStore(b *testing.B) *Store {
	db, err := pebble.Open(b.TempDir(), pebble.Options{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	return openStore(b, db, files.Options{})
}

func BenchmarkHash(b *testing.B) {
	data := testkit.Random(1, 16<<20)
	b.SetBytes(int64(len(data)))
	for range b.N {
		for at := 0; at < len(data); at += GroupSize {
			hashGroup(data[at:at+GroupSize], uint64(at/GroupSize), false)
		}
	}
}

func BenchmarkImport(b *testing.B) {
	data := testkit.Random(1, benchSize)
	b.SetBytes(benchSize)
	for range b.N {
		b.StopTimer()
		s := diskStore(b)
		b.StartTimer()
		_, err := s.Import(bg, bytes.NewReader(data), ImportOptions{})
		require.NoError(b, err)
		require.NoError(b, s.Sync(bg))
	}
}

// BenchmarkImportFile leaves out the sync, as cp does; reference only hashes.
func BenchmarkImportFile(b *testing.B) {
	name := filepath.Join(b.TempDir(), "file")
	require.NoError(b, os.WriteFile(name, testkit.Random(1, benchSize), 0o600))
	for _, reference := range []bool{false, true} {
		b.Run(fmt.Sprintf("reference=%v", reference), func(b *testing.B) {
			b.SetBytes(benchSize)
			for range b.N {
				b.StopTimer()
				s := diskStore(b)
				b.StartTimer()
				_, err := s.ImportFile(bg, name, ImportOptions{Reference: reference})
				require.NoError(b, err)
			}
		})
	}
}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// BenchmarkStream encodes from a store on disk into a pipe and decodes on the other end, discarding
// or storing.
func BenchmarkStream(b *testing.B) {
	source := diskStore(b)
	info, err := source.Import(bg, bytes.NewReader(testkit.Random(1, benchSize)), ImportOptions{})
	require.NoError(b, err)
	for _, name := range []string{"discard", "store"} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(benchSize)
			for range b.N {
				b.StopTimer()
				to := diskStore(b)
				b.StartTimer()
				r, w := io.Pipe()
				done := make(chan error, 1)
				go func() { done <- source.Encode(bg, w, info.Hash, Everything) }()
				if name == "discard" {
					require.NoError(b, Decode(r, info.Hash, info.Size, Everything, discard{}))
				} else {
					transfer(b, source, to, info.Hash, nil)
					rc := to.NewReceiver(bg)
					require.NoError(
						b,
						rc.Receive(bufio.NewReaderSize(r, decodeBuffer), info.Hash, info.Size, Everything, Hooks{}),
					)
					require.NoError(b, rc.Close())
				}
				require.NoError(b, <-done)
			}
		})
	}
}
