package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/keyring"
	"github.com/skerry-sync/skerry/collections/value"
)

// Sync keeps a document in step with a server: it remembers what is there, and when somebody else
// has written meanwhile it merges and writes again. Its methods may be called by several goroutines
// at once.
type Sync struct {
	Client *Client
	Path   string // storage path
	// Resolve returns what becomes of data that is to be pushed and data that is there; nil is
	// value.Merge, by which what is there stands.
	Resolve func(ours, theirs *value.Object) (*value.Object, error)
	Sealer  *keyring.Sealer // of an encrypted collection, or nil
	Sign    bool            // what is pushed bears the client's proof
	// whose proof, by public key, what is pulled must bear; "*" is anybody's, "" none
	Author  string
	Retries int // after conflicts; 0 is 3

	mu   sync.Mutex
	data *value.Object
	hash string
}

// ErrNotProved reports a document that does not bear the proof that is asked for.
var ErrNotProved = errors.New("the document does not bear the author's proof")

// conflictWait is how long it is waited after the first conflict; after each further one twice as
// long.
const conflictWait = 100 * time.Millisecond

// Data returns what was pulled or pushed last, nil before that.
func (s *Sync) Data() *value.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data
}

// Pull returns what is there. It returns an error that is ErrNotProved.
func (s *Sync) Pull(ctx context.Context) (*value.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pull(ctx)
}

func (s *Sync) pull(ctx context.Context) (*value.Object, error) {
	d, err := s.Client.Pull(ctx, s.Path)
	if err != nil {
		return nil, err
	}
	data := d.Data
	if d.Hash != "" {
		if s.Author != "" &&
			!d.Verify(s.Path, map[bool]string{true: "", false: s.Author}[s.Author == "*"]) {
			return nil, fmt.Errorf("pull %s: %w", s.Path, ErrNotProved)
		}
		if s.Sealer != nil {
			if data, err = s.Sealer.Open(data); err != nil {
				return nil, fmt.Errorf("pull %s: %w", s.Path, err)
			}
		}
	}
	s.data, s.hash = data, d.Hash
	return data, nil
}

// Push writes data over what was pulled last, or merges it with what somebody else has written
// since. It returns an error that is ErrConflict if others are faster each time.
func (s *Sync) Push(ctx context.Context, data *value.Object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.push(ctx, data)
}

