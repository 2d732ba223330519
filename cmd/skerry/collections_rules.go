package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/rules"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/replica"
)

// rulesEvery is how often the server looks for rules that the holder of the replica's key has
// changed.
const rulesEvery = 5 * time.Second

// errRulesDiffer reports a configuration by which a server would let in what other nodes refuse.
var errRulesDiffer = errors.New("the configuration is another one than the rules of the replica: start the node that holds the replica's key with it, or this one without --config")

// openRules makes the rules of the replica count, and returns the configuration by which is served.
// Without rules it returns cfg.
func (s *collectionsService) openRules(ctx context.Context, r *openReplica, cfg *config.Config) (*config.Config, error) {
	s.guard = rules.NewGuard(rules.Options{Chains: &s.chains, Log: s.log})
	now, err := s.currentRules(ctx, r, cfg)
	switch {
	case err != nil:
		return nil, err
	case now == nil && s.named:
		return cfg, nil
	case now == nil:
		return s.completed(cfg)
	}
	if cfg, err = s.underRules(now, cfg); err != nil {
		return nil, err
	}
	return cfg, s.guard.Set(now)
}

// ruled reports whether the documents are in a replica that has rules.
func (s *collectionsService) ruled() bool { return s.guard != nil && s.guard.InForce() }

// underRules returns the configuration by which is served while rules count.
func (s *collectionsService) underRules(now *rules.Rules, cfg *config.Config) (*config.Config, error) {
	if now.Prefix != s.prefix {
		return nil, fmt.Errorf("the rules of the replica are for paths that begin with %q: start the server with --prefix %q", now.Prefix, now.Prefix)
	}
	if !s.named {
		var err error
		if cfg, err = s.completed(now.Config); err != nil {
			return nil, err
		}
	}
	if !bytes.Equal(shared(cfg), shared(now.Config)) {
		return nil, errRulesDiffer
	}
	return cfg, nil
}

func shared(c *config.Config) []byte { return value.AppendCanonical(nil, c.Shared()) }

// currentRules returns the rules of the replica, nil if it has none. If this node holds its key and
// the configuration asks for rules, they are made from it.
func (s *collectionsService) currentRules(ctx context.Context, r *openReplica, cfg *config.Config) (*rules.Rules, error) {
	all, missing, err := replicas.ReadEntry(ctx, s.node, r.ID, rules.Key)
	if err != nil {
		return nil, err
	}
	now, err := rules.Newest(all, r.ID)
	var unread *rules.UnreadError
	switch {
	case errors.As(err, &unread) && (cfg.Rules == nil || r.Secret.IsZero()):
		return nil, fmt.Errorf("the rules of replica %s: %w; start the node that holds the replica's key "+
			"with a configuration that collections check takes, which becomes the new rules", r.Name, err)
	case unread != nil:
		now = unread.Rules
	case now == nil && missing > 0:
		return nil, fmt.Errorf("the rules of replica %s are not here yet: run skerry replica sync %s first", r.Name, r.Name)
	case cfg.Rules == nil:
		return now, nil
	case r.Secret.IsZero() && now == nil:
		return nil, fmt.Errorf("extensions.rules: replica %s has no rules yet: start the node that holds its key first", r.Name)
	case r.Secret.IsZero():
		return now, nil
	}
	want, err := rulesOf(cfg, r, now, s.prefix)
	if err != nil {
		return nil, err
	}
	if now != nil && unread == nil && want.Same(now) {
		return now, nil
	}
	if err := replicas.WriteEntry(ctx, s.node, r.ID, r.author, rules.Key, want.Bytes()); err != nil {
		return nil, err
	}
	s.log.Info("the configuration has become the rules of the replica, which all nodes that serve it apply", "replica", r.Name, "serial", want.Serial)
	return want, nil
}

// rulesOf are the rules that a configuration asks for, after those that count now, which may be
// nil.
func rulesOf(cfg *config.Config, r *openReplica, now *rules.Rules, prefix string) (*rules.Rules, error) {
	want := rules.Rules{Serial: 1, Since: time.Now().UnixMilli(), Prefix: prefix, Hosts: cfg.Rules.Hosts, Own: cfg.Own(), Config: cfg, Servers: []replica.AuthorID{r.author.Author()}}
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

// followRules makes rules count that the holder of the replica's key has changed.
func (s *collectionsService) followRules(ctx context.Context) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	all, _, err := replicas.ReadEntry(ctx, s.node, s.in.ID, rules.Key)
	if err != nil {
		return err
	}
	now, err := rules.Newest(all, s.in.ID)
	if err != nil {
		return fmt.Errorf("the rules of the replica have changed, and this server goes on with those before: %w", err)
	}
	if now == nil || s.ruled() && now.Serial <= s.guard.Rules().Serial {
		return nil
	}
	if err := s.guard.Set(now); err != nil {
		return err
	}
	s.inStore.Forget()
	was := s.served.Config()
	cfg, err := s.underRules(now, was)
	if err == nil && !reflect.DeepEqual(cfg.EVM, was.EVM) {
		err = errors.New("they let other wallets in, or name other chains, which this server does after a restart")
	}
	if err == nil {
		err = s.served.Reload(cfg)
	}
	if err != nil {
		return fmt.Errorf("they have changed (serial %d), and this server still accepts what they no longer allow: %w", now.Serial, err)
	}
	s.log.Info("the rules of the replica have changed", "replica", s.in.Name, "serial", now.Serial)
	return nil
}

// reloadRules makes a configuration that was read again the rules, if this node holds the replica's
// key, and returns the one by which is served.
func (s *collectionsService) reloadRules(cfg *config.Config) (*config.Config, error) {
	switch {
	case !s.ruled() && cfg.Rules != nil:
		return nil, errors.New("extensions.rules: the first rules of a replica count only after a restart")
	case !s.ruled():
		return cfg, nil
	}
	now, err := s.currentRules(s.ctx, s.in, cfg)
	if err != nil {
		return nil, err
	}
	if cfg, err = s.underRules(now, cfg); err != nil {
		return nil, err
	}
	if now.Serial > s.guard.Rules().Serial {
		if err := s.guard.Set(now); err != nil {
			return nil, err
		}
		s.inStore.Forget()
	}
	return cfg, nil
}
