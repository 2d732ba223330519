package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/kind"
)

// rulesEvery is how often the server looks for rules that the holder of the replica's key has
// changed.
const rulesEvery = 5 * time.Second

var (
	// ErrNoRules reports a configuration that asks for rules in a place that has none.
	ErrNoRules = kind.New(kind.Usage, "extensions.rules: only a replica has rules, and the "+
		"documents are in none")
	// ErrRulesDiffer reports a configuration by which a server would let in what others refuse.
	ErrRulesDiffer = errors.New("the configuration is another one than the rules of the replica")
)

// A PrefixError reports rules for paths that begin otherwise than those of the server.
type PrefixError struct{ Prefix string }

func (e *PrefixError) Error() string {
	return fmt.Sprintf("the rules of the replica are for paths that begin with %q", e.Prefix)
}

// openRules makes the rules of the place count, and returns the configuration by which is served.
// Without rules it returns cfg.
func (s *Server) openRules(cfg *config.Config) (*config.Config, error) {
	now, err := s.rules.Current(s.ctx, cfg)
	switch {
	case err != nil:
		return nil, err
	case now == nil && s.named:
		return cfg, nil
	case now == nil:
		return s.complete(cfg)
	}
	if cfg, err = s.underRules(now, cfg); err != nil {
		return nil, err
	}
	return cfg, s.rules.Apply(now)
}

// underRules returns the configuration by which is served while rules count.
func (s *Server) underRules(now Rules, cfg *config.Config) (*config.Config, error) {
	if now.PathPrefix() != s.o.Prefix {
		return nil, &PrefixError{now.PathPrefix()}
	}
	if !s.named {
		var err error
		if cfg, err = s.complete(now.Shared()); err != nil {
			return nil, err
		}
	}
	if !bytes.Equal(shared(cfg), shared(now.Shared())) {
		return nil, ErrRulesDiffer
	}
	return cfg, nil
}

func shared(c *config.Config) []byte { return value.AppendCanonical(nil, c.Shared()) }

// followRules makes rules count that the holder of the replica's key has changed.
func (s *Server) followRules(ctx context.Context) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	now, err := s.rules.Newer(ctx)
	if err != nil || now == nil {
		return err
	}
	if err := s.rules.Apply(now); err != nil {
		return err
	}
	was := s.Config()
	cfg, err := s.underRules(now, was)
	if err == nil && !reflect.DeepEqual(cfg.EVM, was.EVM) {
		err = errors.New("they let other wallets in, or name other chains, which this server does " +
			"after a restart")
	}
	if err == nil {
		err = s.served.Reload(cfg)
	}
	if err != nil {
		return fmt.Errorf("they have changed (serial %d), and this server still accepts what they "+
			"no longer allow: %w", now.SerialNumber(), err)
	}
	s.log.Info("the rules of the replica have changed", "serial", now.SerialNumber())
	return nil
}

// reloadRules makes a configuration that was read again the rules, if this server may, and returns
// the one by which is served.
func (s *Server) reloadRules(cfg *config.Config) (*config.Config, error) {
	switch {
	case !s.Ruled() && cfg.Rules != nil:
		return nil, errors.New("extensions.rules: the first rules of a replica count only after a " +
			"restart")
	case !s.Ruled():
		return cfg, nil
	}
	now, err := s.rules.Current(s.ctx, cfg)
	if err != nil {
		return nil, err
	}
	if cfg, err = s.underRules(now, cfg); err != nil {
		return nil, err
	}
	return cfg, s.rules.Apply(now)
}
