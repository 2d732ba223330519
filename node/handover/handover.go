// Package handover waits, before a node goes away, until its peers have the content of the entries
// that it has sent them.
//
// What belongs here: what each peer is owed, asking it what it has, and how long it is waited for.
// What never belongs here: giving content (package content), and sending entries (package session).
//
// Start at [Ledger].
package handover

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// owed is what one peer may still fetch: the content of entries that it was sent.
type owed struct {
	content map[content.Claim]int // how many entries name it
	more    int                   // entries that name content beyond maxOwed
	given   uint64                // bytes of content that the peer has been sent
}

const (
	// maxOwed bounds how much content is remembered for all peers together; of what is more, nobody
	// can say whether it was taken.
	maxOwed = 1 << 20
	// maxOwing bounds for how many peers it is remembered.
	maxOwing = 1 << 10
)

// Config is what a Ledger needs.
type Config struct {
	// On has it remember anything at all.
	On    bool
	Blobs *blobs.Store
	Log   *slog.Logger
	// Describe asks a peer what it has of some blobs.
	Describe func(
		ctx context.Context, p peer.ID, hashes []blobs.Hash,
	) ([]content.Described, error)
	// Complete returns a function that reports whether content is all here.
	Complete func() func(ctx context.Context, c content.Claim) (bool, error)
}

// Ledger remembers what peers were sent, if on. Its methods may be called from many goroutines.
type Ledger struct {
	cfg Config

	mu     sync.Mutex
	to     map[peer.ID]*owed
	total  int // content that is remembered
	others int // entries that were sent to peers beyond maxOwing

	most, mostPeers int // maxOwed and maxOwing, but in tests
}

// New returns a Ledger in which nobody is owed anything.
func New(cfg Config) *Ledger {
	return &Ledger{cfg: cfg, to: map[peer.ID]*owed{}, most: maxOwed, mostPeers: maxOwing}
}

// Sent returns what is told of each entry that p is sent, and tells also.
func (l *Ledger) Sent(p peer.ID, also func(*reconcile.Item)) func(*reconcile.Item) {
	if !l.cfg.On {
		return also
	}
	return func(it *reconcile.Item) {
		if also != nil {
			also(it)
		}
		e, err := replica.ParseEntry(it.Data)
		if err != nil || e.IsTombstone() {
			return
		}
		l.owe(p, content.Claim{Hash: e.Hash, Size: e.Size})
	}
}

// owe notes that p was sent an entry that names some content.
func (l *Ledger) owe(p peer.ID, at content.Claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.to[p]
	switch {
	case o == nil && len(l.to) >= l.mostPeers:
		l.others++
		return
	case o == nil:
		o = &owed{content: map[content.Claim]int{}}
		l.to[p] = o
	}
	if o.content[at] == 0 {
		if l.total >= l.most {
			o.more++
			return
		}
		l.total++
	}
	o.content[at]++
}

// Gave counts bytes of content that p has been sent. Anybody may ask for content, under any number
// of ids: nothing is noted of a peer that was sent no entries.
func (l *Ledger) Gave(p peer.ID, bytes int) {
	if !l.cfg.On {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.to[p]; o != nil {
		o.given += uint64(bytes)
	}
}

func (l *Ledger) givenTo(p peer.ID) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.to[p]; o != nil {
		return o.given
	}
	return 0
}

// take returns the peers that are owed something, and what, and how many entries other peers were
// sent; and forgets it. What is given to those peers is counted until they are done.
func (l *Ledger) take() (out map[peer.ID]owed, others int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out = map[peer.ID]owed{}
	for p, o := range l.to {
		if len(o.content)+o.more > 0 {
			out[p] = *o
			l.total -= len(o.content)
			*o = owed{content: map[content.Claim]int{}, given: o.given}
		}
	}
	others, l.others = l.others, 0
	return out, others
}

// done forgets a peer that is owed nothing.
func (l *Ledger) done(p peer.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.to[p]; o != nil && len(o.content)+o.more == 0 {
		delete(l.to, p)
	}
}

// Untaken is how many of the entries that a peer was sent name content that is here, and that the
// peer does not say it has.
type Untaken struct {
	Peer    peer.ID // empty: of the peers beyond those that this node keeps account of
	Entries int
	Bytes   uint64 // of their content
}

