package content

import (
	"bufio"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/link"
)

// ProviderInfo is what a peer says it has of a blob. Nothing of it is proved.
type ProviderInfo struct {
	ID      peer.ID
	Size    uint64
	Present uint64 // bytes
}

// askTimeout is how long a peer has to say what it has.
const askTimeout = 3 * time.Second

// Providers asks all connected peers what they have of the blob h, and returns those that have
// some.
func (x *Exchange) Providers(ctx context.Context, h blobs.Hash) []ProviderInfo {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var mu sync.Mutex
	var out []ProviderInfo
	var wg sync.WaitGroup
	for _, p := range x.peers() {
		wg.Go(func() {
			var info ProviderInfo
			err := fault.Guard(x.log, "a question to a peer", func() (err error) {
				info, err = x.describe(ctx, p.ID, h)
				return err
			}, "peer", p.ID)
			if err != nil {
				x.log.Debug("asking what a peer has", "peer", p.ID, "error", err)
				return
			}
			if info.Present > 0 || info.Size > 0 {
				mu.Lock()
				out = append(out, info)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return out
}

func (x *Exchange) describe(ctx context.Context, p peer.ID, h blobs.Hash) (ProviderInfo, error) {
	all, err := x.Describe(ctx, p, []blobs.Hash{h})
	if err != nil {
		return ProviderInfo{ID: p}, err
	}
	return ProviderInfo{p, all[0].Size, all[0].Present}, nil
}

// Described is what a peer says it has of a blob. Nothing of it is proved.
type Described struct {
	Here          bool
	Size, Present uint64 // bytes
}

// DescribeTime is how long a peer has to say what it has of [wire.MaxItems] blobs: of each, as much
// as a hash and some numbers, at the least rate.
const DescribeTime = wire.MaxItems * 40 / link.LeastRate * time.Second

// Describe asks a peer what it has of some blobs, at most [wire.MaxItems]. Nothing of it is proved.
func (x *Exchange) Describe(
	ctx context.Context, p peer.ID, hashes []blobs.Hash,
) ([]Described, error) {
	if len(hashes) == 0 {
		return nil, nil
	}
	opening, cancel := context.WithTimeout(ctx, askTimeout)
	raw, err := x.net.Open(opening, p, wire.Protocol)
	cancel()
	if err != nil {
		return nil, err
	}
	defer link.ResetAfterFault(raw)
	stop := context.AfterFunc(ctx, func() { _ = raw.Reset() })
	defer stop()
	// Each byte may be late, but not all of them: a peer that dribbles would keep this for hours.
	s := link.Within(raw, askTimeout).EndingIn(DescribeTime)
	reqs := make([]wire.Request, len(hashes))
	for i, h := range hashes {
		reqs[i] = wire.Request{Hash: h, Describe: true, Ranges: blobs.Everything}
	}
	msg, err := wire.AppendRequests(nil, false, reqs)
	if err == nil {
		_, err = s.Write(msg)
	}
	if err = errors.Join(err, s.CloseWrite()); err != nil {
		return nil, errors.Join(err, link.GiveUp(s))
	}
	out, r := make([]Described, len(hashes)), bufio.NewReader(s)
	for i := range out {
		head, err := wire.ReadHead(r)
		if err != nil {
			return nil, errors.Join(err, link.GiveUp(s))
		}
		if head.Status == wire.StatusHere {
			out[i] = Described{Here: true, Size: head.Size, Present: head.Ranges.Count()}
		}
	}
	_ = s.Close() // it has said all it was asked
	return out, nil
}
