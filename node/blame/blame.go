// Package blame remembers which peers have done wrong, and for how long that counts: who sent
// content that did not verify is asked last, who broke the sync protocol is refused, and who passes
// on statements without authority is told so often, and then refused.
//
// All of it is bounded, since node ids are free. What never belongs here: what is wrong, which is
// for whoever reads it to say, and what is done to the peer. Start at [List].
package blame

import (
	"context"
	"encoding/binary"
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// Who sent wrong content is remembered across restarts:
//
//	n l peer-id   when, in seconds since 1970, u64
const keyLie = "nl"

const (
	// lieMemory is how long a peer that sent something wrong is asked only when nobody else can help.
	lieMemory = 24 * time.Hour
	// RefusedFor is how long a peer that broke the sync protocol, or sent entries that are wrong,
	// is refused.
	RefusedFor = 10 * time.Minute
	// maxBlamed is how many peers are remembered to have lied, as many to have broken the protocol,
	// and how many offences. Whoever makes new ids all the time pushes out old ones only, which are
	// then asked, and found out, again.
	maxBlamed = 4096
)

// List knows which peers have done wrong lately. Its methods may be called from many
// goroutines.
type List struct {
	kv  kv.Store
	now func() time.Time
	log *slog.Logger

	mu       sync.Mutex
	lies     map[peer.ID]time.Time
	rubbish  map[peer.ID]time.Time // when a peer last broke the sync protocol
	offences map[offender]*offence // messages with too many worthless statements
}

// Load reads who has lied.
func Load(
	ctx context.Context, store kv.Store, now func() time.Time, log *slog.Logger,
) (*List, error) {
	b := &List{
		kv: store, now: now, log: log, lies: map[peer.ID]time.Time{},
		rubbish: map[peer.ID]time.Time{}, offences: map[offender]*offence{},
	}
	err := store.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix([]byte(keyLie)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if len(p.Value) == 8 {
				at := time.Unix(int64(binary.BigEndian.Uint64(p.Value)), 0)
				b.lies[peer.ID(p.Key[len(keyLie):])] = at
			}
		}
		return nil
	})
	return b, err
}

// Lied reports whether p has sent wrong content not long ago.
func (b *List) Lied(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, ok := b.lies[p]
	return ok && b.now().Before(at.Add(lieMemory))
}

// Lie remembers that p has sent wrong content. The record is written as long as ctx allows;
// until the program ends it is remembered without.
func (b *List) Lie(ctx context.Context, p peer.ID, cause error) {
	now := b.now()
	var old [][]byte
	b.mu.Lock()
	for q, at := range b.lies {
		if now.After(at.Add(lieMemory)) {
			delete(b.lies, q)
			old = append(old, append([]byte(keyLie), q...))
		}
	}
	if q, full := oldestOf(b.lies); full {
		delete(b.lies, q)
		old = append(old, append([]byte(keyLie), q...))
	}
	b.lies[p] = now
	b.mu.Unlock()
	b.log.Warn("a peer sent something wrong, and is asked last from now on", "peer", p, "error", cause)
	err := b.kv.Update(ctx, func(tx kv.Txn) error {
		for _, k := range old {
			if err := tx.Delete(k); err != nil {
				return err
			}
		}
		at := binary.BigEndian.AppendUint64(nil, uint64(now.Unix()))
		return tx.Set(append([]byte(keyLie), p...), at)
	})
	if err != nil {
		b.log.Warn("remembering that a peer lied", "peer", p, "error", err)
	}
}

// oldestOf returns the peer that was blamed first, and whether there are as many as there may be.
func oldestOf(blamed map[peer.ID]time.Time) (oldest peer.ID, full bool) {
	for p, at := range blamed {
		if oldest == "" || at.Before(blamed[oldest]) {
			oldest = p
		}
	}
	return oldest, len(blamed) >= maxBlamed
}

// Rubbish remembers a peer that broke the sync protocol or sent entries that are wrong, until
// the program ends.
func (b *List) Rubbish(p peer.ID, cause error) {
	now := b.now()
	b.mu.Lock()
	for q, at := range b.rubbish {
		if now.After(at.Add(RefusedFor)) {
			delete(b.rubbish, q)
		}
	}
	if q, full := oldestOf(b.rubbish); full {
		delete(b.rubbish, q)
	}
	b.rubbish[p] = now
	b.mu.Unlock()
	b.log.Warn("a peer broke the sync protocol, and is refused for a while", "peer", p,
		"for", RefusedFor, "error", cause)
}

// Refused reports whether sessions with p are refused.
func (b *List) Refused(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, ok := b.rubbish[p]
	return ok && b.now().Before(at.Add(RefusedFor))
}

// offender is a peer that brings worthless statements of a replica.
type offender struct {
	p  peer.ID
	id replica.ID
}

// offence is what it has brought. A session is not enough to begin anew: whoever floods can run one
// whenever it likes. So it takes a session and time. What is noted outlasts the connection.
type offence struct {
	count int
	since time.Time // when it brought the first
	heard bool      // a session since then has made the statements the same on both sides
}

// Offended notes that a peer has brought too many worthless statements of a replica, and returns
// how often it has, since it last heard what makes them so.
func (b *List) Offended(p peer.ID, id replica.ID) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	by, now := offender{p, id}, b.now()
	o := b.offences[by]
	if o == nil || o.heard && !now.Before(o.since.Add(RefusedFor)) {
		o = &offence{since: now}
		b.makeRoomLocked()
		b.offences[by] = o
	}
	o.count++
	return o.count
}

// makeRoomLocked forgets the oldest offence if there are maxBlamed.
func (b *List) makeRoomLocked() {
	if len(b.offences) < maxBlamed {
		return
	}
	var oldest offender
	var first *offence
	for by, o := range b.offences {
		if first == nil || o.since.Before(first.since) {
			oldest, first = by, o
		}
	}
	delete(b.offences, oldest)
}

// Agreed notes that the statements of a replica are the same at a peer, after a session.
func (b *List) Agreed(p peer.ID, id replica.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o := b.offences[offender{p, id}]; o != nil {
		o.heard = true
	}
}
