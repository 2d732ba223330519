package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// walletsOf returns what a configuration says of wallets, with what the environment adds to it; nil
// if it says nothing.
func (s *collectionsService) walletsOf(cfg *config.EVM) (*config.EVM, error) {
	if cfg == nil {
		return nil, nil
	}
	cfg, err := fromEnvironment(cfg, os.Getenv)
	if err != nil {
		return nil, err
	}
	if s.primary != nil && s.primary.Wallet != "" && os.Getenv(envAdmin) == "" {
		key, err := evm.ReadKey(s.primary.Wallet)
		if err != nil {
			return nil, fmt.Errorf("--wallet: %w", err)
		}
		cfg.Admins = append(slices.Clone(cfg.Admins), key.Address())
	}
	for _, c := range cfg.Chains {
		if c.Contract != (eth.Address{}) && len(c.Endpoints) == 0 {
			return nil, fmt.Errorf("chains.%s.rpc: is missing, without which the contract cannot be asked (of %s, %s may name it)", c.ID(), config.DefaultChain, envRPC)
		}
	}
	return cfg, nil
}

// openChains opens the chains of a configuration.
func (s *collectionsService) openChains(cfg *config.EVM) error {
	if cfg == nil {
		return nil
	}
	for _, c := range cfg.Chains {
		e, err := chain.NewEVM(c.Number, chain.Options{
			Endpoints: c.Endpoints, Contract: c.Contract, Log: s.log,
			Times: chain.Times{Owner: c.Owner, NotOwner: c.NotOwner, Access: c.Access, NoAccess: c.NoAccess, Stale: c.Stale},
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

// wallets lets callers prove themselves by a wallet, too, if the configuration says so, and gives
// them the roles that chains tell of.
func (s *collectionsService) wallets(cfg *config.EVM, opts *collections.Options, kept store.Store) error {
	if cfg == nil {
		return nil
	}
	verifier := &evm.Verifier{Chains: s.chains.Has, Admins: cfg.Admins}
	if cfg.SharedNonces {
		local, err := access.NewNonces(access.NonceOptions{Skew: evm.Window})
		if err != nil {
			return err
		}
		shared := &access.SharedNonces{Store: kept, Skew: evm.Window, Local: local}
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
	opts.Enricher = access.Compose(opts.Enricher, s.chains.Enricher())
	opts.MustIdentify = true
	for _, f := range []evm.Family{evm.OctoBot, evm.Starfish} {
		opts.Vary = append(opts.Vary, f.Headers()[0].Header) // the address
	}
	return nil
}

// The variables that deployments of the scheme set: the endpoint and the contract of Base, and the
// administrator.
const (
	baseChain   = 8453
	envRPC      = "EVM_BASE_RPC"
	envContract = "EVM_CONTRACT_BASE"
	envAdmin    = "PLATFORM_PUBKEY_EVM"
)

// fromEnvironment adds what the environment says to a configuration: an administrator, and what
// Base's entry leaves out.
func fromEnvironment(cfg *config.EVM, get func(string) string) (*config.EVM, error) {
	own := *cfg
	if s := get(envAdmin); s != "" {
		a, err := eth.ParseAddress(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", envAdmin, err)
		}
		own.Admins = append(slices.Clone(own.Admins), a)
	}
	rpc, contract := get(envRPC), get(envContract)
	i := slices.IndexFunc(cfg.Chains, func(c *config.EVMChain) bool { return c.Number == baseChain })
	if rpc == "" && contract == "" || i < 0 || len(cfg.Chains[i].Endpoints) > 0 {
		return &own, nil
	}
	base := *cfg.Chains[i]
	if contract == "" && rpc != "" && base.Contract != (eth.Address{}) {
		contract = base.Contract.String() // which is known from elsewhere
	}
	if rpc == "" || contract == "" {
		return nil, fmt.Errorf("%s and %s must be set together", envRPC, envContract)
	}
	a, err := eth.ParseAddress(contract)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", envContract, err)
	}
	base.Endpoints, base.Contract = []string{rpc}, a
	own.Chains = slices.Clone(cfg.Chains)
	own.Chains[i] = &base
	return &own, nil
}
