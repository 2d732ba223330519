package api

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/vaults"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/vault"
)

func describeIdentity(i *vault.Identity) Identity {
	x := Identity{Identity: i.ID, Kind: i.Kind.String(), PublicKey: hex.EncodeToString(i.Public[:]), Nonce: hex.EncodeToString(i.Nonce[:])}
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
		if text == "" || i.ID.String() == text || len(text) >= 8 && strings.HasPrefix(i.ID.String(), text) {
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
		return found, fmt.Errorf("%w: make one with skerry identity new, or bring one with skerry identity import", vault.ErrNoIdentity)
	}
	return found, fmt.Errorf("identity %q: %w (skerry identity ls shows what is there)", text, vault.ErrNoIdentity)
}

func (s *Server) identityList(ctx context.Context, _ struct{}, _ *answer) ([]Identity, error) {
	all, err := s.vaults.Keyring().Identities(ctx)
	out := []Identity{}
	for i := range all {
		out = append(out, describeIdentity(&all[i]))
	}
	return out, err
}

func (s *Server) identityAdd(ctx context.Context, req AddIdentityRequest, _ *answer) (Identity, error) {
	n := vault.NewIdentity{Keystore: req.Keystore, KeystorePassword: req.KeystorePassword, Password: req.Password}
	if req.Mnemonic != nil {
		if n.Mnemonic = *req.Mnemonic; strings.TrimSpace(n.Mnemonic) == "" {
			return Identity{}, fmt.Errorf("%w: 0 words, expected %d", identity.ErrBadMnemonic, identity.MnemonicWords)
		}
	}
	if req.Keystore != nil && len(req.Keystore) == 0 {
		return Identity{}, UsageErrorf("the keystore file is empty")
	}
	if req.Kind != "" {
		kind, err := identity.ParseKind(req.Kind)
		if err != nil {
			return Identity{}, UsageErrorf("%v", err)
		}
		n.Kind = kind
	}
	i, err := s.vaults.Keyring().Add(ctx, n)
	return describeIdentity(&i), err
}

func (s *Server) identityExport(ctx context.Context, req ExportIdentityRequest, _ *answer) (ExportedIdentity, error) {
	switch vault.Form(req.Form) {
	case vault.Keystore, vault.Ethereum, vault.Mnemonic:
	default:
		return ExportedIdentity{}, UsageErrorf("the form must be keystore, ethereum or mnemonic, not %q", req.Form)
	}
	i, err := s.whichIdentity(ctx, req.Identity)
	if err != nil {
		return ExportedIdentity{}, err
	}
	text, err := s.vaults.Keyring().Export(ctx, i.ID, req.Password, vault.Form(req.Form))
	return ExportedIdentity{i.ID, req.Form, text}, err
}

func (s *Server) identityRemove(ctx context.Context, req IdentityRequest, _ *answer) (Identity, error) {
	if req.Identity == "" {
		return Identity{}, UsageErrorf("name the identity to forget")
	}
	i, err := s.whichIdentity(ctx, req.Identity)
	if err == nil {
		err = s.vaults.Keyring().Remove(ctx, i.ID)
	}
	return describeIdentity(&i), err
}

func describeVault(v *vaults.Vault) Vault {
	return Vault{v.Replica.ID, v.Replica.Name, v.Identity.ID, v.Application, v.Opened}
}

// ParsePeer reads an address that ends in /p2p/ID.
func ParsePeer(text string) (peer.AddrInfo, error) {
	const such = "such as /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…"
	a, err := ma.NewMultiaddr(text)
	if err != nil { // in the words of a library
		return peer.AddrInfo{}, UsageErrorf("%.*q is not an address of a node, %s", maxQuoted, text, such)
	}
	info, err := peer.AddrInfoFromP2pAddr(a)
	if err != nil {
		return peer.AddrInfo{}, UsageErrorf("the address %.*q does not end in the node's id, %s "+
			"(skerry status --json shows it there)", maxQuoted, text, such)
	}
	return *info, nil
}

func (s *Server) vaultInit(ctx context.Context, req OpenVaultRequest, _ *answer) (Vault, error) {
	var peers []peer.AddrInfo
	for _, text := range req.Peers {
		p, err := ParsePeer(text)
		if err != nil {
			return Vault{}, err
		}
		peers = append(peers, p)
	}
	who, err := s.whichIdentity(ctx, req.Identity)
	if err != nil {
		return Vault{}, err
	}
	keys, err := s.vaults.Keyring().Keys(ctx, who.ID, req.Password)
	if err != nil {
		return Vault{}, err
	}
	v, err := s.vaults.OpenOwn(ctx, who, keys, peers)
	if err != nil && kind.Of(err) == Unreachable {
		err = &Error{Unreachable, fmt.Sprintf("the vault is open, but nothing of it is here yet: %v; a running node keeps trying. To begin a new vault, leave out the peer", err)}
	}
	if err == nil {
		err = s.settleVault(ctx, &v)
	}
	return describeVault(&v), err
}

