package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/skerry-sync/skerry/internal/edsig"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica/ids"
)

var (
	// ErrNotFound reports a replica, author or key that is not there.
	ErrNotFound = kind.New(kind.NotFound, "not found")
	// ErrExists reports a name that is taken, or a replica that the node holds already.
	ErrExists = kind.New(kind.Conflict, "exists already")
	// ErrAmbiguous reports an id prefix that fits several replicas.
	ErrAmbiguous = kind.New(kind.Usage, "is ambiguous")
	// ErrNoRoom reports a write that Config.OnTake or Config.OnState has kept out.
	ErrNoRoom = kind.New(kind.NoSpace, "the node has no room for more entries")
	// ErrBadName reports a name that a replica cannot have.
	ErrBadName = kind.New(kind.Usage, "bad replica name")
)

// Config sets up a Store; the zero value is fine.
type Config struct {
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// OnTake, if set, is asked in the transaction that would store an entry, which may run several
	// times: false keeps the entry out. old is the version that it would replace, or nil.
	OnTake func(tx kv.Txn, e, old *Entry) (bool, error)
	// OnState, if set, is asked likewise about a statement of some bytes that came from elsewhere;
	// false keeps it out. Of one that is dropped, bytes is negative, and the answer does not
	// matter.
	OnState func(tx kv.Txn, id ID, bytes int) (bool, error)
	// OnPut, if set, runs in the transaction that stores an entry, for records that must agree with
	// it. It may run several times for one entry and must have no other effect.
	OnPut func(tx kv.Txn, e *Entry) error
	// OnDrop, if set, runs likewise in the transaction that drops an entry which a revocation has made
	// void. Entries that others replace, and those of a replica that is left, are not told of.
	OnDrop func(tx kv.Txn, e *Entry) error
	// OnDisplace, if set, runs likewise in the transaction that stores an entry which came from
	// elsewhere in the place of another one by the same author. It is not told of what this node
	// writes itself, and of several entries that one transaction brings for one place, none but the
	// last is ever stored.
	OnDisplace func(tx kv.Txn, e, old *Entry) error
	// OnHold and OnLeave, if set, run likewise in the transaction with which the node begins or ceases
	// to hold a replica.
	OnHold, OnLeave func(tx kv.Txn, id ID) error
}

// Store keeps the replicas and authors of one node in a kv.Store. Its methods may be called at the
// same time from many goroutines.
type Store struct {
	kv         kv.Store
	cfg        Config
	events     hub
	authorKeys *edsig.Keys // of authors whose entries are verified
	prints     prints
	// statementPrints remembers the digests of statements alone.
	statementPrints prints
	keep            keepLimits
	deferred        deferred
	treeFrom        int // treeFrom, but in tests
	known           authorities
	atOnce          atOnce
	// one writer at a time for each replica, so that they do not run into conflicts
	writes stripes
}

// Close ends all subscriptions. What is stored can still be read and written as long as the
// kv.Store is open.
func (s *Store) Close() { s.events.end() }

// Open returns the store kept in s. No other Store may be open on s.
func Open(ctx context.Context, s kv.Store, cfg Config) (*Store, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	st := &Store{kv: s, cfg: cfg, keep: keepLimits{MaxDelegated, MaxAbout}, treeFrom: treeFrom,
		authorKeys: edsig.NewKeys(edsig.NoWeakKeys, maxAuthorKeys)}
	if err := errors.Join(st.eraseLeft(ctx), st.resumeVoid(ctx)); err != nil {
		return nil, fmt.Errorf("open replica store: %w", err)
	}
	return st, nil
}

// Now returns the time by the store's clock.
func (s *Store) Now() time.Time { return s.cfg.Now() }

type stripes [64]sync.Mutex

func (s *stripes) of(id ID) *sync.Mutex { return &s[id[0]%64] }

// Replica is what a node knows of a replica that it holds.
type Replica struct {
	ID         ID
	Name       string // local to the node
	Capability Capability
	Secret     SecretKey // zero unless Capability is Write
	Encrypted  bool      // names and content are sealed; see Plain
	// Least is the newest epoch that is known of an encrypted replica: of those that are signed and
	// here, or what the ticket named with which this node first joined. Nothing is sealed before an
	// epoch as new as this one is here.
	Least   EpochID
	Created time.Time // on this node
	number  number
}

