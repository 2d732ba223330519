package content

import (
	"context"
	"errors"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/fault"
)

// Claim says that the content of a hash has so many bytes. Anybody can claim anything. A claim is
// decided only by what the hash commits to: the proved size of the blob or, of a file in chunks,
// the sum of its list. So a claim that is wrong once is wrong for ever. It says nothing about other
// claims about the same hash.
type Claim struct {
	Hash blobs.Hash
	Size uint64
}

// Verdict says what a proved size means for a claim.
type Verdict int

// The verdicts.
const (
	Holds   Verdict = iota // the blob has the claimed size
	MayHold                // it may be the sequence of a file in chunks that has it
	Refuted
)

// Judge compares the proved size of a blob with a claimed one.
func Judge(proved, claimed uint64) Verdict {
	switch {
	case proved == claimed:
		return Holds
	case claimed >= chunked.Threshold && chunked.Fits(proved, claimed):
		return MayHold
	}
	return Refuted
}

// Claims are to be fetched in the background.
type Claims struct {
	Claims []Claim
	// Lead is the peer for which they are fetched. The fetch ends when it gives no more.
	Lead peer.ID
	// Others are asked beside it.
	Others []peer.ID
	// Relief returns who is asked as well when these are stalling.
	Relief func() []peer.ID
}

// Outcome is what has become of claims, by their places in the list.
type Outcome struct {
	Wrong   map[int]uint64     // the proved sizes of the blobs about which claims are wrong
	Untried map[int]Untried    // some of these may have come nevertheless
	Gave    map[peer.ID]uint64 // verified bytes, by who gave them
}

// FetchClaims gets what is claimed: blobs, and of those that turn out to be in chunks, the chunks.
// No claim keeps this from the others; what was missing of any is a *MissingError. It is no error
// if the lead has no more to give, or if all give too little for long while others may have the
// rest; the outcome says so.
func (x *Exchange) FetchClaims(ctx context.Context, c Claims) (out Outcome, err error) {
	providers := []peer.AddrInfo{{ID: c.Lead}}
	for _, p := range c.Others {
		providers = append(providers, peer.AddrInfo{ID: p})
	}
	f := x.newFetcher(ctx, x.blobs, providers, nil, true, nil)
	f.claims, f.relief = true, c.Relief
	f.follow(c.Lead)
	out.Wrong, out.Gave = map[int]uint64{}, map[peer.ID]uint64{}
	err = fault.Call(func() error { return f.fetchClaims(c.Claims, out.Wrong) })
	var as Untried
	switch {
	case errors.Is(err, errSlow):
		as, err = TooSlow, nil
	case errors.Is(err, errExhausted):
		as, err = Unasked, nil
	}
	_, err = f.end(err)
	for _, p := range f.providers {
		if bytes := p.src.Gave(); bytes > 0 {
			out.Gave[p.info.ID] = bytes
		}
	}
	if as == 0 && f.lead.failed() {
		as = Unasked
	}
	if as != 0 {
		out.Untried = f.untried(c.Claims, as)
	}
	return out, err
}

func (f *fetcher) fetchClaims(claims []Claim, refuted map[int]uint64) error {
	wants := make([]Want, 0, len(claims))
	for _, c := range claims {
		wants = append(wants, Want{
			Hash: c.Hash, Size: c.Size, Chunked: c.Size >= chunked.Threshold,
		})
	}
	var missing *MissingError
	err := f.fetch(wants...)
	// What has come of files in chunks are their sequences: the chunks may be there, although the lead
	// has no more of this.
	exhausted := errors.Is(err, errExhausted)
	if err != nil && !exhausted && !errors.As(err, &missing) {
		return err
	}
	seen := map[Claim]error{} // of content in chunks
	for i, w := range wants {
		at := claims[i]
		wrong, known := seen[at]
		if !known {
			if wrong = f.contradicted(w); wrong == nil && w.Chunked {
				wrong = f.fetchChunks(w.Hash, w.Size)
			}
			if w.Chunked {
				seen[at] = wrong
			}
		}
		var size *SizeError
		var lacks *MissingError
		switch {
		case wrong == nil:
		case errors.As(wrong, &size):
			refuted[i] = size.Have
		case errors.As(wrong, &lacks):
			if missing == nil {
				missing = lacks
			}
		case errors.Is(wrong, errExhausted):
			f.noteLater(w.Hash)
			exhausted = true
		default:
			f.noteLater(w.Hash)
			return wrong
		}
	}
	switch {
	case exhausted:
		return errExhausted
	case missing != nil:
		return missing
	}
	return nil
}

