package vaults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/vault"
)

// vaultChange sets a key of a vault to some content, or deletes it if that is nil.
type vaultChange struct {
	key     []byte
	content []byte
}

// writeVault writes to a person's own vault. This device's head follows: soon on a running node, so
// that it is not written for each of many changes, or at once.
func (s *Service) writeVault(ctx context.Context, v *Vault, changes []vaultChange) error {
	if len(changes) == 0 {
		return nil
	}
	err := s.putInVault(ctx, v, changes)
	if err == nil {
		if s.n.Online() {
			s.tendSoon()
		} else {
			err = s.writeHead(ctx, v)
		}
	}
	if err != nil {
		return fmt.Errorf("write vault: %w", err)
	}
	return nil
}

func (s *Service) putInVault(ctx context.Context, v *Vault, changes []vaultChange) error {
	author, err := s.n.Authors().Key(ctx, v.author)
	if err != nil {
		return err
	}
	all := make([]node.Change, len(changes))
	for i, c := range changes {
		all[i] = node.Change{Key: c.key, Value: c.content, Delete: c.content == nil}
	}
	_, err = s.n.ReplicaOf(v.Replica.ID).Apply(ctx, node.WriteOptions{As: author}, all...)
	return err
}

// writeHead says what this device has written, if it has not said so yet.
func (s *Service) writeHead(ctx context.Context, v *Vault) error {
	p, err := s.n.Replicas().Plain(ctx, v.Replica.ID)
	if err != nil {
		return err
	}
	all, err := s.written(ctx, p, v)
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
	return s.putInVault(ctx, v, []vaultChange{{vault.HeadKey(v.author), content}})
}

