package replica

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica/seal"
)

// EpochKey is the read key of one epoch of an encrypted replica. It does not print the key.
type EpochKey struct {
	Epoch uint32
	Key   seal.ReadKey
}

// EpochID names an epoch of an encrypted replica without its read key, for those who may not read.
// The zero EpochID names none.
type EpochID struct {
	Number     uint32
	Commitment [32]byte // of the read key
}

// ID returns the epoch of the key; that of the zero key is none.
func (k EpochKey) ID() (e EpochID) {
	if k.Epoch == 0 {
		return e
	}
	return EpochID{k.Epoch, k.Key.Commitment()}
}

func (e *Epoch) id() EpochID { return EpochID{e.Number, e.Commitment} }

// ErrNoReadKey reports an encrypted replica whose present read key this node does not have.
var ErrNoReadKey = kind.New(
	kind.NotAllowed,
	"this node does not have the read key of the replica's present epoch: ask for a new "+
		"ticket or invite",
)

// ErrUnprovedKey reports an encrypted replica of which this node has a read key, but no statement
// by which the replica key commits to it. It is also ErrNoReadKey.
var ErrUnprovedKey error = unprovedError{}

type unprovedError struct{}

func (unprovedError) Error() string {
	return "nothing signed with the replica's key confirms the read key that this node was given: " +
		"sync with a node that holds the replica first (skerry replica sync)"
}

func (unprovedError) Is(target error) bool { return target == ErrNoReadKey }

// ErrBehind reports an encrypted replica of which a later epoch is known than is here: some host
// withholds it, or has not heard of it. It is also ErrNoReadKey.
var ErrBehind error = behindError{}

type behindError struct{}

func (behindError) Error() string {
	return "a later read key of the replica is known than is here: " +
		"sync with another node that holds the replica (skerry replica sync)"
}

func (behindError) Is(target error) bool { return target == ErrNoReadKey }

// ErrManyKeys reports a replica of which a node has been given too many read keys that nothing
// proves.
var ErrManyKeys = errors.New("too many read keys that nothing signed confirms: " +
	"leave the replica, and join it with a good ticket")

// maxUnproved is how many read keys without proof a node keeps of a replica.
const maxUnproved = 16

// A heldKey is a read key in the store, with how far it may be trusted beside the statements.
//
// A key by itself proves nothing: a ticket, an invite or a vault can name any key beside any
// replica. What proves it is an epoch, which the replica key signs (see counting). Until the
// first epoch is here, a key may open but not seal, unless it came together with the replica
// key: whoever has that could sign an epoch with it.
type heldKey struct {
	EpochKey
	vouched bool // it came with the replica key
}

func readKeyKey(id ID, k EpochKey) []byte {
	c := k.Key.Commitment()
	return append(binary.BigEndian.AppendUint32(idKey(keyReadKey, id), k.Epoch), c[:8]...)
}

func (k *heldKey) marshal() []byte {
	b := append(make([]byte, 0, 33), k.Key[:]...)
	if k.vouched {
		return append(b, 1)
	}
	return append(b, 0)
}

// readKeysOf returns the read keys of a replica that the store has, in the order of epochs.
func readKeysOf(r kv.Reader, id ID) (all []heldKey, err error) {
	prefix := idKey(keyReadKey, id)
	for p, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{}) {
		if err != nil {
			return nil, err
		}
		if len(p.Key) != len(prefix)+12 || len(p.Value) != 33 || p.Value[32] > 1 {
			return nil, errBadRecord
		}
		all = append(all, heldKey{
			EpochKey{binary.BigEndian.Uint32(p.Key[len(prefix):]), seal.ReadKey(p.Value)}, p.Value[32] == 1,
		})
	}
	return all, nil
}

// counting returns the epochs that count, in the order of their numbers: those with the number 1,
// and those with a number that is one more than that of an epoch that counts. It looks at nothing
// but the statements, so that all nodes agree, in whatever order the statements come. The epochs
// must have been verified.
func counting(epochs []Epoch) []Epoch {
	sorted := slices.SortedFunc(slices.Values(epochs), func(a, b Epoch) int {
		return cmp.Compare(a.Number, b.Number)
	})
	last := uint32(0)
	for i := range sorted {
		if sorted[i].Number-last > 1 { // Number is never less than last
			return sorted[:i]
		}
		last = sorted[i].Number
	}
	return sorted
}

// usable returns the keys that may open what is sealed: those to which an epoch that counts
// commits or, before the first such epoch is here, all.
func usable(counting []Epoch, held []heldKey) (keys []EpochKey) {
	type epoch struct {
		number     uint32
		commitment [32]byte
	}
	proved := map[epoch]bool{}
	for i := range counting {
		proved[epoch{counting[i].Number, counting[i].Commitment}] = true
	}
	for _, k := range held {
		if len(counting) == 0 || proved[epoch{k.Epoch, k.Key.Commitment()}] {
			keys = append(keys, k.EpochKey)
		}
	}
	return keys
}

