package reconcile

import (
	"bufio"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/cost"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// halves returns two sets of count items that have no item in common.
func halves(count int, key func(i int) string) (a, b *memorySet) {
	ma, mb := map[string]uint64{}, map[string]uint64{}
	for i := range count {
		m := ma
		if i%2 == 1 {
			m = mb
		}
		m[key(i)+string(binary.BigEndian.AppendUint32(nil, uint32(i)))] = 1
	}
	return newMemorySet(ma), newMemorySet(mb)
}

// A writer chooses keys, and so the bounds of ranges. A few long ones that share nothing fill a
// frame.
func TestLongBoundsFitIntoFrames(t *testing.T) {
	group := func(i int) string {
		rng, b := rand.New(rand.NewPCG(uint64(i/10), 1)), make([]byte, 130_000)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return string(b)
	}
	a, b := halves(testkit.Few(400, 100), group)
	want := slices.Sorted(maps.Keys(b.m))
	want = slices.Sorted(slices.Values(append(want, a.keys...)))
	syncSets(t, a, b)
	require.Equal(t, want, a.keys)
	require.Equal(t, want, b.keys)
}

// Bounds that share all but their ends are short in a frame, and long in memory. No side asks so
// much that the other one must end the session.
func TestQuestionsLeaveThePeerRoom(t *testing.T) {
	const soft, hard = 64 << 10, 1 << 20
	prefix := string(make([]byte, 8_000))
	count := testkit.Few(3_000, 600)
	a, b := halves(count, func(int) string { return prefix })
	run := func(initiator bool, set *memorySet, c net.Conn) (*purse, error) {
		p := &purse{size: hard}
		cfg := set.config(initiator)
		cfg.Budget, cfg.softMemory = p, soft
		_, err := Run(t.Context(), bufio.NewReader(c), c, func() { c.Close() }, cfg)
		return p, err
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	type result struct {
		p   *purse
		err error
	}
	done := make(chan result, 1)
	go func() {
		p, err := run(false, b, theirs)
		done <- result{p, err}
	}()
	p, err := run(true, a, ours)
	require.NoError(t, err)
	other := <-done
	require.NoError(t, other.err)
	require.Len(t, a.m, count)
	require.Equal(t, a.m, b.m)
	require.Zero(t, p.held+other.p.held)
}

// What a question will occupy is counted while it is read, and not once it is there.
func TestLongBoundsAreCountedAsTheyCome(t *testing.T) {
	const size = 1 << 20
	q := question{kind: kindCompare}
	for i := range maxParts - 1 {
		to := append(make([]byte, maxBound-2), byte(i>>8), byte(i+1))
		q.parts = append(q.parts, claim{to: to})
	}
	b := rangesPayload(1, 0, q)
	require.Less(t, len(b), maxFrame)
	took := cost.Bytes(func() {
		p := &purse{size: size}
		_, err := parseRanges(b, p.Take)
		require.ErrorIs(t, err, errNoRoom)
	})
	require.Less(t, took, uint64(2*size))
}
