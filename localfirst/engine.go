package localfirst

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
)

// Config is for Open. Client, Identity and Store must be given.
type Config struct {
	Client   Client
	Identity Identity
	Store    Store
	// Device is what people call this device. Others who can read the namespaces see it.
	Device string
	// PollInterval is how long Run waits between two passes if nothing happens. What others write is
	// applied when it comes, so this only bounds how long something that was missed can last. 0 is
	// DefaultPollInterval.
	PollInterval time.Duration
	// MaxPollInterval is how long it waits at most after passes that failed, or while the app is idle.
	// 0 is DefaultMaxPollInterval.
	MaxPollInterval time.Duration
	// Event, if set, is told what happens to items, one after the other. It must not call the engine.
	Event func(Event)
	Log   *slog.Logger // nil is for none
	Now   func() time.Time
}

const (
	// DefaultPollInterval is 30 s.
	DefaultPollInterval = 30 * time.Second
	// DefaultMaxPollInterval is 10 min.
	DefaultMaxPollInterval = 10 * time.Minute
)

// Errors of the engine.
var (
	// ErrClosed reports an engine that was closed.
	ErrClosed = kind.New(kind.Conflict, "the engine is closed")
	// ErrInUse reports a namespace that another engine has open.
	ErrInUse = kind.New(kind.Conflict, "another engine has this namespace open")
	// ErrNoNamespace reports a namespace whose replica the node does not hold.
	ErrNoNamespace = kind.New(kind.NotFound, "the node does not hold this namespace")
)

// Engine keeps collections the same everywhere. Its methods may be called at the same time.
type Engine struct {
	cfg   Config
	keyID string
	wake  chan struct{} // has room for one: a pass is wanted
	reset chan struct{} // has room for one: back-off is over

	mu     sync.Mutex
	open   map[replica.ID]*Namespace
	idle   bool
	closed bool

	passing sync.Mutex // held during a pass
}

// Open returns an engine. It reads nothing from the network.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	if cfg.Client == nil || cfg.Identity == nil || cfg.Store == nil {
		return nil, fmt.Errorf("localfirst: %w: Client, Identity and Store must be given", ErrUsage)
	}
	if cfg.PollInterval == 0 {
		cfg.PollInterval = DefaultPollInterval
	}
	if cfg.MaxPollInterval == 0 {
		cfg.MaxPollInterval = max(DefaultMaxPollInterval, cfg.PollInterval)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	id, err := cfg.Identity.KeyID(ctx)
	if err != nil {
		return nil, fmt.Errorf("localfirst: the identity: %w", err)
	}
	return &Engine{
		cfg: cfg, keyID: id, open: map[replica.ID]*Namespace{},
		wake: make(chan struct{}, 1), reset: make(chan struct{}, 1),
	}, nil
}

// Close ends what is under way and closes all namespaces. Run returns.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	all := slices.Collect(maps.Values(e.open))
	clear(e.open)
	e.mu.Unlock()
	e.ScheduleSync()
	e.passing.Lock()
	defer e.passing.Unlock()
	for _, ns := range all {
		ns.space.Close()
	}
	return nil
}

func (e *Engine) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// Purposes for which the identity gives secrets.
const (
	purposeOwner = "github.com/skerry-sync/skerry localfirst 1 default namespace, owner"
	purposeRead  = "github.com/skerry-sync/skerry localfirst 1 default namespace, read key"
)

// DefaultNamespace returns the namespace that all devices of the identity have, without being told.
// The first time, it asks the identity for its keys.
func (e *Engine) DefaultNamespace(ctx context.Context) (*Namespace, error) {
	secret := Name{Kind: SecretRecord, Namespace: e.keyID, Key: "default"}
	b, err := e.cfg.Store.Get(ctx, secret)
	if err == nil && len(b) == 32 {
		id := replica.ID(b)
		if held, err := e.cfg.Client.Holds(ctx, id); err != nil {
			return nil, fmt.Errorf("localfirst: %w", err)
		} else if held {
			return e.namespace(ctx, id)
		}
	} else if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("localfirst: the engine's store: %w", err)
	}
	owner, err := e.cfg.Identity.Derive(ctx, purposeOwner)
	if err != nil {
		return nil, fmt.Errorf("localfirst: the identity: %w", err)
	}
	read, err := e.cfg.Identity.Derive(ctx, purposeRead)
	if err != nil {
		return nil, fmt.Errorf("localfirst: the identity: %w", err)
	}
	key := replica.SecretKeyFromSeed(owner)
	if err := e.cfg.Client.Found(ctx, "app data", key, seal.ReadKey(read)); err != nil {
		return nil, fmt.Errorf("localfirst: the default namespace: %w", err)
	}
	id := key.Replica()
	if err := e.cfg.Store.Apply(ctx, []Record{{secret, id[:]}}); err != nil {
		return nil, fmt.Errorf("localfirst: the engine's store: %w", err)
	}
	return e.namespace(ctx, id)
}

// CreateSharedNamespace makes a namespace that can be shared with others.
func (e *Engine) CreateSharedNamespace(ctx context.Context) (*Namespace, error) {
	id, err := e.cfg.Client.Create(ctx, "shared app data")
	if err != nil {
		return nil, fmt.Errorf("localfirst: a new namespace: %w", err)
	}
	return e.namespace(ctx, id)
}

// JoinNamespace opens a namespace whose replica the node holds.
func (e *Engine) JoinNamespace(ctx context.Context, id replica.ID) (*Namespace, error) {
	held, err := e.cfg.Client.Holds(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("localfirst: %w", err)
	}
	if !held {
		return nil, fmt.Errorf("namespace %s: %w", id.Short(), ErrNoNamespace)
	}
	return e.namespace(ctx, id)
}

// namespace opens a namespace, or returns the one that is open.
func (e *Engine) namespace(ctx context.Context, id replica.ID) (*Namespace, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	if ns := e.open[id]; ns != nil {
		return ns, nil
	}
	ns := &Namespace{
		e: e, id: id, name: id.String(), namer: newNamer(id),
		changed: map[string]bool{}, later: map[string]time.Time{},
	}
	space, err := e.cfg.Client.Open(ctx, id, SpaceOptions{
		Merge: ns.merge, Name: ns.title, Changed: e.ScheduleSync, Device: e.cfg.Device,
	})
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", id.Short(), err)
	}
	ns.space, ns.set = space, space.Versions()
	e.open[id] = ns
	return ns, nil
}

// ForgetIdentitySecrets forgets the keys that the engine keeps for an identity. What it knows of
// items stays.
func (e *Engine) ForgetIdentitySecrets(ctx context.Context) error {
	return e.cfg.Store.ForgetIdentitySecrets(ctx, e.keyID)
}

// EventKind says what has happened to an item.
type EventKind string

const (
	// Applied: what others wrote is in the app's store.
	Applied EventKind = "applied"
	// Published: what the app wrote is in the replica.
	Published EventKind = "published"
	// Conflicted: the app's store holds one of several values that a person must decide about.
	Conflicted EventKind = "conflicted"
	// Failed: the item is left alone, and tried again. Err says why.
	Failed EventKind = "failed"
	// Unknown: somebody has written an item of a collection that is not open, or of a key that is out
	// of scope.
	Unknown EventKind = "unknown"
)

// Event is something that has happened to an item.
type Event struct {
	Kind       EventKind
	Namespace  replica.ID
	Collection string
	Key        string
	Err        error
}

func (e *Engine) tell(ev Event) {
	if e.cfg.Event != nil {
		e.cfg.Event(ev)
	}
}
