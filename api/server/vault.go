package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/vaults"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/vault"
)

func describeVault(v *vaults.Vault) api.Vault {
	return api.Vault{
		ReplicaID: v.Replica.ID, Name: v.Replica.Name, Identity: v.Identity.ID,
		Application: v.Application, Opened: v.Opened,
	}
}

// ParsePeer reads an address that ends in /p2p/ID.
func ParsePeer(text string) (peer.AddrInfo, error) {
	const such = "such as /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…"
	a, err := ma.NewMultiaddr(text)
	if err != nil { // in the words of a library
		return peer.AddrInfo{}, api.UsageErrorf(
			"%.*q is not an address of a node, %s", maxQuoted, text, such,
		)
	}
	info, err := peer.AddrInfoFromP2pAddr(a)
	if err != nil {
		return peer.AddrInfo{}, api.UsageErrorf("the address %.*q does not end in the node's id, %s "+
			"(skerry status --json shows it there)", maxQuoted, text, such)
	}
	return *info, nil
}

func (s *Server) vaultInit(
	ctx context.Context, req api.OpenVaultRequest, _ *answer,
) (api.Vault, error) {
	var peers []peer.AddrInfo
	for _, text := range req.Peers {
		p, err := ParsePeer(text)
		if err != nil {
			return api.Vault{}, err
		}
		peers = append(peers, p)
	}
	who, err := s.whichIdentity(ctx, req.Identity)
	if err != nil {
		return api.Vault{}, err
	}
	keys, err := s.vaults.Keyring().Keys(ctx, who.ID, req.Password)
	if err != nil {
		return api.Vault{}, err
	}
	v, err := s.vaults.OpenOwn(ctx, who, keys, peers)
	if err != nil && kind.Of(err) == api.Unreachable {
		err = &api.Error{
			Kind: api.Unreachable,
			Message: fmt.Sprintf(
				"the vault is open, but nothing of it is here yet: %v; a running node keeps trying. To "+
					"begin a new vault, leave out the peer",
				err,
			),
		}
	}
	if err == nil {
		err = s.settleVault(ctx, &v)
	}
	return describeVault(&v), err
}

