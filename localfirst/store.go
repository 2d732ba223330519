package localfirst

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/skerry-sync/skerry/internal/kind"
)

// Kind is a sort of records in a Store.
type Kind string

const (
	// SecretRecord is what only who has the identity may read: keys of namespaces. Its Namespace
	// field is the identity's key id.
	SecretRecord Kind = "secret"
	// NamespaceRecord is what is known of a namespace.
	NamespaceRecord Kind = "namespace"
	// ItemRecord is what is known of an item: the state in which the app's store last had it.
	ItemRecord Kind = "item"
)

// Name is the name of a record. Collection and Key may be empty.
type Name struct {
	Kind       Kind
	Namespace  string
	Collection string
	Key        string
}

// Compare orders names by Kind, Namespace, Collection and Key.
func (n Name) Compare(o Name) int {
	return cmp.Or(cmp.Compare(n.Kind, o.Kind), cmp.Compare(n.Namespace, o.Namespace),
		cmp.Compare(n.Collection, o.Collection), cmp.Compare(n.Key, o.Key))
}

// String returns the name for people: long and unprintable parts are made readable.
func (n Name) String() string {
	return fmt.Sprintf("%.16q %.64q %.64q %.64q", string(n.Kind), n.Namespace, n.Collection, n.Key)
}

// Record is what a Store keeps under a name. A nil Value deletes it.
type Record struct {
	Name
	Value []byte
}

const (
	// MaxRecord is the most bytes of a record's value.
	MaxRecord = 512 << 10
	// MaxBatch is the most bytes of a batch, each record counted with Size.
	MaxBatch = 1 << 20
	// maxNamePart is the most bytes of a kind and of a namespace's name.
	maxNamePart = 255
)

// ErrTooLarge reports a record or a batch that is too large for a Store.
var ErrTooLarge = kind.New(kind.Usage, "too large for the engine's store")

// recordOverhead is what a Store may need for a record besides its name and value.
const recordOverhead = 128

// Size is what a record counts in a batch, in bytes.
func (r *Record) Size() int {
	name := len(r.Kind) + len(r.Namespace) + len(r.Collection) + len(r.Key)
	return recordOverhead + name + len(r.Value)
}

// CheckBatch is what every Store says of records that are to be applied: ErrTooLarge if a value has
// more than MaxRecord bytes, a key more than MaxKey, another part of a name more than 255, or all
// together more than MaxBatch.
func CheckBatch(all []Record) error {
	total := 0
	for i := range all {
		r := &all[i]
		switch {
		case len(r.Value) > MaxRecord:
			return fmt.Errorf("%w: %s has %d bytes, at most %d", ErrTooLarge, r.Name, len(r.Value),
				MaxRecord)
		case len(r.Key) > MaxKey || max(len(r.Kind), len(r.Namespace), len(r.Collection)) > maxNamePart:
			return fmt.Errorf("%w: the name %s", ErrTooLarge, r.Name)
		}
		total += r.Size()
	}
	if total > MaxBatch {
		return fmt.Errorf("%w: a batch of %d bytes, at most %d", ErrTooLarge, total, MaxBatch)
	}
	return nil
}

// Store keeps what the engine must remember: for each item the state that it last saw in the app's
// store, and keys. It holds no values of the app. If it is lost, the engine makes it anew from the
// replica and the app's store; only deletions that had not been published by then are undone.
//
// Its methods may be called at the same time, also in the loop of a Scan. Names may hold any bytes.
// Every Store passes the suite in package storetest.
type Store interface {
	// Get returns the value of a record, or ErrNotFound. The value is the caller's.
	Get(ctx context.Context, n Name) ([]byte, error)
	// Scan yields all records of a kind, namespace and collection, in the order of the bytes of their
	// keys, as they are when the loop begins. A value may be overwritten when the loop goes on. After
	// an error it yields no more.
	Scan(ctx context.Context, k Kind, namespace, collection string) iter.Seq2[Record, error]
	// Apply writes and deletes records, in their order: all or, also after a crash, none. A Scan or
	// Get sees all of them or none, too. It is durable when it returns, and keeps nothing of what it
	// was given. It returns what CheckBatch says.
	Apply(ctx context.Context, all []Record) error
	// ForgetIdentitySecrets deletes the secret records of an identity, and nothing else: what is
	// known of items stays, so that the person can go on later without a first contact.
	ForgetIdentitySecrets(ctx context.Context, keyID string) error
}

// MemoryStore is a Store in memory, for tests and tools that run shortly.
type MemoryStore struct {
	mu  sync.Mutex
	all map[Name][]byte
}

// NewMemoryStore returns an empty one.
func NewMemoryStore() *MemoryStore { return &MemoryStore{all: map[Name][]byte{}} }

// Get implements Store.
func (s *MemoryStore) Get(_ context.Context, n Name) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.all[n]
	if !ok {
		return nil, fmt.Errorf("record %s: %w", n, ErrNotFound)
	}
	return slices.Clone(b), nil
}

// Scan implements Store.
func (s *MemoryStore) Scan(
	_ context.Context, k Kind, namespace, collection string,
) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		var all []Record
		s.mu.Lock()
		for n, b := range s.all {
			if n.Kind == k && n.Namespace == namespace && n.Collection == collection {
				all = append(all, Record{n, slices.Clone(b)})
			}
		}
		s.mu.Unlock()
		slices.SortFunc(all, func(a, b Record) int { return a.Compare(b.Name) })
		for _, r := range all {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Apply implements Store.
func (s *MemoryStore) Apply(_ context.Context, all []Record) error {
	if err := CheckBatch(all); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range all {
		if r.Value == nil {
			delete(s.all, r.Name)
		} else {
			s.all[r.Name] = slices.Clone(r.Value)
		}
	}
	return nil
}

// ForgetIdentitySecrets implements Store.
func (s *MemoryStore) ForgetIdentitySecrets(_ context.Context, keyID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.all {
		if n.Kind == SecretRecord && n.Namespace == keyID {
			delete(s.all, n)
		}
	}
	return nil
}
