package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/node/content/schedule"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/link"
)

// Want names a blob to fetch.
type Want = schedule.Want

// check returns a *SizeError if the blob has turned out to be of another size than claimed, or of
// more than is fetched.
func check(w Want, size uint64) error {
	if w.Most > 0 && size > w.Most {
		return &SizeError{w.Hash, w.Most, size}
	}
	if w.Size == 0 || size == w.Size || w.Chunked && chunked.Fits(size, w.Size) {
		return nil
	}
	return &SizeError{w.Hash, w.Size, size}
}

// SizeError reports a blob whose proved size is not the one that an entry or directory gives.
type SizeError struct {
	Hash       blobs.Hash
	Want, Have uint64
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("verification failed: blob %s has %d bytes, not %d as claimed",
		e.Hash.Short(), e.Have, e.Want)
}

// Kind implements kind.Of.
func (e *SizeError) Kind() kind.Kind { return kind.Verification }

// MissingError reports blobs that no provider had.
type MissingError struct {
	Hashes []blobs.Hash // the first ones
	Count  int
	Causes []error // why the providers that could not be asked could not be asked, or were dropped
}

func (e *MissingError) Error() string {
	s := fmt.Sprintf("no provider has blob %s", e.Hashes[0])
	if e.Count > 1 {
		s += fmt.Sprintf(" and %d more", e.Count-1)
	}
	for _, c := range e.Causes {
		s += "; " + c.Error()
	}
	return s
}

// Kind implements kind.Of.
func (e *MissingError) Kind() kind.Kind { return kind.With(kind.NotFound, e.Causes...) }

// Unwrap gives the causes, so that a caller can tell a lying provider or an unreachable one from a
// blob that is nowhere.
func (e *MissingError) Unwrap() []error { return e.Causes }

// Fetched counts what a fetch did.
type Fetched struct {
	Bytes     uint64    // of content, verified
	Providers []peer.ID // that gave some, in the order in which they were named
}

// storeFault is a failure of this node's own store while it was receiving.
type storeFault struct{ err error }

func (e storeFault) Error() string { return e.err.Error() }
func (e storeFault) Unwrap() error { return e.err }

// fetchWindow is how many blobs a fetch looks at together.
const fetchWindow = 1 << 16

// fetcher gets blobs from several providers at once. Its providers, and what is known of them, last
// for several calls of fetch, one after the other.
type fetcher struct {
	x          *Exchange
	store      *blobs.Store // holds what is fetched; nothing of a fetch uses another
	ctx        context.Context
	cancel     context.CancelFunc
	background bool
	progress   func(n int)
	sizeKnown  func(size uint64) // told of a size that has been proved; may be nil
	// claims says that wants are claims of strangers: one that a proved size contradicts ends, and the
	// others go on. Otherwise the first ends the fetch.
	claims    bool
	totals    map[blobs.Hash]uint64 // what lists of chunks add up to; 0 of what is no list
	rc        *blobs.Receiver
	sched     *schedule.Schedule
	providers []*provider
	lead      *provider        // for which the fetch is; may be nil
	relief    func() []peer.ID // who is asked as well when the providers are stalling; may be nil
	looked    uint64           // bytes when that was last looked at
	looks     int              // how often it was
	slow      int              // how often in a row it was little
	work      sync.WaitGroup
	started   bool
	release   func() // of the hold of the store
	leave     func() // of the turn

	mu    sync.Mutex
	bytes uint64
	fatal error                 // no provider can help
	sizes map[blobs.Hash]uint64 // proved sizes of blobs of which a claim was wrong
	later map[blobs.Hash]bool   // could not be stored, or ended the fetch of the rest
}

