package place

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/rules"
	"github.com/skerry-sync/skerry/collections/service"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// Replica is a replica of a node that documents are kept in. It implements service.Ruled.
type Replica struct {
	n      *node.Node
	r      replica.Replica
	author replica.SecretKey // that this node writes as
	prefix string
	guard  *rules.Guard
	log    *slog.Logger
	store  *replicas.Store // nil until it is opened
	wait   time.Duration   // rulesWait
}

// rulesWait is for how long a start waits for what may be the first rules of the replica, and has
// not come. Anybody who may write to the replica can write such entries whose content nobody gives.
const rulesWait = time.Minute

var _ service.Ruled = (*Replica)(nil)

// Replica returns the replica that is named, as a place. It is made if there is none.
func (s *Spec) Replica(ctx context.Context, n *node.Node, at service.Site) (*Replica, error) {
	name := strings.TrimPrefix(s.Name, replicaPrefix)
	r, err := n.Replicas().Resolve(ctx, name)
	if errors.Is(err, replica.ErrNotFound) {
		if r, err = n.CreateReplica(ctx, name, false); err == nil {
			at.Log.Info("made a replica for the documents", "name", name, "replica", r.ID)
		}
	}
	if err != nil {
		return nil, err
	}
	author, err := n.Authors().DefaultKey(ctx)
	if err != nil {
		return nil, err
	}
	guard := rules.NewGuard(rules.Options{Chains: at.Chains, Log: at.Log})
	return &Replica{
		n: n, r: r, author: author, prefix: at.Prefix, guard: guard, log: at.Log, wait: rulesWait,
	}, nil
}

// ErrSharedNonces reports that used nonces are to be remembered in a replica.
var ErrSharedNonces = kind.New(kind.Usage, "extensions.evm.sharedNonces: servers that share a "+
	"replica learn of each other's requests too late; keep documents in a bucket "+
	"(--store s3:URL), or leave it out")

// Open implements service.Place.
func (p *Replica) Open(ctx context.Context, k service.Keep) (store.Store, error) {
	if k.SharedNonces {
		return nil, ErrSharedNonces
	}
	kept, err := replicas.Open(ctx, p.n, p.r, p.author,
		replicas.Options{Codec: k.Codec, Guard: p.guard, Longest: k.Longest, Log: k.Log})
	if err != nil {
		return nil, fmt.Errorf("replica %s: %w", p.r.Name, err)
	}
	p.store = kept
	return kept, nil
}

// inForce implements service.Rules.
type inForce struct{ *rules.Rules }

func (r inForce) SerialNumber() uint64   { return r.Serial }
func (r inForce) PathPrefix() string     { return r.Prefix }
func (r inForce) Shared() *config.Config { return r.Config }

// asRules is nil for nil.
func asRules(r *rules.Rules) service.Rules {
	if r == nil {
		return nil
	}
	return inForce{r}
}

// InForce implements service.Ruled.
func (p *Replica) InForce() service.Rules { return asRules(p.guard.Rules()) }

// Judge implements service.Ruled.
func (p *Replica) Judge(kept store.Store, r *access.Revocations) { p.guard.Read(kept, r) }

// Apply implements service.Ruled.
func (p *Replica) Apply(r service.Rules) error {
	now := r.(inForce).Rules
	if was := p.guard.Rules(); was != nil && now.Serial <= was.Serial {
		return nil
	}
	if err := p.guard.Set(now); err != nil {
		return err
	}
	if p.store != nil {
		p.store.Forget()
	}
	return nil
}

// Newer implements service.Ruled.
func (p *Replica) Newer(ctx context.Context) (service.Rules, error) {
	all, err := replicas.ReadEntry(ctx, p.n, p.r.ID, rules.Key)
	if err != nil {
		return nil, err
	}
	now, err := newest(all, p.r.ID)
	if err != nil {
		return nil, fmt.Errorf(
			"the rules of the replica have changed, and this server goes on with those before: %w", err)
	}
	if was := p.guard.Rules(); now == nil || was != nil && now.Serial <= was.Serial {
		return nil, nil
	}
	return inForce{now}, nil
}

// newest returns the rules that count of what authors have written, as rules.Newest does.
func newest(all []replicas.Written, id replica.ID) (*rules.Rules, error) {
	var bodies [][]byte
	for _, w := range all {
		bodies = append(bodies, w.Body)
	}
	return rules.Newest(bodies, id)
}

