package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
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

// Rotate begins a new epoch of an encrypted replica: names and content are sealed with a new read key from now on, which is handed to all authors who have been given the present one and have not been
// revoked, and to all who may write. Grants for a prefix are made anew, since prefixes are sealed, too. What was sealed before stays as it is. Tickets that were
// given away open nothing new. It returns a *NotAllowedError without the replica key, ErrNoReadKey, and an error if the replica is not encrypted.
func (s *Store) Rotate(ctx context.Context, id ID) (EpochKey, error) {
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	return s.rotate(ctx, id)
}

func (s *Store) rotate(ctx context.Context, id ID) (next EpochKey, err error) {
	var all []Statement
	err = s.view(ctx, id, func(rd kv.Reader, r *Replica) error {
		if !r.Encrypted {
			return fmt.Errorf("replica %s is not encrypted: it has no read key", r.Name)
		}
		if r.Capability < Write {
			return &NotAllowedError{Op: "change the read key of", Name: r.Name, Have: r.Capability, Need: Write}
		}
		rot := rotation{s: s, rd: rd, r: r, now: uint64(s.cfg.Now().UnixMicro())}
		if err := rot.run(); err != nil {
			return err
		}
		next, all = rot.next, rot.made
		return nil
	})
	if err != nil {
		return next, fmt.Errorf("new epoch: %w", err)
	}
	if _, err := s.storeStatements(ctx, id, all); err != nil {
		return next, fmt.Errorf("new epoch: %w", err)
	}
	return next, s.kv.Sync(ctx)
}

// RotateIfDue begins a new epoch if this node has the replica key and an author who has been given the present read key has been revoked since. It reports whether it did.
func (s *Store) RotateIfDue(ctx context.Context, id ID) (bool, error) {
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	return s.rotateIfDue(ctx, id)
}

func (s *Store) rotateIfDue(ctx context.Context, id ID) (bool, error) {
	due := false
	err := s.view(ctx, id, func(rd kv.Reader, r *Replica) error {
		if !r.Encrypted || r.Capability < Write {
			return nil
		}
		rot := rotation{s: s, rd: rd, r: r, now: uint64(s.cfg.Now().UnixMicro())}
		err := rot.load()
		if errors.Is(err, ErrNoReadKey) {
			return nil
		}
		for a := range rot.holders() {
			keeps, goErr := rot.keeps(a)
			err = errors.Join(err, goErr)
			due = due || !keeps && rot.revoked(a)
		}
		return err
	})
	if err != nil || !due {
		return false, err
	}
	_, err = s.rotate(ctx, id)
	return err == nil, err
}

// rotation makes the statements of a new epoch.
type rotation struct {
	s   *Store
	rd  kv.Reader
	r   *Replica
	now uint64

	all  statements
	old  EpochKey
	keys []EpochKey // of the epochs until now
	next EpochKey
	made []Statement
}

func (rot *rotation) load() (err error) {
	if rot.all, err = statementsOf(rot.rd, rot.r.ID, nil); err != nil {
		return err
	}
	rot.old, rot.keys, err = readKeys(rot.rd, rot.r)
	return err
}

func (rot *rotation) run() error {
	if err := rot.load(); err != nil {
		return err
	}
	rot.next = EpochKey{rot.old.Epoch + 1, seal.NewReadKey()}
	e := &Epoch{Replica: rot.r.ID, Number: rot.next.Epoch, Issued: rot.now, Commitment: rot.next.Key.Commitment()}
	for _, k := range rot.keys {
		if k.Epoch == rot.old.Epoch && len(e.Older) < MaxOlder {
			older, err := rot.next.Key.SealOlder(k.Key)
			if err != nil {
				return err
			}
			e.Older = append(e.Older, older)
		}
	}
	e.Sign(rot.r.Secret)
	rot.made = append(rot.made, e)
	authors := rot.holders()
	authors[AuthorID(rot.r.ID)] = true // by which this node has the key, too
	for i := range rot.all.grants {
		authors[rot.all.grants[i].Author] = true
	}
	for _, a := range slices.SortedFunc(maps.Keys(authors), func(a, b AuthorID) int { return bytes.Compare(a[:], b[:]) }) {
		keeps, err := rot.keeps(a)
		if err != nil {
			return err
		}
		if !keeps {
			continue
		}
		if err := rot.hand(a); err != nil {
			return err
		}
	}
	return nil
}

