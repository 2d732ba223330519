package versions

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/record"
)

// hostile has a device's disk hold what an author signed, whatever it says.
func (d *device) hostile(key string, by replica.AuthorID, raw []byte) replica.Item {
	e := replica.Entry{Author: by, Key: []byte(key), Hash: blobs.HashOf(raw), Timestamp: d.disk.now()}
	e.Size = uint64(len(raw))
	require.True(d.l.t, d.disk.take(key, e, raw))
	return replica.Item{Key: []byte(key), Entry: e}
}

// recordOf returns a record followed by a content.
func recordOf(t *testing.T, r record.Record, content string) []byte {
	b, err := r.Append(nil)
	require.NoError(t, err)
	return append(b, content...)
}

// Versions whose contents are false can supersede each other, so that each is a head only once the
// one over it is known to be false. What an item costs grows with their number, not with its
// square.
func TestChainOfFalseContents(t *testing.T) {
	opened := func(n int) int {
		l := newLab(t)
		a := l.device()
		a.set("k", strings.Repeat("a", 2*readAtOnce))
		var over record.Vector
		for i := range n {
			by := replica.AuthorID{byte(i >> 8), byte(i), 1}
			dot := record.Dot{Device: record.Device{Author: record.TagOf(by)}, Counter: 1}
			a.hostile("k", by, recordOf(t, record.Record{
				Dot: dot, Context: over, Height: uint64(i + 1), Cut: true,
				Content: record.Content{Size: 2 * readAtOnce, Hash: record.Hash{1}},
			}, strings.Repeat(fmt.Sprintf("%08d", i), readAtOnce/4)))
			over = over.With(dot)
		}
		slots := &countingSlots{disk: a.disk}
		a.cfg.Slots = slots
		item := a.read("k")
		require.Equal(t, n, item.Malformed)
		require.Equal(t, strings.Repeat("a", 2*readAtOnce), a.textOf(item))
		return int(slots.opened.Load())
	}
	few, many := opened(50), opened(100)
	require.Less(t, many, 3*few)
}

// Any number of manifests can share one content, and what one version says that it supersedes can
// be all the parts that they name. What is looked at is bounded by what their author has written,
// and batches of others are waited for all the same.
func TestManifestsOfWhatIsSuperseded(t *testing.T) {
	const manifests, parts = 60, 1000
	l := newLab(t)
	a, b := l.device(), l.device()
	by := replica.AuthorID{1, 1}
	dev := record.Device{Author: record.TagOf(by), Incarnation: record.Incarnation{1}}
	other := record.Device{Author: record.TagOf(by), Incarnation: record.Incarnation{2}}
	var came []replica.Item
	for i := range byte(2 * fewSlots) { // a look at a key of many authors costs as much as many
		by := replica.AuthorID{0, i}
		dot := record.Dot{Device: record.Device{Author: record.TagOf(by)}, Counter: 1}
		b.hostile("many", by, recordOf(t, record.Record{Dot: dot, Kind: record.Deletion, Height: 1}, ""))
	}
	covering := func(counter uint64) []byte {
		return recordOf(t, record.Record{
			Kind: record.Deletion, Height: 1, Cut: true, Dot: record.Dot{Device: dev, Counter: counter},
			Context: record.Vector{{Device: other, Counter: 1 << 60}},
		}, "")
	}
	for i, key := range []string{"few", "many"} {
		came = append(came, b.hostile(key, by, covering(uint64(i+1))))
		keys := make([][]byte, parts)
		for j := range keys {
			keys[j] = []byte(key)
		}
		raw := record.AppendManifest(nil, keys)
		for j := range uint64(manifests) {
			first := record.Dot{Device: other, Counter: 1 + j + uint64(i)*manifests}
			came = append(came, b.hostile(string(manifestKey(first)), by, raw))
		}
	}
	slots := &countingSlots{disk: b.disk}
	b.cfg.Slots = slots
	for range 2 {
		_, err := b.Arrived(t.Context(), came)
		require.NoError(t, err)
	}
	looks := freeLooks + 2*(looksAnEntry+3)*len(came)
	require.Less(t, int(slots.opened.Load()), (fewSlots+1)*looks)

	edits := []Edit{}
	for _, k := range []string{"1", "2", "3"} {
		src := a.SourceOf([]byte("in " + k))
		edits = append(edits, Edit{Item: a.read(k), Content: &src})
	}
	require.NoError(t, a.Write(t.Context(), edits...))
	for i, key := range []string{"", "1", "2", "3"} { // "" is the manifest
		require.Equal(t, "-", b.textOrNothing("1"))
		for at, e := range a.disk.slots {
			if at.key == key || key == "" && at.key[0] == 0 {
				b.disk.take(at.key, e, a.disk.content[e.Hash])
				keys, err := b.Arrived(t.Context(), []replica.Item{{Key: []byte(at.key), Entry: e}})
				require.NoError(t, err)
				require.Equal(t, i == 3, len(keys) == 3)
			}
		}
	}
	require.Equal(t, "in 1", b.text("1"))
}

