package node

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// What is remembered of a peer that holds a replica:
//
//	n h replica[32] peer-id
//	  version u8 = 1
//	  flags u8: 1 named, 2 it has a history
//	  first u64   when it first proved that it holds the replica, in seconds since 1970, or 0
//	  last u64    when it last did
//	  days u16    on how many different days (UTC, by this node's clock) it did
//	  addresses: count varint (at most 64), then each: length varint, bytes; the best ones first
//
// Node ids are free: one machine makes as many as it likes. So a peer that only proves that it
// holds a replica is a newcomer, and newcomers compete for maxNewcomers records of each replica.
// A peer is known, and never dropped for another, if
//
//   - it is named: by a ticket or a vault that the person opened, as a seed, or because it took an
//     invite for a few; or
//   - it has a history: it proved itself on historyDays different days while it was remembered, and
//     fewer than maxHistory others of the replica had a history by then.
//
// Whoever wants to crowd out others with throwaway ids must thus keep them among the newcomers for
// days. Even then named peers stay.
type acquaintance struct {
	named, history bool
	first, last    uint64
	days           uint16
	addrs          []ma.Multiaddr
}

const (
	acquaintanceVersion = 1
	flagNamed           = 1
	flagHistory         = 2

	// maxNewcomers is how many newcomers are remembered for a replica.
	maxNewcomers = 32
	// earlyNewcomers of them are those that were met first; they do not make room for others while
	// they have been seen in the last earlyFor. So a crowd displaces its own members, and not those
	// who were there before it.
	earlyNewcomers = 16
	earlyFor       = 30 * 24 * time.Hour
	maxHistory     = 32
	historyDays    = 3
	maxAddrs       = 16 // remembered of a peer
)

func (a *acquaintance) standing() standing {
	if a.named || a.history {
		return known
	}
	return newcomer
}

// seen notes that the peer proved itself.
func (a *acquaintance) seen(now time.Time) {
	if a.days == 0 {
		a.first = uint64(now.Unix())
	}
	if a.days == 0 || dayOf(now) != dayOf(time.Unix(int64(a.last), 0)) {
		a.days = min(a.days+1, 1<<15)
	}
	a.last = uint64(now.Unix())
}

// setAddrs replaces the addresses by those that the peer itself uses now.
func (a *acquaintance) setAddrs(now []ma.Multiaddr) {
	if len(now) > 0 {
		a.addrs = now[:min(len(now), maxAddrs)]
	}
}

// addAddrs adds addresses that somebody else gives. They take half of the places at most from
// those that are there.
func (a *acquaintance) addAddrs(claimed []ma.Multiaddr) {
	const half = maxAddrs / 2
	first := a.addrs[:min(len(a.addrs), max(half, maxAddrs-len(claimed)))]
	all := ma.Unique(slices.Concat(first, claimed, a.addrs))
	a.addrs = all[:min(len(all), maxAddrs)]
}

func (a *acquaintance) marshal() []byte {
	var flags byte
	if a.named {
		flags |= flagNamed
	}
	if a.history {
		flags |= flagHistory
	}
	b := []byte{acquaintanceVersion, flags}
	b = binary.BigEndian.AppendUint64(b, a.first)
	b = binary.BigEndian.AppendUint64(b, a.last)
	b = binary.BigEndian.AppendUint16(b, a.days)
	return append(b, marshalAddrs(a.addrs)...)
}

func parseAcquaintance(b []byte) (a acquaintance, err error) {
	const head = 2 + 8 + 8 + 2
	if len(b) < head || b[0] != acquaintanceVersion || b[1]&^(flagNamed|flagHistory) != 0 {
		return a, errors.New("node store: malformed record of a peer")
	}
	a.named, a.history = b[1]&flagNamed != 0, b[1]&flagHistory != 0
	a.first, a.last = binary.BigEndian.Uint64(b[2:]), binary.BigEndian.Uint64(b[10:])
	a.days = binary.BigEndian.Uint16(b[18:])
	a.addrs, err = parseAddrs(b[head:])
	return a, err
}

func marshalAddrs(addrs []ma.Multiaddr) []byte {
	b := binary.AppendUvarint(nil, uint64(len(addrs)))
	for _, a := range addrs {
		b = append(binary.AppendUvarint(b, uint64(len(a.Bytes()))), a.Bytes()...)
	}
	return b
}

func parseAddrs(b []byte) (addrs []ma.Multiaddr, err error) {
	bad := errors.New("node store: malformed addresses")
	count, n := binary.Uvarint(b)
	if n <= 0 || count > 64 {
		return nil, bad
	}
	b = b[n:]
	for range count {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return nil, bad
		}
		a, err := ma.NewMultiaddrBytes(b[n : n+int(size)])
		if err != nil {
			return nil, fmt.Errorf("%w: %w", bad, err)
		}
		addrs, b = append(addrs, a), b[n+int(size):]
	}
	if len(b) > 0 {
		return nil, bad
	}
	return addrs, nil
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