// entriesFor are the catalogue's entry for a replica, and the one to restore it from.
func (s *Service) entriesFor(
	ctx context.Context, v *Vault, r *replica.Replica, pr vault.Project,
) ([]vaultChange, error) {
	restore := vault.Restore{Capability: r.Capability, Replica: r.ID, Secret: r.Secret}
	if restore.Capability < replica.Read {
		restore.Capability = replica.Read // whoever lists it may try
	}
	if r.Encrypted {
		k, err := s.n.Replicas().ReadKey(ctx, r.ID)
		if err != nil {
			// Without its key, another device would take it for one that is not encrypted.
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

// ErrNotOwn reports a change to a vault that the person only lets this node read.
var ErrNotOwn = kind.New(kind.NotAllowed, "this node may only read the vault: "+
	"change it on a device of the person whose vault it is")

// Add lists a replica in a vault, under its name here or, if it is listed already, under the name
// that is given.
func (s *Service) Add(
	ctx context.Context, v *Vault, r replica.Replica, name string,
) (vault.Project, error) {
	if err := s.ready(); err != nil {
		return vault.Project{}, err
	}
	if !v.Own() {
		return vault.Project{}, ErrNotOwn
	}
	if r.ID == v.Replica.ID {
		return vault.Project{}, errors.New("a vault does not list itself")
	}
	s.tending.Lock()
	defer s.tending.Unlock()
	if name == "" {
		name = r.Name
	}
	pr := vault.NewProject(r.ID, name, r.Created)
	p, err := s.n.Replicas().Plain(ctx, v.Replica.ID)
	if err != nil {
		return pr, err
	}
	if it, err := p.LatestOf(ctx, pr.Key()); err == nil {
		// What it says already stays, such as fields of later versions.
		if old, err := s.openProject(ctx, p, v, &it); err == nil {
			old.Name = name
			pr = old
		}
	} else if !errors.Is(err, replica.ErrNotFound) {
		return pr, err
	}
	changes, err := s.entriesFor(ctx, v, &r, pr)
	if err != nil {
		return pr, err
	}
	return pr, s.writeVault(ctx, v, changes)
}

// Remove takes a project off a vault's list. It does nothing if it is not there.
func (s *Service) Remove(ctx context.Context, v *Vault, id replica.ID) error {
	if err := s.ready(); err != nil {
		return err
	}
	if !v.Own() {
		return ErrNotOwn
	}
	s.tending.Lock()
	defer s.tending.Unlock()
	p, err := s.n.Replicas().Plain(ctx, v.Replica.ID)
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
	return s.writeVault(ctx, v, changes)
}

// tendVaults brings the person's own vault in step with this node: replicas that the node may write
// and that the vault has never listed are added to it, and read keys that have changed are noted,
// if all is set; seeds are shared, and the head is written. What was taken off the list stays off.
func (s *Service) tendVaults(ctx context.Context, all bool) error {
	v, ok, err := s.ownVault(ctx)
	if err != nil || !ok {
		return err
	}
	s.tending.Lock()
	defer s.tending.Unlock()
	p, err := s.n.Replicas().Plain(ctx, v.Replica.ID)
	if err != nil {
		return err
	}
	if !v.ready {
		if c, err := s.n.Replicas().Counts(ctx, v.Replica.ID); err != nil || c == (replica.Counts{}) {
			return err
		}
		v.ready = true
		if err := s.storeVault(ctx, &v); err != nil {
			return err
		}
	}
	var changes []vaultChange
	if all {
		if changes, err = s.missing(ctx, p, &v); err != nil {
			return err
		}
	}
	seeds, err := s.shareSeeds(ctx, p, &v)
	if err != nil {
		return err
	}
	changes = append(changes, seeds...)
	if len(changes) > 0 {
		if err := s.putInVault(ctx, &v, changes); err != nil {
			return fmt.Errorf("write vault: %w", err)
		}
	}
	if err := s.writeHead(ctx, &v); err != nil {
		return fmt.Errorf("write vault: %w", err)
	}
	return nil
}

// missing returns what is to be added to a vault's list, or changed in it. The caller holds
// s.tending.
func (s *Service) missing(
	ctx context.Context, p *replica.Plain, v *Vault,
) (changes []vaultChange, err error) {
	vaults, err := s.All(ctx)
	if err != nil {
		return nil, err
	}
	listed := map[string]replica.Item{}
	for it, err := range p.Latest(ctx, replica.Query{Prefix: vault.Prefix(), Tombstones: true}) {
		if err != nil {
			return nil, err
		}
		listed[string(it.Key)] = it
	}
	for r, err := range s.n.Replicas().All(ctx) {
		if err != nil {
			return nil, err
		}
		isVault := func(v Vault) bool { return v.Replica.ID == r.ID }
		if r.Capability < replica.Write || slices.ContainsFunc(vaults, isVault) {
			continue
		}
		pr := vault.NewProject(r.ID, r.Name, r.Created)
		if it, ok := listed[string(pr.Key())]; ok {
			if it.Entry.IsTombstone() || !r.Encrypted {
				continue
			}
			old, err := s.openProject(ctx, p, v, &it)
			if err != nil {
				continue // it comes, or is told as a fault
			}
			k, err := s.n.Replicas().ReadKey(ctx, r.ID)
			if err != nil || k.Epoch <= old.ReadKey.Epoch {
				continue
			}
			pr = old
		}
		some, err := s.entriesFor(ctx, v, &r, pr)
		if errors.Is(err, replica.ErrNoReadKey) {
			continue // it is listed once its key has come
		}
		if err != nil {
			return nil, err
		}
		changes = append(changes, some...)
	}
	return changes, nil
}

// tendPause is the time between two rounds of tending at least, tendEvery at most.
const (
	tendPause = time.Second
	tendEvery = time.Minute
)

// tendSoon does so in the background.
func (s *Service) tendSoon() {
	select {
	case s.tend <- struct{}{}:
	default:
	}
}

// keepTending tends vaults when something may have changed.
func (s *Service) keepTending(ctx context.Context) {
	for all := true; ; {
		if err := s.tendVaults(ctx, all); err != nil && ctx.Err() == nil {
			s.n.Log().Error("vault", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.tend:
			all = true
		case <-time.After(tendEvery): // another device may have said something
			all = false
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(tendPause):
		}
	}
}
