package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/invites"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
	"github.com/skerry-sync/skerry/vault"
)

// inviteLasts is how long an invite is good unless its maker says otherwise.
const inviteLasts = 7 * 24 * time.Hour

// invite makes an invite to r.
func (s *Server) invite(
	ctx context.Context, r replica.Replica, req *api.InviteRequest, mode replica.Capability,
) (api.ReplicaTicket, error) {
	var wallet eth.Address
	if req.Wallet != "" {
		var err error
		if wallet, err = eth.ParseAddress(req.Wallet); err != nil {
			return api.ReplicaTicket{}, api.UsageErrorf("wallet: %v", err)
		}
	}
	v := invites.Invite{
		Wallet: wallet, Mode: mode, Prefix: req.Prefix, Delegable: req.Delegable,
		Expires: req.InviteExpires.UTC(), Uses: 1,
	}
	ends := req.Expires.UTC()
	if req.Uses != nil {
		v.Uses = *req.Uses
	}
	now := time.Now()
	switch {
	case v.Expires.IsZero() && !ends.IsZero():
		v.Expires = ends
	case v.Expires.IsZero() && !req.Forever:
		v.Expires = now.Add(inviteLasts).UTC().Truncate(time.Second)
	}
	if mode == replica.Write {
		v.Until = ends
	}
	switch {
	case v.Uses > invites.MaxUses:
		return api.ReplicaTicket{}, api.UsageErrorf(
			"%d uses: an invite takes at most %d authors", v.Uses, invites.MaxUses,
		)
	case v.Uses < 0:
		return api.ReplicaTicket{}, api.UsageErrorf("%d uses: give a number, or 0 for no limit", v.Uses)
	case req.Forever && !v.Expires.IsZero():
		return api.ReplicaTicket{}, api.UsageErrorf("an invite either expires or not")
	case !ends.IsZero() && v.Expires.After(ends):
		return api.ReplicaTicket{}, api.UsageErrorf(
			"the invite would be good until %s, but what it gives ends %s",
			v.Expires.Local().Format(time.DateTime), ends.Local().Format(time.DateTime),
		)
	case !v.Expires.IsZero() && !v.Expires.After(now):
		return api.ReplicaTicket{}, api.UsageErrorf(
			"the invite would have expired already, %s", v.Expires.Local().Format(time.DateTime),
		)
	case mode < replica.Write && (len(v.Prefix) > 0 || v.Delegable):
		return api.ReplicaTicket{}, api.UsageErrorf(
			"a prefix and the right to delegate are limits of writing: use mode write",
		)
	}
	if len(s.node.Addrs()) == 0 {
		return api.ReplicaTicket{}, noAddress(r)
	}
	made, t, err := s.invites.Make(ctx, r, v)
	if err != nil {
		return api.ReplicaTicket{}, fmt.Errorf("invite to %s: %w", r.Name, err)
	}
	text, err := t.Text()
	return api.ReplicaTicket{
		Ticket: text, ReplicaID: r.ID, Mode: mode, Invite: hex.EncodeToString(made.ID[:]),
		Expires: made.Expires, GrantExpires: made.Until, Uses: made.Uses, Encrypted: r.Encrypted,
	}, err
}

func noAddress(r replica.Replica) error {
	return fmt.Errorf(
		"share %s: the node has no address to be reached at: start it with skerry up", r.Name,
	)
}

var inviteStates = map[invites.Status]string{
	invites.Taken: "open", invites.Expired: "expired", invites.UsedUp: "used",
	invites.Revoked: "revoked",
}

func (s *Server) replicaInvites(
	ctx context.Context, req api.InvitesRequest, _ *answer,
) (out api.Invites, err error) {
	out = api.Invites{Issued: []api.Invite{}, Pending: []api.PendingInvite{}}
	var only *replica.ID
	if req.Name != "" {
		r, err := s.resolve(ctx, req.Name, "invites", replica.Sync)
		if err != nil {
			return out, err
		}
		only = &r.ID
	}
	issued, err := s.invites.List(ctx)
	if err != nil {
		return out, err
	}
	for i := range issued {
		v := &issued[i]
		if only != nil && v.Replica != *only {
			continue
		}
		x := api.Invite{
			ID: hex.EncodeToString(v.ID[:]), ReplicaID: v.Replica, Mode: v.Mode, Prefix: v.Prefix,
			Delegable: v.Delegable, Created: v.Created, Expires: v.Expires, GrantExpires: v.Until,
			Uses: v.Uses, State: inviteStates[v.State(s.node.Now())], Redeemed: []api.Redemption{},
		}
		if v.Wallet != (eth.Address{}) {
			x.Wallet = v.Wallet.String()
		}
		if r, err := s.node.Replicas().Get(ctx, v.Replica); err == nil {
			x.Replica = r.Name
		} else if !errors.Is(err, replica.ErrNotFound) {
			return out, err
		}
		for _, u := range v.Redeemed {
			x.Redeemed = append(x.Redeemed, api.Redemption{Author: u.Author, Node: u.Node, At: u.At})
		}
		out.Issued = append(out.Issued, x)
	}
	if only != nil {
		return out, nil
	}
	pending, err := s.invites.Pending(ctx)
	for id, p := range pending {
		out.Pending = append(out.Pending, api.PendingInvite{
			ID: hex.EncodeToString(id[:]), From: p.Inviters(), Created: p.Created, Error: p.Error,
			Refused: p.Refused,
		})
	}
	slices.SortFunc(out.Pending, func(a, b api.PendingInvite) int {
		return b.Created.Compare(a.Created)
	})
	return out, err
}

