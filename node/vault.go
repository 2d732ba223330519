package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/project"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
	"github.com/skerry-sync/skerry/vault"
)

// A vault that this node has open is a replica like any other, and a record:
//
//	n m replica[32]   JSON, see vaultRecord
//
// It never holds an identity key: of a person's own vault it holds what was derived from one, and of a vault that the node was let read as an app, the catalogue key.
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
var ErrNoVault = errors.New("no vault is open on this node (skerry vault init, or skerry vault open)")

// VaultOf returns the vault of an identity, or of a replica's name or id; empty is the person's own, or the only one. It returns ErrNoVault.
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

// OpenOwnVault opens a person's own vault on this node, with what was derived from the identity key: it is looked for at some peers or, without any, begun. It returns an *UnreachableError, or ErrNotShared if the peers do not hold it; the vault is open
// then, too, and comes when a peer is found.
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
	return v, n.tendVaults(ctx)
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
	return n.kv.Update(ctx, func(tx kv.Txn) error { return tx.Delete(vaultKey(id)) })
}

// Catalogue is what a vault lists.
type Catalogue struct {
	Projects []CatalogueEntry // in the order of their names
	// Faults tell of entries that cannot be read, one each.
	Faults []string
	// Warnings tell of devices of which entries are missing; see vault.Written.
	Warnings []string
	Newest   time.Time // of all entries, or zero
}

// CatalogueEntry is one project.
type CatalogueEntry struct {
	vault.Project
	By      replica.AuthorID
	Updated time.Time
	Held    string             // the replica's name here, or empty
	Restore replica.Capability // what this device may join it with: replica.Write, or replica.Read
}

// Catalogue reads a vault: what is here of it, whether or not a peer can be reached (OBJ-V8).
func (n *Node) Catalogue(ctx context.Context, v *Vault) (c Catalogue, err error) {
	p, err := n.Replicas.Plain(ctx, v.Replica.ID)
	if err != nil {
		return c, err
	}
	held := map[replica.ID]string{}
	all, err := n.Replicas.List(ctx)
	if err != nil {
		return c, err
	}
	for _, r := range all {
		held[r.ID] = r.Name
	}
	for it, err := range p.Latest(ctx, replica.Query{Prefix: vault.Prefix()}) {
		if err != nil {
			return c, err
		}
		one, err := n.openProject(ctx, p, v, &it)
		if err != nil {
			c.Faults = append(c.Faults, fmt.Sprintf("%s by %s: %v", it.Key, it.Entry.Author.String()[:10], err))
			continue
		}
		entry := CatalogueEntry{Project: one, By: it.Entry.Author, Updated: it.Entry.Time(), Held: held[one.Replica], Restore: replica.Read}
		if v.Own() {
			if r, err := n.restoreOf(ctx, p, v, one.Replica); err == nil {
				entry.Restore = r.Capability
			} else if !errors.Is(err, replica.ErrNotFound) {
				c.Faults = append(c.Faults, fmt.Sprintf("%s: %v", vault.RestoreKeyOf(one.Replica), err))
			}
		}
		c.Projects = append(c.Projects, entry)
	}
	slices.SortStableFunc(c.Projects, func(a, b CatalogueEntry) int {
		if a.Name != b.Name {
			return bytes.Compare([]byte(a.Name), []byte(b.Name))
		}
		return bytes.Compare([]byte(a.ID), []byte(b.ID))
	})
	written, err := n.written(ctx, p, v)
	if err != nil {
		return c, err
	}
	for _, w := range written {
		if missing := w.Missing(); missing != "" && w.Author != v.author { // what this device has written is here
			c.Warnings = append(c.Warnings, missing)
		}
		if at := time.UnixMicro(int64(max(w.Newest, w.HeadAt))); at.After(c.Newest) {
			c.Newest = at
		}
	}
	if k := p.Unreadable(); k > 0 {
		c.Faults = append(c.Faults, fmt.Sprintf("%d entries: %v", k, replica.ErrNoReadKey))
	}
	return c, nil
}

