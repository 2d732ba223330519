package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica/seal"
)

// EpochKey is the read key of one epoch of an encrypted replica. It does not print the key.
type EpochKey struct {
	Epoch uint32
	Key   seal.ReadKey
}

// ErrNoReadKey reports an encrypted replica whose present read key this node does not have.
var ErrNoReadKey = errors.New("this node does not have the read key of the replica's present epoch: ask for a new ticket or invite")

func readKeyKey(id ID, k EpochKey) []byte {
	c := k.Key.Commitment()
	return append(binary.BigEndian.AppendUint32(idKey(keyReadKey, id), k.Epoch), c[:8]...)
}

// readKeysOf returns the read keys of a replica that the store has, in the order of epochs.
func readKeysOf(r kv.Reader, id ID) (all []EpochKey, err error) {
	prefix := idKey(keyReadKey, id)
	for p, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{}) {
		if err != nil {
			return nil, err
		}
		if len(p.Key) != len(prefix)+12 || len(p.Value) != 32 {
			return nil, errBadRecord
		}
		all = append(all, EpochKey{binary.BigEndian.Uint32(p.Key[len(prefix):]), seal.ReadKey(p.Value)})
	}
	return all, nil
}

// present returns the key to seal with, of those that are known: that of the last epoch. It returns ErrNoReadKey if that is not among them.
func present(epochs []Epoch, keys []EpochKey) (k EpochKey, err error) {
	var last Epoch
	for i := range epochs {
		if last.Number == 0 || last.before(&epochs[i]) {
			last = epochs[i]
		}
	}
	found := false
	for _, known := range keys {
		// A ticket may be ahead of the statements.
		if known.Epoch > last.Number || known.Epoch == last.Number && known.Key.Commitment() == last.Commitment {
			k, found, last.Number = known, true, known.Epoch
			last.Commitment = known.Key.Commitment()
		}
	}
	if !found {
		return k, ErrNoReadKey
	}
	return k, nil
}

// learn stores the read keys that the statements of a replica give to authors whose keys are here, and notes that the replica is encrypted if they say so.
func learn(tx kv.Txn, r *Replica, more ...EpochKey) error {
	about, err := statementsOf(tx, r.ID, &AuthorID{})
	if err != nil {
		return err
	}
	keys, err := readKeysOf(tx, r.ID)
	if err != nil {
		return err
	}
	known := map[seal.ReadKey]bool{}
	for _, k := range keys {
		known[k.Key] = true
	}
	add := func(k EpochKey) error {
		if known[k.Key] {
			return nil
		}
		known[k.Key] = true
		keys = append(keys, k)
		return tx.Set(readKeyKey(r.ID, k), bytes.Clone(k.Key[:]))
	}
	for _, k := range more {
		if err := add(k); err != nil {
			return err
		}
	}
	wrapped, err := wrappedForUs(tx, r)
	if err != nil {
		return err
	}
	for _, k := range wrapped {
		if err := add(k); err != nil {
			return err
		}
	}
	// Each epoch gives the keys of the one before it.
	slices.SortFunc(about.epochs, func(a, b Epoch) int { return int(b.Number) - int(a.Number) })
	for _, e := range about.epochs {
		i := slices.IndexFunc(keys, func(k EpochKey) bool { return k.Epoch == e.Number && k.Key.Commitment() == e.Commitment })
		if i < 0 {
			continue
		}
		for _, o := range e.Older {
			older, err := keys[i].Key.OpenOlder(o)
			if err != nil {
				continue // whoever has the replica key may write nonsense; it keeps nobody from the rest
			}
			if err := add(EpochKey{e.Number - 1, older}); err != nil {
				return err
			}
		}
	}
	encrypted := r.Encrypted || len(about.epochs) > 0 || len(keys) > 0
	capability := r.Capability
	if len(keys) > 0 { // whoever is given the key may read
		capability = max(capability, Read)
	}
	if encrypted == r.Encrypted && capability == r.Capability {
		return nil
	}
	r.Encrypted, r.Capability = encrypted, capability
	return tx.Set(idKey(keyReplica, r.ID), r.marshal())
}

// wrappedForUs opens the keys that are wrapped for authors whose keys the store has, and for whoever has the replica key.
func wrappedForUs(tx kv.Txn, r *Replica) (keys []EpochKey, err error) {
	var authors []SecretKey
	if !r.Secret.IsZero() {
		authors = append(authors, r.Secret)
	}
	for p, err := range tx.Scan(kv.Prefix([]byte(keyAuthor)), kv.ScanOptions{}) {
		if err != nil {
			return nil, err
		}
		if len(p.Value) != 32 {
			return nil, errBadRecord
		}
		authors = append(authors, SecretKeyFromSeed([32]byte(p.Value)))
	}
	for _, key := range authors {
		author := key.Author()
		st, err := statementsOf(tx, r.ID, &author)
		if err != nil {
			return nil, err
		}
		for i := range st.wrapped {
			if k, err := st.wrapped[i].open(key); err == nil {
				keys = append(keys, k)
			}
		}
	}
	return keys, nil
}

