// Package holders remembers, in the store, which peers hold which replicas, where they are, what
// they had in common with this node, and which of them are its seeds.
//
// Node ids are free, so the records of each replica are bounded, and a crowd of throwaway ids
// displaces neither who is named by a person nor who has a history (see acquaintance.go).
//
// What belongs here: what is kept of peers that hold a replica, and who makes room for whom. What
// never belongs here: a network, a goroutine, or when to talk to whom (package contacts). Start at
// [Book].
package holders

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// Records of this package:
//
//	n h replica[32] peer-id            a peer that holds the replica: see acquaintance.go
//	n j length u8 peer-id replica[32]  the same by peer: see bypeer.go
//	n s replica[32] peer-id            what a peer has had: see common.go
//	n z replica[32] peer-id            a peer that keeps the replica for us: see seeds.go
const keySharing = "nh"

// Book remembers which peers hold which replicas. All of it lies in the store, so a node with
// a million replicas needs no more memory than one with ten. Its methods may be called from many
// goroutines.
type Book struct {
	cfg Config
	kv  kv.Store
	now func() time.Time
	log *slog.Logger
}

// Config is what a holderBook needs.
type Config struct {
	Store kv.Store
	Self  peer.ID // is never remembered
	Now   func() time.Time
	Log   *slog.Logger
	// Connected reports whether a peer is connected: those that are make room for no others. It is
	// called in transactions.
	Connected func(p peer.ID) bool
}

// New returns a book over a store.
func New(cfg Config) *Book {
	return &Book{cfg: cfg, kv: cfg.Store, now: cfg.Now, log: cfg.Log}
}

func sharingPrefix(id replica.ID) []byte { return append([]byte(keySharing), id[:]...) }

func sharingKey(id replica.ID, p peer.ID) []byte { return append(sharingPrefix(id), p...) }

// setSharing writes both records of a peer that holds a replica.
func setSharing(w kv.Writer, id replica.ID, p peer.ID, a *acquaintance) error {
	return errors.Join(w.Set(sharingKey(id, p), a.marshal()), w.Set(byPeerKey(p, id), byPeerValue(a)))
}

// dropSharing drops them, and what was noted of the peer's sessions.
func dropSharing(w kv.Writer, id replica.ID, p peer.ID) error {
	return errors.Join(w.Delete(sharingKey(id, p)), w.Delete(byPeerKey(p, id)),
		w.Delete(commonKey(id, p)))
}

// sharingOf returns what is remembered of a peer that holds a replica, if anything is.
func sharingOf(r kv.Reader, id replica.ID, p peer.ID) (a acquaintance, ok bool, err error) {
	err = r.Peek(sharingKey(id, p), func(b []byte) (err error) {
		ok = true
		a, err = parseAcquaintance(b)
		return err
	})
	if errors.Is(err, kv.ErrNotFound) {
		err = nil
	}
	return a, ok, err
}

// Standing says what a peer is for a replica. Of one that cannot be read, it is a newcomer.
func (b *Book) Standing(ctx context.Context, id replica.ID, p peer.ID) (is Standing) {
	err := b.kv.View(ctx, func(r kv.Reader) error {
		a, _, err := sharingOf(r, id, p)
		is = a.standing()
		return err
	})
	if err != nil && ctx.Err() == nil {
		b.log.Warn("reading what is remembered of a peer", "peer", p, "error", err)
	}
	return is
}