// settleVault waits a while until what a vault lists is here: it is little.
func (s *Server) settleVault(ctx context.Context, v *vaults.Vault) error {
	if !s.node.Online() {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, contentWait)
	defer cancel()
	for e, err := range s.node.Replicas().Entries(ctx, v.Replica.ID, replica.Query{}) {
		if err != nil {
			return err
		}
		err := s.node.WaitEntry(limited, &e)
		var wrong *content.SizeError // this entry is of no use; the others are
		if err != nil && !errors.As(err, &wrong) && limited.Err() == nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *Server) vaultAsk(
	ctx context.Context, req api.AskVaultRequest, a *answer,
) (api.Vault, error) {
	w := vaults.Request{Application: req.Application, Reason: req.Reason}
	if req.At != "" {
		p, err := ParsePeer(req.At)
		if err != nil {
			return api.Vault{}, err
		}
		w.At = &p
	}
	if req.Identity != "" {
		id, err := identity.ParseID(req.Identity)
		if err != nil {
			return api.Vault{}, api.UsageErrorf("%v", err)
		}
		w.Identity = id
	}
	w.Asked = func(asked vault.Asked) {
		if a.item(api.Asked(asked)) == nil {
			a.flush()
		}
	}
	v, err := s.vaults.Ask(ctx, w)
	if err == nil {
		err = s.settleVault(ctx, &v)
	}
	return describeVault(&v), err
}

func (s *Server) vaultAll(ctx context.Context, _ struct{}, _ *answer) ([]api.Vault, error) {
	all, err := s.vaults.All(ctx)
	out := []api.Vault{}
	for i := range all {
		out = append(out, describeVault(&all[i]))
	}
	return out, err
}

func (s *Server) vaultList(
	ctx context.Context, req api.VaultRequest, _ *answer,
) (api.VaultListing, error) {
	v, err := s.vaults.Of(ctx, req.Vault)
	if err != nil {
		return api.VaultListing{}, err
	}
	c, err := s.vaults.Catalogue(ctx, &v)
	out := api.VaultListing{
		Vault: describeVault(&v), Projects: []api.VaultProject{}, Faults: append([]string{}, c.Faults...),
		Warnings: append([]string{}, c.Warnings...), Newest: c.Newest,
	}
	for i := range c.Projects {
		out.Projects = append(out.Projects, describeProject(&c.Projects[i]))
	}
	return out, err
}

func describeProject(p *vaults.Listed) api.VaultProject {
	return api.VaultProject{
		ProjectID: p.ID, ReplicaID: p.Replica, Name: p.Name, Created: p.Created, Updated: p.Updated.UTC(),
		Encrypted: p.ReadKey.Epoch > 0, Here: p.Held, Capability: p.Restore,
	}
}

func (s *Server) vaultAdd(
	ctx context.Context, req api.VaultProjectRequest, _ *answer,
) (api.VaultProject, error) {
	v, err := s.vaults.Of(ctx, req.Vault)
	if err != nil {
		return api.VaultProject{}, err
	}
	r, err := s.resolve(ctx, req.Project, "add to the vault", replica.Sync)
	if err != nil {
		return api.VaultProject{}, err
	}
	if _, err = s.vaults.Add(ctx, &v, r, req.Name); err != nil {
		return api.VaultProject{}, err
	}
	p, err := s.findProject(ctx, &v, r.ID.String())
	return describeProject(&p), err
}

// findProject finds what a vault lists.
func (s *Server) findProject(
	ctx context.Context, v *vaults.Vault, text string,
) (found vaults.Listed, err error) {
	c, err := s.vaults.Catalogue(ctx, v)
	if err != nil {
		return found, err
	}
	n := 0
	for _, p := range c.Projects {
		switch {
		case p.Replica.String() == text || p.ID == text:
			return p, nil
		case p.Name == text || len(text) >= 4 && (strings.HasPrefix(p.Replica.String(), text) ||
			strings.HasPrefix(p.ID, text)):
			found = p
			n++
		}
	}
	switch n {
	case 0:
		return found, &api.Error{
			Kind: api.NotFound,
			Message: fmt.Sprintf(
				"the vault lists no project %q (skerry vault ls shows what it lists)", text,
			),
		}
	case 1:
		return found, nil
	}
	return found, api.UsageErrorf("%d projects of the vault are called %q: use an id", n, text)
}

func (s *Server) vaultRemove(
	ctx context.Context, req api.VaultProjectRequest, _ *answer,
) (api.VaultProject, error) {
	v, err := s.vaults.Of(ctx, req.Vault)
	if err != nil {
		return api.VaultProject{}, err
	}
	p, err := s.findProject(ctx, &v, req.Project)
	if err == nil {
		err = s.vaults.Remove(ctx, &v, p.Replica)
	}
	return describeProject(&p), err
}

func (s *Server) vaultJoin(
	ctx context.Context, req api.VaultProjectRequest, _ *answer,
) (api.ReplicaStatus, error) {
	v, err := s.vaults.Of(ctx, req.Vault)
	if err != nil {
		return api.ReplicaStatus{}, err
	}
	p, err := s.findProject(ctx, &v, req.Project)
	if err != nil {
		return api.ReplicaStatus{}, err
	}
	joined, err := s.vaults.Join(ctx, &v, &p.Project, req.Name)
	if err != nil {
		return api.ReplicaStatus{}, s.unsynced(ctx, joined.Replica, err)
	}
	return s.statusOf(ctx, joined.Replica)
}

func (s *Server) vaultRequests(
	ctx context.Context, _ struct{}, _ *answer,
) ([]api.KeyringRequest, error) {
	all, err := s.vaults.Keyring().Requests(ctx)
	out := []api.KeyringRequest{}
	for _, r := range all {
		out = append(out, api.KeyringRequest{
			Asked: api.Asked(r.Asked), Application: r.Application, Reason: r.Reason, Peer: r.Peer,
			Identity: r.Identity, At: r.At,
		})
	}
	return out, err
}

func (s *Server) vaultRequest(
	ctx context.Context, req api.DecideRequest, _ *answer,
) (api.KeyringRequest, error) {
	return s.request(ctx, req.Request)
}

// request finds what waits for the person.
func (s *Server) request(ctx context.Context, text string) (api.KeyringRequest, error) {
	all, err := s.vaultRequests(ctx, struct{}{}, nil)
	if err != nil {
		return api.KeyringRequest{}, err
	}
	var found []api.KeyringRequest
	for _, r := range all {
		if r.Request == text {
			return r, nil
		}
		if r.Code == text || len(text) >= 6 && strings.HasPrefix(r.Request, text) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
	case 1:
		return found[0], nil
	default: // a code is short enough for an app to have that of another
		return api.KeyringRequest{}, api.UsageErrorf(
			"%d requests are called %s: name the one that you mean by its id "+
				"(skerry vault requests shows what waits)",
			len(found), text,
		)
	}
	return api.KeyringRequest{}, fmt.Errorf(
		"request %s: %w (skerry vault requests shows what waits)", text, vault.ErrNoRequest,
	)
}

func (s *Server) vaultApprove(
	ctx context.Context, req api.DecideRequest, _ *answer,
) (api.Decided, error) {
	r, err := s.request(ctx, req.Request)
	if err != nil {
		return api.Decided{}, err
	}
	var id identity.ID
	if req.Identity != "" {
		i, err := s.whichIdentity(ctx, req.Identity)
		if err != nil {
			return api.Decided{}, err
		}
		id = i.ID
	}
	return api.Decided{
		Request: r.Request, Application: r.Application, Approved: true,
	}, s.vaults.Keyring().Approve(ctx, r.Request, id, req.Password)
}

func (s *Server) vaultDeny(
	ctx context.Context, req api.DecideRequest, _ *answer,
) (api.Decided, error) {
	r, err := s.request(ctx, req.Request)
	if err != nil {
		return api.Decided{}, err
	}
	return api.Decided{
		Request: r.Request, Application: r.Application, Approved: false,
	}, s.vaults.Keyring().Deny(ctx, r.Request)
}
