package blobs_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// at is a place in memory to write to.
type at []byte

func (b at) WriteAt(p []byte, off int64) (int, error) { return copy(b[off:], p), nil }

// Who knows a hash and a size takes a part of the content from anybody, without a store: each group
// of 16 KiB is verified before it is written.
func ExampleDecode() {
	ctx := context.Background()
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	temporary, err := os.MkdirTemp("", "blobs-")
	must(err)
	defer os.RemoveAll(temporary)
	db, err := pebble.Open("", pebble.Options{})
	must(err)
	defer db.Close()
	dir, err := files.Open(temporary, files.Options{})
	must(err)
	defer dir.Close()
	store, err := blobs.Open(ctx, db, dir)
	must(err)
	content := bytes.Repeat([]byte("to and fro "), 10_000)
	info, err := store.ImportBytes(ctx, content)
	must(err)

	// What a sender writes:
	wanted := blobs.NewRanges(blobs.Range{Start: 50_000, End: 50_011})
	var stream bytes.Buffer
	must(store.Encode(ctx, &stream, info.Hash, wanted))
	fmt.Println("a proof and one group:", stream.Len() < 18<<10)

	// What a receiver makes of it:
	got := make(at, info.Size)
	must(blobs.Decode(bytes.NewReader(stream.Bytes()), info.Hash, info.Size, wanted, got))
	fmt.Printf("%q\n", got[50_000:50_011])

	// A lie is noticed.
	lie := bytes.Clone(stream.Bytes())
	lie[len(lie)-100] ^= 1
	err = blobs.Decode(bytes.NewReader(lie), info.Hash, info.Size, wanted, got)
	fmt.Println(err != nil && err != io.EOF)
	// Output:
	// a proof and one group: true
	// "d fro to an"
	// true
}
