package handover

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/link"
)

// numbered returns a hash of its own for each number.
func numbered(i int) blobs.Hash { return blobs.HashOf([]byte{byte(i)}) }

// What a peer says it has counts for a time, what it is sent as long as there is something to send.
func TestProgressOfPeersIsBounded(t *testing.T) {
	const patience, total = 5 * time.Second, 1 << 20
	began := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	step := uint64(link.LeastRate * patience / time.Second)
	for _, tt := range []struct {
		name  string
		tell  func(i uint64) (whole, partly, given uint64)
		times int // of progress
	}{
		{"nothing", func(uint64) (whole, partly, given uint64) { return 0, 0, 0 }, 0},
		{"the same part", func(uint64) (whole, partly, given uint64) { return 0, 500, 0 }, 1},
		{"whole blobs", func(uint64) (whole, partly, given uint64) { return 1, 0, 0 }, believedFor},
		{"a byte more of some", func(i uint64) (whole, partly, given uint64) { return 0, i, 0 },
			believedFor},
		{"bytes at the least rate", func(i uint64) (whole, partly, given uint64) {
			return 0, 0, i * step
		}, int(2 * total / step)},
		{"fewer bytes", func(i uint64) (whole, partly, given uint64) { return 0, 0, i }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seen, now, times := newTaking(patience, total, began), began, 0
			for i := uint64(1); !seen.late(now); i++ {
				now = now.Add(patience)
				whole, partly, given := tt.tell(i)
				if seen.progress(now, whole, partly, given) {
					times++
				}
			}
			require.Equal(t, tt.times, times)
		})
	}
}

// Anybody can ask for content under any number of ids, and a command can run for long.
func TestLedgerIsBounded(t *testing.T) {
	h := New(Config{On: true})
	h.most, h.mostPeers = 100, 10
	h.Gave("stranger", 1000)
	require.Empty(t, h.to)
	for i := range 30 {
		for p := range 20 {
			h.owe(peer.ID(fmt.Sprint(p)), content.Claim{Hash: numbered(i), Size: 5})
		}
	}
	h.Gave("0", 7)
	h.Gave("stranger", 1000)
	require.EqualValues(t, 7, h.givenTo("0"))
	require.Zero(t, h.givenTo("stranger"))
	require.Len(t, h.to, h.mostPeers)
	all, others := h.take()
	require.Equal(t, 10*30, others)
	count := 0
	for p, o := range all {
		count += len(o.content)
		require.Equal(t, 30, len(o.content)+o.more)
		if p == "0" {
			h.owe(p, content.Claim{Hash: numbered(1), Size: 5}) // in a session meanwhile
		}
		h.Gave(p, 1)
		h.done(p)
	}
	require.Equal(t, h.most, count)
	require.Len(t, h.to, 1, "it is owed something again")
	all, others = h.take()
	require.Len(t, all, 1)
	require.Zero(t, others)
	h.done("0")
	require.Empty(t, h.to)
	require.Zero(t, h.total)
}
