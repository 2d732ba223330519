package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A command waits for content as long as that becomes less. Entries that somebody goes on writing
// do not hold it.
func TestSettlingEnds(t *testing.T) {
	for _, tt := range []struct {
		name    string
		pending func(i int) int
		looks   int // that go on, each a second after the other
	}{
		{"it becomes less", func(i int) int { return 100 - i }, 100},
		{"nothing comes", func(int) int { return 5 }, int(settleWait / time.Second)},
		{"more and more", func(i int) int { return 5 + i }, int(settleWait / time.Second)},
		{"now more, now less", func(i int) int { return 5 + i%2 }, int(settleWait / time.Second)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
			s, looks := newSettling(now), 0
			for ; looks < 100; looks++ {
				now = now.Add(time.Second)
				if !s.goesOn(now, tt.pending(looks)) {
					break
				}
			}
			require.Equal(t, tt.looks, looks)
		})
	}
}