// CheckName returns ErrBadName unless a replica may have this name: 1 to 128 bytes of printable
// text without slashes, and not an id.
func CheckName(name string) error {
	if name == "" || len(name) > 128 || !utf8.ValidString(name) || strings.ContainsAny(name, "/\\") ||
		strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }) ||
		strings.HasPrefix(name, "-") || strings.TrimSpace(name) != name {
		return fmt.Errorf(
			"%w %q: 1 to 128 bytes of printable text, without slashes or a leading dash", ErrBadName, name,
		)
	}
	if _, err := ids.Decode(name, "a replica id"); err == nil {
		return fmt.Errorf("%w %q: it is an id", ErrBadName, name)
	}
	return nil
}

// Create makes a new replica, which this node may write.
func (s *Store) Create(ctx context.Context, name string) (Replica, error) {
	key := NewSecretKey()
	return s.Join(ctx, Replica{ID: key.Replica(), Name: name, Capability: Write, Secret: key})
}

// Join adds the replica r, of which ID, Name, Capability and, for Write, Secret are given. An empty
// name is replaced by one made from the id. Read keys make a new replica an encrypted one. They
// serve to open what they open; to seal, this node waits for a signed epoch that commits to one,
// unless r has the secret. See ErrUnprovedKey. r.Least says which epoch is the newest, and so does
// it; until that one is here, or a later one, nothing is sealed.
//
// Of a replica that the node holds already, only what is proved changes: the secret of a replica
// that it could not write, and a read key to which a signed epoch commits, at once or when that
// comes. The name is kept. A replica that is not encrypted, and that this node could only sync,
// can be read from then on, since everybody who has it can.
//
// Join returns what the node holds now, ErrExists if the name is taken by another replica, or
// ErrManyKeys.
func (s *Store) Join(ctx context.Context, r Replica, keys ...EpochKey) (Replica, error) {
	if r.Name == "" {
		r.Name = "replica-" + r.ID.String()[:8]
	}
	if err := CheckName(r.Name); err != nil {
		return Replica{}, err
	}
	if r.Capability == Write && (r.Secret.IsZero() || r.Secret.Replica() != r.ID) {
		return Replica{}, fmt.Errorf("join replica %s: the secret does not belong to it", r.ID.Short())
	}
	if err := r.ID.Check(); err != nil {
		return Replica{}, fmt.Errorf("join: %w", err)
	}
	if err := s.finishLeaving(ctx, r.ID); err != nil {
		return Replica{}, fmt.Errorf("join replica %s: %w", r.ID.Short(), err)
	}
	asked := r
	given := make([]heldKey, len(keys))
	for i, k := range keys {
		given[i] = heldKey{k, r.Capability == Write}
	}
	encrypted := len(keys) > 0 || asked.Least.Number > 0
	err := s.kv.Update(ctx, func(tx kv.Txn) (err error) {
		old, err := getReplica(tx, asked.ID)
		if errors.Is(err, ErrNotFound) {
			r, err = s.begin(tx, asked, encrypted)
		} else if err == nil {
			r, err = raise(tx, old, asked, encrypted)
		}
		if err != nil || len(keys) == 0 && !r.Encrypted {
			return err
		}
		return learn(tx, &r, given...)
	})
	if err != nil {
		return Replica{}, err
	}
	return r, s.kv.Sync(ctx)
}

// begin stores a replica that the node does not hold yet.
func (s *Store) begin(tx kv.Txn, r Replica, encrypted bool) (Replica, error) {
	r.Created = s.cfg.Now().Truncate(time.Microsecond)
	r.Encrypted = r.Encrypted || encrypted
	at := append([]byte(keyName), r.Name...)
	err := isFree(tx, r.Name, r.ID)
	if err != nil {
		return r, err
	}
	if r.number, err = nextNumber(tx); err != nil {
		return r, err
	}
	if s.cfg.OnHold != nil {
		if err := s.cfg.OnHold(tx, r.ID); err != nil {
			return r, err
		}
	}
	return r, errors.Join(tx.Set(idKey(keyReplica, r.ID), r.marshal()), tx.Set(at, r.ID[:]))
}