// come returns what authors have written where rules belong. If there are none yet, and something
// has not come, it is waited for, unless the replica's key has written it: those are rules.
func (p *Replica) come(ctx context.Context) (all []replicas.Written, missing bool, err error) {
	ends := time.NewTimer(p.wait)
	defer ends.Stop()
	again := time.NewTicker(max(1, p.wait/rulesTries))
	defer again.Stop()
	for told := false; ; {
		if all, err = replicas.ReadEntry(ctx, p.n, p.r.ID, rules.Key); err != nil {
			return nil, false, err
		}
		missing = slices.ContainsFunc(all, func(w replicas.Written) bool { return w.Body == nil })
		now, err := newest(all, p.r.ID)
		if !missing || now != nil || err != nil || p.wroteIn(all, nil) {
			return all, missing, nil
		}
		if !told {
			told = true
			p.log.Info("waiting for what may be the rules of the replica", "replica", p.r.Name)
		}
		select {
		case <-again.C:
		case <-ends.C:
			return all, missing, nil
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

// rulesTries is how often rules are looked for within rulesWait.
const rulesTries = 20

// wroteIn reports whether it is the replica's key that has written b, or with nil what has not
// come.
func (p *Replica) wroteIn(all []replicas.Written, b []byte) bool {
	return slices.ContainsFunc(all, func(w replicas.Written) bool {
		return w.Author == replica.AuthorID(p.r.ID) && (w.Body == nil) == (b == nil) &&
			bytes.Equal(w.Body, b)
	})
}

// write writes rules as the replica's key, so that nobody takes an entry whose content has not come
// for another author's.
func (p *Replica) write(ctx context.Context, b []byte) error {
	return replicas.WriteEntry(ctx, p.n, p.r.ID, p.r.Secret, rules.Key, b)
}

// Current implements service.Ruled. The rules are made by the node that holds the replica's key.
func (p *Replica) Current(ctx context.Context, own *config.Config) (service.Rules, error) {
	all, missing, err := p.come(ctx)
	if err != nil {
		return nil, err
	}
	now, err := newest(all, p.r.ID)
	unread, _ := errors.AsType[*rules.UnreadError](err)
	mayMake := own.Rules != nil && !p.r.Secret.IsZero()
	switch {
	case unread != nil && mayMake:
		now = unread.Rules
	case unread != nil:
		return nil, fmt.Errorf("the rules of replica %s: %w; start the node that holds the replica's "+
			"key with a configuration that collections check takes, which becomes the new rules",
			p.r.Name, err)
	case now == nil && p.wroteIn(all, nil):
		return nil, fmt.Errorf("the rules of replica %s are not here yet: run skerry replica sync %s "+
			"first", p.r.Name, p.r.Name)
	case own.Rules != nil && !mayMake && now == nil:
		return nil, fmt.Errorf("extensions.rules: replica %s has no rules yet: start the node that "+
			"holds its key first", p.r.Name)
	}
	if now == nil && missing {
		p.log.Warn("what an author has written where the rules of the replica belong does not come; "+
			"this server starts as if it was not there", "replica", p.r.Name)
	}
	if !mayMake {
		return asRules(now), nil
	}
	want, err := rulesOf(own, &p.r, p.author, now, p.prefix)
	if err != nil {
		return nil, err
	}
	if now != nil && unread == nil && want.Same(now) {
		if !p.wroteIn(all, now.Bytes()) { // as before, when another author wrote them
			err = p.write(ctx, now.Bytes())
		}
		return inForce{now}, err
	}
	if err := p.write(ctx, want.Bytes()); err != nil {
		return nil, err
	}
	p.log.Info("the configuration has become the rules of the replica, which all nodes that serve it "+
		"apply", "replica", p.r.Name, "serial", want.Serial)
	return inForce{want}, nil
}

// rulesOf are the rules that a configuration asks for, after those that count now, which may be
// nil. author is who writes what no caller has signed.
func rulesOf(
	cfg *config.Config, r *replica.Replica, author replica.SecretKey, now *rules.Rules, prefix string,
) (*rules.Rules, error) {
	want := rules.Rules{Serial: 1, Since: time.Now().UnixMilli(), Prefix: prefix,
		Hosts: cfg.Rules.Hosts, Own: cfg.Own(), Config: cfg,
		Servers: []replica.AuthorID{author.Author()}}
	want.Scopes = want.Since
	if now != nil {
		want.Serial, want.Since = now.Serial+1, now.Since
		if now.Scopes > 0 {
			want.Scopes = now.Scopes
		}
	}
	for _, text := range cfg.Rules.Servers {
		a, err := replica.ParseAuthorID(text)
		if err != nil {
			return nil, fmt.Errorf("extensions.rules.servers: %w", err)
		}
		if !slices.Contains(want.Servers, a) {
			want.Servers = append(want.Servers, a)
		}
	}
	signed := rules.Sign(want, r.Secret)
	// No node would serve the replica under rules that cannot be applied, nor this one start again.
	if err := rules.NewGuard(rules.Options{}).Set(signed); err != nil {
		return nil, err
	}
	return signed, nil
}
