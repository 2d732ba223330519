package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/node/link"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
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
	ready     bool             // it was begun here, or has come from a peer: what it does not list was never listed
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

func (n *Node) storeVault(ctx context.Context, v *Vault) error {
	rec := vaultRecord{
		Identity: v.Identity.ID, Kind: v.Identity.Kind.String(), Public: v.Identity.Public[:], Nonce: v.Identity.Nonce[:],
		Application: v.Application, Opened: v.Opened, Catalogue: v.catalogue[:], Author: v.author, Ready: v.ready,
	}
	if v.Own() {
		rec.Restore = v.restore[:]
	}
	b, err := json.Marshal(&rec)
	if err != nil {
		return err
	}
	err = n.kv.Update(ctx, func(tx kv.Txn) error { return tx.Set(vaultKey(v.Replica.ID), b) })
	if err != nil {
		return err
	}
	return n.kv.Sync(ctx)
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
	if copy(v.Identity.Public[:], rec.Public) != 33 || copy(v.Identity.Nonce[:], rec.Nonce) != 8 || copy(v.catalogue[:], rec.Catalogue) != 32 ||
		rec.Application == "" && copy(v.restore[:], rec.Restore) != 32 {
		return bad(errors.New("a key is too short"))
	}
	v.Identity.ID, v.Application, v.Opened, v.author, v.ready, v.Replica.ID = rec.Identity, rec.Application, rec.Opened, rec.Author, rec.Ready, id
	return v, nil
}

// Vaults returns the vaults that this node has open, in the order in which they were opened.
func (n *Node) Vaults(ctx context.Context) (all []Vault, err error) {
	err = n.kv.View(ctx, func(r kv.Reader) error {
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
		r, err := n.Replicas.Get(ctx, v.Replica.ID)
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

// ErrNoVault reports that no vault is open, or none that fits.
var ErrNoVault = kind.New(kind.NotFound, "no vault is open on this node (skerry vault init, or skerry vault open)")

// VaultOf returns the vault of an identity, or of a replica's name or id; empty is the person's
// own, or the only one. It returns ErrNoVault.
func (n *Node) VaultOf(ctx context.Context, text string) (Vault, error) {
	all, err := n.Vaults(ctx)
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
			return Vault{}, fmt.Errorf("%d vaults are open here, and none is this node's own: name one by its identity", len(all))
		}
		return Vault{}, ErrNoVault
	}
	for _, v := range all {
		if v.Identity.ID.String() == text || v.Replica.Name == text || v.Replica.ID.String() == text {
			return v, nil
		}
	}
	return Vault{}, fmt.Errorf("vault %q: %w", text, ErrNoVault)
}

// ownVault returns the person's own vault, the first if there are several; ok is false if there is
// none.
func (n *Node) ownVault(ctx context.Context) (v Vault, ok bool, err error) {
	all, err := n.Vaults(ctx)
	for _, v := range all {
		if v.Own() {
			return v, true, nil
		}
	}
	return v, false, err
}

// OpenOwnVault opens a person's own vault on this node, with what was derived from the identity
// key: it is looked for at some peers or, without any, in the hash table, and begun if it is not
// there. It returns an *UnreachableError, or ErrNotShared if the peers do not hold it; the vault is
// open then, too, and comes when a peer is found.
func (n *Node) OpenOwnVault(ctx context.Context, who vault.Identity, keys vault.Keys, peers []peer.AddrInfo) (Vault, error) {
	id := keys.Replica.Replica()
	v := Vault{Identity: who, Opened: n.cfg.Now().UTC(), catalogue: keys.Catalogue, restore: keys.Restore}
	if known, err := n.VaultOf(ctx, id.String()); err == nil && known.Own() {
		v.Opened, v.author, v.ready = known.Opened, known.author, known.ready
	}
	var err error
	if v.author == (replica.AuthorID{}) {
		if v.author, err = n.Replicas.NewAuthor(ctx); err != nil {
			return v, err
		}
	}
	if v.Replica, err = n.Replicas.Found(ctx, n.vaultName(ctx, id), keys.Replica, keys.ReadKey); err != nil {
		return v, err
	}
	v.ready = v.ready || len(peers) == 0
	if err := n.storeVault(ctx, &v); err != nil {
		return v, err
	}
	if len(peers) == 0 && n.net != nil { // another device may have it, or a seed
		if _, err := n.syncer.findHolders(ctx, id); err != nil && !errors.Is(err, link.ErrNoTable) {
			return v, fmt.Errorf("look for the vault: %w", err)
		}
	}
	if len(peers) > 0 {
		t := &ticket.Doc{Capability: replica.Write, Replica: id, Secret: keys.Replica, ReadKey: keys.First()}
		for _, p := range peers {
			addrs, err := peer.AddrInfoToP2pAddrs(&p)
			if err != nil {
				return v, err
			}
			t.Addrs = append(t.Addrs, addrs...)
		}
		if _, err := n.JoinWith(ctx, t, "", nil); err != nil {
			return v, err
		}
		v.ready = true
		if err := n.storeVault(ctx, &v); err != nil {
			return v, err
		}
	}
	return v, n.tendVaults(ctx, true)
}

// checkForeignVault returns vault.ErrForeignAnswer for a replica that cannot be the vault of an
// identity: this node holds its key, or knows it as the vault of another. A keyring elsewhere can
// name any replica, and what it says of one must not replace what this node knows of it.
func (n *Node) checkForeignVault(ctx context.Context, id replica.ID, who identity.ID) error {
	known, err := n.VaultOf(ctx, id.String())
	if err == nil && known.Identity.ID != who {
		return fmt.Errorf("%w: replica %s is the vault of %s on this node",
			vault.ErrForeignAnswer, id.Short(), known.Identity.ID)
	}
	if err == nil || !errors.Is(err, ErrNoVault) {
		return err
	}
	r, err := n.Replicas.Get(ctx, id)
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
func (n *Node) keepAppVault(ctx context.Context, who vault.Identity, application string, id replica.ID, key vault.CatalogueKey) (Vault, error) {
	if known, err := n.VaultOf(ctx, id.String()); err == nil && known.Own() {
		return known, nil // this node knows more already
	}
	r, err := n.Replicas.Get(ctx, id)
	if err != nil {
		return Vault{}, err
	}
	v := Vault{Replica: r, Identity: who, Application: application, Opened: n.cfg.Now().UTC(), catalogue: key}
	return v, n.storeVault(ctx, &v)
}

// vaultName returns a name for a vault's replica that is free.
func (n *Node) vaultName(ctx context.Context, id replica.ID) string {
	if _, err := n.Replicas.Resolve(ctx, "vault"); errors.Is(err, replica.ErrNotFound) {
		return "vault"
	}
	return "vault-" + id.String()[:8]
}

// forgetVault drops the record of a vault whose replica is left.
func (n *Node) forgetVault(ctx context.Context, id replica.ID) error {
	return n.kv.Update(kv.ToMakeRoom(ctx), func(tx kv.Txn) error {
		return tx.Delete(vaultKey(id))
	})
}
