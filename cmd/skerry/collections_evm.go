package main

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/chain"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/store"
)

// wallets lets callers prove themselves by a wallet, too, if the configuration says so, and gives them the roles that chains tell of.
func (s *collectionsService) wallets(cfg *config.EVM, opts *collections.Options, kept store.Store) error {
	if cfg == nil {
		return nil
	}
	var known chain.Registry
	for _, c := range cfg.Chains {
		e, err := chain.NewEVM(c.Number, chain.Options{
			Endpoints: c.Endpoints, Contract: c.Contract, Log: s.log,
			Times: chain.Times{Owner: c.Owner, NotOwner: c.NotOwner, Access: c.Access, NoAccess: c.NoAccess, Stale: c.Stale},
		})
		if err != nil {
			return err
		}
		s.closes = append(s.closes, func() error {
			e.Close()
			return nil
		})
		s.flush = append(s.flush, e.Flush)
		known.Register(e)
	}
	verifier := &evm.Verifier{Chains: known.Has, Admins: cfg.Admins}
	if cfg.SharedNonces {
		shared := &access.SharedNonces{Store: kept, Skew: evm.Window}
		verifier.Nonces = shared
		s.every(time.Minute, func(ctx context.Context) {
			if err := shared.Clean(ctx, time.Now().UnixMilli()); err != nil && ctx.Err() == nil {
				s.log.Warn("used nonces were not removed", "error", err)
			}
		})
	} else {
		nonces, err := access.NewNonces(access.NonceOptions{Dir: filepath.Join(s.node.Dir(), "collections"), Name: "evm", Skew: evm.Window})
		if err != nil {
			return err
		}
		s.closes = append(s.closes, nonces.Close)
		verifier.Nonces = nonces
	}
	caps := opts.Resolver
	opts.Resolver = access.ResolverFunc(func(ctx context.Context, r *access.Request) (access.Auth, error) {
		if evm.Presents(r.HTTP.Header) || !s.anonymous && !strings.HasPrefix(r.HTTP.Header.Get("Authorization"), "Cap ") {
			return verifier.Resolve(ctx, r)
		}
		return caps.Resolve(ctx, r)
	})
	opts.Enricher = access.Compose(opts.Enricher, known.Enricher())
	opts.Identity, opts.MustIdentify = evm.Identity, true
	return nil
}

// every does something again and again until the service is closed.
func (s *collectionsService) every(d time.Duration, do func(ctx context.Context)) {
	ctx, stop := context.WithCancel(s.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				do(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
	s.closes = append(s.closes, func() error {
		stop()
		<-done
		return nil
	})
}