// raise gives the node more of a replica that it holds, as far as that is proved; see Join.
func raise(tx kv.Txn, r, asked Replica, encrypted bool) (Replica, error) {
	var err error
	switch {
	case asked.Capability <= r.Capability:
		return r, nil
	case asked.Capability == Write:
		r.Capability, r.Secret = Write, asked.Secret
		if encrypted && !r.Encrypted {
			// Whoever has the secret says so, and nothing here becomes unreadable by it.
			c, err := getTally(tx, r.number)
			if err != nil {
				return r, err
			}
			r.Encrypted = c.Counts == Counts{}
		}
		if r.Encrypted {
			if r.Least, err = vouchedLeast(tx, &r, asked.Least); err != nil {
				return r, err
			}
		}
	case r.Encrypted || encrypted: // it can be read when an epoch commits to the key
		return r, nil
	default:
		r.Capability = asked.Capability
	}
	return r, tx.Set(idKey(keyReplica, r.ID), r.marshal())
}

// vouchedLeast returns the newest epoch of a replica after somebody has named one who has the
// replica key. That outranks what an earlier ticket named without it, but nothing that is signed.
func vouchedLeast(tx kv.Txn, r *Replica, named EpochID) (EpochID, error) {
	about, err := statementsOf(tx, r.ID, &AuthorID{})
	if err != nil {
		return named, err
	}
	if last := newest(counting(about.epochs)); named.before(last) {
		return last, nil
	}
	return named, nil
}

func learnIf(any bool, tx kv.Txn, r *Replica) error {
	if !any {
		return nil
	}
	return learn(tx, r)
}

func getReplica(r kv.Reader, id ID) (Replica, error) {
	b, err := r.Get(idKey(keyReplica, id))
	if errors.Is(err, kv.ErrNotFound) {
		return Replica{}, fmt.Errorf("replica %s: %w", id.Short(), ErrNotFound)
	}
	if err != nil {
		return Replica{}, err
	}
	return parseReplica(id, b)
}

// Get returns the replica with this id, or ErrNotFound.
func (s *Store) Get(ctx context.Context, id ID) (r Replica, err error) {
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		r, err = getReplica(rd, id)
		return err
	})
	return r, err
}

// List returns all replicas, in the order of their names.
func (s *Store) List(ctx context.Context) (all []Replica, err error) {
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		all = nil
		for p, err := range rd.Scan(kv.Prefix([]byte(keyName)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			r, err := getReplica(rd, ID(p.Value))
			if err != nil {
				return err
			}
			all = append(all, r)
		}
		return nil
	})
	return all, err
}

// allAtOnce is how many replicas All reads from one state of the store.
const allAtOnce = 256

// All yields all replicas, in the order of their ids, a few at a time in memory. Of those that come
// or go meanwhile it may yield some.
func (s *Store) All(ctx context.Context) iter.Seq2[Replica, error] { return s.allFrom(ctx, ID{}) }

func (s *Store) allFrom(ctx context.Context, first ID) iter.Seq2[Replica, error] {
	return func(yield func(Replica, error) bool) {
		in := kv.Range{From: idKey(keyReplica, first), To: kv.After([]byte(keyReplica))}
		for {
			var some []Replica
			err := s.kv.View(ctx, func(rd kv.Reader) error {
				some = nil
				for p, err := range rd.Scan(in, kv.ScanOptions{}) {
					if err != nil {
						return err
					}
					r, err := parseReplica(ID(p.Key[len(keyReplica):]), p.Value)
					if err != nil {
						return err
					}
					if some = append(some, r); len(some) == allAtOnce {
						break
					}
				}
				return nil
			})
			if err != nil {
				yield(Replica{}, err)
				return
			}
			for _, r := range some {
				if !yield(r, nil) {
					return
				}
			}
			if len(some) < allAtOnce {
				return
			}
			in.From = kv.After(idKey(keyReplica, some[len(some)-1].ID))
		}
	}
}

