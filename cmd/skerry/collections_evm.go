package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/evm"
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
			return nil, fmt.Errorf(
				"chains.%s.rpc: is missing, without which the contract cannot be asked (of %s, %s may name it)",
				c.ID(), config.DefaultChain, envRPC,
			)
		}
	}
	return cfg, nil
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
