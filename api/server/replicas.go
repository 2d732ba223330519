package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// replicaStatuses returns what of tells of each replica, by name.
func (s *Server) replicaStatuses(
	ctx context.Context, of func(context.Context, replica.Replica) (api.ReplicaStatus, error),
) ([]api.ReplicaStatus, error) {
	all, err := s.node.Replicas().List(ctx)
	if err != nil {
		return nil, err
	}
	out := []api.ReplicaStatus{}
	for _, r := range all {
		st, err := of(ctx, r)
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

// countsOf is statusOf without the statements of a replica: what scripts ask for again and again.
func (s *Server) countsOf(ctx context.Context, r replica.Replica) (api.ReplicaStatus, error) {
	c, err := s.node.Replicas().Counts(ctx, r.ID)
	return api.ReplicaStatus{ReplicaID: r.ID, Name: r.Name, Capability: r.Capability,
		Entries: c.Entries, Encrypted: r.Encrypted}, err
}

func (s *Server) statusOf(ctx context.Context, r replica.Replica) (api.ReplicaStatus, error) {
	st, err := s.countsOf(ctx, r)
	if err == nil && r.Capability == replica.Read {
		st.MayWrite, err = s.mayWriteHere(ctx, r.ID)
	}
	return st, err
}

// resolve finds a replica that the node may use in this way.
func (s *Server) resolve(
	ctx context.Context, name, op string, need replica.Capability,
) (replica.Replica, error) {
	r, err := s.node.Replicas().Resolve(ctx, name)
	if err == nil && r.Capability < need {
		err = &replica.NotAllowedError{Op: op, Name: r.Name, Have: r.Capability, Need: need}
	}
	return r, err
}

func (s *Server) replicaNew(
	ctx context.Context, req api.NewReplicaRequest, _ *answer,
) (api.ReplicaStatus, error) {
	if err := replica.CheckName(req.Name); err != nil { // a join may leave the name out, not this
		return api.ReplicaStatus{}, err
	}
	r, err := s.node.CreateReplica(ctx, req.Name, req.Encrypted)
	return api.ReplicaStatus{
		ReplicaID: r.ID, Name: r.Name, Capability: r.Capability, Encrypted: r.Encrypted,
	}, err
}

func (s *Server) replicaList(
	ctx context.Context, _ struct{}, _ *answer,
) ([]api.ReplicaStatus, error) {
	return s.replicaStatuses(ctx, s.statusOf)
}

func (s *Server) replicaJoin(
	ctx context.Context, req api.JoinRequest, _ *answer,
) (api.ReplicaStatus, error) {
	var policy *wanted.Policy
	if req.Policy != nil {
		p, err := parsePolicy(req.Policy)
		if err != nil {
			return api.ReplicaStatus{}, err
		}
		policy = &p
	}
	joined, err := s.join(ctx, req.Ticket, req.Name, policy, req.Wallet)
	if err != nil {
		return api.ReplicaStatus{}, s.unsynced(ctx, joined.Replica, err)
	}
	return s.statusOf(ctx, joined.Replica)
}

// unsynced says what is here of a replica that was joined, if err is that no peer could be reached.
func (s *Server) unsynced(ctx context.Context, r replica.Replica, err error) error {
	if r.Name == "" || kind.Of(err) != api.Unreachable {
		return err
	}
	what := "but nothing is here yet"
	st, errStatus := s.statusOf(ctx, r)
	if errStatus != nil {
		return errors.Join(err, errStatus)
	}
	if st.Entries > 0 {
		what = fmt.Sprintf("with the %d entries that were here before", st.Entries)
	}
	return &api.Error{
		Kind: api.Unreachable, Message: fmt.Sprintf("joined as %q, %s: %v; a running node keeps trying",
			r.Name, what, err),
	}
}

// mayWriteHere reports whether a grant lets an author of this node write now.
func (s *Server) mayWriteHere(ctx context.Context, id replica.ID) (bool, error) {
	grants, _, err := s.node.Replicas().GrantStates(ctx, id)
	if err != nil {
		return false, err
	}
	own, err := s.node.Authors().All(ctx)
	now := uint64(time.Now().UnixMicro())
	for i := range grants {
		if g := &grants[i]; slices.Contains(own, g.Author) && g.NotBefore <= now && now <= g.Until {
			return true, err
		}
	}
	return false, err
}

func (s *Server) replicaShare(
	ctx context.Context, req api.ShareReplicaRequest, _ *answer,
) (api.ReplicaTicket, error) {
	need := req.Mode
	if req.Invite != nil {
		need = min(need, replica.Read) // an author may let others write by a grant
	}
	r, err := s.resolve(ctx, req.Name, "share", need)
	if err != nil {
		return api.ReplicaTicket{}, err
	}
	if req.Invite != nil {
		return s.invite(ctx, r, req.Invite, req.Mode)
	}
	t, err := s.node.Ticket(ctx, r, req.Mode)
	if err != nil {
		return api.ReplicaTicket{}, err
	}
	text, err := t.Text()
	if errors.Is(err, ticket.ErrNoAddresses) {
		err = noAddress(r)
	}
	return api.ReplicaTicket{Ticket: text, ReplicaID: r.ID, Mode: req.Mode}, err
}

var errEnoughNamed = errors.New("enough are named")

func (s *Server) replicaInfo(
	ctx context.Context, req api.NameRequest, _ *answer,
) (info api.ReplicaInfo, err error) {
	r, err := s.resolve(ctx, req.Name, "info", replica.Sync)
	if err != nil {
		return info, err
	}
	if info.ReplicaStatus, err = s.statusOf(ctx, r); err != nil {
		return info, err
	}
	c, err := s.node.Replicas().Counts(ctx, r.ID)
	if err != nil {
		return info, err
	}
	f, err := s.node.Replicas().Fingerprint(ctx, r.ID)
	if err != nil {
		return info, err
	}
	info.Tombstones, info.Fingerprint, info.Created = c.Tombstones, fmt.Sprintf("%x", f), r.Created
	if info.Authors, err = s.node.Replicas().AuthorsOf(ctx, r.ID); err != nil {
		return info, err
	}
	info.Authors = append([]replica.AuthorID{}, info.Authors...) // an empty list, not null
	if info.PendingContent, err = s.node.PendingContent(ctx, r.ID); err != nil {
		return info, err
	}
	if info.Ahead, _, err = s.aheadOf(ctx, r.ID); err != nil {
		return info, err
	}
	err = s.node.RefutedClaims(ctx, r.ID, func(c wanted.RefutedClaim) error {
		info.WrongSizes = append(info.WrongSizes, api.WrongSize{
			Author: c.Author, Key: c.Key, Hash: c.Hash, Claimed: c.Claimed, Proved: c.Proved,
		})
		if len(info.WrongSizes) == api.MaxWrongSizes {
			return errEnoughNamed
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnoughNamed) {
		return info, err
	}
	info.Policy = policyText(s.node.Policy(r.ID))
	if r.Encrypted {
		switch k, err := s.node.Replicas().ReadKey(ctx, r.ID); {
		case err == nil:
			info.Epoch = k.Epoch
		case !errors.Is(err, replica.ErrNoReadKey):
			return info, err
		}
	}
	connected := map[peer.ID]bool{}
	for _, p := range s.node.Peers() {
		connected[p.ID] = true
	}
	seeds, err := s.seedsOf(ctx, r.ID)
	if err != nil {
		return info, err
	}
	info.Peers = []api.KnownPeer{}
	known, err := s.node.KnownPeers(ctx, r.ID)
	if err != nil {
		return info, err
	}
	for _, p := range known {
		k := api.KnownPeer{
			ID: p.ID.String(), Connected: connected[p.ID], Seed: seeds[p.ID], Addrs: []string{},
		}
		if k.Lost, k.LostAt, err = s.node.Lost(ctx, r.ID, p.ID); err != nil {
			return info, err
		}
		for _, addr := range p.Addrs {
			k.Addrs = append(k.Addrs, addr.String())
		}
		info.Peers = append(info.Peers, k)
	}
	return info, nil
}

func (s *Server) replicaRotate(
	ctx context.Context, req api.NameRequest, _ *answer,
) (api.Rotated, error) {
	r, err := s.resolve(ctx, req.Name, "rotate", replica.Sync)
	if err != nil {
		return api.Rotated{}, err
	}
	if !r.Encrypted {
		return api.Rotated{}, api.UsageErrorf("replica %s is not encrypted: it has no read key", r.Name)
	}
	k, err := s.node.Rotate(ctx, r.ID)
	return api.Rotated{ReplicaID: r.ID, Epoch: k.Epoch}, err
}

func (s *Server) replicaSync(
	ctx context.Context, req api.SyncRequest, a *answer,
) (api.Synced, error) {
	r, err := s.resolve(ctx, req.Name, "sync", replica.Sync)
	if err != nil {
		return api.Synced{}, err
	}
	var only peer.ID
	if req.Peer != "" {
		if only, err = peer.Decode(req.Peer); err != nil {
			return api.Synced{}, api.UsageErrorf(
				"%.*q is not a node id, such as 12D3KooW… (skerry status -q)", maxQuoted, req.Peer,
			)
		}
	}
	prefixes := [][]byte{req.Prefix}
	if r.Encrypted && len(req.Prefix) > 0 {
		o, err := s.open(ctx, r.ID.String(), "sync a part of")
		if err != nil {
			return api.Synced{}, err
		}
		if prefixes, err = o.SealPrefix(req.Prefix); err != nil {
			return api.Synced{}, err
		}
	}
	var results []session.Result
	for _, prefix := range prefixes { // one for each epoch
		some, err := s.node.SyncNow(ctx, r.ID, only, prefix)
		if err != nil {
			return api.Synced{}, err
		}
		results = append(results, some...)
	}
	out := api.Synced{Sessions: []api.Session{}}
	var failed error
	good := 0
	for _, x := range results {
		one := api.Session{
			Peer: x.Peer.String(), Rounds: x.Rounds, Messages: x.Messages, BytesSent: x.BytesSent,
			BytesReceived: x.BytesReceived, EntriesSent: x.EntriesSent, EntriesReceived: x.EntriesReceived,
			EntriesLater: x.EntriesLater, Lost: x.Lost,
			Milliseconds: float64(x.Duration.Microseconds()) / 1000,
		}
		if x.Err != nil {
			one.Error, failed = x.Err.Error(), x.Err
		} else {
			good++
		}
		if x.EntriesLater > 0 {
			a.warn(
				"%d entries from %s were refused: their times are more than 10 minutes ahead of this clock. "+
					"Its clock or this one is wrong", x.EntriesLater, x.Peer,
			)
		}
		out.Sessions = append(out.Sessions, one)
	}
	s.warnWriting(ctx, a)
	if err := s.warnAhead(ctx, &r, a); err != nil {
		return out, err
	}
	if good == 0 && failed != nil {
		return out, fmt.Errorf("sync %s: %w", r.Name, failed)
	}
	if len(results) == 0 {
		return out, &api.Error{
			Kind: api.Unreachable, Message: fmt.Sprintf("sync %s: no peer is known to hold it", r.Name),
		}
	}
	return out, nil
}

func (s *Server) replicaVerify(
	ctx context.Context, req api.CheckRequest, a *answer,
) (out api.Checked, err error) {
	r, err := s.resolve(ctx, req.Name, "verify", replica.Sync)
	if err != nil {
		return out, err
	}
	rep, err := s.node.ReplicaOf(r.ID).Check(ctx, req.Repair, func(entries uint64) {
		a.progress(api.Progress{Doing: "checking", Entries: entries})
	})
	if err != nil {
		return out, fmt.Errorf("verify %s: %w", r.Name, err)
	}
	out = api.Checked{
		ReplicaID: r.ID, Entries: rep.Entries, Bad: rep.Bad,
		Fingerprint: fmt.Sprintf("%x", rep.Fingerprint), Faults: append([]string{}, rep.Faults...),
		Repaired: rep.Repaired,
	}
	if !req.Repair {
		ahead, _, err := s.aheadOf(ctx, r.ID)
		out.Ahead = int(ahead)
		return out, err
	}
	mended, left, err := s.node.ReplicaOf(r.ID).MendAhead(ctx)
	out.Ahead, out.Mended = mended+left, mended
	if err == nil && mended > 0 {
		var f [32]byte
		f, err = s.node.Replicas().Fingerprint(ctx, r.ID)
		out.Fingerprint = fmt.Sprintf("%x", f)
	}
	return out, err
}

func (s *Server) replicaRename(
	ctx context.Context, req api.RenameRequest, _ *answer,
) (api.ReplicaStatus, error) {
	r, err := s.resolve(ctx, req.Name, "rename", replica.Sync)
	if err != nil {
		return api.ReplicaStatus{}, err
	}
	if r, err = s.node.RenameReplica(ctx, r.ID, req.To); err != nil {
		return api.ReplicaStatus{}, err
	}
	return s.statusOf(ctx, r)
}

func (s *Server) replicaLeave(
	ctx context.Context, req api.LeaveRequest, _ *answer,
) (api.Left, error) {
	r, err := s.resolve(ctx, req.Name, "leave", replica.Sync)
	if err != nil {
		return api.Left{}, err
	}
	st, err := s.statusOf(ctx, r)
	if err != nil {
		return api.Left{}, err
	}
	listed, err := s.vaults.Leave(ctx, r.ID, req.Everywhere)
	return api.Left{ReplicaStatus: st, InVault: listed}, err
}
