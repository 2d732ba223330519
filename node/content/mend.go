package content

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/link"
)

// Repair fetches what is damaged of the blob h again from connected peers. It returns a
// *MissingError if nobody has it; what is here then stays as it is.
func (x *Exchange) Repair(ctx context.Context, h blobs.Hash, damage []blobs.Damage) error {
	if len(damage) == 0 {
		return nil
	}
	f := x.newFetcher(ctx, x.blobs, x.peers(), nil, false, nil)
	_, err := f.end(f.mend(&blobs.DamageError{Hash: h, Damage: damage}))
	return errors.Join(err, x.blobs.Sync(ctx))
}

// mend fetches again what an error says is damaged here, if it is a *blobs.DamageError. It returns
// other errors as they are. What is here of the blob stays until what takes its place has come and
// has been verified: of a sequence or a list it tells which chunks to keep, as far as it can be
// read, and what peers say they have costs nothing.
func (f *fetcher) mend(err error) error {
	x := f.x
	damaged, is := errors.AsType[*blobs.DamageError](err)
	switch {
	case err == nil:
		return nil
	case !is:
		return storeFault{err}
	case x.net == nil:
		return link.ErrOffline
	}
	x.log.Warn("damaged content is fetched again", "blob", damaged.Hash)
	f.store.Touch(damaged.Hash)
	missing := &MissingError{Hashes: []blobs.Hash{damaged.Hash}, Count: 1}
	for _, p := range f.menders(damaged.Hash) {
		err := fault.Guard(x.log, "a repair", func() error {
			return f.mendFrom(p, &damaged)
		}, "peer", p.ID)
		switch local, is := errors.AsType[storeFault](err); {
		case is:
			return local
		case f.ctx.Err() != nil:
			return f.ctx.Err()
		case damaged == nil:
			return err
		case err != nil && !isMissing(err):
			x.log.Info("repair from a peer", "peer", p.ID, "blob", missing.Hashes[0], "error", err)
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
func (f *fetcher) menders(h blobs.Hash) (out []peer.AddrInfo) {
	have := f.x.Providers(f.ctx, h)
	slices.SortStableFunc(have, func(a, b ProviderInfo) int {
		switch lied := f.x.cfg.Lied(a.ID); {
		case lied == f.x.cfg.Lied(b.ID):
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
		if !f.x.net.Connected(p.info.ID) {
			out = append(out, p.info)
		}
	}
	return out
}

// mendFrom replaces what is damaged by what a peer sends. damaged is then what is still damaged, or
// nil.
func (f *fetcher) mendFrom(p peer.AddrInfo, damaged **blobs.DamageError) error {
	h := (*damaged).Hash
	if err := f.x.net.Connect(f.ctx, p); err != nil {
		return err
	}
	for {
		size, ranges, whole, ok, err := f.store.Replaceable(f.ctx, h, (*damaged).Damage)
		if err != nil {
			return storeFault{err}
		}
		// No more than a request may name.
		ranges = ranges[:min(len(ranges), blobs.MaxWireRanges)]
		if !ok {
			return f.fetchAnew(p, damaged, size, ranges)
		}
		if err := f.replaceFrom(p, h, size, ranges, whole); err != nil {
			if local, is := errors.AsType[storeFault](err); !is || !errors.Is(local, blobs.ErrDeleted) {
				return err
			}
			// Its file is gone: there is nothing to keep.
			return f.fetchAnew(p, damaged, size, ranges)
		}
		checked := blobs.Everything
		if !whole {
			checked = (blobs.Ranges)(nil)
			for _, d := range (*damaged).Damage {
				at := blobs.Range{Start: d.Range.Start, End: max(d.Range.End, d.Range.Start+1)}
				checked = checked.Union(blobs.Ranges{at})
			}
		}
		err = f.store.Check(f.ctx, h, checked)
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
func (f *fetcher) replaceFrom(
	p peer.AddrInfo, h blobs.Hash, size uint64, ranges blobs.Ranges, whole bool,
) error {
	rc := f.store.NewReplacer(f.ctx)
	req := wire.Request{Hash: h, Ranges: ranges, ProveSize: whole}
	err := f.askFor(p, req, func(s *stream, head wire.Head) error {
		on := blobs.Hooks{Verified: f.came}
		if whole {
			return rc.ReceiveNew(s.r, h, size, head.Ranges, on)
		}
		return rc.Receive(s.r, h, size, head.Ranges, on)
	}, size)
	if local := rc.Close(); local != nil {
		return storeFault{local}
	}
	return err
}

// fetchAnew drops what is damaged of a blob that cannot be replaced in its place, and fetches it
// again; but not before the peer has shown that it has some of what is damaged, and has said that
// it has all of the blob.
func (f *fetcher) fetchAnew(
	p peer.AddrInfo, damaged **blobs.DamageError, size uint64, ranges blobs.Ranges,
) error {
	h := (*damaged).Hash
	some := blobs.Ranges{{Start: ranges[0].Start, End: ranges[0].Start + 1}}
	info, err := f.x.describe(f.ctx, p.ID, h)
	if err == nil && info.Present < size {
		err = &MissingError{Hashes: []blobs.Hash{h}, Count: 1}
	}
	if err == nil {
		req := wire.Request{Hash: h, Ranges: some}
		err = f.askFor(p, req, func(s *stream, head wire.Head) error {
			return blobs.Decode(s.r, h, size, head.Ranges, discardAt{})
		}, size)
	}
	if err != nil {
		return err
	}
	if err := f.store.Drop(f.ctx, h, (*damaged).Damage); err != nil {
		return storeFault{err}
	}
	*damaged = nil
	if !slices.ContainsFunc(f.providers, func(x *provider) bool { return x.info.ID == p.ID }) {
		f.providers = append(f.providers, f.newProvider(p))
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
func (f *fetcher) askFor(
	p peer.AddrInfo, req wire.Request, take func(*stream, wire.Head) error,
	size uint64,
) (err error) {
	if err := f.x.limits.Turns.Wait(f.ctx, f.background); err != nil {
		return err
	}
	s := f.x.stream(p.ID, f.background)
	defer func() { s.close(true) }()
	defer func() {
		if isLie(err) {
			f.x.cfg.NoteLie(p.ID, err)
		}
	}()
	if err := s.open(f.ctx); err != nil {
		return err
	}
	if err := s.send([]wire.Request{req}); err != nil {
		return err
	}
	head, err := wire.ReadHead(s.r)
	switch {
	case err != nil:
		return fmt.Errorf("blob %s: %w", req.Hash.Short(), link.NoEOF(err))
	case head.Status == wire.StatusNotHere:
		return &MissingError{Hashes: []blobs.Hash{req.Hash}, Count: 1}
	case head.Status != wire.StatusHere:
		return &PeerFault{"a blob is said to be over a limit or budget that was not given"}
	case head.Size != size:
		return &PeerFault{fmt.Sprintf("blob %s is said to have %d bytes, it has %d",
			req.Hash.Short(), head.Size, size)}
	case len(head.Ranges.Without(req.Ranges)) > 0:
		return &PeerFault{fmt.Sprintf("ranges of blob %s that nobody asked for", req.Hash.Short())}
	case len(head.Ranges) == 0 && !req.ProveSize:
		return &MissingError{Hashes: []blobs.Hash{req.Hash}, Count: 1}
	}
	return take(&s, head)
}
