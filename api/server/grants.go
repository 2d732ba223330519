package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
	"github.com/skerry-sync/skerry/versions/onnode"
)

func micros(t time.Time) (uint64, error) {
	if t.IsZero() {
		return 0, nil
	}
	us := t.UnixMicro()
	if us <= 0 {
		return 0, api.UsageErrorf("%s is before 1970", t.Format(time.RFC3339))
	}
	return uint64(us), nil
}

// lastTime is the last time that JSON can show.
var lastTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// fromMicros returns the time of a statement; none for 0 and for replica.Forever. Whoever signs a
// statement chooses its times: those after lastTime are shown as that.
func fromMicros(us uint64) time.Time {
	switch {
	case us == 0 || us == replica.Forever:
		return time.Time{}
	case us > uint64(lastTime.UnixMicro()):
		return lastTime
	}
	return time.UnixMicro(int64(us)).UTC()
}

// grantsOf returns what describes grants of a replica: the prefix of an encrypted one in plain, if
// it can be read here.
func (s *Server) grantsOf(ctx context.Context, r replica.Replica) func(*replica.Grant) api.Grant {
	open := func([]byte) ([]byte, bool) { return nil, false }
	if r.Encrypted {
		if p, err := s.node.Replicas().Plain(ctx, r.ID); err == nil {
			open = p.OpenPrefix
		}
	}
	return func(g *replica.Grant) api.Grant {
		id := g.ID()
		out := api.Grant{
			ID: hex.EncodeToString(id[:]), Author: g.Author, Prefix: g.Prefix, Issued: fromMicros(g.Issued),
			NotBefore: fromMicros(g.NotBefore), NotAfter: fromMicros(g.NotAfter), Delegable: g.Delegable,
		}
		if g.Parent != nil {
			out.By = g.Parent.Author.String()
		}
		if r.Encrypted && len(g.Prefix) > 0 {
			out.Sealed = true
			if prefix, ok := open(g.Prefix); ok {
				out.Prefix, out.Sealed = prefix, false
			}
		}
		return out
	}
}

func (s *Server) replicaGrant(
	ctx context.Context, req api.GrantRequest, _ *answer,
) (api.Grant, error) {
	r, err := s.resolve(ctx, req.Name, "grant", replica.Sync)
	if err != nil {
		return api.Grant{}, err
	}
	author, err := replica.ParseAuthorID(req.Author)
	if err != nil {
		return api.Grant{}, api.UsageErrorf("%v", err)
	}
	may := replica.Permission{Prefix: req.Prefix, Delegable: req.Delegable}
	if may.NotBefore, err = micros(req.NotBefore); err != nil {
		return api.Grant{}, err
	}
	if may.NotAfter, err = micros(req.NotAfter); err != nil {
		return api.Grant{}, err
	}
	if !req.NotAfter.IsZero() && !req.NotAfter.After(time.Now()) {
		return api.Grant{}, api.UsageErrorf(
			"the grant would have ended already, %s", req.NotAfter.Format(time.RFC3339),
		)
	}
	if may.NotAfter != 0 && may.NotBefore > may.NotAfter {
		return api.Grant{}, api.UsageErrorf("the grant would end before it begins")
	}
	if len(may.Prefix) > replica.MaxDelegablePrefix {
		return api.Grant{}, api.UsageErrorf(
			"the prefix has %d bytes, at most %d", len(may.Prefix), replica.MaxDelegablePrefix,
		)
	}
	g, err := s.node.Grant(ctx, r.ID, author, may)
	if err != nil {
		return api.Grant{}, err
	}
	return s.grantsOf(ctx, r)(&g), nil
}

