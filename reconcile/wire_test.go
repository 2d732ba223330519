package reconcile

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
)

// What a scripted peer does beside talking.
const (
	listens = iota // reads everything, until the session ends
	hangsUp        // reads everything, and closes after its last word
	isDeaf         // reads nothing
)

// talk runs a session of set against a peer that sends the given bytes.
func talk(t *testing.T, set *memorySet, initiator bool, peer int, says []byte) error {
	ours, theirs := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = theirs.Write(says)
		if peer == hangsUp {
			theirs.Close()
		}
	})
	if peer != isDeaf {
		wg.Go(func() { _, _ = io.Copy(io.Discard, theirs) })
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := Run(ctx, bufio.NewReader(ours), ours, func() { ours.Close() }, set.config(initiator))
	ours.Close()
	wg.Wait()
	return err
}

func rangesPayload(round, answered uint64, qs ...question) []byte {
	b := binary.AppendUvarint(nil, round)
	b = binary.AppendUvarint(b, answered)
	var prev []byte
	for i := range qs {
		b, prev = appendQuestion(b, prev, &qs[i])
	}
	return b
}

func TestHostilePeers(t *testing.T) {
	bad := func(kind byte, b []byte) []byte { return appendFrame(nil, kind, b) }
	var flood []byte
	for range 20 {
		var qs []question
		for range 15_000 {
			qs = append(qs, question{kind: kindList, r: Range{From: []byte("x")}})
		}
		flood = append(flood, bad(frameRanges, rangesPayload(1, 0, qs...))...)
	}
	for name, says := range map[string][]byte{
		"unknown frame":    bad(99, nil),
		"huge frame":       append([]byte{frameItems}, 0xff, 0xff, 0xff, 0x7f),
		"unknown question": bad(frameRanges, []byte{1, 0, 77, 0, 0, 0, 0}),
		"cut question":     bad(frameRanges, []byte{1, 0, kindCompare, 0, 0}),
		"cut digest":       bad(frameRanges, []byte{1, 0, kindCompare, 0, 0, 1, 0, 0, 0, 5, 1, 2}),
		"cut sums": bad(
			frameRanges, []byte{1, 0, kindCompare, 0, 0, 1, 2, 0, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8, 9},
		),
		"no parts":       bad(frameRanges, []byte{1, 0, kindCompare, 0, 0, 0, 0}),
		"too many parts": bad(frameRanges, []byte{1, 0, kindCompare, 0, 0, 0x81, 2, 0}),
		"too many sums": bad(
			frameRanges, []byte{1, 0, kindCompare, 0, 0, 1, capacity + 1, 0, 0},
		),
		"strict with sums": bad(
			frameRanges, []byte{1, 0, kindCompare, 0, 0, 1, strictBit | 1, 0, 0},
		),
		"a part behind the end": bad(
			frameRanges,
			rangesPayload(1, 0, question{kind: kindCompare, parts: []claim{{}, {to: []byte("a")}}}),
		),
		"parts backwards": bad(
			frameRanges,
			rangesPayload(
				1, 0, question{kind: kindCompare, parts: []claim{{to: []byte("b")}, {to: []byte("a")}}},
			),
		),
		"too many elements":    bad(frameRanges, []byte{1, 0, kindFetch, 0, 0, 0xff, 0xff, 0x7f}),
		"a fetch with a bound": bad(frameRanges, []byte{1, 0, kindFetch, 0, 1, 'x', 0}),
		"too many ids":         bad(frameRanges, []byte{1, 0, kindOffer, 0, 0, 0, 0, 0xff, 0xff, 0x7f}),
		"range backwards": bad(
			frameRanges, rangesPayload(1, 0, question{kind: kindList, r: Range{[]byte("b"), []byte("a")}}),
		),
		"shares what is not":     bad(frameRanges, []byte{1, 0, kindList, 9, 0, 0, 0}),
		"answers nothing asked":  bad(frameRanges, rangesPayload(1, 9)),
		"endless rounds":         bad(frameRanges, rangesPayload(maxRounds, 0, question{kind: kindList})),
		"beyond the last round":  bad(frameRanges, rangesPayload(maxRounds+1, 0)),
		"done with content":      bad(frameDone, []byte{1}),
		"item longer than frame": bad(frameItems, []byte{200, 1, 2}),
		"huge item":              bad(frameItems, binary.AppendUvarint(nil, maxItem+1)),
		"a flood of questions":   flood,
	} {
		for _, initiator := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/%v", name, initiator), func(t *testing.T) {
				set := newMemorySet(numbered(100))
				peer := listens
				if name == "a flood of questions" {
					peer = isDeaf
				}
				err := talk(t, set, initiator, peer, says)
				var protocol *ProtocolError
				require.ErrorAs(t, err, &protocol)
				require.Equal(t, numbered(100), set.m)
			})
		}
	}
	err := talk(t, newMemorySet(numbered(10)), true, listens, bad(frameDone, nil))
	var protocol *ProtocolError
	require.ErrorAs(t, err, &protocol, "a responder may not end the session")
	require.ErrorIs(t, talk(t, newMemorySet(nil), false, hangsUp, nil), io.ErrUnexpectedEOF)
	require.ErrorIs(
		t, talk(t, newMemorySet(nil), false, hangsUp, []byte{frameItems, 5, 1}), io.ErrUnexpectedEOF,
	)
}

