package node

import (
	"context"
	"errors"
	"io"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/project"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
	"github.com/skerry-sync/skerry/vault"
)

// CreateReplica makes a new replica, and lists it in the person's own vault if one is open here
// (OBJ-V6).
func (n *Node) CreateReplica(ctx context.Context, name string, encrypted bool) (replica.Replica, error) {
	create := n.Replicas.Create
	if encrypted {
		create = n.Replicas.CreateEncrypted
	}
	r, err := create(ctx, name)
	if err != nil {
		return r, err
	}
	v, ok, err := n.ownVault(ctx)
	if err != nil || !ok {
		return r, err
	}
	if !v.ready {
		n.tendSoon() // it is listed once the vault has come
		return r, nil
	}
	_, err = n.AddToVault(ctx, &v, r, "")
	return r, err
}

// RenameReplica gives a replica another name here and, if this node may write it, in the person's
// own vault.
func (n *Node) RenameReplica(ctx context.Context, id replica.ID, name string) (replica.Replica, error) {
	r, err := n.Replicas.Rename(ctx, id, name)
	if err != nil || r.Capability < replica.Write {
		return r, err
	}
	v, ok, err := n.ownVault(ctx)
	if err != nil || !ok || v.Replica.ID == id {
		return r, err
	}
	listed, err := n.inVault(ctx, &v, id)
	if err != nil || !listed {
		return r, err
	}
	_, err = n.AddToVault(ctx, &v, r, name)
	return r, err
}

// inVault reports whether a vault lists a replica.
func (n *Node) inVault(ctx context.Context, v *Vault, id replica.ID) (bool, error) {
	p, err := n.Replicas.Plain(ctx, v.Replica.ID)
	if err != nil {
		return false, err
	}
	_, err = p.LatestOf(ctx, []byte(string(vault.Prefix())+project.IDOf(id)))
	if errors.Is(err, replica.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// JoinProject joins a project of a vault, with all that the vault gives this node to do so, at the
// peers that hold the vault. The error is as for JoinWith.
func (n *Node) JoinProject(ctx context.Context, v *Vault, pr *vault.Project, name string) (JoinResult, error) {
	t := &ticket.Doc{Capability: replica.Read, Replica: pr.Replica, ReadKey: pr.ReadKey}
	if v.Own() {
		p, err := n.Replicas.Plain(ctx, v.Replica.ID)
		if err != nil {
			return JoinResult{}, err
		}
		switch r, err := n.restoreOf(ctx, p, v, pr.Replica); {
		case err == nil:
			t.Capability, t.Secret = r.Capability, r.Secret
			if r.ReadKey.Epoch > t.ReadKey.Epoch {
				t.ReadKey = r.ReadKey
			}
		case !errors.Is(err, replica.ErrNotFound):
			return JoinResult{}, err
		}
	}
	holders, err := n.peers.holdersOf(ctx, v.Replica.ID)
	if err != nil {
		return JoinResult{}, err
	}
	var hints []peer.AddrInfo
	for _, p := range holders {
		if p.is != known {
			hints = append(hints, p.AddrInfo)
			continue
		}
		addrs, err := peer.AddrInfoToP2pAddrs(&p.AddrInfo)
		if err != nil {
			return JoinResult{}, err
		}
		t.Addrs = append(t.Addrs, addrs...)
	}
	if name == "" && replica.CheckName(pr.Name) == nil {
		name = pr.Name
	}
	joined, err := n.joinWith(ctx, t, newestOf(t), name, nil, hints)
	if errors.Is(err, replica.ErrExists) {
		joined, err = n.joinWith(ctx, t, newestOf(t), "", nil, hints)
	}
	return joined, err
}

// LeaveReplica forgets a replica. If the person's own vault lists it, it is taken off the list if
// everywhere is set, or if nobody else is known to hold it. It reports whether the vault still
// lists it.
func (n *Node) LeaveReplica(ctx context.Context, id replica.ID, everywhere bool) (listed bool, err error) {
	ctx = kv.ToMakeRoom(ctx)
	known, err := n.KnownPeers(ctx, id)
	if err != nil {
		return false, err
	}
	alone := len(known) == 0
	v, ok, err := n.ownVault(ctx)
	if err != nil {
		return false, err
	}
	if ok && v.Replica.ID != id {
		if listed, err = n.inVault(ctx, &v, id); err != nil {
			return listed, err
		}
		if listed && (everywhere || alone) {
			if err := n.RemoveFromVault(ctx, &v, id); err != nil {
				return listed, err
			}
			listed = false
		}
	}
	return listed, n.Leave(ctx, id)
}

var _ project.Replica = (*Replica)(nil)

// Update implements project.Replica: it commits all that fn sets, as the default author.
func (r *Replica) Update(
	ctx context.Context, progress func(read uint64), fn func(project.Batch) error,
) error {
	b, err := r.Batch(ctx, WriteOptions{Progress: progress})
	if err != nil {
		return err
	}
	defer b.Close()
	if err := fn(setter{b}); err != nil {
		return err
	}
	_, err = b.Commit()
	return err
}

// setter implements project.Batch.
type setter struct{ b *Batch }

func (s setter) Set(key, value []byte) error { return s.b.Add(Change{Key: key, Value: value}) }

func (s setter) SetFrom(key []byte, content io.Reader) error {
	if f, ok := content.(*disk.File); ok {
		return s.b.Add(Change{Key: key, File: f})
	}
	return s.b.Add(Change{Key: key, Stream: content})
}
