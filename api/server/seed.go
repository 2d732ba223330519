package server

import (
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/seed"
	"github.com/skerry-sync/skerry/seed/report"
	"github.com/skerry-sync/skerry/vault"
)

// seedCall is what all requests to a seed need.
type seedCall struct {
	seed.Client
	id   identity.ID
	sign seed.Signer
}

func (s *Server) seedCall(ctx context.Context, req api.SeedRequest) (c seedCall, err error) {
	at, err := ParsePeer(req.At)
	if err != nil {
		return c, err
	}
	c.Client = seed.Client{Node: s.node, At: at}
	if c.id, err = s.owner(ctx, req.Identity); err != nil {
		return c, err
	}
	c.sign = func(what vault.ToSign) (vault.Signed, error) {
		return s.vaults.Keyring().Sign(ctx, c.id, what, req.Password)
	}
	return c, nil
}

func (s *Server) seedRegister(
	ctx context.Context, req api.SeedRequest, _ *answer,
) (report.Answer, error) {
	c, r, err := s.seedOfReplica(ctx, req, "register")
	if err != nil {
		return report.Answer{}, err
	}
	text, err := seed.TicketFor(ctx, s.node, r)
	if err != nil {
		return report.Answer{}, err
	}
	device := s.node.ID().String()
	signed, err := seed.NewRegister(c.id, c.At.ID.String(), r.ID, text, device, time.Now(), c.sign)
	if err != nil {
		return report.Answer{}, err
	}
	a, err := c.Register(ctx, signed)
	var refused *seed.Error
	if err == nil || errors.As(err, &refused) && refused.Code == seed.AlreadyRegistered {
		// Also when it was registered already, from another device.
		err = errors.Join(err, s.node.AddSeed(ctx, r.ID, c.At), seed.Forget(ctx, s.node, r.ID, c.At.ID))
	}
	return a, err
}

func (s *Server) seedOfReplica(
	ctx context.Context, req api.SeedRequest, op string,
) (c seedCall, r replica.Replica, err error) {
	if r, err = s.resolve(ctx, req.Replica, op, replica.Sync); err != nil {
		return c, r, err
	}
	c, err = s.seedCall(ctx, req)
	return c, r, err
}

func (s *Server) seedUnregister(
	ctx context.Context, req api.SeedRequest, _ *answer,
) (report.Answer, error) {
	c, err := s.seedCall(ctx, req)
	if err != nil {
		return report.Answer{}, err
	}
	id, err := replica.ParseID(req.Replica)
	if err != nil { // one that is here, or was
		r, err := s.resolve(ctx, req.Replica, "unregister", replica.Sync)
		if err != nil {
			return report.Answer{}, err
		}
		id = r.ID
	}
	signed, err := seed.NewUnregister(c.id, c.At.ID.String(), id, time.Now(), c.sign)
	if err != nil {
		return report.Answer{}, err
	}
	a, err := c.Unregister(ctx, signed)
	if err == nil {
		err = errors.Join(s.node.RemoveSeed(ctx, id, c.At.ID), seed.Forget(ctx, s.node, id, c.At.ID))
	}
	return a, err
}

func (s *Server) seedStatus(
	ctx context.Context, req api.SeedRequest, _ *answer,
) (out api.SeedStatus, err error) {
	c, err := s.seedCall(ctx, req)
	if err != nil {
		return out, err
	}
	read, err := seed.NewRead(c.id, c.At.ID.String(), time.Now(), c.sign)
	if err != nil {
		return out, err
	}
	out.Seed, out.Identity = c.At.ID.String(), c.id
	if out.Quota, err = c.Client.Quota(ctx, read); err != nil {
		return out, err
	}
	all, err := c.Client.Backups(ctx, read)
	if err != nil {
		return out, err
	}
	out.Backups = append([]report.Answer{}, all...)
	out.Missing, err = s.missingAt(ctx, c.At.ID, all)
	return out, err
}

// missingAt returns the replicas that this node has registered at a seed and that the seed does not
// keep.
func (s *Server) missingAt(
	ctx context.Context, at peer.ID, all []report.Answer,
) (missing []replica.ID, err error) {
	stands := map[string]bool{}
	for _, a := range all {
		stands[a.ReplicaID] = a.State != seed.Deleted.String()
	}
	seeds, err := s.node.RegisteredAt(ctx)
	for _, x := range seeds {
		for _, id := range x.Replicas {
			if x.Seed.ID == at && !stands[id.String()] {
				missing = append(missing, id)
			}
		}
	}
	return missing, err
}

// seedsOf lists the seeds that keep a replica, as far as this node knows.
func (s *Server) seedsOf(ctx context.Context, id replica.ID) (map[peer.ID]bool, error) {
	all, err := s.node.Seeds(ctx, id)
	out := map[peer.ID]bool{}
	for _, p := range all {
		out[p] = true
	}
	return out, err
}
