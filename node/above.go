package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
)

// Room is what stands above a node and lives as long as that: what it serves, does by itself and
// wants to be told. All but the name may be left out.
//
// The node calls Created, Renamed and Left before the call that caused it returns, and returns
// their errors; what has happened stays.
type Room struct {
	// Name is for logs and errors, such as "invites".
	Name string
	// Protocol is answered by Handler, which is called for each stream that a peer opens, in a
	// goroutine of its own, and sees to it that its reads and writes end (see link.Within). ctx ends
	// with the node. Streams bounds how many there are. What the handler holds for a peer, it has
	// link.VisitOf count.
	Protocol string
	Handler  func(ctx context.Context, s link.Stream)
	Streams  admission.Shares
	// Run is called in a goroutine of its own when the node goes online. It must return when ctx
	// ends; Close waits for it.
	Run func(ctx context.Context)
	// Created is told of a replica that CreateReplica has made.
	Created func(ctx context.Context, r replica.Replica) error
	// Renamed is told of a replica that RenameReplica has given another name.
	Renamed func(ctx context.Context, r replica.Replica) error
	// Left is told of a replica that is not held any more.
	Left func(ctx context.Context, id replica.ID) error
	// Changed is told that a replica may be written here from now on, has another read key, or is
	// kept by other seeds. It must not wait.
	Changed func(id replica.ID)
}

// Add gives the node a room. It must be called before GoOnline, and before the node is used from
// several goroutines; two rooms of one name are an error.
func (n *Node) Add(r Room) error {
	switch {
	case r.Name == "":
		return errors.New("a room above a node has no name")
	case n.Online():
		return fmt.Errorf("%s must be added to a node before it goes online", r.Name)
	case (r.Protocol == "") != (r.Handler == nil):
		return fmt.Errorf("%s: a protocol and its handler go together", r.Name)
	case r.Protocol != "" && r.Streams.Strangers == (admission.Share{}):
		return fmt.Errorf("%s: it does not bound the streams of strangers", r.Name)
	}
	for _, x := range n.rooms {
		if x.Name == r.Name {
			return fmt.Errorf("the node has %s already", r.Name)
		}
		if r.Protocol != "" && x.Protocol == r.Protocol {
			return fmt.Errorf("%s: %s serves %s already", r.Name, x.Name, r.Protocol)
		}
	}
	n.rooms = append(n.rooms, r)
	return nil
}

// changed tells the rooms of a replica.
func (n *Node) changed(id replica.ID) {
	for _, r := range n.rooms {
		if r.Changed != nil {
			r.Changed(id)
		}
	}
}

// left tells the rooms of a replica.
func (n *Node) left(ctx context.Context, id replica.ID) (err error) {
	for _, r := range n.rooms {
		if r.Left != nil {
			err = errors.Join(err, r.Left(ctx, id))
		}
	}
	return err
}

// CreateReplica makes a new replica.
func (n *Node) CreateReplica(
	ctx context.Context, name string, encrypted bool,
) (replica.Replica, error) {
	create := n.replicas.Create
	if encrypted {
		create = n.replicas.CreateEncrypted
	}
	r, err := create(ctx, name)
	if err != nil {
		return r, err
	}
	for _, x := range n.rooms {
		if x.Created != nil {
			err = errors.Join(err, x.Created(ctx, r))
		}
	}
	return r, err
}

// Found begins, or joins, the encrypted replica whose keys are derived from something else, as a
// vault's are; see [replica.Store.Found]. The rooms are not told of it.
func (n *Node) Found(
	ctx context.Context, name string, key replica.SecretKey, first seal.ReadKey,
) (replica.Replica, error) {
	return n.replicas.Found(ctx, name, key, first)
}

// RenameReplica gives a replica another name here.
func (n *Node) RenameReplica(
	ctx context.Context, id replica.ID, name string,
) (replica.Replica, error) {
	r, err := n.replicas.Rename(ctx, id, name)
	if err != nil {
		return r, err
	}
	for _, x := range n.rooms {
		if x.Renamed != nil {
			err = errors.Join(err, x.Renamed(ctx, r))
		}
	}
	return r, err
}

// Now returns the time by the node's clock.
func (n *Node) Now() time.Time { return n.cfg.Now() }

// Situation tells how others see this node; nothing while offline.
func (n *Node) Situation() link.Situation {
	if n.net == nil {
		return link.Situation{}
	}
	return n.net.Situation()
}

// PeerInfo returns where a connected peer can be reached.
func (n *Node) PeerInfo(p peer.ID) peer.AddrInfo {
	if n.net == nil {
		return peer.AddrInfo{ID: p}
	}
	return peer.AddrInfo{ID: p, Addrs: n.net.KnownAddrs(p)}
}

// Look looks for a replica at those who announce it in the hash table, and runs a session with
// each that is found. Without a table, it does nothing.
func (n *Node) Look(ctx context.Context, id replica.ID) error {
	if n.net == nil {
		return nil
	}
	if _, err := n.syncer.FindHolders(ctx, id); err != nil && !errors.Is(err, link.ErrNoTable) {
		return err
	}
	return nil
}

// TakeStatements stores statements of a replica, as bytes, that came from a peer.
func (n *Node) TakeStatements(
	ctx context.Context, id replica.ID, statements [][]byte,
) (replica.Stated, error) {
	return n.syncer.InsertStatements(ctx, id, statements)
}

// TakeEntries stores entries of a replica that came from a peer, signed, after checking each; see
// [replica.Store.Insert]. What is set here is written by [Replica].
func (n *Node) TakeEntries(
	ctx context.Context, id replica.ID, entries []replica.Entry, from replica.Origin,
) (replica.Inserted, error) {
	return n.replicas.Insert(ctx, id, entries, from)
}
