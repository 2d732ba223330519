package node

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// owed is the content of entries that a peer was sent in sessions.
type owed struct {
	content map[contentClaim]int // how many entries name it
	more    int                  // entries beyond maxOwed
	given   uint64               // bytes of content that the peer has been sent
}

// maxOwed bounds what is remembered for a peer; of what is more, nobody can say whether it was
// taken.
const maxOwed = 1 << 20

// handing remembers what peers were sent, if on.
type handing struct {
	on bool

	mu sync.Mutex
	to map[peer.ID]*owed
}

func (h *handing) get(p peer.ID) *owed {
	if h.to == nil {
		h.to = map[peer.ID]*owed{}
	}
	o := h.to[p]
	if o == nil {
		o = &owed{content: map[contentClaim]int{}}
		h.to[p] = o
	}
	return o
}

// sent returns what is told of each entry that p is sent, and tells also.
func (h *handing) sent(p peer.ID, also func(*reconcile.Item)) func(*reconcile.Item) {
	if !h.on {
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
		h.mu.Lock()
		defer h.mu.Unlock()
		o, at := h.get(p), contentClaim{e.Hash, e.Size}
		if o.content[at] == 0 && len(o.content) >= maxOwed {
			o.more++
			return
		}
		o.content[at]++
	}
}

// gave counts bytes of content that p has been sent.
func (h *handing) gave(p peer.ID, bytes int) {
	if !h.on {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.get(p).given += uint64(bytes)
}

// giving is a stream of content to a peer.
type giving struct {
	Stream
	h *handing
}

func (g giving) Write(b []byte) (n int, err error) {
	n, err = g.Stream.Write(b)
	g.h.gave(g.Remote(), n)
	return n, err
}

func (h *handing) givenTo(p peer.ID) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.get(p).given
}

// take returns the peers that are owed something, and what; and forgets it.
func (h *handing) take() map[peer.ID]owed {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[peer.ID]owed{}
	for p, o := range h.to {
		if len(o.content)+o.more > 0 {
			out[p] = *o
			*o = owed{content: map[contentClaim]int{}, given: o.given}
		}
	}
	return out
}

// Untaken is how many of the entries that a peer was sent name content that is here, and that the
// peer does not say it has.
type Untaken struct {
	Peer    peer.ID
	Entries int
	Bytes   uint64 // of their content
}