// newFetcher returns a fetcher that asks the providers, and the fallback ones for what those do not
// have. What it fetches is held until it is closed, or longer if into, the exchange's store, holds
// already. progress, if not nil, is told the length of each verified piece, by one goroutine at a
// time. background says that nobody waits for it. It must be closed.
func (x *Exchange) newFetcher(
	ctx context.Context, into *blobs.Store, providers, fallback []peer.AddrInfo, background bool,
	progress func(n int),
) *fetcher {
	f := &fetcher{
		x: x, background: background, progress: progress, sched: schedule.New(time.Now),
	}
	f.store, f.release = into.Hold()
	f.ctx, f.cancel = context.WithCancel(ctx)
	f.rc = f.store.NewReceiver(f.ctx)
	f.leave = x.limits.Turns.Begin(background)
	seen := map[peer.ID]bool{}
	for i, info := range slices.Concat(providers, fallback) {
		if seen[info.ID] {
			continue
		}
		seen[info.ID] = true
		p := f.newProvider(info)
		switch {
		case x.cfg.Lied(info.ID):
			p.turn = turnOfLiars
		case i >= len(providers):
			p.turn = turnOfFallback
		}
		f.providers = append(f.providers, p)
	}
	return f
}

// end closes the fetcher and adds what that finds to err, the error of the fetch.
func (f *fetcher) end(err error) (Fetched, error) {
	got, closeErr := f.close()
	var known storeFault
	if errors.As(err, &known) { // it is the same
		return got, err
	}
	return got, errors.Join(err, closeErr)
}

// close ends everything and returns what was fetched.
func (f *fetcher) close() (Fetched, error) {
	f.sched.End()
	f.cancel()
	f.work.Wait()
	err := fault.Report(f.x.log, f.rc.Close(), "the storing of what came")
	if err != nil {
		err = storeFault{err}
	}
	f.release()
	f.leave()
	out := Fetched{Bytes: f.bytes}
	for _, p := range f.providers {
		if p.src.Gave() > 0 {
			out.Providers = append(out.Providers, p.info.ID)
		}
	}
	return out, err
}

// came takes account of n verified bytes, from any provider.
func (f *fetcher) came(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bytes += uint64(n)
	if f.progress != nil {
		f.progress(n)
	}
}

// fetched returns how many verified bytes have come so far.
func (f *fetcher) fetched() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes
}

// maxProviders is how many providers are asked at first, and how many more each time those cannot
// help. More would only share what the receiver can take anyway.
const maxProviders = 8

// turn is when a provider is asked.
type turn int

const (
	turnOfFirst    turn = iota // at once
	turnOfFallback             // for what the others do not have, or are slow to give
	turnOfLiars                // if nobody else can help: it sent something wrong, but may be mended
)

// startNext begins to ask further providers, those whose turn is first. It reports whether there
// were any.
func (f *fetcher) startNext() bool {
	return f.start(turnOfFirst) || f.start(turnOfFallback) || f.start(turnOfLiars)
}

// start begins to ask further providers, up to those of a turn. It reports whether there were any.
func (f *fetcher) start(most turn) bool {
	begun := 0
	for _, p := range f.providers {
		p.mu.Lock()
		begin := p.turn <= most && !p.running && begun < maxProviders
		if begin {
			p.running = true
			begun++
		}
		p.mu.Unlock()
		if begin {
			f.work.Go(func() { p.run(f.ctx) })
		}
	}
	return begun > 0
}

// stallTime is how long providers may bring next to nothing, less than stallBytes, before others
// are asked as well. After manyLooks times as long they must bring fairBytes: one that brings just
// enough would otherwise keep what it was asked for from those who would give it at once.
const (
	stallTime  = 5 * time.Second
	stallBytes = 32 << 10
	fairBytes  = 1 << 20
	manyLooks  = 3
)

// look begins to ask the fallback providers and the relief if the others bring next to nothing, or
// little for long. Those that sent something wrong are asked only if the others bring next to
// nothing and there is nobody else.
func (f *fetcher) look() {
	f.mu.Lock()
	came := f.bytes - f.looked
	f.looked = f.bytes
	f.looks++
	if f.slow++; came >= fairBytes {
		f.slow = 0
	}
	stalled, slow := came < stallBytes, came < fairBytes && f.looks >= manyLooks
	f.mu.Unlock()
	if !stalled && !slow {
		return
	}
	if f.relief != nil {
		for _, p := range f.relief() {
			if !slices.ContainsFunc(f.providers, func(x *provider) bool { return x.info.ID == p }) {
				x := f.newProvider(peer.AddrInfo{ID: p})
				if f.x.cfg.Lied(p) {
					x.turn = turnOfLiars
				}
				f.providers = append(f.providers, x)
			}
		}
	}
	if !f.start(turnOfFallback) && stalled {
		f.start(turnOfLiars)
	}
}

