package content

import (
	"errors"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/content/schedule"
)

// A fetch in the background is for one peer, its lead. Others are asked beside it for what is
// large. They do not keep the lead from being asked for what is wanted next: the fetch ends when
// the lead gives no more, or when all together give little for long.

var (
	// errExhausted ends a fetch whose lead has nothing more to give.
	errExhausted = errors.New("the peer has no more of what is wanted")
	// errSlow ends a fetch for a lead that has brought little for long, while others may have it, too.
	errSlow = errors.New("the peer gives what is wanted too slowly, and others may have it")
)

// mostSlow is how many times stallTime a fetch for one peer may bring less than fairBytes, if
// others may have what is claimed for it.
const mostSlow = 12

// follow makes the provider p the one for which the fetch is.
func (f *fetcher) follow(p peer.ID) {
	for _, x := range f.providers {
		if x.info.ID == p {
			f.lead = x
			f.sched.Lead(x.src)
		}
	}
}

// tooSlow reports whether the fetch has brought little for long, and others than its lead may have
// what is claimed for it, and what they are not asked for meanwhile.
func (f *fetcher) tooSlow() bool {
	if f.lead == nil || f.relief == nil || f.slow < mostSlow {
		return false
	}
	return slices.ContainsFunc(f.relief(), func(p peer.ID) bool { return p != f.lead.info.ID })
}

// ledTo returns the error of a fetch whose lead gives no more, or nil.
func (f *fetcher) ledTo(now schedule.State) error {
	if f.lead == nil || now.Open == 0 {
		return nil
	}
	f.lead.mu.Lock()
	defer f.lead.mu.Unlock()
	switch {
	case f.lead.dead:
		return fmt.Errorf("peer %s: %w", f.lead.info.ID, f.lead.err)
	case now.Exhausted:
		return errExhausted
	}
	return nil
}

// noteLater notes a blob that is to be asked for behind the others of the fetch, the next time.
func (f *fetcher) noteLater(h blobs.Hash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.later == nil {
		f.later = map[blobs.Hash]bool{}
	}
	f.later[h] = true
}

// Untried says of a claim whose content has not come that the lead was not asked for it, or not to
// the end, so that the lead is not to be taken for lacking it.
type Untried int

// The ways to be untried.
const (
	Unasked Untried = 1 // it may be asked for at once
	TooSlow Untried = 2 // others are better asked first
)

// untried marks all claims but those that the lead was found to lack.
func (f *fetcher) untried(claims []Claim, as Untried) map[int]Untried {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[int]Untried{}
	for i, c := range claims {
		if !f.later[c.Hash] && !f.sched.LeadLacks(c.Hash) {
			out[i] = as
		}
	}
	return out
}
