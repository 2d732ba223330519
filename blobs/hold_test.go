package blobs

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
)

// uses are the ways in which a hold comes to keep a blob. There is a stored blob for those that
// read; the others store the same.
var uses = []struct {
	name string
	read bool // does not count as in use without a hold, even while Collect runs
	use  func(t *testing.T, s *Store, data []byte, h Hash)
}{
	{name: "stored from a stream", use: func(t *testing.T, s *Store, data []byte, _ Hash) {
		_, err := s.Import(bg, bytes.NewReader(data), ImportOptions{})
		require.NoError(t, err)
	}},
	{name: "stored from memory", use: func(t *testing.T, s *Store, data []byte, _ Hash) {
		mustImport(t, s, data)
	}},
	{name: "stored by an importer", use: func(t *testing.T, s *Store, data []byte, h Hash) {
		im := s.bare().NewImporter(bg)
		im.Reset(bg, s)
		if len(data) > SegmentSize {
			mustImport(t, s, data) // which no importer takes
			return
		}
		_, err := im.Add(data)
		require.NoError(t, err)
		require.NoError(t, im.Flush())
	}},
	{name: "received", use: func(t *testing.T, s *Store, data []byte, h Hash) {
		from := newStore(t)
		mustImport(t, from, data)
		transfer(t, from, s, h, Everything)
	}},
	{name: "opened", read: true, use: func(t *testing.T, s *Store, _ []byte, h Hash) {
		_, err := s.Reader(bg, h)
		require.NoError(t, err)
	}},
	{name: "opened to be sent", read: true, use: func(t *testing.T, s *Store, _ []byte, h Hash) {
		_, err := s.Encoder(bg, h)
		require.NoError(t, err)
	}},
	{name: "touched", use: func(_ *testing.T, s *Store, _ []byte, h Hash) { s.Touch(h) }},
}

// What is stored, found stored, or opened through a store that holds stays until the hold ends,
// whether that began before the collection or while it runs. Through the bare store, it is
// collected.
func TestHoldsKeepWhatIsUsed(t *testing.T) {
	for _, size := range []int{100, 5000, SegmentSize + 1} {
		data := testkit.Random(uint64(size), size)
		h := HashOf(data)
		for _, u := range uses {
			for _, stored := range []bool{false, true} {
				if !stored && (u.read || u.name == "touched") {
					continue
				}
				s := newStore(t)
				prepare := func() {
					if stored {
						mustImport(t, s, data)
					}
				}
				here := func() bool {
					has, err := s.Has(bg, h)
					require.NoError(t, err)
					return has
				}
				collect := func(while func()) {
					_, err := s.Collect(bg, CollectOptions{Keep: func(context.Context, *Marks) error {
						while()
						return nil
					}})
					require.NoError(t, err)
				}
				nothing := func() {}

				prepare()
				u.use(t, s, data, h)
				collect(nothing)
				require.False(t, here(), "%s, %d bytes: through the bare store", u.name, size)

				prepare()
				held, release := s.Hold()
				u.use(t, held, data, h)
				collect(nothing)
				require.True(t, here(), "%s, %d bytes: held", u.name, size)
				collect(release) // what keeps it now may have come after the marks
				require.True(t, here(), "%s, %d bytes: released while it runs", u.name, size)
				collect(nothing)
				require.False(t, here(), "%s, %d bytes: released", u.name, size)

				prepare()
				collect(func() { u.use(t, s, data, h) })
				require.Equal(t, !u.read, here(), "%s, %d bytes: meanwhile", u.name, size)
				collect(nothing)
				require.False(t, here(), "%s, %d bytes: meanwhile, and then", u.name, size)

				prepare()
				collect(func() {
					held, release = s.Hold()
					u.use(t, held, data, h)
				})
				require.True(t, here(), "%s, %d bytes: held meanwhile", u.name, size)
				collect(nothing)
				require.True(t, here(), "%s, %d bytes: held meanwhile, and then", u.name, size)
				release()
				collect(nothing)
				require.False(t, here(), "%s, %d bytes: released at last", u.name, size)
			}
		}
	}
}

// A hold within a hold is the same one, which lasts until the first has ended; after that, another
// begins.
func TestAHoldWithinAHold(t *testing.T) {
	s := newStore(t)
	held, release := s.Hold()
	within, end := held.Hold()
	require.Same(t, held, within)
	h := mustImport(t, within, testkit.Random(1, 100))
	end()
	collect := func() (left int) {
		_, err := s.Collect(bg, CollectOptions{})
		require.NoError(t, err)
		all, err := s.Totals(bg)
		require.NoError(t, err)
		return all.Count
	}
	require.Equal(t, 1, collect())
	again, endAgain := s.Hold() // another, of which nobody knows
	again.Touch(h)
	release()
	require.Equal(t, 1, collect())
	endAgain()
	late, endLate := held.Hold()
	require.NotSame(t, held, late)
	late.Touch(h)
	require.Equal(t, 1, collect())
	endLate()
	held.Touch(h) // which keeps nothing any more
	require.Zero(t, collect())
	require.Empty(t, s.touches.holds)
}

// The children of a sequence that is pinned while a collection runs stay, as it does.
func TestSequenceThatIsPinnedMeanwhile(t *testing.T) {
	s := newStore(t)
	var seq Sequence
	for i := range 20 {
		seq = append(seq, mustImport(t, s, testkit.Random(uint64(i), 1000)))
	}
	root := mustImport(t, s, seq.Bytes())
	_, err := s.Collect(bg, CollectOptions{Keep: func(context.Context, *Marks) error {
		return s.Pin(bg, Pin{Name: "p", Hash: root, Sequence: true}) // now that pins have been read
	}})
	require.NoError(t, err)
	for _, h := range append(seq, root) {
		has, err := s.Has(bg, h)
		require.NoError(t, err)
		require.True(t, has)
	}
}
