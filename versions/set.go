package versions

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/record"
)

// Config says whose versions a Set writes, and where. Slots, State, Key and NewKey must be given.
type Config struct {
	Slots Slots
	State State
	// Key returns the secret key of an author of this device.
	Key func(ctx context.Context, a replica.AuthorID) (replica.SecretKey, error)
	// NewKey makes a new author who may write: for the first version, and when the device finds that
	// its author writes elsewhere, too. It returns ErrNoAuthor if there can be none.
	NewKey func(ctx context.Context) (replica.SecretKey, error)
	// Clock returns what peers say about this device's clock, and waits for nobody: it is called for
	// each write. Nil is for a clock of which nothing is known.
	Clock func() Clock
	// Merge merges two contents of a key that follow on base, which is nil if they have nothing in
	// common. It must give the same on all devices, and may be called from several goroutines. An
	// error says why only a person can; the item's Conflict wraps it and has its text. Nil is for
	// contents that cannot be merged. For text and JSON there is merge.Func(merge.Any).Keyed, and for
	// others the method Keyed of their merge.Func; a function of one's own can choose by the key.
	Merge func(key, base, local, remote []byte) (merged []byte, err error)
	// MaxMerge is how many bytes a content may have to be merged; larger ones are conflicts.
	// 0 is DefaultMaxMerge.
	MaxMerge uint64
	// MaxKept is how many bytes of former contents a version keeps for merges to come, and to be
	// restored; less if they are larger than MaxMerge. 0 is DefaultMaxKept.
	MaxKept uint64
	// Name is what people call this device. It is in the replica, for all who can read that; empty is
	// no name. It has at most record.MaxName bytes.
	Name string
	// DeletionStands has a deletion stand against an edit that did not know of it.
	DeletionStands bool

	incarnate func() record.Incarnation // in simulations
}

const (
	// DefaultMaxMerge is 1 MiB.
	DefaultMaxMerge = 1 << 20
	// DefaultMaxKept is 2 MiB.
	DefaultMaxKept = 2 << 20
)

// reservedAtOnce is how many counters are made durable at a time. What is not used of them when the
// program ends is passed over.
const reservedAtOnce = 1 << 12

var (
	// ErrStale reports an edit of an item that this device has written since it was read: what it
	// would overwrite has not been seen.
	ErrStale = kind.New(kind.Conflict, "the item has been written here since it was read")
	// ErrPending reports an edit of an item of which this device's last version has come back from
	// elsewhere, and its content has not.
	ErrPending = kind.New(kind.Unreachable,
		"this device's last version of the item is not here yet: try again when its content has come")
	// ErrReservedKey reports a key that is kept for what versions need themselves.
	ErrReservedKey = kind.New(kind.Usage, "a key must not begin with a zero byte")
	// ErrNoAuthor reports that this device needs an author of its own, for its first version or since
	// it was copied, and that nobody here may let one write.
	ErrNoAuthor = kind.New(kind.NotAllowed,
		"this device needs an author of its own to write versions, and may not let a new one write")
	// errFalse reports a content that is not what its record says.
	errFalse = errors.New("the content is not what its record says")
)

// Set is the versions of a replica, as one device reads and writes them. Its methods may be called
// at the same time; another Set of the same device must not be used beside it.
type Set struct {
	cfg    Config
	hashes *record.Hashes

	mu    sync.Mutex // over all that is written
	dev   Device
	key   replica.SecretKey
	first uint64 // counter that this Set began with
	next  uint64

	seen seen
	held held
	acks acks
}

// Open returns the versions of a replica. If the device was about to publish its versions under a
// new author, that is done first. If it may not have one, or its clock is wrong, it can read, and
// writes say why.
func Open(ctx context.Context, cfg Config) (*Set, error) {
	if cfg.MaxMerge == 0 {
		cfg.MaxMerge = DefaultMaxMerge
	}
	if cfg.MaxKept == 0 {
		cfg.MaxKept = DefaultMaxKept
	}
	if cfg.incarnate == nil {
		cfg.incarnate = newIncarnation
	}
	s := &Set{cfg: cfg, hashes: record.HashesOf(cfg.Slots.ID())}
	dev, err := cfg.State.Load(ctx)
	switch {
	case errors.Is(err, ErrNoDevice):
		return s, nil
	case err != nil:
		return nil, s.failed(err)
	}
	if s.key, err = cfg.Key(ctx, dev.Author); err != nil {
		return nil, s.failed(err)
	}
	s.take(dev)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err = s.become(ctx); err != nil && !errors.Is(err, ErrNoAuthor) && !isClockWrong(err) {
		return nil, s.failed(err)
	}
	return s, nil
}

func (s *Set) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("versions of replica %s: %w", s.cfg.Slots.ID().Short(), err)
}

// take begins with a device's next counter.
func (s *Set) take(d Device) {
	s.dev, s.first, s.next = d, d.Reserved+1, d.Reserved+1
}

// device returns the device of the versions that are written.
func (s *Set) device() record.Device {
	return record.Device{Author: record.TagOf(s.dev.Author), Incarnation: s.dev.Incarnation}
}

// Device returns the device that writes; ok is false if it has written nothing yet.
func (s *Set) Device() (d record.Device, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.device(), s.dev.Author != (replica.AuthorID{})
}

// reserve returns the first of n counters. The caller holds the lock.
func (s *Set) reserve(ctx context.Context, n uint64) (first uint64, err error) {
	if s.dev.Author == (replica.AuthorID{}) {
		if err := s.begin(ctx); err != nil {
			return 0, err
		}
	}
	if last := s.next + n - 1; last > s.dev.Reserved {
		dev := s.dev
		dev.Reserved = last + reservedAtOnce
		if err := s.cfg.State.Save(ctx, dev); err != nil {
			return 0, err
		}
		s.dev = dev
	}
	first = s.next
	s.next += n
	return first, nil
}

// begin makes the device.
func (s *Set) begin(ctx context.Context) (err error) {
	if s.key, err = s.newKey(ctx); err != nil {
		return err
	}
	s.take(Device{Author: s.key.Author(), Incarnation: s.cfg.incarnate()})
	return nil
}

func newIncarnation() (i record.Incarnation) {
	_, _ = rand.Read(i[:]) // never fails
	return i
}
