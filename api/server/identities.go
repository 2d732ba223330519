package server

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/vault"
)

func describeIdentity(i *vault.Identity) api.Identity {
	x := api.Identity{
		Identity: i.ID, Kind: i.Kind.String(), PublicKey: hex.EncodeToString(i.Public[:]),
		Nonce: hex.EncodeToString(i.Nonce[:]),
	}
	if a, err := eth.AddressOf(i.Public); err == nil && i.Kind == identity.Wallet {
		x.Address = a.String()
	}
	return x
}

// whichIdentity finds an identity of the keyring by its id or a unique beginning of it; empty is
// the only one.
func (s *Server) whichIdentity(ctx context.Context, text string) (found vault.Identity, err error) {
	all, err := s.vaults.Keyring().Identities(ctx)
	if err != nil {
		return found, err
	}
	n := 0
	for _, i := range all {
		if text == "" || i.ID.String() == text || len(text) >= 8 &&
			strings.HasPrefix(i.ID.String(), text) {
			found = i
			n++
		}
	}
	switch {
	case n == 1:
		return found, nil
	case n > 1:
		return found, vault.ErrWhichIdentity
	case text == "":
		return found, fmt.Errorf(
			"%w: make one with skerry identity new, or bring one with skerry identity import",
			vault.ErrNoIdentity,
		)
	}
	return found, fmt.Errorf(
		"identity %q: %w (skerry identity ls shows what is there)", text, vault.ErrNoIdentity,
	)
}

func (s *Server) identityList(ctx context.Context, _ struct{}, _ *answer) ([]api.Identity, error) {
	all, err := s.vaults.Keyring().Identities(ctx)
	out := []api.Identity{}
	for i := range all {
		out = append(out, describeIdentity(&all[i]))
	}
	return out, err
}

func (s *Server) identityAdd(
	ctx context.Context, req api.AddIdentityRequest, _ *answer,
) (api.Identity, error) {
	n := vault.NewIdentity{
		Keystore: req.Keystore, KeystorePassword: req.KeystorePassword, Password: req.Password,
	}
	if req.Mnemonic != nil {
		if n.Mnemonic = *req.Mnemonic; strings.TrimSpace(n.Mnemonic) == "" {
			return api.Identity{}, fmt.Errorf(
				"%w: 0 words, expected %d", identity.ErrBadMnemonic, identity.MnemonicWords,
			)
		}
	}
	if req.Keystore != nil && len(req.Keystore) == 0 {
		return api.Identity{}, api.UsageErrorf("the keystore file is empty")
	}
	if req.Kind != "" {
		kind, err := identity.ParseKind(req.Kind)
		if err != nil {
			return api.Identity{}, api.UsageErrorf("%v", err)
		}
		n.Kind = kind
	}
	i, err := s.vaults.Keyring().Add(ctx, n)
	return describeIdentity(&i), err
}

func (s *Server) identityExport(
	ctx context.Context, req api.ExportIdentityRequest, _ *answer,
) (api.ExportedIdentity, error) {
	switch vault.Form(req.Form) {
	case vault.Keystore, vault.Ethereum, vault.Mnemonic:
	default:
		return api.ExportedIdentity{}, api.UsageErrorf(
			"the form must be keystore, ethereum or mnemonic, not %q", req.Form,
		)
	}
	i, err := s.whichIdentity(ctx, req.Identity)
	if err != nil {
		return api.ExportedIdentity{}, err
	}
	text, err := s.vaults.Keyring().Export(ctx, i.ID, req.Password, vault.Form(req.Form))
	return api.ExportedIdentity{Identity: i.ID, Form: req.Form, Text: text}, err
}

func (s *Server) identityRemove(
	ctx context.Context, req api.IdentityRequest, _ *answer,
) (api.Identity, error) {
	if req.Identity == "" {
		return api.Identity{}, api.UsageErrorf("name the identity to forget")
	}
	i, err := s.whichIdentity(ctx, req.Identity)
	if err == nil {
		err = s.vaults.Keyring().Remove(ctx, i.ID)
	}
	return describeIdentity(&i), err
}
