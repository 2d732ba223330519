package onnode

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
	"github.com/skerry-sync/skerry/versions/merge"
)

// User is a layer above that keeps something of its own in versions, such as the items of apps or
// the files of folders. Its methods may be called at the same time.
type User interface {
	// Kind is what people call what it keeps: "folder".
	Kind() string
	// Options says how the versions of a replica are opened; ok is false if the replica is not its.
	Options(ctx context.Context, id replica.ID) (o Options, ok bool, err error)
	// Name returns what people call the item of a key in one of its replicas, such as the path of a
	// file. It is empty if that is the key itself.
	Name(ctx context.Context, id replica.ID, key []byte) (string, error)
}

// Sets opens the versions of the replicas of a node: each once, for all who use it at a time, in
// the way of the layer whose they are. Its methods may be called at the same time.
type Sets struct {
	n *node.Node

	mu    sync.Mutex // not held while a Set is opened or closed
	users []User
	open  map[replica.ID]*shared
}

// shared is a Set that several use. mu of Sets guards it.
type shared struct {
	users   int
	opened  chan struct{} // closed once set or err is there
	set     *Set
	err     error
	closing bool
	gone    chan struct{} // closed once it is out of the way
	user    User          // whose it was when it was opened
}

// NewSets returns the Sets of a node, of which there should be one.
func NewSets(n *node.Node) *Sets { return &Sets{n: n, open: map[replica.ID]*shared{}} }

// Add adds a layer above. It is asked about replicas that were not its user's before.
func (x *Sets) Add(u User) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.users = append(x.users, u)
}

// UserOf returns whose the versions of a replica are, and how they are opened: nil for a replica
// that nobody says is its own. The contents of that are merged by what they are; see merge.Any.
func (x *Sets) UserOf(ctx context.Context, id replica.ID) (User, Options, error) {
	x.mu.Lock()
	users := x.users
	x.mu.Unlock()
	for _, u := range users {
		o, ok, err := u.Options(ctx, id)
		if err != nil {
			return nil, Options{}, fmt.Errorf("replica %s as a %s: %w", id.Short(), u.Kind(), err)
		}
		if ok {
			return u, o, nil
		}
	}
	return nil, Options{Merge: merge.Func(merge.Any).Keyed}, nil
}

// Open returns the versions of a replica. release must be called when they are not used any more,
// before the node is closed; Close must not. The errors are those of Open of this package.
func (x *Sets) Open(ctx context.Context, id replica.ID) (_ *Set, release func(), err error) {
	for {
		x.mu.Lock()
		s := x.open[id]
		switch {
		case s == nil:
			s = &shared{users: 1, opened: make(chan struct{}), gone: make(chan struct{})}
			x.open[id] = s
			x.mu.Unlock()
			x.openFor(ctx, id, s)
			if s.err != nil {
				return nil, nil, s.err
			}
			return s.set, x.releaser(id, s), nil
		case s.closing:
			x.mu.Unlock()
			if err := wait(ctx, s.gone); err != nil {
				return nil, nil, err
			}
			continue
		}
		s.users++
		x.mu.Unlock()
		release := x.releaser(id, s)
		if err := wait(ctx, s.opened); err != nil {
			release()
			return nil, nil, err
		}
		if s.err == nil {
			// It may have been opened before its user said so: not in the user's way.
			if now, _, err := x.UserOf(ctx, id); err != nil || now != s.user {
				release()
				if err == nil {
					err = wait(ctx, s.gone)
				}
				if err != nil {
					return nil, nil, err
				}
				continue
			}
		}
		switch {
		case s.err == nil:
			return s.set, release, nil
		case !errors.Is(s.err, context.Canceled) && !errors.Is(s.err, context.DeadlineExceeded):
			return nil, nil, s.err
		}
		// whoever opened it for all has gone away
	}
}

func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (x *Sets) openFor(ctx context.Context, id replica.ID, s *shared) {
	user, o, err := x.UserOf(ctx, id)
	if err == nil && o.Name == "" {
		o.Name, err = x.toldName(ctx, id)
	}
	var set *Set
	if err == nil {
		set, err = Open(ctx, x.n, id, o)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	s.user = user
	if s.set, s.err = set, err; err != nil {
		delete(x.open, id)
		close(s.gone)
	}
	close(s.opened)
}

// toldName returns the name that this device has told in a replica. Whoever opens its versions and
// knows no name does not take that away.
func (x *Sets) toldName(ctx context.Context, id replica.ID) (string, error) {
	look, err := x.Look(ctx, id)
	if err != nil {
		return "", err
	}
	_, name, err := look.ReadDevices(ctx)
	return name, err
}

func (x *Sets) releaser(id replica.ID, s *shared) func() {
	return sync.OnceFunc(func() { x.release(id, s) })
}

func (x *Sets) release(id replica.ID, s *shared) {
	x.mu.Lock()
	s.users--
	if s.users > 0 || s.set == nil {
		x.mu.Unlock()
		return
	}
	s.closing = true
	x.mu.Unlock()
	s.set.Close()
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.open, id)
	close(s.gone)
}

// Look returns the versions of a replica for whoever only reads them. It keeps and changes nothing
// on the node, and is not closed, so it may be used on a replica that holds no versions. Writing
// returns ErrLooking.
func (x *Sets) Look(ctx context.Context, id replica.ID) (*versions.Set, error) {
	_, o, err := x.UserOf(ctx, id)
	if err != nil {
		return nil, err
	}
	of := &slots{n: x.n, r: x.n.ReplicaOf(id), displaced: x.n.LookAtDisplaced(id)}
	return versions.Open(ctx, versions.Config{
		Slots: looking{of}, State: lookingDevice{&device{n: x.n, id: id}},
		Key: func(context.Context, replica.AuthorID) (key replica.SecretKey, err error) {
			return key, nil // which signs nothing
		},
		NewKey: func(context.Context) (key replica.SecretKey, err error) { return key, ErrLooking },
		Merge:  o.Merge, MaxMerge: o.MaxMerge, MaxKept: o.MaxKept, DeletionStands: o.DeletionStands,
	})
}

// ErrLooking reports a write by what Look has returned.
var ErrLooking = errors.New("these versions were opened to be read only")

// looking are slots that nobody writes.
type looking struct{ *slots }

// Put implements versions.Slots.
func (looking) Put(
	context.Context, replica.SecretKey, []versions.Value,
) ([]replica.Item, error) {
	return nil, ErrLooking
}

// Forget implements versions.Slots.
func (looking) Forget(context.Context, ...replica.Item) error { return ErrLooking }

// lookingDevice is the device, without what it still has to do.
type lookingDevice struct{ *device }

// Load implements versions.State.
func (x lookingDevice) Load(ctx context.Context) (versions.Device, error) {
	d, err := x.device.Load(ctx)
	d.Copied, d.Former = false, replica.AuthorID{}
	return d, err
}

// Save implements versions.State.
func (lookingDevice) Save(context.Context, versions.Device) error { return ErrLooking }