// Named notes that peers hold replicas of this node, because a person's ticket, vault or
// registration names them. Others do not displace them. It returns the peers but this node itself.
// sync makes it durable.
func (b *Book) Named(
	ctx context.Context, ids []replica.ID, peers []peer.AddrInfo,
) ([]peer.AddrInfo, error) {
	peers = slices.DeleteFunc(slices.Clone(peers), func(p peer.AddrInfo) bool {
		return p.ID == b.cfg.Self
	})
	err := b.kv.View(ctx, func(r kv.Reader) error {
		return b.kv.Batch(ctx, func(w kv.Writer) error {
			for _, id := range ids {
				for _, p := range peers {
					a, _, err := sharingOf(r, id, p.ID)
					if err != nil {
						return err
					}
					a.named = true
					a.addAddrs(p.Addrs)
					if err := setSharing(w, id, p.ID, &a); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
	return peers, err
}

// Hinted notes that peers may hold a replica, as somebody says whom the person did not choose. They
// are newcomers that have not proved it yet, and make room for any that has. It returns those for
// which there is room. sync makes it durable.
func (b *Book) Hinted(
	ctx context.Context, id replica.ID, peers []peer.AddrInfo,
) (kept []Holder, err error) {
	err = b.kv.Update(ctx, func(tx kv.Txn) error {
		kept = nil
		for _, p := range peers {
			a, ok, err := sharingOf(tx, id, p.ID)
			if err == nil && !ok && p.ID != b.cfg.Self {
				ok, err = b.admit(tx, id, &a, false)
			}
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			a.addAddrs(p.Addrs)
			if err := setSharing(tx, id, p.ID, &a); err != nil {
				return err
			}
			kept = append(kept, Holder{peer.AddrInfo{ID: p.ID, Addrs: a.addrs}, a.standing()})
		}
		return nil
	})
	return kept, err
}

// Proved writes that a connected peer has proved that it holds a replica, if there is room, and
// reports whether there was. If there is none, it writes nothing. sync makes it durable.
func (b *Book) Proved(
	ctx context.Context, p peer.ID, id replica.ID, addrs []ma.Multiaddr,
) (is Standing, kept bool, err error) {
	err = b.kv.Update(ctx, func(tx kv.Txn) error {
		a, before, err := sharingOf(tx, id, p)
		if err != nil {
			return err
		}
		old := a.marshal()
		a.seen(b.now())
		a.setAddrs(addrs)
		kept = true
		if !a.named && (!before || !a.history && a.days >= historyDays) {
			if kept, err = b.admit(tx, id, &a, before); err != nil {
				return err
			}
		}
		is = a.standing()
		if !kept || before && bytes.Equal(old, a.marshal()) {
			return nil
		}
		return setSharing(tx, id, p, &a)
	})
	return is, kept, err
}

// Sync makes durable what was noted before.
func (b *Book) Sync(ctx context.Context) error { return b.kv.Sync(ctx) }

// admit makes room for a newcomer of a replica, or gives one that was there before a history.
func (b *Book) admit(
	tx kv.Txn, id replica.ID, a *acquaintance, before bool,
) (bool, error) {
	type other struct {
		acquaintance
		p peer.ID
	}
	var newcomers []other
	histories := 0
	for k, err := range tx.Scan(kv.Prefix(sharingPrefix(id)), kv.ScanOptions{}) {
		if err != nil {
			return false, err
		}
		o, err := parseAcquaintance(k.Value)
		if err != nil {
			return false, err
		}
		if o.history {
			histories++
		}
		if o.standing() == Newcomer {
			newcomers = append(newcomers, other{o, peer.ID(k.Key[len(keySharing)+32:])})
		}
	}
	if before {
		a.history = histories < MaxHistory
		return true, nil
	}
	slices.SortStableFunc(newcomers, func(x, y other) int { return cmp.Compare(x.first, y.first) })
	after := uint64(max(0, b.now().Add(-earlyFor).Unix()))
	early := 0
	newcomers = slices.DeleteFunc(newcomers, func(o other) bool {
		if early < earlyNewcomers && o.last > after {
			early++
			return true
		}
		return false
	})
	slices.SortStableFunc(newcomers, func(x, y other) int { return cmp.Compare(x.last, y.last) })
	for i := 0; early+len(newcomers) >= MaxNewcomers; {
		if i == len(newcomers) || a.days == 0 && newcomers[i].days > 0 {
			return false, nil // all the others are here, or have proved themselves
		}
		if b.cfg.Connected(newcomers[i].p) {
			i++
			continue
		}
		if err := dropSharing(tx, id, newcomers[i].p); err != nil {
			return false, err
		}
		newcomers = slices.Delete(newcomers, i, i+1)
	}
	return true, nil
}

// Holder is a peer that is remembered to hold a replica.
type Holder struct {
	peer.AddrInfo
	Is Standing
}

// Of returns all remembered peers of a replica: those that are known before newcomers, and of each
// kind the connected ones first.
func (b *Book) Of(ctx context.Context, id replica.ID) (out []Holder, err error) {
	err = b.kv.View(ctx, func(r kv.Reader) error {
		out = nil
		for k, err := range r.Scan(kv.Prefix(sharingPrefix(id)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			a, err := parseAcquaintance(k.Value)
			if err != nil {
				return err
			}
			p := peer.ID(k.Key[len(keySharing)+32:])
			out = append(out, Holder{peer.AddrInfo{ID: p, Addrs: a.addrs}, a.standing()})
		}
		return nil
	})
	absent := map[peer.ID]int{}
	for _, h := range out {
		if !b.cfg.Connected(h.ID) {
			absent[h.ID] = 1
		}
	}
	slices.SortStableFunc(out, func(x, y Holder) int {
		return cmp.Or(cmp.Compare(y.Is, x.Is), cmp.Compare(absent[x.ID], absent[y.ID]))
	})
	return out, err
}

// Forget drops what is remembered of a replica that has been left.
func (b *Book) Forget(ctx context.Context, id replica.ID) error {
	return b.kv.View(ctx, func(r kv.Reader) error {
		return b.kv.Batch(ctx, func(w kv.Writer) error {
			scan := r.Scan(kv.Prefix(sharingPrefix(id)), kv.ScanOptions{KeysOnly: true})
			for k, err := range scan {
				if err != nil {
					return err
				}
				if err := dropSharing(w, id, peer.ID(k.Key[len(keySharing)+32:])); err != nil {
					return err
				}
			}
			for _, prefix := range [][]byte{commonPrefix(id), seedPrefix(id)} {
				for k, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{KeysOnly: true}) {
					if err != nil {
						return err
					}
					if err := w.Delete(bytes.Clone(k.Key)); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
}