func (s *Server) replicaUninvite(
	ctx context.Context, req api.UninviteRequest, _ *answer,
) (api.Uninvited, error) {
	prefix := strings.ToLower(req.ID)
	if len(prefix) < 8 {
		return api.Uninvited{}, api.UsageErrorf(
			"%q: give the id of an invite, or at least 8 digits of it (skerry replica invites)", req.ID,
		)
	}
	all, err := s.replicaInvites(ctx, api.InvitesRequest{}, nil)
	if err != nil {
		return api.Uninvited{}, err
	}
	found := map[string]func(context.Context, [32]byte) error{}
	for _, v := range all.Issued {
		if strings.HasPrefix(v.ID, prefix) {
			found[v.ID] = s.invites.Revoke
		}
	}
	for _, p := range all.Pending {
		if strings.HasPrefix(p.ID, prefix) {
			found[p.ID] = s.invites.DropPending
		}
	}
	switch len(found) {
	case 0:
		return api.Uninvited{}, &api.Error{
			Kind: api.NotFound,
			Message: fmt.Sprintf(
				"invite %s: not found (skerry replica invites shows what is there)", req.ID,
			),
		}
	case 1:
	default:
		return api.Uninvited{}, api.UsageErrorf(
			"invite %s: %d have an id that begins so", req.ID, len(found),
		)
	}
	for id, end := range found {
		raw, err := hex.DecodeString(id)
		if err == nil {
			err = end(ctx, [32]byte(raw))
		}
		return api.Uninvited{ID: id}, err
	}
	panic("unreachable")
}

// join joins the replica of a ticket or an invite.
func (s *Server) join(
	ctx context.Context, text, name string, policy *wanted.Policy, w *api.JoinWallet,
) (node.JoinResult, error) {
	t, err := ticket.Parse(text)
	if err != nil {
		return node.JoinResult{}, err
	}
	if v, ok := t.(*ticket.Invite); ok {
		return s.invites.Join(ctx, v, name, policy, s.prove(ctx, w))
	}
	doc, err := ticket.ParseDoc(text)
	if err != nil {
		return node.JoinResult{}, err
	}
	return s.node.JoinWith(ctx, doc, name, node.JoinOptions{Policy: policy})
}

// prove returns what signs for the wallet of an invite, nil if nobody does.
func (s *Server) prove(ctx context.Context, w *api.JoinWallet) invites.ProveWallet {
	if w == nil {
		return nil
	}
	return func(ask invites.WalletAsk) (p invites.WalletProof, err error) {
		p.At = w.At
		if w.Signature != "" {
			if p.Signature, err = eth.ParseSignature(w.Signature); err != nil {
				err = api.UsageErrorf("the signature of the wallet: %v", err)
			}
			return p, err
		}
		if w.Identity == "" {
			m, err := ask.Message(time.Unix(w.At, 0))
			if err != nil {
				return p, err
			}
			return p, &api.Error{Kind: api.Unsigned, Message: m.Text()}
		}
		id, err := s.owner(ctx, w.Identity)
		if err != nil {
			return p, err
		}
		p.At = time.Now().Unix()
		invite := ask.Ask()
		signed, err := s.vaults.Keyring().Sign(
			ctx, id, vault.ToSign{Invite: &invite, At: p.At}, w.Password,
		)
		switch sig := &signed.Signature; {
		case err != nil:
			return p, err
		case sig.Kind != identity.Wallet || len(sig.Signature) != len(p.Signature):
			return p, api.UsageErrorf(
				"the invite is for the holder of the wallet %s, and %s is none", ask.Wallet, w.Identity,
			)
		case !strings.EqualFold(sig.Address, ask.Wallet.Lower()):
			return p, api.UsageErrorf(
				"the invite is for the holder of the wallet %s, and %s has %s", ask.Wallet, w.Identity,
				sig.Address,
			)
		}
		copy(p.Signature[:], signed.Signature.Signature)
		return p, nil
	}
}