func (n *Node) openProject(ctx context.Context, p *replica.Plain, v *Vault, it *replica.Item) (vault.Project, error) {
	b, err := n.readSmall(ctx, p, it)
	if err != nil {
		return vault.Project{}, err
	}
	return vault.Open(v.catalogue, it.Key, b)
}

// restoreOf returns what a device may join a project with, or replica.ErrNotFound.
func (n *Node) restoreOf(ctx context.Context, p *replica.Plain, v *Vault, id replica.ID) (r vault.Restore, err error) {
	key := vault.RestoreKeyOf(id)
	it, err := p.LatestOf(ctx, key)
	if err != nil {
		return r, err
	}
	b, err := n.readSmall(ctx, p, &it)
	if err != nil {
		return r, err
	}
	r, err = vault.OpenRestore(v.restore, key, b)
	if err == nil && r.Replica != id {
		err = fmt.Errorf("%s: %w: it is for another replica", key, vault.ErrNotRestore)
	}
	return r, err
}

// ErrContentMissing reports an entry whose content is not here.
var ErrContentMissing = errors.New("its content is not here yet")

// readSmall reads the content of an entry of a vault.
func (n *Node) readSmall(ctx context.Context, p *replica.Plain, it *replica.Item) ([]byte, error) {
	r, err := n.OpenPlain(ctx, p, &it.Entry)
	if err == nil && r.Size() > vault.MaxSealed {
		return nil, fmt.Errorf("%w: %d bytes", vault.ErrSealed, r.Size())
	}
	var b []byte
	if err == nil {
		b, err = io.ReadAll(r)
	}
	if errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrIncomplete) {
		return nil, ErrContentMissing
	}
	return b, err
}

// written collects what is here of each author of a vault.
func (n *Node) written(ctx context.Context, p *replica.Plain, v *Vault) (all map[replica.AuthorID]*vault.Written, err error) {
	all = map[replica.AuthorID]*vault.Written{}
	heads := map[replica.AuthorID]replica.Item{}
	for e, err := range n.Replicas.Entries(ctx, v.Replica.ID, replica.Query{Tombstones: true}) {
		if err != nil {
			return nil, err
		}
		w := all[e.Author]
		if w == nil {
			w = &vault.Written{Author: e.Author}
			all[e.Author] = w
		}
		it, ok := p.Open(e)
		if ok && bytes.Equal(it.Key, vault.HeadKey(e.Author)) {
			if e.Timestamp >= w.HeadAt && !e.IsTombstone() { // there may be one of an earlier epoch
				heads[e.Author], w.HeadAt = it, e.Timestamp
			}
			continue
		}
		w.Entries = append(w.Entries, e.ID())
		w.Newest = max(w.Newest, e.Timestamp)
	}
	for author, it := range heads {
		b, err := n.readSmall(ctx, p, &it)
		if err != nil {
			continue // then the head is missing
		}
		if h, err := vault.OpenHead(v.catalogue, author, b); err == nil {
			all[author].Head = &h
		}
	}
	return all, nil
}

// vaultChange sets a key of a vault to some content, or deletes it if that is nil.
type vaultChange struct {
	key     []byte
	content []byte
}

// writeVault writes to a person's own vault. This device's head follows: soon on a running node, so that it is not written for each of many changes, or at once.
func (n *Node) writeVault(ctx context.Context, v *Vault, changes []vaultChange) error {
	if len(changes) == 0 {
		return nil
	}
	ctx, release := n.Blobs.Hold(ctx)
	defer release()
	err := n.putInVault(ctx, v, changes)
	if err == nil {
		if n.Online() {
			n.tendSoon()
		} else {
			err = n.writeHead(ctx, v)
		}
	}
	if err != nil {
		return fmt.Errorf("write vault: %w", err)
	}
	return n.Blobs.Sync(ctx)
}