// Resolve finds a replica by its name, its id, or a prefix of its id of 4 characters or more that
// fits no other. It returns ErrNotFound or ErrAmbiguous.
func (s *Store) Resolve(ctx context.Context, text string) (Replica, error) {
	var r Replica
	err := s.kv.View(ctx, func(rd kv.Reader) error {
		id, err := rd.Get(append([]byte(keyName), text...))
		if err == nil {
			r, err = getReplica(rd, ID(id))
		}
		return err
	})
	if !errors.Is(err, kv.ErrNotFound) {
		return r, err
	}
	found, err := s.byPrefix(ctx, strings.ToLower(text))
	switch {
	case err != nil:
		return r, err
	case len(found) == 0:
		shown := text
		if len(text) > 128 { // no name of one: perhaps a ticket, which is a secret
			shown = text[:12] + "…"
		}
		return r, fmt.Errorf("replica %q: %w (skerry replica ls shows what is here)", shown, ErrNotFound)
	case len(found) == 1:
		return found[0], nil
	}
	return r, fmt.Errorf(
		"replica %q %w: it fits %s and %s", text, ErrAmbiguous, found[0].ID, found[1].ID,
	)
}

// isFree returns ErrExists if a replica has a name, or another than id has an id that begins with
// it: who names that one by the beginning of its id, as from a list, would get this.
func isFree(tx kv.Txn, name string, id ID) error {
	if has, err := tx.Has(append([]byte(keyName), name...)); err != nil {
		return err
	} else if has {
		return fmt.Errorf("replica name %q: %w", name, ErrExists)
	}
	first, ok := firstBy(strings.ToLower(name))
	if !ok {
		return nil
	}
	in := kv.Range{From: idKey(keyReplica, first), To: kv.After([]byte(keyReplica))}
	for p, err := range tx.Scan(in, kv.ScanOptions{KeysOnly: true}) {
		if err != nil {
			return err
		}
		other := ID(p.Key[len(keyReplica):])
		if !strings.HasPrefix(other.String(), strings.ToLower(name)) {
			break
		}
		if other != id {
			return fmt.Errorf(
				"replica name %q: it is how the id of replica %s begins: %w", name, other.Short(), ErrExists,
			)
		}
	}
	return nil
}

// firstBy returns the first id that begins with a text; ok is false if none does, or it is too
// short to name one.
func firstBy(text string) (first ID, ok bool) {
	lowest := ID{}.String() // of zero bits only, as what is missing of a prefix is taken to be
	if len(text) < 4 || len(text) > len(lowest) {
		return first, false
	}
	parsed, err := ids.Decode(text+lowest[len(text):], "a replica id")
	return parsed, err == nil // otherwise it is no part of an id
}

// byPrefix returns the first two replicas whose ids begin with a text.
func (s *Store) byPrefix(ctx context.Context, text string) (found []Replica, err error) {
	first, ok := firstBy(text)
	if !ok {
		return nil, nil
	}
	for r, err := range s.allFrom(ctx, first) {
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(r.ID.String(), text) || len(found) == 2 {
			break
		}
		found = append(found, r)
	}
	return found, nil
}

// Rename gives the replica id another name on this node. It returns ErrNotFound, ErrBadName, or
// ErrExists if another replica has the name.
func (s *Store) Rename(ctx context.Context, id ID, name string) (r Replica, err error) {
	if err := CheckName(name); err != nil {
		return r, err
	}
	err = s.kv.Update(ctx, func(tx kv.Txn) error {
		if r, err = getReplica(tx, id); err != nil {
			return err
		}
		if r.Name == name {
			return nil
		}
		at := append([]byte(keyName), name...)
		if err := isFree(tx, name, id); err != nil {
			return err
		}
		old := append([]byte(keyName), r.Name...)
		r.Name = name
		return errors.Join(tx.Delete(old), tx.Set(at, id[:]), tx.Set(idKey(keyReplica, id), r.marshal()))
	})
	if err != nil {
		return r, err
	}
	return r, s.kv.Sync(ctx)
}