// reaches reports whether epochs that count are as new as one that is known. What a ticket has
// named is compared by its commitment, too: two holders of the replica key may each have begun that
// epoch.
func reaches(counting []Epoch, least EpochID) bool {
	return least.Number == 0 || slices.ContainsFunc(counting, func(e Epoch) bool {
		return e.Number > least.Number || e.id() == least
	})
}

// newest returns the epoch to seal with, of epochs that count.
func newest(counting []Epoch) (last EpochID) {
	for i := range counting {
		if e := &counting[i]; last.Number == 0 || last.before(e.id()) {
			last = e.id()
		}
	}
	return last
}

// Newest returns the epoch to seal with, of epochs that have been verified: the last that counts,
// or none.
func Newest(epochs []Epoch) EpochID { return newest(counting(epochs)) }

// present returns the key to seal with: that of the last epoch that counts or, before the first
// such epoch is here, the last that came with the replica key. Nothing is sealed with an epoch
// before least. It returns ErrNoReadKey, ErrUnprovedKey or ErrBehind if there is none.
func present(counting []Epoch, held []heldKey, least EpochID) (now EpochKey, err error) {
	if len(counting) == 0 {
		for _, k := range held {
			if k.vouched && k.Epoch >= max(now.Epoch, least.Number) {
				now = k.EpochKey
			}
		}
		if now.Epoch == 0 && len(held) > 0 {
			return now, ErrUnprovedKey
		}
	} else {
		if !reaches(counting, least) {
			return now, ErrBehind
		}
		last := newest(counting)
		for _, k := range held {
			if k.ID() == last {
				return k.EpochKey, nil
			}
		}
	}
	if now.Epoch == 0 {
		return now, ErrNoReadKey
	}
	return now, nil
}

// learn stores read keys that were given to this node, and those that the statements of a replica
// give to authors whose keys are here. Only signed epochs make a replica encrypted that is held
// already, and only a key to which one commits lets this node read it.
func learn(tx kv.Txn, r *Replica, given ...heldKey) error {
	about, err := statementsOf(tx, r.ID, &AuthorID{})
	if err != nil {
		return err
	}
	held, err := readKeysOf(tx, r.ID)
	if err != nil {
		return err
	}
	epochs := counting(about.epochs)
	proved := func(k *heldKey) bool {
		return k.vouched || slices.ContainsFunc(epochs, func(e Epoch) bool { return e.id() == k.ID() })
	}
	unproved := 0
	for i := range held {
		if !proved(&held[i]) {
			unproved++
		}
	}
	add := func(k heldKey) error {
		if k.Epoch == 0 {
			return nil
		}
		i := slices.IndexFunc(held, func(h heldKey) bool { return h.EpochKey == k.EpochKey })
		switch {
		case i < 0 && !proved(&k) && unproved >= maxUnproved:
			return ErrManyKeys
		case i < 0:
			if !proved(&k) {
				unproved++
			}
			held = append(held, k)
		case k.vouched && !held[i].vouched:
			held[i].vouched = true
		default:
			return nil
		}
		return tx.Set(readKeyKey(r.ID, k.EpochKey), k.marshal())
	}
	for _, k := range given {
		if err := add(k); err != nil {
			return err
		}
	}
	wrapped, err := wrappedForUs(tx, r)
	if err != nil {
		return err
	}
	for _, k := range wrapped {
		// The statement that hands it over stays, and so does the key, once an epoch proves it.
		if err := add(heldKey{EpochKey: k}); err != nil && !errors.Is(err, ErrManyKeys) {
			return err
		}
	}
	// Each epoch gives the keys of the one before it.
	for _, e := range slices.Backward(epochs) {
		i := slices.IndexFunc(held, func(k heldKey) bool {
			return k.Epoch == e.Number && k.Key.Commitment() == e.Commitment
		})
		if i < 0 {
			continue
		}
		key := held[i].Key
		for _, o := range e.Older {
			older, err := key.OpenOlder(o)
			if err != nil {
				continue // whoever has the replica key may write nonsense; it keeps nobody from the rest
			}
			err = add(heldKey{EpochKey: EpochKey{e.Number - 1, older}})
			if err != nil && !errors.Is(err, ErrManyKeys) {
				return err
			}
		}
	}
	was := *r
	r.Encrypted = r.Encrypted || len(about.epochs) > 0
	if len(epochs) > 0 && len(usable(epochs, held)) > 0 { // whoever is given the key may read
		r.Capability = max(r.Capability, Read)
	}
	if len(epochs) > 0 && reaches(epochs, r.Least) {
		r.Least = newest(epochs) // also if the store should lose some
	}
	if was.Encrypted == r.Encrypted && was.Capability == r.Capability && was.Least == r.Least {
		return nil
	}
	return tx.Set(idKey(keyReplica, r.ID), r.marshal())
}

// wrappedForUs opens the keys that are wrapped for authors whose keys the store has, and for
// whoever has the replica key.
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

