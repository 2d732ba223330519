package holders

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/node/names"
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

	// MaxNewcomers is how many newcomers are remembered for a replica.
	MaxNewcomers = 32
	// earlyNewcomers of them are those that were met first; they do not make room for others while
	// they have been seen in the last earlyFor. So a crowd displaces its own members, and not those
	// who were there before it.
	earlyNewcomers = 16
	earlyFor       = 30 * 24 * time.Hour
	MaxHistory     = 32
	historyDays    = 3
	MaxAddrs       = 16 // remembered of a peer
)

// Standing says what a peer is to this node, for one replica.
type Standing int

const (
	Newcomer Standing = iota
	Known
)

func (a *acquaintance) standing() Standing {
	if a.named || a.history {
		return Known
	}
	return Newcomer
}

// seen notes that the peer proved itself.
func (a *acquaintance) seen(now time.Time) {
	if a.days == 0 {
		a.first = uint64(now.Unix())
	}
	if a.days == 0 || names.Day(now) != names.Day(time.Unix(int64(a.last), 0)) {
		a.days = min(a.days+1, 1<<15)
	}
	a.last = uint64(now.Unix())
}

// setAddrs replaces the addresses by those that the peer itself uses now.
func (a *acquaintance) setAddrs(now []ma.Multiaddr) {
	if len(now) > 0 {
		a.addrs = now[:min(len(now), MaxAddrs)]
	}
}

// addAddrs adds addresses that somebody else gives. They take half of the places at most from
// those that are there.
func (a *acquaintance) addAddrs(claimed []ma.Multiaddr) {
	const half = MaxAddrs / 2
	first := a.addrs[:min(len(a.addrs), max(half, MaxAddrs-len(claimed)))]
	all := ma.Unique(slices.Concat(first, claimed, a.addrs))
	a.addrs = all[:min(len(all), MaxAddrs)]
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
