package vaults

import (
	"context"
	"errors"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/project"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
	"github.com/skerry-sync/skerry/vault"
)

// created lists a replica that was made here in the person's own vault, if one is open.
func (s *Service) created(ctx context.Context, r replica.Replica) error {
	v, ok, err := s.ownVault(ctx)
	if err != nil || !ok {
		return err
	}
	if !v.ready {
		s.tendSoon() // it is listed once the vault has come
		return nil
	}
	_, err = s.Add(ctx, &v, r, "")
	return err
}

// renamed gives a replica that this node may write its new name in the person's own vault, too.
func (s *Service) renamed(ctx context.Context, r replica.Replica) error {
	if r.Capability < replica.Write {
		return nil
	}
	v, ok, err := s.ownVault(ctx)
	if err != nil || !ok || v.Replica.ID == r.ID {
		return err
	}
	listed, err := s.inVault(ctx, &v, r.ID)
	if err != nil || !listed {
		return err
	}
	_, err = s.Add(ctx, &v, r, r.Name)
	return err
}

// inVault reports whether a vault lists a replica.
func (s *Service) inVault(ctx context.Context, v *Vault, id replica.ID) (bool, error) {
	p, err := s.n.Replicas().Plain(ctx, v.Replica.ID)
	if err != nil {
		return false, err
	}
	_, err = p.LatestOf(ctx, []byte(string(vault.Prefix())+project.IDOf(id)))
	if errors.Is(err, replica.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Join joins a project of a vault, with all that the vault gives this node to do so, at the peers
// that hold the vault. The error is as for node.JoinWith.
func (s *Service) Join(
	ctx context.Context, v *Vault, pr *vault.Project, name string,
) (node.JoinResult, error) {
	if err := s.ready(); err != nil {
		return node.JoinResult{}, err
	}
	t := &ticket.Doc{Capability: replica.Read, Replica: pr.Replica, ReadKey: pr.ReadKey}
	if v.Own() {
		p, err := s.n.Replicas().Plain(ctx, v.Replica.ID)
		if err != nil {
			return node.JoinResult{}, err
		}
		switch r, err := s.restoreOf(ctx, p, v, pr.Replica); {
		case err == nil:
			t.Capability, t.Secret = r.Capability, r.Secret
			if r.ReadKey.Epoch > t.ReadKey.Epoch {
				t.ReadKey = r.ReadKey
			}
		case !errors.Is(err, replica.ErrNotFound):
			return node.JoinResult{}, err
		}
	}
	known, newcomers, err := s.n.Holders(ctx, v.Replica.ID)
	if err != nil {
		return node.JoinResult{}, err
	}
	for _, p := range known {
		addrs, err := peer.AddrInfoToP2pAddrs(&p)
		if err != nil {
			return node.JoinResult{}, err
		}
		t.Addrs = append(t.Addrs, addrs...)
	}
	if name == "" && replica.CheckName(pr.Name) == nil {
		name = pr.Name
	}
	with := node.JoinOptions{Hints: newcomers}
	joined, err := s.n.JoinWith(ctx, t, name, with)
	if errors.Is(err, replica.ErrExists) {
		joined, err = s.n.JoinWith(ctx, t, "", with)
	}
	return joined, err
}

// Leave forgets a replica, any of the node's. If the person's own vault lists it, it is taken off
// the list if everywhere is set, or if nobody else is known to hold it. It reports whether the
// vault still lists it.
func (s *Service) Leave(
	ctx context.Context, id replica.ID, everywhere bool,
) (listed bool, err error) {
	if err := s.ready(); err != nil {
		return false, err
	}
	ctx = kv.ToMakeRoom(ctx)
	known, err := s.n.KnownPeers(ctx, id)
	if err != nil {
		return false, err
	}
	alone := len(known) == 0
	v, ok, err := s.ownVault(ctx)
	if err != nil {
		return false, err
	}
	if ok && v.Replica.ID != id {
		if listed, err = s.inVault(ctx, &v, id); err != nil {
			return listed, err
		}
		if listed && (everywhere || alone) {
			if err := s.Remove(ctx, &v, id); err != nil {
				return listed, err
			}
			listed = false
		}
	}
	return listed, s.n.Leave(ctx, id)
}