// An item that is not accepted ends the session with the inserter's own error, and what came before
// stays.
func TestInsertErrorEndsSession(t *testing.T) {
	mine := errors.New("not for me")
	a, b := newMemorySet(numbered(50)), newMemorySet(nil)
	ca, cb := net.Pipe()
	cfg := b.config(false)
	cfg.Insert = func(context.Context, [][]byte) error { return mine }
	done := make(chan error, 1)
	go func() {
		_, err := Run(context.Background(), bufio.NewReader(cb), cb, func() { cb.Close() }, cfg)
		done <- err
	}()
	_, err := Run(context.Background(), bufio.NewReader(ca), ca, func() { ca.Close() }, a.config(true))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorIs(t, <-done, mine)
}

func TestCancelEndsSession(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err := Run(ctx, bufio.NewReader(ours), ours, func() {
		ours.Close()
	}, newMemorySet(numbered(3)).config(true))
	require.ErrorIs(t, err, context.Canceled)
}

// A session that is cut in the middle of a long transfer leaves what has come, and the next one
// fetches only the rest.
func TestCutSessionGoesOn(t *testing.T) {
	many := testkit.Few(20_000, 8000)
	a, b := newMemorySet(numbered(many)), newMemorySet(nil)
	ca, cb := net.Pipe()
	done := make(chan error, 1)
	go func() {
		cut := bufio.NewReader(io.LimitReader(cb, int64(many)*25))
		_, err := Run(context.Background(), cut, cb, func() { cb.Close() }, b.config(false))
		done <- err
	}()
	_, err := Run(context.Background(), bufio.NewReader(ca), ca, func() { ca.Close() }, a.config(true))
	require.Error(t, err)
	require.ErrorIs(t, <-done, io.ErrUnexpectedEOF)
	got := len(b.m)
	require.Greater(t, got, 1000)
	_, sb := syncSets(t, a, b)
	require.Equal(t, a.m, b.m)
	require.EqualValues(t, many-got, sb.ItemsReceived)
}

// Golden: frames never change their meaning.
func TestFramesGolden(t *testing.T) {
	var sum Summary
	sum.Add(markOf([]byte("a")))
	s := session{key: newSessionKey([32]byte{3})}
	c := s.claim(Range{To: []byte("photos/a")}, &sum)
	qs := []question{
		{kind: kindCompare, r: Range{From: []byte("photos/")}, sums: 1, parts: []claim{
			c, {to: []byte("photos/b"), count: 300},
		}},
		{kind: kindCompare, strict: true, parts: []claim{{}}},
		{kind: kindOffer, r: Range{[]byte("a"), []byte("b")}, ids: []shortID{1}},
		{kind: kindSend, r: Range{[]byte("a"), nil}, ids: []shortID{s.key.short([32]byte{7})}},
		{kind: kindList, r: Range{[]byte("a"), []byte("ab")}},
		{kind: kindFetch, elements: []Element{{1, 2}}},
	}
	frame := appendFrame(nil, frameRanges, rangesPayload(3, 2, qs...))
	require.Equal(
		t,
		"019101030201000770686f746f732f020107016101ed1c9f1482fe9733a2eec37a71655d9253a469d9dd2f7617070162ac0200000000000000000000000000000000000000000000000001000001800000000000000000000000020001610001620101000000000000000300016100000169b4dea6914b251f040001610101620500000101020000000000000000000000000000",
		fmt.Sprintf("%x", frame),
	)
	parsed, err := parseRanges(frame[3:], freeQuestion)
	require.NoError(t, err)
	require.Len(t, parsed.questions, len(qs))
	items := appendFrame(nil, frameItems, append(append([]byte{3}, "abc"...), 1, 'd'))
	require.Equal(t, "0206036162630164", fmt.Sprintf("%x", items))
}

func FuzzFrames(f *testing.F) {
	f.Add(
		appendFrame(
			nil, frameRanges,
			rangesPayload(
				1, 0,
				question{kind: kindCompare, sums: 2, parts: []claim{{to: []byte("m"), count: 3}, {count: 4}}},
				question{kind: kindFetch, elements: []Element{{1}}},
				question{kind: kindCompare, strict: true, parts: []claim{{}}},
				question{kind: kindOffer, ids: []shortID{1, 2}},
			),
		),
		true,
	)
	f.Add(appendFrame(nil, frameItems, []byte{9, 0, 0, 0, 0, 0, 0, 0, 1, 'k'}), false)
	f.Add(appendFrame(nil, frameDone, nil), false)
	f.Fuzz(func(t *testing.T, b []byte, initiator bool) {
		set := newMemorySet(numbered(20))
		_ = talk(t, set, initiator, hangsUp, b) // must end, without a panic
		if frame, err := parseRanges(b, freeQuestion); err == nil {
			again, err := parseRanges(
				rangesPayload(uint64(frame.round), frame.answered, frame.questions...), freeQuestion,
			)
			require.NoError(t, err)
			require.Equal(t, frame, again)
		}
		_, _ = parseItems(b, unbounded{}.Take)
	})
}
