package node

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/skerry-sync/skerry/node/link"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/fault"
)

// mend fetches again what an error says is damaged here, if it is a *blobs.DamageError. It returns
// other errors as they are. What is here of the blob stays until what takes its place has come and
// has been verified: of a sequence or a list it tells which chunks to keep, as far as it can be
// read, and what peers say they have costs nothing.
func (n *Node) mend(f *fetcher, err error) error {
	damaged, is := errors.AsType[*blobs.DamageError](err)
	switch {
	case err == nil:
		return nil
	case !is:
		return storeFault{err}
	case n.net == nil:
		return link.ErrOffline
	}
	n.log.Warn("damaged content is fetched again", "blob", damaged.Hash)
	n.Blobs.Touch(f.ctx, damaged.Hash)
	missing := &MissingError{Hashes: []blobs.Hash{damaged.Hash}, Count: 1}
	for _, p := range n.menders(f, damaged.Hash) {
		err := fault.Guard(n.log, "a repair", func() error {
			return n.mendFrom(f, p, &damaged)
		}, "peer", p.ID)
		switch local, is := errors.AsType[storeFault](err); {
		case is:
			return local
		case f.ctx.Err() != nil:
			return f.ctx.Err()
		case damaged == nil:
			return err
		case err != nil && !isMissing(err):
			n.log.Info("repair from a peer", "peer", p.ID, "blob", missing.Hashes[0], "error", err)
			missing.Causes = append(missing.Causes, fmt.Errorf("peer %s: %w", p.ID, err))
		}
	}
	return missing
}

// isMissing reports that a peer does not have what it was asked for.
func isMissing(err error) bool {
	_, is := errors.AsType[*MissingError](err)
	return is
}

// menders returns who is asked for what is damaged: the connected peers that say that they have
// some of it, first those that say they have most; then providers that are not connected.
func (n *Node) menders(f *fetcher, h blobs.Hash) (out []peer.AddrInfo) {
	have := n.Providers(f.ctx, h)
	slices.SortStableFunc(have, func(a, b ProviderInfo) int {
		switch lied := n.peers.lied(a.ID); {
		case lied == n.peers.lied(b.ID):
			return cmp.Compare(b.Present, a.Present)
		case lied:
			return 1
		}
		return -1
	})
	for _, p := range have {
		if p.Present > 0 {
			out = append(out, peer.AddrInfo{ID: p.ID})
		}
	}
	for _, p := range f.providers {
		if !n.net.Connected(p.info.ID) {
			out = append(out, p.info)
		}
	}
	return out
}

// mendFrom replaces what is damaged by what a peer sends. damaged is then what is still damaged, or
// nil.
func (n *Node) mendFrom(f *fetcher, p peer.AddrInfo, damaged **blobs.DamageError) error {
	h := (*damaged).Hash
	if err := n.net.Connect(f.ctx, p); err != nil {
		return err
	}
	for {
		size, ranges, whole, ok, err := n.Blobs.Replaceable(f.ctx, h, (*damaged).Damage)
		if err != nil {
			return storeFault{err}
		}
		// No more than a request may name.
		ranges = ranges[:min(len(ranges), blobs.MaxWireRanges)]
		if !ok {
			return n.fetchAnew(f, p, damaged, size, ranges)
		}
		if err := n.replaceFrom(f, p, h, size, ranges, whole); err != nil {
			if local, is := errors.AsType[storeFault](err); !is || !errors.Is(local, blobs.ErrDeleted) {
				return err
			}
			// Its file is gone: there is nothing to keep.
			return n.fetchAnew(f, p, damaged, size, ranges)
		}
		checked := blobs.Everything
		if !whole {
			checked = (blobs.Ranges)(nil)
			for _, d := range (*damaged).Damage {
				at := blobs.Range{Start: d.Range.Start, End: max(d.Range.End, d.Range.Start+1)}
				checked = checked.Union(blobs.Ranges{at})
			}
		}
		err = n.Blobs.Check(f.ctx, h, checked)
		if err == nil {
			*damaged = nil
			return nil
		}
		rest, is := errors.AsType[*blobs.DamageError](err)
		if !is {
			return storeFault{err}
		}
		if damageBytes(rest.Damage) >= damageBytes((*damaged).Damage) {
			return nil // this peer has no more of it
		}
		*damaged = rest
	}
}