// standing says what a peer is for a replica. Of one that cannot be read, it is a newcomer.
func (b *peerBook) standing(ctx context.Context, id replica.ID, p peer.ID) (is standing) {
	err := b.n.kv.View(ctx, func(r kv.Reader) error {
		a, _, err := sharingOf(r, id, p)
		is = a.standing()
		return err
	})
	if err != nil && ctx.Err() == nil {
		b.n.log.Warn("reading what is remembered of a peer", "peer", p, "error", err)
	}
	return is
}

// Remember notes that peers hold replicas of this node, because a person's ticket, vault or
// registration names them. Others do not displace them. That is durable when it returns: a replica
// whose peers were forgotten would stay alone.
func (n *Node) Remember(ctx context.Context, ids []replica.ID, peers []peer.AddrInfo) error {
	peers = slices.DeleteFunc(slices.Clone(peers), func(p peer.AddrInfo) bool { return p.ID == n.id })
	err := n.kv.View(ctx, func(r kv.Reader) error {
		return n.kv.Batch(ctx, func(w kv.Writer) error {
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
	if err != nil {
		return err
	}
	for _, p := range peers {
		for _, id := range ids {
			n.peers.note(id, p.ID, known)
		}
		n.peers.noteNamed(p.ID)
		n.peers.tellTrust(p.ID)
	}
	return n.kv.Sync(ctx)
}

// hint notes that peers may hold a replica, as somebody says whom the person did not choose. They
// are newcomers that have not proved it yet, and make room for any that has.
func (n *Node) hint(ctx context.Context, id replica.ID, peers []peer.AddrInfo) error {
	var kept []peer.ID
	err := n.kv.Update(ctx, func(tx kv.Txn) error {
		kept = nil
		for _, p := range peers {
			a, ok, err := sharingOf(tx, id, p.ID)
			if err == nil && !ok && p.ID != n.id {
				ok, err = n.peers.admit(tx, id, &a, false)
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
			kept = append(kept, p.ID)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range kept {
		n.peers.note(id, p, n.peers.standing(ctx, id, p))
	}
	return n.kv.Sync(ctx)
}

// meet notes that a connected peer has proved that it holds replicas.
func (b *peerBook) meet(ctx context.Context, p peer.ID, ids []replica.ID) error {
	if len(ids) == 0 {
		return nil
	}
	addrs, written := b.n.net.KnownAddrs(p), false
	for _, id := range ids {
		is, kept, err := b.remember(ctx, p, id, addrs)
		if err != nil {
			return err
		}
		written = written || kept
		b.note(id, p, is)
	}
	b.tellTrust(p)
	if !written {
		return nil
	}
	return b.n.kv.Sync(ctx)
}

// remember writes that a connected peer has proved that it holds a replica, if there is room, and
// reports whether there was. If there is none, it writes nothing.
func (b *peerBook) remember(
	ctx context.Context, p peer.ID, id replica.ID, addrs []ma.Multiaddr,
) (is standing, kept bool, err error) {
	err = b.n.kv.Update(ctx, func(tx kv.Txn) error {
		a, before, err := sharingOf(tx, id, p)
		if err != nil {
			return err
		}
		old := a.marshal()
		a.seen(b.n.cfg.Now())
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

// admit makes room for a newcomer of a replica, or gives one that was there before a history.
func (b *peerBook) admit(tx kv.Txn, id replica.ID, a *acquaintance, before bool) (bool, error) {
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
		if o.standing() == newcomer {
			newcomers = append(newcomers, other{o, peer.ID(k.Key[len(keySharing)+32:])})
		}
	}
	if before {
		a.history = histories < maxHistory
		return true, nil
	}
	slices.SortStableFunc(newcomers, func(x, y other) int { return cmp.Compare(x.first, y.first) })
	after := uint64(max(0, b.n.cfg.Now().Add(-earlyFor).Unix()))
	early := 0
	newcomers = slices.DeleteFunc(newcomers, func(o other) bool {
		if early < earlyNewcomers && o.last > after {
			early++
			return true
		}
		return false
	})
	slices.SortStableFunc(newcomers, func(x, y other) int { return cmp.Compare(x.last, y.last) })
	for i := 0; early+len(newcomers) >= maxNewcomers; {
		if i == len(newcomers) || a.days == 0 && newcomers[i].days > 0 {
			return false, nil // all the others are here, or have proved themselves
		}
		if b.isConnected(newcomers[i].p) {
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

// holder is a peer that is remembered to hold a replica.
type holder struct {
	peer.AddrInfo
	is standing
}

// holdersOf returns all remembered peers of a replica: those that are known before newcomers, and
// of each kind the connected ones first.
func (b *peerBook) holdersOf(ctx context.Context, id replica.ID) (out []holder, err error) {
	err = b.n.kv.View(ctx, func(r kv.Reader) error {
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
			out = append(out, holder{peer.AddrInfo{ID: p, Addrs: a.addrs}, a.standing()})
		}
		return nil
	})
	absent := map[peer.ID]int{}
	for _, h := range out {
		if !b.isConnected(h.ID) {
			absent[h.ID] = 1
		}
	}
	slices.SortStableFunc(out, func(x, y holder) int {
		return cmp.Or(cmp.Compare(y.is, x.is), cmp.Compare(absent[x.ID], absent[y.ID]))
	})
	return out, err
}
