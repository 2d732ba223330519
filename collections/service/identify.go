package service

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/chain"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/identity/eth"
)

// Wallets says which wallets are let in.
type Wallets struct {
	Chains func(id string) bool // that callers may name
	Admins []eth.Address
}

// openChains opens the chains of a configuration.
func (s *Server) openChains(cfg *config.EVM) error {
	if cfg == nil {
		return nil
	}
	for _, c := range cfg.Chains {
		e, err := chain.NewEVM(c.Number, chain.Options{
			Endpoints: c.Endpoints, Contract: c.Contract, Log: s.log,
			Times: chain.Times{Owner: c.Owner, NotOwner: c.NotOwner, Access: c.Access,
				NoAccess: c.NoAccess, Stale: c.Stale},
		})
		if err != nil {
			return fmt.Errorf("extensions.evm: %w", err)
		}
		s.closes = append(s.closes, func() error {
			e.Close()
			return nil
		})
		s.flush = append(s.flush, e.Flush)
		s.chains.Register(e)
	}
	return nil
}

// identify lets callers prove who they are: by a certificate and, if the configuration says so, by
// a wallet, who then have the roles that chains tell of; or by a wallet alone.
func (s *Server) identify(
	cfg *config.Config, opts *collections.Options, kept store.Store,
) (err error) {
	if w := s.o.Wallets; w != nil {
		nonces, err := s.nonces("", evm.Window)
		if err != nil {
			return err
		}
		opts.Resolver = &evm.Verifier{Chains: w.Chains, Admins: w.Admins, Nonces: nonces}
		opts.Enricher = access.Compose(opts.Enricher, s.chains.Enricher())
		opts.MustIdentify = true
		return nil
	}
	nonces, err := s.nonces("", 0)
	if err != nil {
		return err
	}
	caps := &access.Caps{Nonces: nonces, Revocations: opts.Revocations,
		MustIdentify: !s.o.Anonymous}
	opts.Resolver = caps
	if cfg.EVM == nil {
		return nil
	}
	verifier := &evm.Verifier{Chains: s.chains.Has, Admins: cfg.EVM.Admins}
	if cfg.EVM.SharedNonces {
		verifier.Nonces, err = s.sharedNonces(kept)
	} else {
		verifier.Nonces, err = s.nonces("evm", evm.Window)
	}
	if err != nil {
		return fmt.Errorf("extensions.evm: %w", err)
	}
	opts.Resolver = access.ResolverFunc(func(
		ctx context.Context, r *access.Request,
	) (access.Auth, error) {
		if evm.Presents(r.HTTP.Header) ||
			!s.o.Anonymous && !strings.HasPrefix(r.HTTP.Header.Get("Authorization"), "Cap ") {
			return verifier.Resolve(ctx, r)
		}
		return caps.Resolve(ctx, r)
	})
	opts.Enricher = access.Compose(opts.Enricher, s.chains.Enricher())
	opts.MustIdentify = true
	for _, f := range []evm.Family{evm.OctoBot, evm.Starfish} {
		opts.Vary = append(opts.Vary, f.Headers()[0].Header) // the address
	}
	return nil
}

// nonces opens what remembers used nonces, in a file of the server's own if it has a directory.
func (s *Server) nonces(name string, skew time.Duration) (*access.Nonces, error) {
	n, err := access.NewNonces(access.NonceOptions{Dir: s.o.Dir, Name: name, Skew: skew})
	if err != nil {
		return nil, err
	}
	s.closes = append(s.closes, n.Close)
	return n, nil
}

// sharedNonces remembers used nonces where all servers of a place see them.
func (s *Server) sharedNonces(kept store.Store) (*access.SharedNonces, error) {
	local, err := access.NewNonces(access.NonceOptions{Skew: evm.Window})
	if err != nil {
		return nil, err
	}
	shared := &access.SharedNonces{Store: kept, Skew: evm.Window, Local: local}
	s.every(time.Minute, func(ctx context.Context) {
		if err := shared.Clean(ctx, time.Now().UnixMilli()); err != nil && ctx.Err() == nil {
			s.log.Warn("used nonces were not removed", "error", err)
		}
	})
	return shared, nil
}