// holders are the authors who have been given the present key.
func (rot *rotation) holders() map[AuthorID]bool {
	out := map[AuthorID]bool{}
	for i := range rot.all.wrapped {
		if w := &rot.all.wrapped[i]; w.Commitment == rot.old.Key.Commitment() {
			out[w.Author] = true
		}
	}
	return out
}

// revoked reports whether an author was revoked after being given the present key.
func (rot *rotation) revoked(a AuthorID) bool {
	given := uint64(0)
	for i := range rot.all.wrapped {
		if w := &rot.all.wrapped[i]; w.Author == a && w.Commitment == rot.old.Key.Commitment() {
			given = max(given, w.Issued)
		}
	}
	return slices.ContainsFunc(rot.all.revocations, func(v Revocation) bool { return v.Author == a && v.Issued >= given })
}

// keeps reports whether an author is given the next key: one who may still write, or who was only ever let read and has not been revoked.
func (rot *rotation) keeps(a AuthorID) (bool, error) {
	if a == AuthorID(rot.r.ID) { // the replica key
		return true, nil
	}
	may, err := authority(rot.rd, rot.r.ID, a)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(may, func(s span) bool { return s.to >= rot.now }) {
		return true, nil
	}
	wrote := slices.ContainsFunc(rot.all.grants, func(g Grant) bool { return g.Author == a })
	return !wrote && !rot.revoked(a), nil
}

// hand gives the next key to an author, and makes the grants anew that are for a prefix.
func (rot *rotation) hand(a AuthorID) error {
	issued, err := issueTime(rot.rd, rot.r.ID, a, rot.now)
	if err != nil {
		return err
	}
	w, err := wrapKey(rot.r.Secret, a, rot.next, issued)
	if errors.Is(err, seal.ErrNoRecipient) { // whoever made up such an author cannot read, and keeps nobody else from it
		return nil
	}
	if err != nil {
		return err
	}
	rot.made = append(rot.made, w)
	for i := range rot.all.grants {
		g := &rot.all.grants[i]
		if g.Author != a || len(g.Prefix) == 0 {
			continue
		}
		if epoch, err := seal.EpochOf(g.Prefix); err != nil || epoch != rot.old.Epoch {
			continue
		}
		valid, err := authorityOf([]Grant{*g}, revocationsIn(rot.rd, rot.r.ID, map[AuthorID][]Revocation{}))
		if err != nil {
			return err
		}
		prefix, ok := openPrefix(rot.keys, g.Prefix)
		if len(valid) == 0 || valid[0].to < rot.now || !ok {
			continue
		}
		sealed, err := rot.next.Key.Names(rot.next.Epoch).SealPrefix(prefix)
		if err != nil {
			return err
		}
		anew := Grant{Replica: rot.r.ID, Author: a, Issued: issued, NotBefore: g.NotBefore, NotAfter: valid[0].to, Prefix: sealed, Delegable: g.Delegable}
		anew.Sign(rot.r.Secret)
		rot.made = append(rot.made, &anew)
	}
	return nil
}

// openPrefix opens the prefix of a grant, with any of some keys.
func openPrefix(keys []EpochKey, sealed []byte) (prefix []byte, ok bool) {
	if len(sealed) == 0 {
		return nil, true
	}
	for _, k := range keys {
		if name, err := k.Key.Names(k.Epoch).Open(sealed); err == nil {
			return append(name, '/'), true
		}
	}
	return nil, false
}
