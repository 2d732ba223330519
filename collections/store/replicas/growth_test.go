package replicas

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/cost"
)

// Reading a journal does twice the work for twice the bytes, counted in what it allocates,
// whatever is damaged.
func TestWorkGrowsWithTheJournal(t *testing.T) {
	f := countingForm()
	journal := func(n int, damage func(at int, b []byte)) []byte {
		all := f.id.head()
		for i := range n {
			r := record{
				kind: recordPut, time: 1, key: fmt.Sprint("notes/", i), kept: jsonType,
				body: []byte("{}"),
			}
			b := f.append(nil, &r, 1, uint64(i+1), uint64(i))
			damage(i, b)
			all = append(all, b...)
		}
		return all
	}
	for name, text := range map[string]func(n int) []byte{
		"whole": func(n int) []byte { return journal(n, func(int, []byte) {}) },
		"all damaged": func(n int) []byte {
			return journal(n, func(_ int, b []byte) { b[len(b)-1] ^= 1 })
		},
		"every second": func(n int) []byte {
			return journal(n, func(i int, b []byte) { b[len(b)-1] ^= byte(i & 1) })
		},
		"lengths that lead far": func(n int) []byte {
			return journal(n, func(_ int, b []byte) { b[markSize+2] = 1 })
		},
		"zeros": func(n int) []byte { return append(f.id.head(), make([]byte, 50*n)...) },
		"no journal": func(n int) []byte {
			return bytes.Repeat([]byte("journal "), n)
		},
	} {
		const n = 2000
		work := func(b []byte) func() {
			return func() { _, _ = parseJournal(b) }
		}
		once, twice := cost.Bytes(work(text(n))), cost.Bytes(work(text(2*n)))
		require.LessOrEqual(t, twice, 3*once+1<<16, "%s: %d, then %d bytes", name, once, twice)
	}
}