func (n *Node) putInVault(ctx context.Context, v *Vault, changes []vaultChange) error {
	author, err := n.Replicas.AuthorKey(ctx, v.author)
	if err != nil {
		return err
	}
	p, err := n.Replicas.Plain(ctx, v.Replica.ID)
	if err != nil {
		return err
	}
	key, err := p.Sealing()
	if err != nil {
		return err
	}
	all := make([]replica.Change, 0, len(changes))
	for _, c := range changes {
		one := replica.Change{Key: c.key}
		if c.content != nil {
			if one.Hash, one.Size, err = n.ImportSealed(ctx, key, bytes.NewReader(c.content), nil); err != nil {
				return err
			}
		}
		all = append(all, one)
	}
	_, err = p.Write(ctx, author, all)
	return err
}

// writeHead says what this device has written, if it has not said so yet.
func (n *Node) writeHead(ctx context.Context, v *Vault) error {
	p, err := n.Replicas.Plain(ctx, v.Replica.ID)
	if err != nil {
		return err
	}
	all, err := n.written(ctx, p, v)
	if err != nil {
		return err
	}
	w := all[v.author]
	if w == nil {
		return nil
	}
	h := vault.HeadOf(w.Entries)
	if w.Head != nil && *w.Head == h && w.HeadAt >= w.Newest {
		return nil
	}
	content, err := h.Seal(v.catalogue, v.author)
	if err != nil {
		return err
	}
	return n.putInVault(ctx, v, []vaultChange{{vault.HeadKey(v.author), content}})
}

// entriesFor are the catalogue's entry for a replica, and the one to restore it from.
func (n *Node) entriesFor(ctx context.Context, v *Vault, r *replica.Replica, pr vault.Project) ([]vaultChange, error) {
	restore := vault.Restore{Capability: r.Capability, Replica: r.ID, Secret: r.Secret}
	if restore.Capability < replica.Read {
		restore.Capability = replica.Read // whoever lists it may try
	}
	if r.Encrypted {
		k, err := n.Replicas.ReadKey(ctx, r.ID)
		if err != nil && !errors.Is(err, replica.ErrNoReadKey) {
			return nil, err
		}
		restore.ReadKey, pr.ReadKey = k, k
	}
	project, err := pr.Seal(v.catalogue)
	if err != nil {
		return nil, err
	}
	content, err := restore.Seal(v.restore)
	if err != nil {
		return nil, err
	}
	return []vaultChange{{pr.Key(), project}, {restore.Key(), content}}, nil
}

// ErrNotOwnVault reports a change to a vault that the person only lets this node read.
var ErrNotOwnVault = errors.New("this node may only read the vault: change it on a device of the person whose vault it is")

// AddToVault lists a replica in a vault, under its name here or, if it is listed already, under the name that is given.
func (n *Node) AddToVault(ctx context.Context, v *Vault, r replica.Replica, name string) (vault.Project, error) {
	if !v.Own() {
		return vault.Project{}, ErrNotOwnVault
	}
	if r.ID == v.Replica.ID {
		return vault.Project{}, errors.New("a vault does not list itself")
	}
	n.tending.Lock()
	defer n.tending.Unlock()
	if name == "" {
		name = r.Name
	}
	pr := vault.NewProject(r.ID, name, r.Created)
	p, err := n.Replicas.Plain(ctx, v.Replica.ID)
	if err != nil {
		return pr, err
	}
	if it, err := p.LatestOf(ctx, pr.Key()); err == nil { // what it says already stays, such as fields of later versions
		if old, err := n.openProject(ctx, p, v, &it); err == nil {
			old.Name = name
			pr = old
		}
	} else if !errors.Is(err, replica.ErrNotFound) {
		return pr, err
	}
	changes, err := n.entriesFor(ctx, v, &r, pr)
	if err != nil {
		return pr, err
	}
	return pr, n.writeVault(ctx, v, changes)
}