// learnAll does so for all replicas, for an author whose key has come.
func (s *Store) learnAll(ctx context.Context) error {
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	return s.kv.Update(ctx, func(tx kv.Txn) error {
		for _, r := range all {
			now, err := getReplica(tx, r.ID)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err == nil {
				err = learn(tx, &now)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// ReadKey returns the present read key of an encrypted replica, for a ticket, or ErrNoReadKey.
func (s *Store) ReadKey(ctx context.Context, id ID) (k EpochKey, err error) {
	err = s.view(ctx, id, func(rd kv.Reader, r *Replica) error {
		k, _, err = readKeys(rd, r)
		return err
	})
	return k, err
}

// readKeys returns the present read key and all others that are known. It returns ErrNoReadKey.
func readKeys(rd kv.Reader, r *Replica) (now EpochKey, all []EpochKey, err error) {
	about, err := statementsOf(rd, r.ID, &AuthorID{})
	if err != nil {
		return now, nil, err
	}
	if all, err = readKeysOf(rd, r.ID); err != nil {
		return now, nil, err
	}
	if now, err = present(about.epochs, all); err != nil {
		err = fmt.Errorf("replica %s: %w", r.Name, err)
	}
	return now, all, err
}

// CreateEncrypted makes a new replica whose names and content are sealed, which this node may write.
func (s *Store) CreateEncrypted(ctx context.Context, name string) (Replica, error) {
	key, first := NewSecretKey(), EpochKey{1, seal.NewReadKey()}
	r, err := s.Join(ctx, Replica{ID: key.Replica(), Name: name, Capability: Write, Secret: key}, first)
	if err != nil {
		return r, err
	}
	e := Epoch{Replica: r.ID, Number: 1, Issued: uint64(s.cfg.Now().UnixMicro()), Commitment: first.Key.Commitment()}
	e.Sign(key)
	// Whoever comes to have the replica key can read, whatever becomes of the epochs.
	w, err := wrapKey(key, AuthorID(r.ID), first, e.Issued)
	if err != nil {
		return r, fmt.Errorf("new replica %s: %w", name, err)
	}
	lock := s.writes.of(r.ID)
	lock.Lock()
	defer lock.Unlock()
	if _, err := s.storeStatements(ctx, r.ID, []Statement{&e, w}); err != nil {
		return r, fmt.Errorf("new replica %s: %w", name, err)
	}
	return r, s.kv.Sync(ctx)
}

// Found begins, or joins, the encrypted replica whose replica key and first read key are given, as somebody does who derives both from something else. Wherever that is done the same statement comes of it, so
// that the replica is one. Name and result are as for Join.
func (s *Store) Found(ctx context.Context, name string, key SecretKey, first seal.ReadKey) (Replica, error) {
	k := EpochKey{1, first}
	r, err := s.Join(ctx, Replica{ID: key.Replica(), Name: name, Capability: Write, Secret: key}, k)
	if err != nil {
		return r, err
	}
	e := Epoch{Replica: r.ID, Number: 1, Commitment: k.Key.Commitment()}
	e.Sign(key)
	if _, err := s.InsertStatements(ctx, r.ID, []Statement{&e}); err != nil {
		return r, fmt.Errorf("new replica %s: %w", r.Name, err)
	}
	return r, s.kv.Sync(ctx)
}

// AddReader hands the present read key of an encrypted replica to an author, as a statement, so that the author is given the keys of later epochs, too. It does nothing for one that has it
// already, and without the replica key. It returns ErrNotFound and ErrNoReadKey.
func (s *Store) AddReader(ctx context.Context, id ID, author AuthorID) error {
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	var st []Statement
	err := s.view(ctx, id, func(rd kv.Reader, r *Replica) (err error) {
		st, err = s.keyFor(rd, r, author)
		return err
	})
	if err != nil || len(st) == 0 {
		return err
	}
	_, err = s.storeStatements(ctx, id, st)
	return err
}

// keyFor returns the statement that hands the present read key to an author, or nothing if there is one, the replica is not encrypted, or its key is not here.
func (s *Store) keyFor(rd kv.Reader, r *Replica, author AuthorID) ([]Statement, error) {
	if !r.Encrypted || r.Capability < Write {
		return nil, nil
	}
	now, _, err := readKeys(rd, r)
	if err != nil {
		return nil, err
	}
	st, err := statementsOf(rd, r.ID, &author)
	if err != nil {
		return nil, err
	}
	newest := uint64(0)
	for i := range st.revocations {
		newest = max(newest, st.revocations[i].Issued)
	}
	for i := range st.wrapped {
		if w := &st.wrapped[i]; w.Commitment == now.Key.Commitment() && w.Issued > newest {
			return nil, nil
		}
	}
	issued, err := issueTime(rd, r.ID, author, uint64(s.cfg.Now().UnixMicro()))
	if err != nil {
		return nil, err
	}
	w, err := wrapKey(r.Secret, author, now, issued)
	if err != nil {
		return nil, err
	}
	return []Statement{w}, nil
}
