package reconcile

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func freeQuestion(int) error { return nil }

var errNoRoom = errors.New("no room")

// purse is a Budget of a fixed size.
type purse struct {
	mu         sync.Mutex
	size       int
	held, most int
}

func (p *purse) Take(n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held+n > p.size {
		return errNoRoom
	}
	p.held += n
	p.most = max(p.most, p.held)
	return nil
}

func (p *purse) Give(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held -= n
}

// Whatever a peer sends, a session holds no more than its budget, and gives all of it back.
func TestSessionKeepsToItsBudget(t *testing.T) {
	list := question{kind: kindList}
	var lists []question
	for range 20_000 {
		lists = append(lists, list) // 5 bytes each, and 60 times as much in memory
	}
	parts := question{kind: kindCompare}
	for i := range maxParts - 1 {
		parts.parts = append(parts.parts, claim{to: []byte{byte(i >> 8), byte(i)}})
	}
	var compares []question
	for range 200 {
		compares = append(compares, parts)
	}
	empty := make([]byte, maxFrame) // items without a byte: each has a header in memory all the same
	for name, says := range map[string][]byte{
		"a long frame that never comes": appendFrame(nil, frameItems, make([]byte, maxFrame))[:16],
		"questions that are not answered": bytes.Repeat(
			appendFrame(nil, frameRanges, rangesPayload(1, 0, lists...)), 4),
		"questions with many parts": bytes.Repeat(
			appendFrame(nil, frameRanges, rangesPayload(1, 0, compares[:20]...)), 40),
		"empty items": appendFrame(nil, frameItems, empty),
	} {
		const size = 256 << 10
		p := &purse{size: size}
		cfg := newMemorySet(numbered(20)).config(false)
		cfg.Budget = p
		ours, theirs := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = theirs.Write(says) })
		_, err := Run(t.Context(), bufio.NewReader(ours), ours, func() { ours.Close() }, cfg)
		require.ErrorIs(t, err, errNoRoom, name)
		ours.Close()
		wg.Wait()
		require.LessOrEqual(t, p.most, size, name)
		require.Zero(t, p.held, name)
	}
	// A session that ends well gives all back, too.
	p := &purse{size: 8 << 20}
	a, b := newMemorySet(numbered(3000)), newMemorySet(map[string]uint64{"x": 1})
	one, other := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := Run(t.Context(), bufio.NewReader(one), one, func() { one.Close() }, a.config(true))
		if err != nil {
			t.Error(err)
		}
	})
	cfg := b.config(false)
	cfg.Budget = p
	_, err := Run(t.Context(), bufio.NewReader(other), other, func() { other.Close() }, cfg)
	require.NoError(t, err)
	wg.Wait()
	require.Positive(t, p.most)
	require.Zero(t, p.held)
}