func (s *Sync) push(ctx context.Context, data *value.Object) error {
	retries := s.Retries
	if retries == 0 {
		retries = 3
	}
	for attempt := 0; ; attempt++ {
		sealed := data
		var err error
		if s.Sealer != nil {
			if sealed, err = s.Sealer.Seal(data); err != nil {
				return err
			}
		}
		w, err := s.Client.Push(ctx, s.Path, sealed, s.hash, s.Sign)
		if err == nil {
			s.data, s.hash = data, w.Hash
			return nil
		}
		if !errors.Is(err, ErrConflict) || attempt >= retries {
			return err
		}
		theirs, err := s.pull(ctx)
		if err != nil {
			return err
		}
		if s.Resolve == nil {
			data = value.Merge(data, theirs)
		} else if data, err = s.Resolve(data, theirs); err != nil {
			return err
		}
		select {
		case <-time.After(conflictWait<<attempt + rand.N(conflictWait)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Update pulls, and pushes what change makes of that.
func (s *Sync) Update(ctx context.Context, change func(data *value.Object) *value.Object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, err := s.pull(ctx)
	if err != nil {
		return err
	}
	return s.push(ctx, change(data))
}

// Keyring is the keyring of a collection at a server, with the identity of who uses it.
type Keyring struct {
	Client  *Client
	Path    string      // storage path, usually that of the collection and /_keyring
	Adder   capcert.Key // signs what is added
	Trusted []string    // public keys of those who may add recipients
	Now     func() time.Time
	// Seen is what was seen or made last. An earlier keyring is refused: a server that shows it would
	// have whoever was removed since given the next key. So is one that does not go on from it, as
	// that of another collection with other recipients. It is kept up to date; a program that ends and
	// begins again must bring it along. Zero is none yet.
	Seen Seen
}

// Seen is what is remembered of a keyring.
type Seen struct {
	Epoch   int      `json:"epoch"`
	Entries []string `json:"entries"` // what the adders whom one trusts have signed in that epoch
}

func (k *Keyring) now() int64 {
	if k.Now != nil {
		return k.Now().Unix()
	}
	return time.Now().Unix()
}

// Get returns the keyring and its hash; nil if there is none. It returns keyring.ErrRolledBack for
// one that is older than one that was seen, or if there is none any more.
func (k *Keyring) Get(ctx context.Context) (*keyring.Keyring, string, error) {
	d, err := k.Client.Pull(ctx, k.Path)
	if err != nil {
		return nil, "", err
	}
	if d.Hash == "" {
		if k.Seen.Epoch > 0 {
			err = fmt.Errorf(
				"keyring %s: %w: there is none, and epoch %d was", k.Path, keyring.ErrRolledBack, k.Seen.Epoch,
			)
		}
		return nil, "", err
	}
	ring, err := keyring.Parse(d.Data)
	if err == nil {
		err = k.goesOn(ring)
	}
	if err != nil {
		return nil, "", fmt.Errorf("keyring %s: %w", k.Path, err)
	}
	k.see(ring)
	return ring, d.Hash, nil
}

// goesOn returns keyring.ErrRolledBack for a keyring that lacks something that was seen.
func (k *Keyring) goesOn(ring *keyring.Keyring) error {
	if ring.Current < k.Seen.Epoch {
		return fmt.Errorf("%w: epoch %d, not %d", keyring.ErrRolledBack, ring.Current, k.Seen.Epoch)
	}
	there := map[string]bool{}
	for _, e := range ring.Epochs[k.Seen.Epoch].Entries {
		there[e.Signature] = true
	}
	for _, signature := range k.Seen.Entries {
		if !there[signature] {
			return fmt.Errorf(
				"%w, or another: epoch %d lacks an entry that it had", keyring.ErrRolledBack, k.Seen.Epoch,
			)
		}
	}
	return nil
}

// see notes what those who may have added to a keyring's epoch: the number alone is a server's
// word.
func (k *Keyring) see(ring *keyring.Keyring) {
	added, err := ring.Recipients(append(slices.Clip(k.Trusted), k.Adder.Public))
	if err != nil || len(added) == 0 || ring.Current < k.Seen.Epoch {
		return
	}
	k.Seen = Seen{Epoch: ring.Current}
	for _, e := range added {
		k.Seen.Entries = append(k.Seen.Entries, e.Signature)
	}
}

// ErrNoKeyring reports a collection that has none.
var ErrNoKeyring = errors.New("the collection has no keyring: make one first")

// changes is how often a change of a keyring is tried that others forestall.
const changes = 4

// change replaces the keyring.
func (k *Keyring) change(
	ctx context.Context, f func(*keyring.Keyring) (*keyring.Keyring, error),
) error {
	for attempt := 0; ; attempt++ {
		now, hash, err := k.Get(ctx)
		if err != nil {
			return err
		}
		next, err := f(now)
		if err != nil {
			return fmt.Errorf("keyring %s: %w", k.Path, err)
		}
		_, err = k.Client.Push(ctx, k.Path, next.Object(), hash, false)
		if err == nil {
			k.see(next)
		}
		if !errors.Is(err, ErrConflict) || attempt == changes {
			return err
		}
	}
}

// Create makes a keyring for recipients, if there is none. It returns keyring.ErrPresent if there
// is one.
func (k *Keyring) Create(ctx context.Context, recipients ...string) error {
	return k.change(ctx, func(now *keyring.Keyring) (*keyring.Keyring, error) {
		if now != nil {
			return nil, keyring.ErrPresent
		}
		return keyring.New(k.Adder, recipients, k.now())
	})
}

// Add gives a recipient the key, which sealer has.
func (k *Keyring) Add(ctx context.Context, sealer *keyring.Sealer, recipient string) error {
	return k.change(ctx, func(now *keyring.Keyring) (*keyring.Keyring, error) {
		if now == nil {
			return nil, ErrNoKeyring
		}
		return now.Add(k.Adder, sealer, recipient, k.now())
	})
}

// Remove begins an epoch whose key the named recipients do not get.
func (k *Keyring) Remove(ctx context.Context, recipients ...string) error {
	return k.change(ctx, func(now *keyring.Keyring) (*keyring.Keyring, error) {
		if now == nil {
			return nil, ErrNoKeyring
		}
		return now.Remove(k.Adder, recipients, k.Trusted, k.now())
	})
}
