// Package vaults is where a node has vaults open: those of the person whose device it is, which it
// keeps in step with what it holds, and those that it may read as an app.
//
// What belongs here: which vaults are open, what they list (catalogue.go, listed.go), their upkeep
// (tend.go), the seeds that a person's devices share by them (seeds.go), and the protocol by which
// an app on another device reaches the keyring (keyring.go). What never belongs here: what the
// records of a vault are and how they are sealed (package vault), identity keys outside a keyring,
// and how the node works below, which is used through its exported methods alone and knows of no
// vault.
//
// Start at [New].
package vaults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/internal/seldom"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
	"github.com/skerry-sync/skerry/vault"
)

// A vault that this node has open is a replica like any other, and a record:
//
//	n m replica[32]   JSON, see vaultRecord
//
// It never holds an identity key: of a person's own vault it holds what was derived from one, and
// of a vault that the node was let read as an app, the catalogue key.
const keyVault = "nm"

// Service is all that a node does about vaults.
type Service struct {
	n       *node.Node
	keyring vault.Keyring
	tending sync.Mutex    // held while a vault is written
	tend    chan struct{} // a vault may have to be written

	failedTold seldom.Told // that the keyring cannot answer apps
}

// New gives a node its vaults: it answers apps, and keeps the person's own vault in step with what
// the node holds. keyring holds the identity keys; nil is one in the data directory. It must be
// called before the node goes online; the node ends it.
func New(n *node.Node, keyring vault.Keyring) (*Service, error) {
	if n == nil {
		return nil, errors.New("vaults: there is no node")
	}
	if keyring == nil {
		keyring = vault.NewLocal(filepath.Join(n.Dir(), "keyring"), n.Now)
	}
	s := &Service{n: n, keyring: keyring, tend: make(chan struct{}, 1)}
	err := n.Add(node.Room{
		Name: "vaults", Protocol: keyringProtocol, Handler: s.serveKeyring, Run: s.keepTending,
		// Most calls wait for the person.
		Streams: admission.Shares{
			Strangers: admission.Share{Peer: 4, Net: 32, All: 256},
			Known:     admission.Share{Peer: 8, All: 256},
		},
		Created: s.created, Renamed: s.renamed, Left: s.left,
		Changed: func(replica.ID) { s.tendSoon() },
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// errNone reports a service that New has not made.
var errNone = kind.New(
	kind.Usage,
	"this node has no vaults: it was opened without (see vaults.New)",
)

// ready returns an error unless New has made the service.
func (s *Service) ready() error {
	if s == nil || s.n == nil {
		return errNone
	}
	return nil
}

// Vault is one that this node has open.
type Vault struct {
	Replica  replica.Replica
	Identity vault.Identity
	// Application is the name under which the node was let read the vault; empty for the person's own.
	Application string
	Opened      time.Time

	catalogue vault.CatalogueKey
	restore   vault.RestoreKey
	author    replica.AuthorID // who writes it from here
	// it was begun here, or has come from a peer: what it does not list was never listed
	ready bool
}

// Own reports whether this is a device of the person whose vault it is.
func (v *Vault) Own() bool { return v.Application == "" }

// vaultRecord is what is stored of a Vault.
type vaultRecord struct {
	Identity    identity.ID      `json:"identity"`
	Kind        string           `json:"kind"`
	Public      []byte           `json:"public_key"`
	Nonce       []byte           `json:"nonce"`
	Application string           `json:"application,omitempty"`
	Opened      time.Time        `json:"opened"`
	Catalogue   []byte           `json:"catalogue_key"`
	Restore     []byte           `json:"restore_key,omitempty"`
	Author      replica.AuthorID `json:"author,omitzero"`
	Ready       bool             `json:"ready,omitempty"`
}

func (s *Service) storeVault(ctx context.Context, v *Vault) error {
	rec := vaultRecord{
		Identity: v.Identity.ID, Kind: v.Identity.Kind.String(),
		Public: v.Identity.Public[:], Nonce: v.Identity.Nonce[:],
		Application: v.Application, Opened: v.Opened,
		Catalogue: v.catalogue[:], Author: v.author, Ready: v.ready,
	}
	if v.Own() {
		rec.Restore = v.restore[:]
	}
	b, err := json.Marshal(&rec)
	if err != nil {
		return err
	}
	err = s.n.Store().
		Update(ctx, func(tx kv.Txn) error { return tx.Set(vaultKey(v.Replica.ID), b) })
	if err != nil {
		return err
	}
	return s.n.Store().Sync(ctx)
}

func vaultKey(id replica.ID) []byte { return append([]byte(keyVault), id[:]...) }

func parseVault(id replica.ID, b []byte) (v Vault, err error) {
	var rec vaultRecord
	bad := func(err error) (Vault, error) {
		return v, fmt.Errorf("node store: malformed record of a vault: %w", err)
	}
	if err := json.Unmarshal(b, &rec); err != nil {
		return bad(err)
	}
	if v.Identity.Kind, err = identity.ParseKind(rec.Kind); err != nil {
		return bad(err)
	}
	if copy(v.Identity.Public[:], rec.Public) != 33 || copy(v.Identity.Nonce[:], rec.Nonce) != 8 ||
		copy(v.catalogue[:], rec.Catalogue) != 32 ||
		rec.Application == "" && copy(v.restore[:], rec.Restore) != 32 {
		return bad(errors.New("a key is too short"))
	}
	v.Identity.ID, v.Application, v.Opened = rec.Identity, rec.Application, rec.Opened
	v.author, v.ready, v.Replica.ID = rec.Author, rec.Ready, id
	return v, nil
}

// All returns the vaults that this node has open, in the order in which they were opened.
func (s *Service) All(ctx context.Context) (all []Vault, err error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	err = s.n.Store().View(ctx, func(r kv.Reader) error {
		all = nil
		for p, err := range r.Scan(kv.Prefix([]byte(keyVault)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if len(p.Key) != len(keyVault)+32 {
				return errors.New("node store: malformed record of a vault")
			}
			v, err := parseVault(replica.ID(p.Key[len(keyVault):]), p.Value)
			if err != nil {
				return err
			}
			all = append(all, v)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	held := all[:0]
	for _, v := range all {
		r, err := s.n.Replicas().Get(ctx, v.Replica.ID)
		if errors.Is(err, replica.ErrNotFound) { // left in the moment of a crash
			continue
		}
		if err != nil {
			return nil, err
		}
		v.Replica = r
		held = append(held, v)
	}
	slices.SortStableFunc(held, func(a, b Vault) int { return a.Opened.Compare(b.Opened) })
	return held, nil
}

// ErrNone reports that no vault is open, or none that fits.
var ErrNone = kind.New(kind.NotFound,
	"no vault is open on this node (skerry vault init, or skerry vault open)")

// Of returns the vault of an identity, or of a replica's name or id; empty is the person's own, or
// the only one. It returns ErrNone.
func (s *Service) Of(ctx context.Context, text string) (Vault, error) {
	all, err := s.All(ctx)
	if err != nil {
		return Vault{}, err
	}
	if text == "" {
		for _, v := range all {
			if v.Own() {
				return v, nil
			}
		}
		if len(all) == 1 {
			return all[0], nil
		}
		if len(all) > 1 {
			return Vault{}, fmt.Errorf("%d vaults are open here, and none is this node's own: "+
				"name one by its identity", len(all))
		}
		return Vault{}, ErrNone
	}
	for _, v := range all {
		if v.Identity.ID.String() == text || v.Replica.Name == text ||
			v.Replica.ID.String() == text {
			return v, nil
		}
	}
	return Vault{}, fmt.Errorf("vault %q: %w", text, ErrNone)
}

// ownVault returns the person's own vault, the first if there are several; ok is false if there is
// none.
func (s *Service) ownVault(ctx context.Context) (v Vault, ok bool, err error) {
	all, err := s.All(ctx)
	for _, v := range all {
		if v.Own() {
			return v, true, nil
		}
	}
	return v, false, err
}

// OpenOwn opens a person's own vault on this node, with what was derived from the identity key: it
// is looked for at some peers or, without any, in the hash table, and begun if it is not there. It
// returns a *link.UnreachableError, or contacts.ErrNotShared if the peers do not hold it; the vault
// is open then, too, and comes when a peer is found.
func (s *Service) OpenOwn(
	ctx context.Context, who vault.Identity, keys vault.Keys, peers []peer.AddrInfo,
) (Vault, error) {
	if err := s.ready(); err != nil {
		return Vault{}, err
	}
	id := keys.Replica.Replica()
	v := Vault{
		Identity: who, Opened: s.n.Now().UTC(), catalogue: keys.Catalogue, restore: keys.Restore,
	}
	if known, err := s.Of(ctx, id.String()); err == nil && known.Own() {
		v.Opened, v.author, v.ready = known.Opened, known.author, known.ready
	}
	var err error
	if v.author == (replica.AuthorID{}) {
		if v.author, err = s.n.Authors().New(ctx); err != nil {
			return v, err
		}
	}
	v.Replica, err = s.n.Found(ctx, s.vaultName(ctx, id), keys.Replica, keys.ReadKey)
	if err != nil {
		return v, err
	}
	v.ready = v.ready || len(peers) == 0
	if err := s.storeVault(ctx, &v); err != nil {
		return v, err
	}
	if len(peers) == 0 { // another device may have it, or a seed
		if err := s.n.Look(ctx, id); err != nil {
			return v, fmt.Errorf("look for the vault: %w", err)
		}
	}
	if len(peers) > 0 {
		t := &ticket.Doc{
			Capability: replica.Write, Replica: id, Secret: keys.Replica, ReadKey: keys.First(),
		}
		for _, p := range peers {
			addrs, err := peer.AddrInfoToP2pAddrs(&p)
			if err != nil {
				return v, err
			}
			t.Addrs = append(t.Addrs, addrs...)
		}
		if _, err := s.n.JoinWith(ctx, t, "", node.JoinOptions{}); err != nil {
			return v, err
		}
		v.ready = true
		if err := s.storeVault(ctx, &v); err != nil {
			return v, err
		}
	}
	return v, s.tendVaults(ctx, true)
}

// checkForeignVault returns vault.ErrForeignAnswer for a replica that cannot be the vault of an
// identity: this node holds its key, or knows it as the vault of another. A keyring elsewhere can
// name any replica, and what it says of one must not replace what this node knows of it.
func (s *Service) checkForeignVault(ctx context.Context, id replica.ID, who identity.ID) error {
	known, err := s.Of(ctx, id.String())
	if err == nil && known.Identity.ID != who {
		return fmt.Errorf("%w: replica %s is the vault of %s on this node",
			vault.ErrForeignAnswer, id.Short(), known.Identity.ID)
	}
	if err == nil || !errors.Is(err, ErrNone) {
		return err
	}
	r, err := s.n.Replicas().Get(ctx, id)
	if errors.Is(err, replica.ErrNotFound) || err == nil && r.Capability < replica.Write {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: this node has the key of replica %s, which is none of its vaults",
		vault.ErrForeignAnswer, r.Name)
}

// keepAppVault notes that this node may read a vault as an app; the replica has been joined.
func (s *Service) keepAppVault(
	ctx context.Context, who vault.Identity, application string, id replica.ID,
	key vault.CatalogueKey,
) (Vault, error) {
	if known, err := s.Of(ctx, id.String()); err == nil && known.Own() {
		return known, nil // this node knows more already
	}
	r, err := s.n.Replicas().Get(ctx, id)
	if err != nil {
		return Vault{}, err
	}
	v := Vault{
		Replica: r, Identity: who, Application: application, Opened: s.n.Now().UTC(), catalogue: key,
	}
	return v, s.storeVault(ctx, &v)
}

// vaultName returns a name for a vault's replica that is free.
func (s *Service) vaultName(ctx context.Context, id replica.ID) string {
	if _, err := s.n.Replicas().Resolve(ctx, "vault"); errors.Is(err, replica.ErrNotFound) {
		return "vault"
	}
	return "vault-" + id.String()[:8]
}

// left drops the record of a vault whose replica is left.
func (s *Service) left(ctx context.Context, id replica.ID) error {
	return s.n.Store().Update(kv.ToMakeRoom(ctx), func(tx kv.Txn) error {
		return tx.Delete(vaultKey(id))
	})
}