// fetchChunks gets the chunks of content that an entry names by its sequence, if that is what the
// blob h is. It returns a *SizeError if h is not the sequence of content of size bytes.
func (f *fetcher) fetchChunks(h blobs.Hash, size uint64) error {
	if err := f.rc.Flush(); err != nil {
		return storeFault{err}
	}
	info, err := f.store.Stat(f.ctx, h)
	if errors.Is(err, blobs.ErrNotFound) || err == nil && (!info.Complete || info.Size == size) {
		return nil // nobody had it, or it is one blob
	}
	if err != nil {
		return storeFault{err}
	}
	wrong := &SizeError{h, size, info.Size}
	if total, known := f.totals[h]; Judge(info.Size, size) == Refuted || known && total != size {
		return wrong
	}
	head := blobs.Ranges{{Start: 0, End: blobs.HashSize}}
	if err := f.mend(f.store.Check(f.ctx, h, head)); err != nil {
		return err
	}
	first, err := f.store.Reader(f.ctx, h)
	if err != nil {
		return storeFault{err}
	}
	var child blobs.Hash
	if _, err := first.ReadAt(child[:], 0); err != nil {
		return storeFault{err}
	}
	list := Want{Hash: child, Most: chunked.LongestList(info.Size)}
	if err := f.fetch(list); err != nil {
		return err
	}
	if f.contradicted(list) != nil {
		return wrong
	}
	if err := f.rc.Flush(); err != nil {
		return storeFault{err}
	}
	chunks, err := chunked.Open(f.ctx, f.store, h)
	if _, damaged := errors.AsType[*blobs.DamageError](err); damaged {
		if err := f.mend(err); err != nil {
			return err
		}
		chunks, err = chunked.Open(f.ctx, f.store, h)
	}
	bad := errors.Is(err, chunked.ErrNotChunked) || errors.Is(err, chunked.ErrBadList)
	if err == nil || bad {
		if f.totals == nil {
			f.totals = map[blobs.Hash]uint64{}
		}
		f.totals[h] = 0
		if err == nil {
			f.totals[h] = chunks.Size()
		}
	}
	switch {
	case bad, err == nil && chunks.Size() != size:
		return wrong
	case err != nil:
		return storeFault{err}
	}
	// A list can name millions of chunks, so they are fetched by as many as a fetch looks at together.
	var wants []Want
	fetch := func() error {
		if err := f.fetch(wants...); err != nil {
			return err
		}
		for _, w := range wants {
			if f.contradicted(w) != nil {
				return wrong // the list lies about its chunks: nobody could read the content
			}
		}
		wants = wants[:0]
		return nil
	}
	var fetchErr error
	err = chunks.Each(f.ctx, func(c chunked.Chunks) error {
		if wants = append(wants, chunkWants(c)...); len(wants) >= fetchWindow {
			fetchErr = fetch()
		}
		return fetchErr
	})
	if err != nil && fetchErr == nil {
		return storeFault{err}
	}
	if err != nil {
		return err
	}
	return fetch()
}

// checkClaims compares claims about one blob with its proved size, and reports whether one of them
// holds. The others are noted, if the fetch is one of claims, or else the first is an error.
func (f *fetcher) checkClaims(size uint64, w Want, also ...Want) (ok bool, err error) {
	for i := range len(also) + 1 {
		if i > 0 {
			w = also[i-1]
		}
		err := check(w, size)
		if err == nil {
			ok = true
			continue
		}
		if !f.claims {
			return false, err
		}
		f.noteSize(w.Hash, size)
	}
	return ok, nil
}

func (f *fetcher) noteSize(h blobs.Hash, size uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sizes == nil {
		f.sizes = map[blobs.Hash]uint64{}
	}
	f.sizes[h] = size
}

// contradicted returns a *SizeError if the fetch has proved that a claim is wrong.
func (f *fetcher) contradicted(w Want) error {
	f.mu.Lock()
	size, known := f.sizes[w.Hash]
	f.mu.Unlock()
	if !known {
		return nil
	}
	return check(w, size)
}

// errRefuted ends the receiving of a blob about which all claims are wrong.
var errRefuted = errors.New("all claims about the blob are wrong")
