package node

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/replica"
)

// The push protocol. One stream carries new entries of one replica to a peer that is known to hold it:
//
//	version u8 = 1, lookup[32] (see sync.go)
//	grants: count varint (at most 1,024), then each: length varint (at most 131,072), bytes; together at most 2 MiB
//	entries: likewise
//
// Nothing is answered: what is lost or refused is mended by the next session.
const (
	pushProtocol = "/skerry/push/1"
	pushVersion  = 1
	maxPush      = 1024
	maxPushItem  = 128 << 10
	maxPushBytes = 2 << 20 // of all grants, and of all entries
	// maxOutbox is how many entries wait for a peer; when more do, they are dropped, and a session mends it.
	maxOutbox = 8192
)

// push sends entries that have just been stored to connected peers that hold the replica, except the one they came from. Each peer has
// an outbox that one goroutine at a time empties, so that a slow peer holds up no other.
func (n *Node) push(ctx context.Context) {
	sub := n.Replicas.SubscribeAll()
	defer sub.Close()
	for {
		events, lost, err := sub.Next(ctx)
		if err != nil {
			return // the node closes
		}
		if lost > 0 {
			n.peers.compareSoon()
		}
		remote := map[replica.ID]bool{}
		for _, e := range events {
			if e.From != replica.Local {
				remote[e.Entry.Replica] = true
			}
			for _, p := range n.peers.connectedSharing(e.Entry.Replica) {
				if p.String() != string(e.From) {
					n.outbox(p).add(ctx, e.Entry)
				}
			}
		}
		if len(remote) > 0 {
			n.downloads.wake()
		}
	}
}

type outbox struct {
	n *Node
	p peer.ID

	mu      sync.Mutex
	entries []replica.Entry
	busy    bool
}

func (n *Node) outbox(p peer.ID) *outbox {
	n.outboxMu.Lock()
	defer n.outboxMu.Unlock()
	o := n.outboxes[p]
	if o == nil {
		o = &outbox{n: n, p: p}
		n.outboxes[p] = o
	}
	return o
}

func (o *outbox) add(ctx context.Context, e replica.Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.entries) >= maxOutbox {
		o.entries = nil
		o.n.peers.compareSoonWith(o.p)
	}
	o.entries = append(o.entries, e)
	if !o.busy {
		o.busy = true
		o.n.work.Go(func() { o.run(ctx) })
	}
}

func (o *outbox) run(ctx context.Context) {
	for {
		o.mu.Lock()
		if len(o.entries) == 0 || ctx.Err() != nil {
			o.busy = false
			o.mu.Unlock()
			return
		}
		id := o.entries[0].Replica
		k, size := 1, len(o.entries[0].Key)
		for k < len(o.entries) && k < maxPush && o.entries[k].Replica == id && size < maxPushBytes/2 {
			size += len(o.entries[k].Key) + 256
			k++
		}
		batch := o.entries[:k:k]
		o.entries = o.entries[k:]
		o.mu.Unlock()
		if err := o.n.pushTo(ctx, o.p, id, batch); err != nil {
			o.n.log.Debug("push", "peer", o.p, "replica", id.Short(), "error", err)
			o.n.peers.compareSoonWith(o.p)
		}
	}
}

func (n *Node) pushTo(ctx context.Context, p peer.ID, id replica.ID, entries []replica.Entry) error {
	grants, err := n.Replicas.Grants(ctx, id)
	if err != nil {
		return err
	}
	authors := map[replica.AuthorID]bool{}
	for _, e := range entries {
		authors[e.Author] = true
	}
	lookup := lookupOf(id, p, dayOf(n.cfg.Now()))
	b := append([]byte{pushVersion}, lookup[:]...)
	var items [][]byte
	for _, g := range grants {
		if authors[g.Author] && len(items) < maxPush {
			items = append(items, g.Bytes())
		}
	}
	b = appendItems(b, items)
	items = items[:0]
	for i := range entries {
		raw, err := entries[i].AppendBinary(nil)
		if err != nil {
			return err
		}
		items = append(items, raw)
	}
	b = appendItems(b, items)
	raw, err := n.net.Open(ctx, p, pushProtocol)
	if err != nil {
		return err
	}
	s := patient{raw, idleTimeout}
	if _, err := s.Write(b); err != nil {
		return errors.Join(err, ignoreReset(s))
	}
	return s.Close()
}

func appendItems(b []byte, items [][]byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(items)))
	for _, it := range items {
		b = append(binary.AppendUvarint(b, uint64(len(it))), it...)
	}
	return b
}

func readItems(r *bufio.Reader) ([][]byte, error) {
	count, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, noEOF(err)
	}
	if count > maxPush {
		return nil, fmt.Errorf("push of %d items, at most %d", count, maxPush)
	}
	var items [][]byte
	var total uint64
	for range count {
		size, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, noEOF(err)
		}
		if size > maxPushItem {
			return nil, fmt.Errorf("push of an item of %d bytes, at most %d", size, maxPushItem)
		}
		if total += size; total > maxPushBytes {
			return nil, fmt.Errorf("push of more than %d bytes", maxPushBytes)
		}
		it := make([]byte, size)
		if _, err := io.ReadFull(r, it); err != nil {
			return nil, noEOF(err)
		}
		items = append(items, it)
	}
	return items, nil
}

// pushed is a parsed push.
type pushed struct {
	lookup          [32]byte
	grants, entries [][]byte
}

func readPush(r *bufio.Reader) (p pushed, err error) {
	version, err := r.ReadByte()
	if err != nil {
		return p, noEOF(err)
	}
	if version != pushVersion {
		return p, fmt.Errorf("push of version %d, expected %d", version, pushVersion)
	}
	if _, err := io.ReadFull(r, p.lookup[:]); err != nil {
		return p, noEOF(err)
	}
	if p.grants, err = readItems(r); err != nil {
		return p, err
	}
	p.entries, err = readItems(r)
	return p, err
}

func (n *Node) servePush(s Stream) {
	if err := n.takePush(n.ctx, patient{s, idleTimeout}); err != nil {
		level := slog.LevelInfo
		if errors.Is(err, ErrNotShared) || n.ctx.Err() != nil {
			level = slog.LevelDebug // it was shared until lately, or this node is closing
		}
		n.log.Log(n.ctx, level, "push refused", "peer", s.Remote(), "error", err)
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

func (n *Node) takePush(ctx context.Context, s Stream) error {
	p, err := readPush(bufio.NewReader(s))
	if err != nil {
		return err
	}
	id, err := n.lookUp(ctx, p.lookup)
	if err != nil {
		return err
	}
	if _, err := n.insertGrants(ctx, id, p.grants); err != nil {
		return err
	}
	if err := n.insertEntries(ctx, id, p.entries, s.Remote()); err != nil {
		return err
	}
	n.peers.shares(s.Remote(), id)
	return n.Replicas.Sync(ctx)
}