// RemoveFromVault takes a project off a vault's list. It does nothing if it is not there.
func (n *Node) RemoveFromVault(ctx context.Context, v *Vault, id replica.ID) error {
	if !v.Own() {
		return ErrNotOwnVault
	}
	n.tending.Lock()
	defer n.tending.Unlock()
	p, err := n.Replicas.Plain(ctx, v.Replica.ID)
	if err != nil {
		return err
	}
	var changes []vaultChange
	pr := vault.NewProject(id, "", time.Time{})
	for _, key := range [][]byte{pr.Key(), vault.RestoreKeyOf(id)} {
		_, err := p.LatestOf(ctx, key)
		if err == nil {
			changes = append(changes, vaultChange{key: key})
		} else if !errors.Is(err, replica.ErrNotFound) {
			return err
		}
	}
	return n.writeVault(ctx, v, changes)
}

// tendVaults brings the person's own vault in step with this node: replicas that the node may write and that the vault has never listed are added to it, and read keys that have changed
// are noted. What was taken off the list stays off.
func (n *Node) tendVaults(ctx context.Context) error {
	v, err := n.VaultOf(ctx, "")
	if errors.Is(err, ErrNoVault) || err == nil && !v.Own() {
		return nil
	}
	if err != nil {
		return nil // there are several, and none is this node's own
	}
	n.tending.Lock()
	defer n.tending.Unlock()
	p, err := n.Replicas.Plain(ctx, v.Replica.ID)
	if err != nil {
		return err
	}
	vaults, err := n.Vaults(ctx)
	if err != nil {
		return err
	}
	if !v.ready {
		if c, err := n.Replicas.Counts(ctx, v.Replica.ID); err != nil || c == (replica.Counts{}) {
			return err
		}
		v.ready = true
		if err := n.storeVault(ctx, &v); err != nil {
			return err
		}
	}
	listed := map[string]replica.Item{}
	for it, err := range p.Latest(ctx, replica.Query{Prefix: vault.Prefix(), Tombstones: true}) {
		if err != nil {
			return err
		}
		listed[string(it.Key)] = it
	}
	all, err := n.Replicas.List(ctx)
	if err != nil {
		return err
	}
	var changes []vaultChange
	for _, r := range all {
		if r.Capability < replica.Write || slices.ContainsFunc(vaults, func(v Vault) bool { return v.Replica.ID == r.ID }) {
			continue
		}
		pr := vault.NewProject(r.ID, r.Name, r.Created)
		if it, ok := listed[string(pr.Key())]; ok {
			if it.Entry.IsTombstone() || !r.Encrypted {
				continue
			}
			old, err := n.openProject(ctx, p, &v, &it)
			if err != nil {
				continue // it comes, or is told as a fault
			}
			k, err := n.Replicas.ReadKey(ctx, r.ID)
			if err != nil || k.Epoch <= old.ReadKey.Epoch {
				continue
			}
			pr = old
		}
		some, err := n.entriesFor(ctx, &v, &r, pr)
		if err != nil {
			return err
		}
		changes = append(changes, some...)
	}
	ctx, release := n.Blobs.Hold(ctx)
	defer release()
	if len(changes) > 0 {
		if err := n.putInVault(ctx, &v, changes); err != nil {
			return fmt.Errorf("write vault: %w", err)
		}
	}
	if err := n.writeHead(ctx, &v); err != nil {
		return fmt.Errorf("write vault: %w", err)
	}
	return n.Blobs.Sync(ctx)
}

// tendPause is the time between two rounds of tending.
const tendPause = time.Second

// tendSoon does so in the background.
func (n *Node) tendSoon() {
	select {
	case n.tend <- struct{}{}:
	default:
	}
}

