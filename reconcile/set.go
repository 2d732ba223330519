// Package reconcile finds the difference between two ordered sets held by two peers, sending data
// in proportion to the difference. It implements range-based set reconciliation (Meyer 2022,
// arXiv:2212.13567) over a pair of byte streams.
//
// What belongs here: fingerprints, ranges, the messages and the session that narrows down and
// exchanges what differs. What never belongs here: what an item means, how it is stored, who may
// write it, and how peers are found; replica provides the [Set], node provides the stream.
//
// Start at [Run]. The messages are described in wire.go and docs/protocol/reconcile.md, the
// fingerprint in fingerprint.go.
package reconcile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
)

// Item is one element of a set.
type Item struct {
	Key  []byte // its place in the order; unique in a set
	Mark        // what it adds to a summary
	Data []byte // what a peer that lacks the item is sent
}

// Range is the items whose keys are From <= key < To. An empty To has no end.
type Range struct{ From, To []byte }

// All is the range of every item.
var All = Range{}

// Contains reports whether a key lies in the range.
func (r Range) Contains(key []byte) bool {
	return bytes.Compare(key, r.From) >= 0 && (len(r.To) == 0 || bytes.Compare(key, r.To) < 0)
}

// within reports whether all of r lies in o.
func (r Range) within(o Range) bool {
	return bytes.Compare(r.From, o.From) >= 0 && (len(o.To) == 0 || len(r.To) > 0 &&
		bytes.Compare(r.To, o.To) <= 0)
}

// Part is a range with its summary.
type Part struct {
	Range
	Summary
}

// Set is an ordered set of items as a session sees it. Its methods are called by one goroutine of a
// session, while another one inserts what the peer sends; whether they see that is left open.
type Set interface {
	// Summaries returns the summaries of the consecutive ranges between bounds, of which there are at
	// least two, in ascending order. An empty last bound has no end.
	Summaries(ctx context.Context, bounds [][]byte) ([]Summary, error)
	// Split divides r into at most k consecutive parts of about equal counts that cover r exactly; k
	// >= 2.
	Split(ctx context.Context, r Range, k int) ([]Part, error)
	// Items yields the items of r in order. An item is valid only until the next step.
	Items(ctx context.Context, r Range) iter.Seq2[Item, error]
	// Find yields the items of r that have one of the elements, in any order. Those that are not there
	// are left out.
	Find(ctx context.Context, r Range, elements []Element) iter.Seq2[Item, error]
}

// Scanned is a Set that computes everything by visiting every item of a range.
type Scanned func(ctx context.Context, r Range) iter.Seq2[Item, error]

var _ Set = Scanned(nil)

// ErrNoMark reports an item that adds nothing to a summary: sets of such items would all look the
// same.
var ErrNoMark = errors.New("an item of the set has no mark")

// Items implements Set. It yields ErrNoMark.
func (s Scanned) Items(ctx context.Context, r Range) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for item, err := range s(ctx, r) {
			if err == nil && item.Mark == (Mark{}) {
				err = fmt.Errorf("%w: key %.64q", ErrNoMark, item.Key)
			}
			if !yield(item, err) {
				return
			}
		}
	}
}

// Find implements Set.
func (s Scanned) Find(ctx context.Context, r Range, elements []Element) iter.Seq2[Item, error] {
	wanted := make(map[Element]bool, len(elements))
	for _, e := range elements {
		wanted[e] = true
	}
	return func(yield func(Item, error) bool) {
		for item, err := range s.Items(ctx, r) {
			if (err != nil || wanted[item.Element]) && !yield(item, err) {
				return
			}
		}
	}
}

// Summaries implements Set.
func (s Scanned) Summaries(ctx context.Context, bounds [][]byte) ([]Summary, error) {
	sums := make([]Summary, len(bounds)-1)
	at := 0
	for item, err := range s.Items(ctx, Range{bounds[0], bounds[len(bounds)-1]}) {
		if err != nil {
			return nil, err
		}
		for at+1 < len(sums) && bytes.Compare(item.Key, bounds[at+1]) >= 0 {
			at++
		}
		sums[at].Add(item.Mark)
	}
	return sums, nil
}

// SummaryOf returns the summary of one range of a set.
func SummaryOf(ctx context.Context, s Set, r Range) (Summary, error) {
	sums, err := s.Summaries(ctx, [][]byte{r.From, r.To})
	if err != nil {
		return Summary{}, err
	}
	return sums[0], nil
}

// Split implements Set.
func (s Scanned) Split(ctx context.Context, r Range, k int) ([]Part, error) {
	if k < 2 {
		return nil, errors.New("reconcile: split into fewer than two parts")
	}
	var count uint64
	for _, err := range s(ctx, r) {
		if err != nil {
			return nil, err
		}
		count++
	}
	parts := []Part{{Range: r}}
	var seen uint64
	var last []byte
	for item, err := range s(ctx, r) {
		if err != nil {
			return nil, err
		}
		// The j-th part begins at item j*count/k; a set that grew meanwhile has a longer last part.
		if j := uint64(len(parts)); j < uint64(k) && seen > 0 && seen >= j*count/uint64(k) {
			at := Separator(last, item.Key)
			parts[j-1].To = at
			parts = append(parts, Part{Range: Range{From: at, To: r.To}})
		}
		parts[len(parts)-1].Add(item.Mark)
		last = append(last[:0], item.Key...)
		seen++
	}
	return parts, nil
}

// Separator returns the shortest prefix of b that is greater than a, for a < b: a bound between the
// two that costs few bytes.
func Separator(a, b []byte) []byte {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return bytes.Clone(b[:min(n+1, len(b))])
}