// providerError decides what an error on a stream means: the fault of the provider, of the wanted,
// or of this node.
func (f *fetcher) providerError(p *provider, err error) {
	var size *SizeError
	var local storeFault
	_, large := errors.AsType[*blobs.FileSizeError](err)
	if errors.As(err, &size) || errors.As(err, &local) || large {
		f.mu.Lock()
		if f.fatal == nil {
			f.fatal = err
		}
		f.mu.Unlock()
		f.sched.End()
		return
	}
	f.x.log.Info("provider dropped", "peer", p.info.ID, "error", err)
	if isLie(err) {
		f.x.cfg.NoteLie(p.info.ID, err)
	}
	p.fail(err)
}

// isLie reports whether an error says that a peer sent something wrong.
func isLie(err error) bool {
	_, corrupt := errors.AsType[*blobs.CorruptError](err)
	_, wrong := errors.AsType[*PeerFault](err)
	return corrupt || wrong
}

// isAnswer reports whether an error says that a peer could be asked: it answered, or this node
// could not store the answer.
func isAnswer(err error) bool {
	_, size := errors.AsType[*SizeError](err)
	_, local := errors.AsType[storeFault](err)
	_, large := errors.AsType[*blobs.FileSizeError](err)
	return size || local || large || isLie(err)
}

func (f *fetcher) fatalError() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fatal
}

// fetch gets all wants that the store does not have. What has been verified is kept, also if it
// fails, and is not fetched again. It returns a *MissingError if something is missing in the end,
// or a *SizeError.
func (f *fetcher) fetch(wants ...Want) error {
	for part := range slices.Chunk(wants, fetchWindow) {
		if err := f.fetchPart(part, nil); err != nil {
			return err
		}
	}
	return nil
}

// fetchSequence gets the blob h, which is likely to be a sequence, and lets small children come
// along.
func (f *fetcher) fetchSequence(h blobs.Hash) error {
	return f.fetchPart([]Want{{Hash: h}}, schedule.SmallChildren())
}

// fetchPart gets at most fetchWindow wants. children says how to ask for the children of the first
// together with it.
func (f *fetcher) fetchPart(wants []Want, children *wire.Children) error {
	open, err := f.addAll(wants, children)
	if err != nil || open == 0 {
		return err
	}
	if f.x.net == nil {
		return link.ErrOffline
	}
	if !f.started {
		f.started = true
		f.startNext()
	}
	stalled := time.NewTicker(stallTime)
	defer stalled.Stop()
	for {
		changed := f.sched.Changed() // before anything is looked at
		alive, causes := f.alive()
		now := f.sched.State(alive)
		led := f.ledTo(now)
		switch {
		case f.fatalError() != nil:
			return f.fatalError()
		case f.ctx.Err() != nil:
			return f.ctx.Err()
		case now.Open == 0:
			return nil
		case now.Ended:
			return errors.New("fetch: ended")
		case led != nil:
			return led
		case now.Hopeless && !f.startNext():
			return f.missing(causes)
		}
		select {
		case <-changed:
		case <-stalled.C:
			if f.look(); f.tooSlow() {
				return errSlow
			}
		case <-f.ctx.Done():
			return f.ctx.Err()
		}
	}
}

// alive returns the providers that are being asked, and why the others are not.
func (f *fetcher) alive() (alive []*schedule.Source, causes []error) {
	for _, p := range f.providers {
		p.mu.Lock()
		if p.running && !p.dead && p.err != nil { // of what was passed over
			causes = append(causes, fmt.Errorf("peer %s: %w", p.info.ID, p.err))
		}
		switch {
		case p.dead:
			var unreachable *link.UnreachableError
			if errors.As(p.err, &unreachable) {
				causes = append(causes, p.err)
			} else {
				causes = append(causes, fmt.Errorf("peer %s: %w", p.info.ID, p.err))
			}
		case p.running:
			alive = append(alive, p.src)
		}
		p.mu.Unlock()
	}
	return alive, causes
}