func damageBytes(damage []blobs.Damage) (n uint64) {
	for _, d := range damage {
		n += max(d.Range.End-d.Range.Start, 1)
	}
	return n
}

// replaceFrom asks a peer for parts of a blob, and puts what has been verified in the place of what
// is here.
func (n *Node) replaceFrom(
	f *fetcher, p peer.AddrInfo, h blobs.Hash, size uint64, ranges blobs.Ranges, whole bool,
) error {
	rc := n.Blobs.NewReplacer(f.ctx)
	req := blobRequest{hash: h, ranges: ranges, proveSize: whole}
	err := n.askFor(f, p, req, func(s *openStream, head answerHead) error {
		on := blobs.Hooks{Verified: f.came}
		if whole {
			return rc.ReceiveNew(s.r, h, size, head.ranges, on)
		}
		return rc.Receive(s.r, h, size, head.ranges, on)
	}, size)
	if local := rc.Close(); local != nil {
		return storeFault{local}
	}
	return err
}

// fetchAnew drops what is damaged of a blob that cannot be replaced in its place, and fetches it
// again; but not before the peer has shown that it has some of what is damaged, and has said that
// it has all of the blob.
func (n *Node) fetchAnew(
	f *fetcher, p peer.AddrInfo, damaged **blobs.DamageError, size uint64, ranges blobs.Ranges,
) error {
	h := (*damaged).Hash
	some := blobs.Ranges{{Start: ranges[0].Start, End: ranges[0].Start + 1}}
	info, err := n.describe(f.ctx, p.ID, h)
	if err == nil && info.Present < size {
		err = &MissingError{Hashes: []blobs.Hash{h}, Count: 1}
	}
	if err == nil {
		req := blobRequest{hash: h, ranges: some}
		err = n.askFor(f, p, req, func(s *openStream, head answerHead) error {
			return blobs.Decode(s.r, h, size, head.ranges, discardAt{})
		}, size)
	}
	if err != nil {
		return err
	}
	if err := n.Blobs.Drop(f.ctx, h, (*damaged).Damage); err != nil {
		return storeFault{err}
	}
	*damaged = nil
	if !slices.ContainsFunc(f.providers, func(x *provider) bool { return x.info.ID == p.ID }) {
		f.providers = append(f.providers, &provider{f: f, info: p})
	}
	if err := f.fetch(Want{Hash: h}); err != nil {
		return err
	}
	if err := f.rc.Flush(); err != nil {
		return storeFault{err}
	}
	return nil
}

type discardAt struct{}

func (discardAt) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// askFor asks a peer for parts of a blob that is known to have size bytes, and has take read their
// streams. It remembers a peer that sends something wrong.
func (n *Node) askFor(
	f *fetcher, p peer.AddrInfo, req blobRequest, take func(*openStream, answerHead) error,
	size uint64,
) (err error) {
	if err := n.limits.Turns.Wait(f.ctx, f.background); err != nil {
		return err
	}
	s := &openStream{p: &provider{f: f, info: p}}
	defer func() { s.close(true) }()
	defer func() {
		if isLie(err) {
			n.peers.noteLie(p.ID, err)
		}
	}()
	if err := s.ask(f.ctx, &block{items: []*blockItem{{req: req}}}); err != nil {
		return err
	}
	head, err := readAnswerHead(s.r)
	switch {
	case err != nil:
		return fmt.Errorf("blob %s: %w", req.hash.Short(), noEOF(err))
	case head.status == statusNotHere:
		return &MissingError{Hashes: []blobs.Hash{req.hash}, Count: 1}
	case head.status != statusHere:
		return &PeerFault{"a blob is said to be over a limit or budget that was not given"}
	case head.size != size:
		return &PeerFault{fmt.Sprintf("blob %s is said to have %d bytes, it has %d",
			req.hash.Short(), head.size, size)}
	case len(head.ranges.Without(req.ranges)) > 0:
		return &PeerFault{fmt.Sprintf("ranges of blob %s that nobody asked for", req.hash.Short())}
	case len(head.ranges) == 0 && !req.proveSize:
		return &MissingError{Hashes: []blobs.Hash{req.hash}, Count: 1}
	}
	return take(s, head)
}