// settleVault waits a while until what a vault lists is here: it is little.
func (s *Server) settleVault(ctx context.Context, v *vaults.Vault) error {
	if !s.node.Online() {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, contentWait)
	defer cancel()
	for e, err := range s.node.Replicas.Entries(ctx, v.Replica.ID, replica.Query{}) {
		if err != nil {
			return err
		}
		err := s.node.WaitEntry(limited, &e)
		var wrong *content.SizeError // this entry is of no use; the others are
		if err != nil && !errors.As(err, &wrong) && limited.Err() == nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *Server) vaultAsk(ctx context.Context, req AskVaultRequest, a *answer) (Vault, error) {
	w := vaults.Request{Application: req.Application, Reason: req.Reason}
	if req.At != "" {
		p, err := ParsePeer(req.At)
		if err != nil {
			return Vault{}, err
		}
		w.At = &p
	}
	if req.Identity != "" {
		id, err := identity.ParseID(req.Identity)
		if err != nil {
			return Vault{}, UsageErrorf("%v", err)
		}
		w.Identity = id
	}
	w.Asked = func(asked vault.Asked) {
		if a.item(Asked(asked)) == nil {
			a.flush()
		}
	}
	v, err := s.vaults.Ask(ctx, w)
	if err == nil {
		err = s.settleVault(ctx, &v)
	}
	return describeVault(&v), err
}

func (s *Server) vaultAll(ctx context.Context, _ struct{}, _ *answer) ([]Vault, error) {
	all, err := s.vaults.All(ctx)
	out := []Vault{}
	for i := range all {
		out = append(out, describeVault(&all[i]))
	}
	return out, err
}

func (s *Server) vaultList(ctx context.Context, req VaultRequest, _ *answer) (VaultListing, error) {
	v, err := s.vaults.Of(ctx, req.Vault)
	if err != nil {
		return VaultListing{}, err
	}
	c, err := s.vaults.Catalogue(ctx, &v)
	out := VaultListing{Vault: describeVault(&v), Projects: []VaultProject{}, Faults: append([]string{}, c.Faults...), Warnings: append([]string{}, c.Warnings...), Newest: c.Newest}
	for i := range c.Projects {
		out.Projects = append(out.Projects, describeProject(&c.Projects[i]))
	}
	return out, err
}

func describeProject(p *vaults.Listed) VaultProject {
	return VaultProject{p.ID, p.Replica, p.Name, p.Created, p.Updated.UTC(), p.ReadKey.Epoch > 0, p.Held, p.Restore}
}

func (s *Server) vaultAdd(ctx context.Context, req VaultProjectRequest, _ *answer) (VaultProject, error) {
	v, err := s.vaults.Of(ctx, req.Vault)
	if err != nil {
		return VaultProject{}, err
	}
	r, err := s.resolve(ctx, req.Project, "add to the vault", replica.Sync)
	if err != nil {
		return VaultProject{}, err
	}
	if _, err = s.vaults.Add(ctx, &v, r, req.Name); err != nil {
		return VaultProject{}, err
	}
	p, err := s.findProject(ctx, &v, r.ID.String())
	return describeProject(&p), err
}

// findProject finds what a vault lists.
func (s *Server) findProject(ctx context.Context, v *vaults.Vault, text string) (found vaults.Listed, err error) {
	c, err := s.vaults.Catalogue(ctx, v)
	if err != nil {
		return found, err
	}
	n := 0
	for _, p := range c.Projects {
		switch {
		case p.Replica.String() == text || p.ID == text:
			return p, nil
		case p.Name == text || len(text) >= 4 && (strings.HasPrefix(p.Replica.String(), text) || strings.HasPrefix(p.ID, text)):
			found = p
			n++
		}
	}
	switch n {
	case 0:
		return found, &Error{NotFound, fmt.Sprintf("the vault lists no project %q (skerry vault ls shows what it lists)", text)}
	case 1:
		return found, nil
	}
	return found, UsageErrorf("%d projects of the vault are called %q: use an id", n, text)
}

func (s *Server) vaultRemove(ctx context.Context, req VaultProjectRequest, _ *answer) (VaultProject, error) {
	v, err := s.vaults.Of(ctx, req.Vault)
	if err != nil {
		return VaultProject{}, err
	}
	p, err := s.findProject(ctx, &v, req.Project)
	if err == nil {
		err = s.vaults.Remove(ctx, &v, p.Replica)
	}
	return describeProject(&p), err
}

func (s *Server) vaultJoin(ctx context.Context, req VaultProjectRequest, _ *answer) (ReplicaStatus, error) {
	v, err := s.vaults.Of(ctx, req.Vault)
	if err != nil {
		return ReplicaStatus{}, err
	}
	p, err := s.findProject(ctx, &v, req.Project)
	if err != nil {
		return ReplicaStatus{}, err
	}
	joined, err := s.vaults.Join(ctx, &v, &p.Project, req.Name)
	if err != nil {
		return ReplicaStatus{}, s.unsynced(ctx, joined.Replica, err)
	}
	return s.statusOf(ctx, joined.Replica)
}

func (s *Server) vaultRequests(ctx context.Context, _ struct{}, _ *answer) ([]KeyringRequest, error) {
	all, err := s.vaults.Keyring().Requests(ctx)
	out := []KeyringRequest{}
	for _, r := range all {
		out = append(out, KeyringRequest{Asked(r.Asked), r.Application, r.Reason, r.Peer, r.Identity, r.At})
	}
	return out, err
}

func (s *Server) vaultRequest(
	ctx context.Context, req DecideRequest, _ *answer,
) (KeyringRequest, error) {
	return s.request(ctx, req.Request)
}

// request finds what waits for the person.
func (s *Server) request(ctx context.Context, text string) (KeyringRequest, error) {
	all, err := s.vaultRequests(ctx, struct{}{}, nil)
	if err != nil {
		return KeyringRequest{}, err
	}
	var found []KeyringRequest
	for _, r := range all {
		if r.Request == text {
			return r, nil
		}
		if r.Code == text || len(text) >= 6 && strings.HasPrefix(r.Request, text) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
	case 1:
		return found[0], nil
	default: // a code is short enough for an app to have that of another
		return KeyringRequest{}, UsageErrorf(
			"%d requests are called %s: name the one that you mean by its id "+
				"(skerry vault requests shows what waits)",
			len(found), text,
		)
	}
	return KeyringRequest{}, fmt.Errorf("request %s: %w (skerry vault requests shows what waits)", text, vault.ErrNoRequest)
}

func (s *Server) vaultApprove(ctx context.Context, req DecideRequest, _ *answer) (Decided, error) {
	r, err := s.request(ctx, req.Request)
	if err != nil {
		return Decided{}, err
	}
	var id identity.ID
	if req.Identity != "" {
		i, err := s.whichIdentity(ctx, req.Identity)
		if err != nil {
			return Decided{}, err
		}
		id = i.ID
	}
	return Decided{r.Request, r.Application, true}, s.vaults.Keyring().Approve(ctx, r.Request, id, req.Password)
}

func (s *Server) vaultDeny(ctx context.Context, req DecideRequest, _ *answer) (Decided, error) {
	r, err := s.request(ctx, req.Request)
	if err != nil {
		return Decided{}, err
	}
	return Decided{r.Request, r.Application, false}, s.vaults.Keyring().Deny(ctx, r.Request)
}

// keyringCall answers a call of an app on this machine to the keyring, in the form of package
// vault: what apps on other devices call over the keyring protocol.
func (s *Server) keyringCall(w http.ResponseWriter, r *http.Request) {
	msg, err := io.ReadAll(http.MaxBytesReader(w, r.Body, vault.MaxCall))
	if err != nil {
		fail(w, UsageErrorf("call to the keyring: %v", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(s.vaults.AnswerApp(r.Context(), msg)) // a client that is gone needs no answer
}

func (s *Server) replicaRename(ctx context.Context, req RenameRequest, _ *answer) (ReplicaStatus, error) {
	r, err := s.resolve(ctx, req.Name, "rename", replica.Sync)
	if err != nil {
		return ReplicaStatus{}, err
	}
	if r, err = s.node.RenameReplica(ctx, r.ID, req.To); err != nil {
		return ReplicaStatus{}, err
	}
	return s.statusOf(ctx, r)
}

func (s *Server) replicaLeave(ctx context.Context, req LeaveRequest, _ *answer) (Left, error) {
	r, err := s.resolve(ctx, req.Name, "leave", replica.Sync)
	if err != nil {
		return Left{}, err
	}
	st, err := s.statusOf(ctx, r)
	if err != nil {
		return Left{}, err
	}
	listed, err := s.vaults.Leave(ctx, r.ID, req.Everywhere)
	return Left{st, listed}, err
}

// authorSecret is what the text of an author's secret key begins with.
const authorSecret = "skerry-author-"

func (s *Server) authorExport(ctx context.Context, req AuthorRequest, _ *answer) (AuthorKey, error) {
	key, err := s.author(ctx, req.Author)
	if err != nil {
		return AuthorKey{}, err
	}
	seed := key.Seed()
	return AuthorKey{key.Author(), authorSecret + hex.EncodeToString(seed[:])}, nil
}

// ParseAuthorKey reads the text of an author's secret key: skerry-author- and 32 bytes in hex.
func ParseAuthorKey(text string) (replica.SecretKey, error) {
	digits, ok := strings.CutPrefix(strings.TrimSpace(text), authorSecret)
	seed, err := hex.DecodeString(digits)
	if !ok || err != nil || len(seed) != 32 {
		return replica.SecretKey{}, UsageErrorf("not the key of an author: expected %s and 64 hex digits", authorSecret)
	}
	return replica.SecretKeyFromSeed([32]byte(seed)), nil
}

func (s *Server) authorImport(ctx context.Context, req ImportAuthorRequest, _ *answer) (Author, error) {
	key, err := ParseAuthorKey(req.Secret)
	if err != nil {
		return Author{}, err
	}
	if err := s.node.Replicas.ImportAuthor(ctx, key); err != nil {
		return Author{}, err
	}
	def, err := s.node.Replicas.DefaultAuthor(ctx)
	return Author{key.Author(), key.Author() == def}, err
}