// ReadKey returns the present read key of an encrypted replica, for a ticket. It returns
// ErrNoReadKey, ErrUnprovedKey or ErrBehind.
func (s *Store) ReadKey(ctx context.Context, id ID) (k EpochKey, err error) {
	err = s.view(ctx, id, func(rd kv.Reader, r *Replica) error {
		k, _, err = readKeys(rd, r)
		return err
	})
	return k, err
}

// readKeys returns the present read key and all that may open. It returns ErrNoReadKey,
// ErrUnprovedKey or ErrBehind, and then still the others.
func readKeys(rd kv.Reader, r *Replica) (now EpochKey, all []EpochKey, err error) {
	about, err := statementsOf(rd, r.ID, &AuthorID{})
	if err != nil {
		return now, nil, err
	}
	held, err := readKeysOf(rd, r.ID)
	if err != nil {
		return now, nil, err
	}
	epochs := counting(about.epochs)
	if now, err = present(epochs, held, r.Least); err != nil {
		err = fmt.Errorf("replica %s: %w", r.Name, err)
	}
	return now, usable(epochs, held), err
}

// lacking returns an error that is ErrNoReadKey if the read key of an epoch that counts is not
// among some.
func lacking(rd kv.Reader, r *Replica, keys []EpochKey) (some, err error) {
	about, err := statementsOf(rd, r.ID, &AuthorID{})
	for _, e := range counting(about.epochs) {
		if !slices.ContainsFunc(keys, func(k EpochKey) bool { return k.ID() == e.id() }) {
			return fmt.Errorf("replica %s: epoch %d: %w", r.Name, e.Number, ErrNoReadKey), nil
		}
	}
	return nil, err
}

// NewestEpoch returns the newest epoch of a replica that is known here, for a ticket to those who
// may not read: none if the replica is not encrypted.
func (s *Store) NewestEpoch(ctx context.Context, id ID) (e EpochID, err error) {
	err = s.view(ctx, id, func(rd kv.Reader, r *Replica) error {
		about, err := statementsOf(rd, id, &AuthorID{})
		if err != nil {
			return err
		}
		e = r.Least
		if epochs := counting(about.epochs); len(epochs) > 0 && reaches(epochs, e) {
			e = newest(epochs)
		}
		return nil
	})
	return e, err
}

// EpochStatements returns the encoded epochs of a replica that count, in the order of their
// numbers: what proves its read keys to somebody who is given one.
func (s *Store) EpochStatements(ctx context.Context, id ID) (items [][]byte, err error) {
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		about, err := statementsOf(rd, id, &AuthorID{})
		items = nil
		for _, e := range counting(about.epochs) {
			items = append(items, e.Bytes())
		}
		return err
	})
	return items, err
}

// CreateEncrypted makes a new replica whose names and content are sealed, which this node may
// write.
func (s *Store) CreateEncrypted(ctx context.Context, name string) (Replica, error) {
	key, first := NewSecretKey(), EpochKey{1, seal.NewReadKey()}
	r, err := s.Join(
		ctx, Replica{ID: key.Replica(), Name: name, Capability: Write, Secret: key}, first,
	)
	if err != nil {
		return r, err
	}
	e := Epoch{
		Replica: r.ID, Number: 1, Issued: uint64(s.cfg.Now().UnixMicro()),
		Commitment: first.Key.Commitment(),
	}
	e.Sign(key)
	// Whoever comes to have the replica key can read, whatever becomes of the epochs.
	w, err := wrapKey(key, AuthorID(r.ID), first, e.Issued, false)
	if err != nil {
		return r, fmt.Errorf("new replica %s: %w", name, err)
	}
	lock := s.writes.of(r.ID)
	lock.Lock()
	defer lock.Unlock()
	if err := s.state(ctx, r.ID, []Statement{&e, w}); err != nil {
		return r, fmt.Errorf("new replica %s: %w", name, err)
	}
	return r, s.kv.Sync(ctx)
}

// Found begins, or joins, the encrypted replica whose replica key and first read key are given, as
// somebody does who derives both from something else. Wherever that is done the same statement
// comes of it, so that the replica is one. Name and result are as for Join.
func (s *Store) Found(
	ctx context.Context, name string, key SecretKey, first seal.ReadKey,
) (Replica, error) {
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

// AddReader hands the present read key of an encrypted replica to an author, as a statement, so
// that the author is given the keys of later epochs, too. It does nothing for one that has it
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
	return s.state(ctx, id, st)
}

// keyFor returns the statement that hands the present read key to an author, or nothing if there is
// one, the replica is not encrypted, or its key is not here.
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
		if v := &st.revocations[i]; v.Authority == nil { // a delegate's says nothing about the key
			newest = max(newest, v.Issued)
		}
	}
	for i := range st.wrapped {
		w := &st.wrapped[i]
		if w.Commitment == now.Key.Commitment() && w.Issued > newest && !w.ByLeave {
			return nil, nil
		}
	}
	issued, err := issueTime(rd, r.ID, author, r.ID, uint64(s.cfg.Now().UnixMicro()))
	if err != nil {
		return nil, err
	}
	w, err := wrapKey(r.Secret, author, now, issued, false)
	if err != nil {
		return nil, err
	}
	return []Statement{w}, nil
}