// missing reports what nobody has, and takes it off the schedule.
func (f *fetcher) missing(causes []error) error {
	hashes := f.sched.GiveUp()
	return &MissingError{
		Hashes: slices.Clone(hashes[:min(len(hashes), 8)]), Count: len(hashes), Causes: causes,
	}
}

// addAll puts what is missing of wants on the schedule, and returns how much is open.
func (f *fetcher) addAll(wants []Want, children *wire.Children) (int, error) {
	if err := f.rc.Flush(); err != nil {
		return 0, storeFault{err}
	}
	var needs []schedule.Need
	hashes := make([]blobs.Hash, len(wants))
	for i, w := range wants {
		hashes[i] = w.Hash
		f.store.Touch(w.Hash)
	}
	err := f.store.Stats(f.ctx, hashes, func(
		i int, info blobs.Info, known bool, present func() (blobs.Ranges, error),
	) error {
		x := schedule.Need{Want: wants[i], Missing: blobs.Everything}
		if i == 0 {
			x.Children = children
		}
		if x.Want.Ranges != nil {
			x.Missing = x.Want.Ranges.Align()
		}
		if known {
			if ok, err := f.checkClaims(info.Size, x.Want); !ok {
				return err
			}
			if info.Complete {
				return nil
			}
			have, err := present()
			if err != nil {
				return err
			}
			x.Proved, x.Size = true, info.Size
			all := blobs.Ranges{{Start: 0, End: info.Size}}
			x.Missing = x.Missing.Intersect(all).Without(have)
			if len(x.Missing) == 0 {
				return nil
			}
			x.Children = nil
		}
		needs = append(needs, x)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return f.sched.Begin(needs), nil
}

// Fetch gets all wants that the store does not have, from the providers together, each giving as
// much as it is fast. What has been verified is kept, also if Fetch fails, and is not fetched
// again. progress, if not nil, is told the length of each verified piece. It returns a
// *MissingError if something is missing in the end, and a *SizeError if a blob is not of the size
// that is claimed.
func (x *Exchange) Fetch(
	ctx context.Context, wants []Want, providers []peer.AddrInfo, progress func(n int),
) (Fetched, error) {
	f := x.newFetcher(ctx, x.blobs, providers, nil, false, progress)
	return f.end(f.fetch(wants...))
}

// Stream fetches the whole blob h from one provider and writes it to w as it is verified, without
// storing it. It returns the size.
func (x *Exchange) Stream(
	ctx context.Context, h blobs.Hash, p peer.AddrInfo, w io.WriterAt,
) (uint64, error) {
	if x.net == nil {
		return 0, link.ErrOffline
	}
	if err := x.net.Connect(link.Named(ctx), p); err != nil {
		return 0, err
	}
	s := x.stream(p.ID, false)
	defer func() { s.close(true) }()
	if err := s.open(ctx); err != nil {
		return 0, err
	}
	if err := s.send([]wire.Request{{Hash: h, Ranges: blobs.Everything}}); err != nil {
		return 0, err
	}
	head, err := wire.ReadHead(s.r)
	if err == nil && head.Status != wire.StatusHere {
		err = &MissingError{Hashes: []blobs.Hash{h}, Count: 1}
	}
	if err == nil {
		err = blobs.Decode(s.r, h, head.Size, blobs.Everything, w)
	}
	if err != nil {
		return 0, err
	}
	return head.Size, nil
}

// chunkWants returns what is to be fetched for the chunks of content in chunks.
func chunkWants(c chunked.Chunks) []Want {
	out := make([]Want, len(c.Hashes))
	for i, h := range c.Hashes {
		out[i] = Want{Hash: h, Size: c.Sizes[i]}
	}
	return out
}
