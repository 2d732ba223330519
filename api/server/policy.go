package server

import (
	"context"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// The modes of a Policy.
const (
	fetchEverything = "everything"
	fetchNothing    = "nothing"
	fetchPrefixes   = "prefixes"
)

func parsePolicy(p *api.Policy) (out wanted.Policy, err error) {
	out.MaxSize = p.MaxSize
	switch p.Mode {
	case fetchEverything, "":
	case fetchNothing:
		out.Nothing = true
	case fetchPrefixes:
		if len(p.Prefixes) == 0 {
			return out, api.UsageErrorf("a download policy by prefixes needs at least one prefix")
		}
		for _, k := range p.Prefixes {
			out.Prefixes = append(out.Prefixes, k)
		}
	default:
		return out, api.UsageErrorf(
			"download policy %q: expected %s, %s or %s", p.Mode, fetchEverything, fetchNothing,
			fetchPrefixes,
		)
	}
	if p.Mode != fetchPrefixes && len(p.Prefixes) > 0 {
		return out, api.UsageErrorf("a download policy of %s has no prefixes", p.Mode)
	}
	return out, nil
}

func policyText(p wanted.Policy) api.Policy {
	out := api.Policy{Mode: fetchEverything, MaxSize: p.MaxSize}
	switch {
	case len(p.Prefixes) > 0:
		out.Mode = fetchPrefixes
		for _, k := range p.Prefixes {
			out.Prefixes = append(out.Prefixes, k)
		}
	case p.Nothing:
		out.Mode = fetchNothing
	}
	return out
}

// replicaPolicy changes a replica's download policy, if there is one in the request, and tells it.
func (s *Server) replicaPolicy(
	ctx context.Context, req api.PolicyRequest, _ *answer,
) (api.Policy, error) {
	r, err := s.resolve(ctx, req.Name, "policy", replica.Sync)
	if err != nil {
		return api.Policy{}, err
	}
	if req.Policy != nil {
		p, err := parsePolicy(req.Policy)
		if err == nil {
			err = s.node.SetPolicy(ctx, r.ID, p)
		}
		if err != nil {
			return api.Policy{}, err
		}
	}
	return policyText(s.node.Policy(r.ID)), nil
}
