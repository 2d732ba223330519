package embedded

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/localfirst"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
	"github.com/skerry-sync/skerry/ticket"
)

// Author implements localfirst.Client: the node's default author. It lets the devices' own authors
// write (package versions/onnode).
func (c *client) Author(ctx context.Context) (replica.SecretKey, error) {
	return c.n.Authors().DefaultKey(ctx)
}

// Board implements localfirst.Client.
func (c *client) Board(
	ctx context.Context, owner replica.SecretKey, first seal.ReadKey, addrs []string,
) (localfirst.Board, error) {
	id := owner.Replica()
	if err := c.Found(ctx, "invite "+id.String()[:16], owner, first); err != nil {
		return nil, err
	}
	at, err := parseAddrs(addrs)
	if err != nil {
		return nil, err
	}
	b := &board{n: c.n, id: id}
	if len(at) > 0 {
		t := &ticket.Doc{Capability: replica.Sync, Replica: id, Addrs: at}
		if err := c.n.Remember(ctx, []replica.ID{id}, t.Peers()); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func parseAddrs(addrs []string) (all []ma.Multiaddr, err error) {
	for _, a := range addrs {
		m, err := ma.NewMultiaddr(a)
		if err != nil {
			return nil, fmt.Errorf("address %.64q: %w: %w", a, localfirst.ErrBadInvite, err)
		}
		all = append(all, m)
	}
	return all, nil
}

type board struct {
	n  *node.Node
	id replica.ID
}

// Addrs implements localfirst.Board.
func (b *board) Addrs(ctx context.Context) (all []string, err error) {
	r, err := b.n.Replicas().Get(ctx, b.id)
	if err != nil {
		return nil, err
	}
	t, err := b.n.Ticket(ctx, r, replica.Sync)
	if err != nil {
		return nil, err
	}
	for _, a := range t.Addrs {
		all = append(all, a.String())
	}
	return all, nil
}

// Put implements localfirst.Board.
func (b *board) Put(ctx context.Context, as replica.SecretKey, key string, note []byte) error {
	author := as.Author()
	if b.n.Replicas().MayWrite(ctx, b.id, author, []byte(key)) != nil {
		if _, err := b.n.Grant(ctx, b.id, author, replica.Permission{}); err != nil {
			return err
		}
	}
	_, err := b.n.ReplicaOf(b.id).Apply(ctx, node.WriteOptions{As: as},
		node.Change{Key: []byte(key), Value: note})
	return err
}

// maxNotes is how many notes of a board are looked at: anybody with the invite can write more.
const (
	maxNotes = 1 << 10
	maxNote  = 64 << 10
)

// Notes implements localfirst.Board.
func (b *board) Notes(ctx context.Context, prefix string) (all []localfirst.Note, err error) {
	view, err := b.n.Replicas().Plain(ctx, b.id)
	if err != nil {
		return nil, err
	}
	q := replica.Query{Prefix: []byte(prefix), Limit: maxNotes}
	for it, err := range view.Entries(ctx, q) {
		if err != nil {
			return nil, err
		}
		in, err := b.n.OpenPlain(ctx, view, &it.Entry)
		if errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrIncomplete) ||
			kind.Of(err) == kind.Verification {
			continue
		}
		if err != nil {
			return nil, err
		}
		if in.Size() > maxNote {
			continue
		}
		note := make([]byte, in.Size())
		if _, err := in.ReadAt(note, 0); err != nil && len(note) > 0 {
			continue
		}
		all = append(all, localfirst.Note{
			Key: string(it.Key), Author: it.Entry.Author, At: it.Entry.Time(), Note: note,
		})
	}
	return all, nil
}

// Sync implements localfirst.Board. It gives peers that it reached some time to fetch what the
// notes of this node say: it may go offline then.
func (b *board) Sync(ctx context.Context) error {
	reached, err := syncNow(ctx, b.n, b.id)
	if err != nil || len(reached) == 0 {
		return err
	}
	author, err := b.n.Authors().Default(ctx)
	if err != nil {
		return err
	}
	var own []replica.Entry
	for e, err := range b.n.Replicas().Entries(ctx, b.id, replica.Query{Author: &author}) {
		if err != nil {
			return err
		}
		if own = append(own, e); len(own) == session.MaxAsked {
			break
		}
	}
	within, cancel := context.WithTimeout(ctx, contentTime)
	defer cancel()
	for wait := 20 * time.Millisecond; len(own) > 0; wait *= 2 {
		for _, p := range reached {
			held, err := b.n.Holdings(within, peer.AddrInfo{ID: p}, b.id, own)
			if err == nil && len(held) == len(own) && !slices.ContainsFunc(held,
				func(h session.Holding) bool { return h != session.WithContent }) {
				return nil
			}
		}
		select {
		case <-time.After(wait):
		case <-within.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Leave implements localfirst.Board.
func (b *board) Leave(ctx context.Context) error { return b.n.Leave(ctx, b.id) }

const accessVersion = 1

var errAccess = kind.New(kind.Verification, "the answer to a request to join is malformed")

// Share implements localfirst.Client. It returns
//
//	version u8 = 1, replica[32], epoch u32, read key[32], number of addresses u8, each: length u16,
//	bytes; statements as in package bundle
func (c *client) Share(
	ctx context.Context, id replica.ID, member replica.AuthorID,
) ([]byte, error) {
	r, err := c.n.Replicas().Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if _, err := c.n.Grant(ctx, id, member, replica.Permission{Delegable: true}); err != nil {
		return nil, err
	}
	t, err := c.n.Ticket(ctx, r, replica.Read)
	if err != nil {
		return nil, err
	}
	statements, err := c.n.Replicas().StatementsAbout(ctx, id, member)
	if err != nil {
		return nil, err
	}
	epochs, err := c.n.Replicas().EpochStatements(ctx, id)
	if err != nil {
		return nil, err
	}
	b := append([]byte{accessVersion}, id[:]...)
	b = binary.BigEndian.AppendUint32(b, t.ReadKey.Epoch)
	b = append(b, t.ReadKey.Key[:]...)
	b = append(b, byte(min(len(t.Addrs), 255)))
	for _, a := range t.Addrs[:min(len(t.Addrs), 255)] {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(a.Bytes()))), a.Bytes()...)
	}
	return bundle.Append(b, bundle.Few(append(statements, epochs...))), nil
}

// access is what Share gives.
type access struct {
	ticket     ticket.Doc
	statements [][]byte
}

func parseAccess(b []byte) (a access, err error) {
	const fixed = 1 + 32 + 4 + 32 + 1
	if len(b) < fixed || b[0] != accessVersion {
		return a, errAccess
	}
	a.ticket.Capability = replica.Read
	b = b[1:]
	b = b[copy(a.ticket.Replica[:], b):]
	a.ticket.ReadKey.Epoch = binary.BigEndian.Uint32(b)
	b = b[4:]
	b = b[copy(a.ticket.ReadKey.Key[:], b):]
	n := int(b[0])
	b = b[1:]
	for range n {
		if len(b) < 2 {
			return a, errAccess
		}
		size := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; size > len(b) {
			return a, errAccess
		}
		m, err := ma.NewMultiaddrBytes(b[:size])
		if err != nil {
			return a, fmt.Errorf("%w: %w", errAccess, err)
		}
		a.ticket.Addrs, b = append(a.ticket.Addrs, m), b[size:]
	}
	a.statements, err = bundle.Read(bufio.NewReader(bytes.NewReader(b)), nil)
	if err != nil {
		return a, fmt.Errorf("%w: %w", errAccess, err)
	}
	return a, nil
}

// Accept implements localfirst.Client.
func (c *client) Accept(ctx context.Context, name string, given []byte) (id replica.ID, err error) {
	a, err := parseAccess(given)
	if err != nil {
		return id, err
	}
	id = a.ticket.Replica
	name = fmt.Sprintf("%s %s", name, id.String()[:8])
	// What the answer says of the read key proves nothing: the epochs among its statements do.
	least := replica.EpochID{}
	var epochs []replica.Epoch
	for _, b := range a.statements {
		e, err := replica.ParseEpoch(b)
		if err == nil && e.Replica == id && e.Verify() == nil {
			epochs = append(epochs, e)
		}
	}
	least = replica.Newest(epochs)
	joined, err := c.n.JoinWith(ctx, &a.ticket, name, node.JoinOptions{Least: &least})
	if joined.Replica.ID != id { // it has not been joined
		return id, err
	}
	if _, err := c.n.TakeStatements(ctx, id, a.statements); err != nil {
		return id, err
	}
	return id, c.n.Store().Sync(ctx)
}