// Leave forgets the replica id with all its entries. It returns ErrNotFound.
func (s *Store) Leave(ctx context.Context, id ID) error {
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	var n number
	ctx = kv.ToMakeRoom(ctx)
	err := s.kv.Update(ctx, func(tx kv.Txn) error {
		r, err := getReplica(tx, id)
		if err != nil {
			return err
		}
		n = r.number
		if s.cfg.OnLeave != nil {
			if err := s.cfg.OnLeave(tx, id); err != nil {
				return err
			}
		}
		return errors.Join(
			tx.Delete(idKey(keyReplica, id)), tx.Delete(append([]byte(keyName), r.Name...)),
			tx.Set(leftKey(id, n), nil),
		)
	})
	if err != nil {
		return err
	}
	s.known.forget(id)
	s.statementsChanged(id)
	return s.erase(ctx, id, n)
}

func leftKey(id ID, n number) []byte {
	return binary.BigEndian.AppendUint32(idKey(keyLeft, id), uint32(n))
}

// eraseLeft goes on with what Leave has begun.
func (s *Store) eraseLeft(ctx context.Context) error {
	var left [][]byte
	err := s.kv.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix([]byte(keyLeft)), kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return err
			}
			left = append(left, bytes.Clone(p.Key[len(keyLeft):]))
		}
		return nil
	})
	for _, b := range left {
		if len(b) == 36 {
			err = errors.Join(err, s.erase(ctx, ID(b), number(binary.BigEndian.Uint32(b[32:]))))
		}
	}
	return err
}

// finishLeaving erases what is left of earlier times at which the node held a replica, before it
// holds it again: records that go by its id would else be erased at the next start, the new ones
// with them.
func (s *Store) finishLeaving(ctx context.Context, id ID) error {
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	var left []number
	err := s.kv.View(ctx, func(r kv.Reader) error {
		left = nil
		prefix := idKey(keyLeft, id)
		for p, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return err
			}
			if len(p.Key) == len(prefix)+4 {
				left = append(left, number(binary.BigEndian.Uint32(p.Key[len(prefix):])))
			}
		}
		return nil
	})
	for _, n := range left {
		err = errors.Join(err, s.erase(ctx, id, n))
	}
	return err
}

// erase deletes all records of a replica that has been left.
func (s *Store) erase(ctx context.Context, id ID, n number) error {
	ctx = kv.ToMakeRoom(ctx)
	var prefixes [][]byte
	for _, kind := range perReplica {
		prefixes = append(prefixes, idKey(kind, id))
	}
	for _, kind := range perEntry {
		prefixes = append(prefixes, numberKey(kind, n))
	}
	if err := s.deletePrefixes(ctx, prefixes); err != nil {
		return fmt.Errorf("erase replica %s: %w", id.Short(), err)
	}
	return s.kv.Update(ctx, func(tx kv.Txn) error { return tx.Delete(leftKey(id, n)) })
}

func (s *Store) deletePrefixes(ctx context.Context, prefixes [][]byte) error {
	for _, prefix := range prefixes {
		err := s.kv.View(ctx, func(r kv.Reader) error {
			return s.kv.Batch(ctx, func(w kv.Writer) error {
				for p, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{KeysOnly: true}) {
					if err != nil {
						return err
					}
					if err := w.Delete(bytes.Clone(p.Key)); err != nil {
						return err
					}
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Counts returns the numbers of a replica's entries, by all authors. It returns ErrNotFound.
func (s *Store) Counts(ctx context.Context, id ID) (c Counts, err error) {
	err = s.view(ctx, id, func(rd kv.Reader, r *Replica) error {
		t, err := getTally(rd, r.number)
		c = t.Counts
		return err
	})
	return c, err
}

// view runs fn on a snapshot with the replica id as it is in it, or returns ErrNotFound.
func (s *Store) view(ctx context.Context, id ID, fn func(rd kv.Reader, r *Replica) error) error {
	return s.kv.View(ctx, func(rd kv.Reader) error {
		r, err := getReplica(rd, id)
		if err != nil {
			return err
		}
		return fn(rd, &r)
	})
}