// textOrNothing is text, with "-" for an item of which nothing is here.
func (d *device) textOrNothing(key string) string {
	if s := d.text(key); s != "…" {
		return s
	}
	return "-"
}

// Manifests that come by turns are read once for each, as long as their author has written enough.
func TestLargeManifestsByTurns(t *testing.T) {
	l := newLab(t)
	b := l.device()
	by := replica.AuthorID{1, 1}
	var came []replica.Item
	raw := make([][]byte, 3)
	for i := range raw {
		keys := make([][]byte, 200)
		for j := range keys {
			keys[j] = make([]byte, replica.MaxKey)
			keys[j][0] = byte(i + 1)
		}
		raw[i] = record.AppendManifest(nil, keys)
	}
	for i := range uint64(60) {
		first := record.Dot{Device: record.Device{Author: record.TagOf(by)}, Counter: i + 1}
		came = append(came, b.hostile(string(manifestKey(first)), by, raw[i%3]))
	}
	read := &readSlots{disk: b.disk}
	b.cfg.Slots = read
	for range 20 {
		_, err := b.Arrived(t.Context(), came)
		require.NoError(t, err)
	}
	require.Less(t, read.read, manifestALook*(freeLooks+20*looksAnEntry*len(came)))
}

// readSlots count what is read, in bytes.
type readSlots struct {
	*disk
	read int
}

type readContent struct {
	Content
	of *readSlots
}

func (s *readSlots) Open(ctx context.Context, e *replica.Entry) (Content, error) {
	c, err := s.disk.Open(ctx, e)
	return readContent{c, s}, err
}

func (c readContent) ReadAt(b []byte, off int64) (int, error) {
	c.of.read += len(b)
	return c.Content.ReadAt(b, off)
}

// Many authors can each have versions of one key displaced. What a further entry of that key costs
// grows with how many there are, not with the square.
func TestManyDisplacedVersionsOfAKey(t *testing.T) {
	opened := func(n int) int {
		l := newLab(t)
		a := l.device()
		a.set("k", "a")
		var last replica.Item
		for i := range n {
			by := replica.AuthorID{byte(i >> 8), byte(i), 1}
			for c := range uint64(4) {
				last = a.hostile("k", by, recordOf(t, record.Record{
					Dot:  record.Dot{Device: record.Device{Author: record.TagOf(by)}, Counter: c + 1},
					Kind: record.Deletion, Height: c + 1,
				}, ""))
			}
		}
		slots := &countingSlots{disk: a.disk}
		a.cfg.Slots = slots
		_, err := a.Arrived(t.Context(), []replica.Item{last})
		require.NoError(t, err)
		_, err = a.Arrived(t.Context(), nil)
		require.NoError(t, err)
		require.NotEmpty(t, a.disk.displaced, "none of them supersedes another")
		return int(slots.opened.Load())
	}
	few, many := opened(50), opened(100)
	require.Less(t, many, 3*few)
}

// Many authors can claim falsely that they have seen what a device wrote. Whether others have is
// found out once.
func TestManyFalseClaims(t *testing.T) {
	opened := func(n int) int {
		l := newLab(t)
		a := l.device()
		a.set("k", "a")
		var came []replica.Item
		for i := range n {
			by := replica.AuthorID{byte(i >> 8), byte(i), 1}
			came = append(came, a.hostile("k", by, recordOf(t, record.Record{
				Dot:     record.Dot{Device: record.Device{Author: record.TagOf(by)}, Counter: 1},
				Context: record.Vector{{Device: a.device(), Counter: 1 << 40}}, Cut: true,
				Kind: record.Deletion, Height: 2,
			}, "")))
		}
		slots := &countingSlots{disk: a.disk}
		a.cfg.Slots = slots
		_, err := a.Arrived(t.Context(), came)
		require.NoError(t, err)
		n = int(slots.opened.Load())
		require.Equal(t, "a", a.text("k"))
		return n
	}
	few, many := opened(50), opened(100)
	require.Less(t, many, 3*few)
}