// Run waits until each peer that was sent entries in sessions says that it has their content,
// as far as that is here, or has made no progress for the time of patience (see taking). It returns
// what has not been taken by then: the peer may not want it, or not have come to it. It is for
// nodes that go away right after a session, whose entries would else be known and their content
// not; [Config].On must be set.
func (l *Ledger) Run(ctx context.Context, patience time.Duration) (out []Untaken, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	all, others := l.take()
	if others > 0 {
		out = append(out, Untaken{Entries: others})
	}
	for p, o := range all {
		wg.Go(func() {
			defer l.done(p)
			left := Untaken{Peer: p}
			failed := fault.Guard(l.cfg.Log, "handing over content", func() (err error) {
				left, err = l.handOverTo(ctx, p, &o, patience)
				return err
			}, "peer", p)
			mu.Lock()
			defer mu.Unlock()
			err = errors.Join(err, failed)
			if left.Entries > 0 {
				out = append(out, left)
			}
		})
	}
	wg.Wait()
	slices.SortFunc(out, func(a, b Untaken) int { return cmp.Compare(a.Peer, b.Peer) })
	return out, errors.Join(err, ctx.Err())
}

// handover is content that a peer is to take.
type handover struct {
	content.Claim
	entries int
	blob    uint64 // the size of the blob: of content in chunks, that of its sequence
	root    bool   // the peer has the blob

	// Of content in chunks:
	index  *chunked.Index // once the peer has the blob
	chunks int            // how many of the blobs that it names the peer has, the list first
}