func (s *Server) replicaRevoke(
	ctx context.Context, req api.RevokeRequest, a *answer,
) (api.Revoked, error) {
	r, err := s.resolve(ctx, req.Name, "revoke", replica.Sync)
	if err != nil {
		return api.Revoked{}, err
	}
	author, err := replica.ParseAuthorID(req.Author)
	if err != nil {
		return api.Revoked{}, api.UsageErrorf("%v", err)
	}
	var from uint64
	switch {
	case (req.All || req.Keep) && !req.From.IsZero():
		return api.Revoked{}, api.UsageErrorf("either everything or from a time on, not both")
	case req.All || req.Keep:
	case req.From.IsZero():
		from = uint64(time.Now().UnixMicro())
	default:
		if from, err = micros(req.From); err != nil {
			return api.Revoked{}, err
		}
	}
	o := onnode.RevokeOptions{
		From: from, Drop: req.Drop, DropMissing: req.DropMissing, Opened: s.sets.Open,
	}
	if req.Keep {
		if req.Drop {
			return api.Revoked{}, api.UsageErrorf("either keep what the author wrote, or drop it")
		}
		if o.KeepAs, err = s.author(ctx, ""); err != nil {
			return api.Revoked{}, err
		}
		if o.KeepAs.Author() == author {
			return api.Revoked{}, api.UsageErrorf(
				"%s is the default author of this node: choose another with skerry author default, or "+
					"revoke without --keep",
				author,
			)
		}
	}
	self, err := s.mayHoldKey(ctx, r.ID, author)
	if err != nil {
		return api.Revoked{}, err
	}
	v, err := onnode.Revoke(ctx, s.node, r.ID, author, o)
	if missing, ok := errors.AsType[*versions.MissingError](err); ok {
		return api.Revoked{}, fmt.Errorf("%w: sync with a peer that has it (skerry replica sync %s), or "+
			"revoke with --drop-missing: %d versions are lost then", err, r.Name, missing.Versions)
	}
	if err != nil {
		return api.Revoked{}, err
	}
	if self {
		a.warn(
			"if %s holds a write ticket of %s, the revocation does not hold: a write ticket is the "+
				"replica's key, and the next write grants itself anew. Shut such an author out with a new "+
				"replica: skerry replica new, copy what is to stay (skerry replica export), and share that "+
				"one by invites", author, r.Name,
		)
	}
	return api.Revoked{
		Author: v.Author, From: fromMicros(v.From), Dropped: v.Dropped, Kept: uint64(v.Kept),
		Adopted: uint64(v.Adopted),
	}, nil
}

// mayHoldKey reports whether an author has a grant like those that a holder of the replica's key
// gives itself with its first write: by that key, without limits.
func (s *Server) mayHoldKey(
	ctx context.Context, id replica.ID, author replica.AuthorID,
) (bool, error) {
	grants, _, err := s.node.Replicas().GrantStates(ctx, id)
	for i := range grants {
		g := &grants[i].Grant
		if g.Author == author && g.Parent == nil && len(g.Prefix) == 0 && !g.Delegable &&
			g.NotBefore == 0 && g.NotAfter == replica.Forever {
			return true, err
		}
	}
	return false, err
}

func (s *Server) replicaGrants(
	ctx context.Context, req api.NameRequest, _ *answer,
) (out api.Grants, err error) {
	r, err := s.resolve(ctx, req.Name, "grants", replica.Sync)
	if err != nil {
		return out, err
	}
	out = api.Grants{Grants: []api.Grant{}, Revocations: []api.Revocation{}}
	grants, revocations, err := s.node.Replicas().GrantStates(ctx, r.ID)
	if err != nil {
		return out, fmt.Errorf("grants of %s: %w", r.Name, err)
	}
	describe, now := s.grantsOf(ctx, r), uint64(time.Now().UnixMicro())
	for i := range grants {
		g, until := describe(&grants[i].Grant), grants[i].Until
		g.Revoked = until < grants[i].NotAfter || until < grants[i].NotBefore
		if g.Revoked && until > 0 {
			g.RevokedFrom = fromMicros(until + 1)
		}
		g.Backdatable = until > 0 && until >= grants[i].NotBefore && until < now
		out.Grants = append(out.Grants, g)
	}
	for i := range revocations {
		v := &revocations[i]
		x := api.Revocation{Author: v.Author, Issued: fromMicros(v.Issued), From: fromMicros(v.From)}
		if v.Authority != nil {
			x.By = v.Authority.Author.String()
		}
		out.Revocations = append(out.Revocations, x)
	}
	return out, nil
}