// HandOver waits until each peer that was sent entries in sessions says that it has their content,
// as far as that is here, or has made no progress for the time of patience. It returns what has not
// been taken by then: the peer may not want it, or not have come to it. It is for nodes that go
// away right after a session, whose entries would else be known and their content not;
// Config.HandsOver must be set.
func (n *Node) HandOver(ctx context.Context, patience time.Duration) (out []Untaken, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for p, o := range n.handing.take() {
		wg.Go(func() {
			left := Untaken{Peer: p}
			failed := fault.Guard(n.log, "handing over content", func() (err error) {
				left, err = n.handOverTo(ctx, p, &o, patience)
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
	contentClaim
	entries int
	blob    uint64 // the size of the blob: of content in chunks, that of its sequence
	root    bool   // the peer has the blob
	chunks  int    // of content in chunks, how many of its first blobs the peer has
}

// handOverTo waits for one peer.
func (n *Node) handOverTo(
	ctx context.Context, p peer.ID, o *owed, patience time.Duration,
) (Untaken, error) {
	out := Untaken{Peer: p}
	left, err := n.handovers(ctx, o)
	if err != nil {
		return out, err
	}
	var total uint64
	for _, x := range left {
		total += x.size
	}
	before := n.handing.givenTo(p)
	given, most, since := uint64(0), uint64(0), time.Now()
	for wait := 10 * time.Millisecond; len(left) > 0; wait = min(2*wait, 500*time.Millisecond) {
		late := time.Since(since) >= patience
		var partly, whole uint64
		left, whole, partly, err = n.askTaken(ctx, p, left, late)
		if err != nil {
			n.log.Debug("asking what a peer has taken", "peer", p, "error", err)
		}
		// What the peer is sent counts as progress at most once: it cannot hold this node for ever.
		now := min(n.handing.givenTo(p)-before, 2*total)
		if whole > 0 || partly > most || now > given {
			most, given, since, late = max(partly, most), now, time.Now(), false
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
		out.Bytes += x.size
	}
	return out, nil
}

// handovers returns what of the owed content is here, in the order in which peers ask for it.
func (n *Node) handovers(ctx context.Context, o *owed) (out []handover, err error) {
	states := contentStates{n: n}
	for at, entries := range o.content {
		state, err := states.of(ctx, at.hash, at.size)
		if err != nil {
			return nil, err
		}
		if state != ContentComplete {
			continue
		}
		info, err := n.Blobs.Stat(ctx, at.hash)
		if err != nil {
			return nil, err
		}
		out = append(out, handover{contentClaim: at, entries: entries, blob: info.Size})
	}
	slices.SortFunc(out, func(a, b handover) int { return bytes.Compare(a.hash[:], b.hash[:]) })
	return out, nil
}

// askTaken asks a peer what it has, and returns what it has not, how much it has got whole since it
// was asked before, in blobs, and how many bytes it has of the others. all asks for everything;
// else it ends where the peer has nothing of what comes next.
func (n *Node) askTaken(
	ctx context.Context, p peer.ID, owed []handover, all bool,
) (left []handover, whole, partly uint64, err error) {
	for at := 0; at < len(owed); at += maxRequest {
		part := owed[at:min(at+maxRequest, len(owed))]
		hashes := make([]blobs.Hash, len(part))
		for i := range part {
			hashes[i] = part[i].hash
		}
		infos, err := n.describeAll(ctx, p, hashes)
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
			case x.blob != x.size:
				if !x.root {
					x.root = true
					whole++
				}
				var got uint64
				if has, got, err = n.askChunks(ctx, p, &x); err != nil {
					return append(left, owed[at+i:]...), whole, partly, err
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
func (n *Node) askChunks(
	ctx context.Context, p peer.ID, x *handover,
) (has bool, got uint64, err error) {
	index, err := chunked.Open(ctx, n.Blobs, x.hash)
	if err != nil {
		return false, 0, err
	}
	root, err := n.Blobs.Reader(ctx, x.hash)
	if err != nil {
		return false, 0, err
	}
	var list blobs.Hash
	if _, err := root.ReadAt(list[:], 0); err != nil {
		return false, 0, err
	}
	info, err := n.Blobs.Stat(ctx, list)
	if err != nil {
		return false, 0, err
	}
	errLacks := errors.New("the peer lacks a chunk")
	hashes, sizes := []blobs.Hash{list}, []uint64{info.Size}
	at := 0
	ask := func() error {
		defer func() { hashes, sizes = hashes[:0], sizes[:0] }()
		if skip := min(x.chunks-at, len(hashes)); skip > 0 {
			hashes, sizes, at = hashes[skip:], sizes[skip:], at+skip
		}
		for part := range slices.Chunk(hashes, maxRequest) {
			infos, err := n.describeAll(ctx, p, part)
			if err != nil {
				return err
			}
			for i := range part {
				if !infos[i].Here || infos[i].Size != sizes[i] || infos[i].Present < sizes[i] {
					return errLacks
				}
				at, got, x.chunks = at+1, got+1, x.chunks+1
			}
			sizes = sizes[len(part):]
		}
		return nil
	}
	err = index.Each(ctx, func(c chunked.Chunks) error {
		hashes, sizes = append(hashes, c.Hashes...), append(sizes, c.Sizes...)
		if len(hashes) < maxRequest {
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

// described is what a peer says it has of a blob.
type described struct {
	Here          bool
	Size, Present uint64 // bytes
}

// describeAll asks a peer what it has of some blobs, at most maxRequest. Nothing of it is proved.
func (n *Node) describeAll(
	ctx context.Context, p peer.ID, hashes []blobs.Hash,
) ([]described, error) {
	if len(hashes) == 0 {
		return nil, nil
	}
	opening, cancel := context.WithTimeout(ctx, askTimeout)
	raw, err := n.net.Open(opening, p, blobProtocol)
	cancel()
	if err != nil {
		return nil, err
	}
	defer resetAfterFault(raw)
	stop := context.AfterFunc(ctx, func() { _ = raw.Reset() })
	defer stop()
	s := within(raw, askTimeout)
	reqs := make([]blobRequest, len(hashes))
	for i, h := range hashes {
		reqs[i] = blobRequest{hash: h, describe: true, ranges: blobs.Everything}
	}
	msg, err := appendRequests(nil, false, reqs)
	if err == nil {
		_, err = s.Write(msg)
	}
	if err = errors.Join(err, s.CloseWrite()); err != nil {
		return nil, errors.Join(err, ignoreReset(s))
	}
	out, r := make([]described, len(hashes)), bufio.NewReader(s)
	for i := range out {
		head, err := readAnswerHead(r)
		if err != nil {
			return nil, errors.Join(err, ignoreReset(s))
		}
		if head.status == statusHere {
			out[i] = described{true, head.size, head.ranges.Count()}
		}
	}
	_ = s.Close() // it has said all it was asked
	return out, nil
}