// handOverTo waits for one peer.
func (l *Ledger) handOverTo(
	ctx context.Context, p peer.ID, o *owed, patience time.Duration,
) (Untaken, error) {
	out := Untaken{Peer: p}
	left, err := l.handovers(ctx, o)
	if err != nil {
		return out, err
	}
	var total uint64
	for _, x := range left {
		total += x.Size
	}
	before, seen := l.givenTo(p), newTaking(patience, total, time.Now())
	for wait := 10 * time.Millisecond; len(left) > 0; wait = min(2*wait, 500*time.Millisecond) {
		began := time.Now()
		late := seen.late(began)
		asking, cancel := context.WithTimeout(ctx, seen.asking)
		var partly, whole uint64
		left, whole, partly, err = l.askTaken(asking, p, left, late)
		cancel()
		if err != nil {
			l.cfg.Log.Debug("asking what a peer has taken", "peer", p, "error", err)
		}
		now := time.Now()
		if seen.progress(now, whole, partly, l.givenTo(p)-before) {
			late = false
		}
		if !seen.asked(now.Sub(began)) {
			late = true
		}
		if len(left) == 0 || late || ctx.Err() != nil {
			break
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	out.Entries = o.more
	for _, x := range left {
		out.Entries += x.entries
		out.Bytes += x.Size
	}
	return out, nil
}

// taking decides how long a peer is waited for. Two kinds of progress renew the patience:
//
//   - bytes that the peer is sent, at link.LeastRate or more, up to twice what it is to take: some are
//     no content;
//   - what the peer says it has got, perhaps from others. Nothing proves that, so it renews the
//     patience for a time that is bounded in all, believedFor times the patience.
//
// To answer what it has, the peer may take believedFor times the patience and once
// content.DescribeTime, in all. Bytes that it is sent renew that, too.
//
// So a peer that lies, dribbles its answers, or takes what it was sent again and again, holds this
// node for no longer than twice that time and the time of those bytes at the least rate.
type taking struct {
	patience time.Duration
	belief   time.Duration // how long it is still waited for what it only says
	bound    uint64        // bytes sent that count
	step     uint64        // so many more are progress
	since    time.Time     // of the last progress
	given    uint64        // at the last progress by bytes
	partly   uint64        // the most that it has said it has in part, in bytes
	asking   time.Duration // how long it may still take to answer
	most     time.Duration // of that
}

const believedFor = 120

func newTaking(patience time.Duration, total uint64, now time.Time) taking {
	most := believedFor*patience + content.DescribeTime
	return taking{
		patience: patience, belief: believedFor * patience, bound: 2 * total, since: now,
		asking: most, most: most,
		step: max(1, uint64(link.LeastRate*patience/time.Second)),
	}
}

// late reports that the patience has ended.
func (t *taking) late(now time.Time) bool { return now.Sub(t.since) >= t.patience }

// asked is told how long the peer took to answer, and reports whether it may be asked again.
func (t *taking) asked(took time.Duration) bool {
	t.asking -= took
	return t.asking > 0
}

// progress is told how many more blobs the peer says it has, how many bytes of others, and how many
// bytes it has been sent in all. It reports whether that is progress.
func (t *taking) progress(now time.Time, whole, partly, given uint64) bool {
	said := whole > 0 || partly > t.partly
	t.partly = max(t.partly, partly)
	// The last bytes may be fewer than a step; what they complete, the peer says it has.
	given = min(given, t.bound)
	switch {
	case given >= t.given+t.step:
		t.given, t.asking = given, t.most
	case said && t.belief > 0:
		t.belief -= now.Sub(t.since)
	default:
		return false
	}
	t.since = now
	return true
}

// handovers returns what of the owed content is here, in the order in which peers ask for it.
func (l *Ledger) handovers(ctx context.Context, o *owed) (out []handover, err error) {
	complete := l.cfg.Complete()
	for at, entries := range o.content {
		if here, err := complete(ctx, at); err != nil {
			return nil, err
		} else if !here {
			continue
		}
		info, err := l.cfg.Blobs.Stat(ctx, at.Hash)
		if err != nil {
			return nil, err
		}
		out = append(out, handover{Claim: at, entries: entries, blob: info.Size})
	}
	slices.SortFunc(out, func(a, b handover) int { return bytes.Compare(a.Hash[:], b.Hash[:]) })
	return out, nil
}

// askTaken asks a peer what it has, and returns what it has not, how much it has got whole since it
// was asked before, in blobs, and how many bytes it has of the others. all asks for everything;
// else it ends where the peer has nothing of what comes next.
func (l *Ledger) askTaken(
	ctx context.Context, p peer.ID, owed []handover, all bool,
) (left []handover, whole, partly uint64, err error) {
	for at := 0; at < len(owed); at += wire.MaxItems {
		part := owed[at:min(at+wire.MaxItems, len(owed))]
		hashes := make([]blobs.Hash, len(part))
		for i := range part {
			hashes[i] = part[i].Hash
		}
		infos, err := l.cfg.Describe(ctx, p, hashes)
		if err != nil {
			return append(left, owed[at:]...), whole, partly, err
		}
		began := len(left)
		for i := range part {
			x := part[i]
			has := infos[i].Here && infos[i].Size == x.blob && infos[i].Present >= x.blob
			switch {
			case !has:
				partly += min(infos[i].Present, x.blob)
			case x.blob != x.Size:
				if !x.root {
					x.root = true
					whole++
				}
				var got uint64
				if has, got, err = l.askChunks(ctx, p, &x); err != nil {
					// What the peer has shown to have is not asked for, and not counted, again.
					return append(append(left, x), owed[at+i+1:]...), whole + got, partly, err
				}
				whole += got
			default:
				whole++
			}
			if !has {
				left = append(left, x)
			}
		}
		if !all && len(left)-began == len(part) {
			return append(left, owed[at+len(part):]...), whole, partly, nil
		}
	}
	return left, whole, partly, nil
}

// askChunks asks a peer that has a sequence for the list and the chunks that it names, from where
// it ended the last time. got is how many more blobs the peer has.
func (l *Ledger) askChunks(
	ctx context.Context, p peer.ID, x *handover,
) (has bool, got uint64, err error) {
	if x.index == nil {
		if x.index, err = chunked.Open(ctx, l.cfg.Blobs, x.Hash); err != nil {
			return false, 0, err
		}
	}
	errLacks := errors.New("the peer lacks a chunk")
	var hashes []blobs.Hash
	var sizes []uint64
	if x.chunks == 0 {
		list := x.index.List()
		info, err := l.cfg.Blobs.Stat(ctx, list)
		if err != nil {
			return false, 0, err
		}
		hashes, sizes = append(hashes, list), append(sizes, info.Size)
	}
	ask := func() error {
		for part := range slices.Chunk(hashes, wire.MaxItems) {
			infos, err := l.cfg.Describe(ctx, p, part)
			if err != nil {
				return err
			}
			for i := range part {
				if !infos[i].Here || infos[i].Size != sizes[i] || infos[i].Present < sizes[i] {
					return errLacks
				}
				got, x.chunks = got+1, x.chunks+1
			}
			sizes = sizes[len(part):]
		}
		hashes, sizes = hashes[:0], sizes[:0]
		return nil
	}
	err = x.index.EachFrom(ctx, max(x.chunks-1, 0), func(c chunked.Chunks) error {
		hashes, sizes = append(hashes, c.Hashes...), append(sizes, c.Sizes...)
		if len(hashes) < wire.MaxItems {
			return nil
		}
		return ask()
	})
	if err == nil {
		err = ask()
	}
	if errors.Is(err, errLacks) {
		return false, got, nil
	}
	return err == nil, got, err
}
