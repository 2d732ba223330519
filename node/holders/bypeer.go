package holders

import (
	"context"
	"errors"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// What a peer holds is kept by peer, too:
//
//	n j length u8 peer-id replica[32]
//	  u8 2 if the peer is named, 1 if it has a history, 0 if it is a newcomer
//
// length is that of the peer's id.
const keyByPeer = "nj"

const (
	byPeerHistory = 1
	byPeerNamed   = 2
)

func byPeerPrefix(p peer.ID) []byte {
	return append(append([]byte(keyByPeer), byte(len(p))), p...)
}

func byPeerKey(p peer.ID, id replica.ID) []byte { return append(byPeerPrefix(p), id[:]...) }

func byPeerValue(a *acquaintance) []byte {
	switch {
	case a.named:
		return []byte{byPeerNamed}
	case a.history:
		return []byte{byPeerHistory}
	}
	return []byte{0}
}

func parseByPeer(b []byte) (is Standing, named bool) {
	if len(b) != 1 || b[0] < byPeerHistory {
		return Newcomer, false
	}
	return Known, b[0] == byPeerNamed
}

// PeersOf returns the remembered peers whose best standing, for any replica, is the given one, at
// most so many.
func (b *Book) PeersOf(
	ctx context.Context, is Standing, most int,
) (all []peer.ID, err error) {
	err = b.kv.View(ctx, func(r kv.Reader) error {
		all = nil
		from := []byte(keyByPeer + "\x01")
		for len(all) < most {
			p, err := firstPeer(r, from)
			if err != nil || p == "" {
				return err
			}
			from = kv.After(byPeerPrefix(p))
			best, err := standingOf(r, p)
			if err != nil {
				return err
			}
			if best == is {
				all = append(all, p)
			}
		}
		return nil
	})
	return all, err
}

// standingOf returns the best standing of a peer, for any replica.
func standingOf(r kv.Reader, p peer.ID) (Standing, error) {
	for k, err := range r.Scan(kv.Prefix(byPeerPrefix(p)), kv.ScanOptions{}) {
		if err != nil {
			return Newcomer, err
		}
		if is, _ := parseByPeer(k.Value); is == Known {
			return Known, nil
		}
	}
	return Newcomer, nil
}

// firstPeer returns the first peer whose records by peer begin at from or later, or none.
func firstPeer(r kv.Reader, from []byte) (peer.ID, error) {
	all := kv.Range{From: from, To: kv.After([]byte(keyByPeer))}
	for p, err := range r.Scan(all, kv.ScanOptions{KeysOnly: true}) {
		if err != nil {
			return "", err
		}
		k := p.Key[len(keyByPeer):]
		if len(k) != 1+int(k[0])+32 {
			return "", errors.New("node store: malformed record of a peer")
		}
		return peer.ID(k[1 : 1+k[0]]), nil
	}
	return "", nil
}

// ReplicasOf returns the replicas that a peer is remembered to hold, at most so many, with what it
// is for each, and whether a person has named it for one of them.
func (b *Book) ReplicasOf(
	ctx context.Context, p peer.ID, most int,
) (ids []replica.ID, is []Standing, named bool, err error) {
	prefix := byPeerPrefix(p)
	err = b.kv.View(ctx, func(r kv.Reader) error {
		ids, is, named = nil, nil, false
		for k, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			one, isNamed := parseByPeer(k.Value)
			named = named || isNamed
			ids, is = append(ids, replica.ID(k.Key[len(prefix):])), append(is, one)
			if len(ids) >= most {
				break
			}
		}
		return nil
	})
	return ids, is, named, err
}

// AddrsOf returns all places where a peer may be: the best ones of each replica's.
func (b *Book) AddrsOf(ctx context.Context, p peer.ID) (all []ma.Multiaddr) {
	const enough, each = 32, MaxAddrs / 2
	ids, _, _, err := b.ReplicasOf(ctx, p, enough)
	if err == nil {
		err = b.kv.View(ctx, func(r kv.Reader) error {
			all = nil
			var rest []ma.Multiaddr
			for _, id := range ids {
				a, _, err := sharingOf(r, id, p)
				if err != nil {
					return err
				}
				k := min(each, len(a.addrs))
				all, rest = ma.Unique(append(all, a.addrs[:k]...)), append(rest, a.addrs[k:]...)
			}
			all = ma.Unique(append(all, rest...))
			all = all[:min(len(all), 2*enough)]
			return nil
		})
	}
	if err != nil && ctx.Err() == nil {
		b.log.Warn("reading where a peer is", "peer", p, "error", err)
	}
	return all
}