// keepTending tends vaults when something may have changed.
func (n *Node) keepTending(ctx context.Context) {
	for {
		if err := n.tendVaults(ctx); err != nil && ctx.Err() == nil {
			n.log.Error("vault", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-n.tend:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(tendPause):
		}
	}
}

// CreateReplica makes a new replica, and lists it in the person's own vault if one is open here (OBJ-V6).
func (n *Node) CreateReplica(ctx context.Context, name string, encrypted bool) (replica.Replica, error) {
	create := n.Replicas.Create
	if encrypted {
		create = n.Replicas.CreateEncrypted
	}
	r, err := create(ctx, name)
	if err != nil {
		return r, err
	}
	v, err := n.VaultOf(ctx, "")
	if err != nil || !v.Own() {
		return r, nil // there is none
	}
	if !v.ready {
		n.tendSoon() // it is listed once the vault has come
		return r, nil
	}
	_, err = n.AddToVault(ctx, &v, r, "")
	return r, err
}

// RenameReplica gives a replica another name here and, if this node may write it, in the person's own vault.
func (n *Node) RenameReplica(ctx context.Context, id replica.ID, name string) (replica.Replica, error) {
	r, err := n.Replicas.Rename(ctx, id, name)
	if err != nil || r.Capability < replica.Write {
		return r, err
	}
	v, err := n.VaultOf(ctx, "")
	if err != nil || !v.Own() || v.Replica.ID == id {
		return r, nil
	}
	listed, err := n.inVault(ctx, &v, id)
	if err != nil || !listed {
		return r, err
	}
	_, err = n.AddToVault(ctx, &v, r, name)
	return r, err
}

// inVault reports whether a vault lists a replica.
func (n *Node) inVault(ctx context.Context, v *Vault, id replica.ID) (bool, error) {
	p, err := n.Replicas.Plain(ctx, v.Replica.ID)
	if err != nil {
		return false, err
	}
	_, err = p.LatestOf(ctx, []byte(string(vault.Prefix())+project.IDOf(id)))
	if errors.Is(err, replica.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// JoinProject joins a project of a vault, with all that the vault gives this node to do so, at the peers that hold the vault. The error is as for JoinWith.
func (n *Node) JoinProject(ctx context.Context, v *Vault, pr *vault.Project, name string) (JoinResult, error) {
	t := &ticket.Doc{Capability: replica.Read, Replica: pr.Replica, ReadKey: pr.ReadKey}
	if v.Own() {
		p, err := n.Replicas.Plain(ctx, v.Replica.ID)
		if err != nil {
			return JoinResult{}, err
		}
		switch r, err := n.restoreOf(ctx, p, v, pr.Replica); {
		case err == nil:
			t.Capability, t.Secret = r.Capability, r.Secret
			if r.ReadKey.Epoch > t.ReadKey.Epoch {
				t.ReadKey = r.ReadKey
			}
		case !errors.Is(err, replica.ErrNotFound):
			return JoinResult{}, err
		}
	}
	for _, p := range n.KnownPeers(v.Replica.ID) {
		addrs, err := peer.AddrInfoToP2pAddrs(&p)
		if err != nil {
			return JoinResult{}, err
		}
		t.Addrs = append(t.Addrs, addrs...)
	}
	if name == "" && replica.CheckName(pr.Name) == nil {
		name = pr.Name
	}
	joined, err := n.JoinWith(ctx, t, name, nil)
	if errors.Is(err, replica.ErrExists) {
		joined, err = n.JoinWith(ctx, t, "", nil)
	}
	return joined, err
}

// LeaveReplica forgets a replica. If the person's own vault lists it, it is taken off the list if everywhere is set, or if nobody else is known to hold it. It reports whether the vault still lists it.
func (n *Node) LeaveReplica(ctx context.Context, id replica.ID, everywhere bool) (listed bool, err error) {
	alone := len(n.KnownPeers(id)) == 0
	v, err := n.VaultOf(ctx, "")
	if err == nil && v.Own() && v.Replica.ID != id {
		if listed, err = n.inVault(ctx, &v, id); err != nil {
			return listed, err
		}
		if listed && (everywhere || alone) {
			if err := n.RemoveFromVault(ctx, &v, id); err != nil {
				return listed, err
			}
			listed = false
		}
	}
	return listed, n.Leave(ctx, id)
}
