// Package service runs a server of collections: it reads a configuration, opens the place where
// documents are kept, lets the rules of that place count, knows who callers are, follows changes,
// and listens.
//
// What belongs here: how the parts of a server are put together, what a configuration may change
// while it runs, and in which order all ends. What never belongs here: any of the parts, flags and
// the environment of a process, which its caller has read, and places: package place has those that
// need a node or a service elsewhere, so that an app which embeds a server links neither.
//
// Start at [Start].
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/chain"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/projection"
	"github.com/skerry-sync/skerry/collections/queue"
	"github.com/skerry-sync/skerry/collections/remote"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/encrypted"
	"github.com/skerry-sync/skerry/identity/eth"
)

// Options set up a Server. Load and Place must be given.
type Options struct {
	// Load reads the configuration, also for Reload. It returns nil if there is none: then the rules
	// of the place say by which configuration is served, or config.Default is.
	Load func() (*config.Config, error)
	// Unconfigured, unless it is nil, is called if config.Default is going to be served.
	Unconfigured func()
	// Complete adds to a configuration what is this server's alone. nil adds nothing.
	Complete func(*config.Config) (*config.Config, error)
	// Place makes the place of the documents, once the configuration has been read.
	Place func(ctx context.Context, at Site) (Place, error)
	// Codec makes what encrypts the documents of a configuration. nil is no encryption: then Start
	// fails for a configuration that asks for it.
	Codec func(*config.Config) (*encrypted.Codec, error)
	// Dir is where the server keeps what is its alone. "" is in memory, and where the documents are.
	Dir string
	// Broker opens the queue on which writes are announced. nil announces nothing.
	Broker func(c *config.NATS, topics func() []string, log *slog.Logger) (queue.Queue, error)

	// Chains tell of roles, beside those that the configuration names. nil is none.
	Chains *chain.Registry
	// Wallets, unless nil, are the only callers that are let in, whatever the configuration says: the
	// server is an app's, which has the configuration of the server that it follows. It keeps no
	// lists (projections), and asks for no rules where there are none.
	Wallets *Wallets

	Prefix      string
	Describe    collections.Describe
	Origin      *url.URL
	Hosts       []string // names of this server, for which callers may have signed requests
	ProxyHops   int
	Anonymous   bool   // lets whoever presents no certificate use what is public
	Audit       string // file to add a record of each request to; "" is none
	Observe     func(*collections.Observation)
	HTTP        *http.Client // by which other servers are asked; nil is remote's
	SignRemotes *eth.Key     // signs requests to them; nil is as the configuration says
	Log         *slog.Logger // nil is slog.Default
}

// Server is a server that runs, and answers once it listens.
type Server struct {
	o      Options
	ctx    context.Context
	log    *slog.Logger
	named  bool // there is a configuration
	place  Place
	rules  Ruled // the place, if it may have rules; else nil
	codec  *encrypted.Codec
	chains *chain.Registry
	docs   *document.Documents
	pair   *keyPair // for HTTPS; nil without

	reloading sync.Mutex // held while another configuration, or other rules, are made to count
	closed    bool       // belongs to reloading
	closing   sync.Mutex // held while the server is closed; closes belongs to it then

	served *collections.Server
	// reads is served, for the store, which is opened before it.
	reads  atomic.Pointer[collections.Server]
	remote *remote.Manager
	queue  *queue.Announcer // nil without
	flush  []func()         // what was asked elsewhere and is remembered
	closes []func() error   // in the order in which they were opened
}

// Start opens all that a server needs. ctx is that of what the server does by itself; Close ends
// it.
func Start(ctx context.Context, o Options) (_ *Server, err error) {
	if o.Load == nil || o.Place == nil {
		return nil, errors.New("a server of collections needs Load and Place")
	}
	s := &Server{o: o, ctx: ctx, log: o.Log, chains: o.Chains}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.chains == nil {
		s.chains = &chain.Registry{}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	cfg, err := s.decide()
	if err != nil {
		return nil, err
	}
	if !s.named && !s.Ruled() && o.Unconfigured != nil {
		o.Unconfigured()
	}
	if s.codec, err = s.codecOf(cfg); err != nil {
		return nil, err
	}
	if o.Wallets == nil {
		if err := s.openChains(cfg.EVM); err != nil {
			return nil, err
		}
	}
	keep := Keep{Longest: s.longest, Log: s.log}
	keep.SharedNonces = cfg.EVM != nil && cfg.EVM.SharedNonces
	if s.codec != nil {
		keep.Codec = s.codec
	}
	kept, err := s.place.Open(ctx, keep)
	if err != nil {
		return nil, err
	}
	s.closes = append(s.closes, kept.Close)
	opts, err := s.options(ctx, cfg, kept)
	if err != nil {
		return nil, err
	}
	if s.served, err = collections.New(cfg, opts); err != nil {
		return nil, err
	}
	s.reads.Store(s.served)
	if err := s.remote.SetSigned(cfg, o.SignRemotes); err != nil {
		return nil, err
	}
	s.follow(opts.Revocations) // which asks what is served
	return s, nil
}

// longestAtStart is how many bytes are read under a key before there is a server.
const longestAtStart = 8 << 20

// longest returns how many bytes may be stored under a key.
func (s *Server) longest(key string) int64 {
	if served := s.reads.Load(); served != nil {
		return served.Longest(key)
	}
	return longestAtStart
}

// decide opens the place and returns the configuration by which is served.
func (s *Server) decide() (*config.Config, error) {
	cfg, err := s.load()
	if err != nil {
		return nil, err
	}
	at := Site{Prefix: s.o.Prefix, Chains: s.chains, Log: s.log}
	if s.place, err = s.o.Place(s.ctx, at); err != nil {
		return nil, err
	}
	s.rules, _ = s.place.(Ruled)
	switch {
	case s.rules != nil:
		return s.openRules(cfg)
	case cfg.Rules != nil && s.o.Wallets == nil:
		return nil, ErrNoRules
	case !s.named:
		return s.complete(cfg)
	}
	return cfg, nil
}

// load reads the configuration. One that is named is completed; without one, the rules of the place
// may say more.
func (s *Server) load() (*config.Config, error) {
	c, err := s.o.Load()
	if err != nil {
		return nil, err
	}
	if s.named = c != nil; !s.named {
		return config.Default(), nil
	}
	return s.complete(c)
}

func (s *Server) complete(c *config.Config) (*config.Config, error) {
	if s.o.Complete == nil {
		return c, nil
	}
	return s.o.Complete(c)
}

func (s *Server) codecOf(c *config.Config) (*encrypted.Codec, error) {
	if s.o.Codec == nil {
		return nil, nil
	}
	return s.o.Codec(c)
}

// Ruled reports whether the documents are in a place that has rules.
func (s *Server) Ruled() bool { return s.rules != nil && s.rules.InForce() != nil }

// options opens what is between the documents and the callers.
func (s *Server) options(
	ctx context.Context, cfg *config.Config, kept store.Store,
) (opts collections.Options, err error) {
	s.docs = document.In(kept, nil)
	opts = collections.Options{
		Observe: s.o.Observe, Documents: s.docs, Whole: s.Ruled, Prefix: s.o.Prefix,
		Describe: s.o.Describe, Origin: s.o.Origin, ProxyHops: s.o.ProxyHops, Log: s.log,
		Enricher:  access.Configured(s.Config, s.docs, nil),
		KnownHost: s.knownHost(),
	}
	if s.o.Wallets == nil || s.rules != nil {
		if opts.Revocations, err = s.revocations(ctx, kept); err != nil {
			return opts, err
		}
	}
	if s.rules != nil {
		s.rules.Judge(kept, opts.Revocations)
	}
	if err := s.identify(cfg, &opts, kept); err != nil {
		return opts, err
	}
	if s.o.Audit != "" {
		f, err := collections.OpenAuditFile(s.o.Audit)
		if err != nil {
			return opts, fmt.Errorf("audit: %w", err)
		}
		s.closes = append(s.closes, f.Close)
		opts.Audit = f
	}
	opts.Hooks, err = s.hooks(cfg)
	return opts, err
}

// revocationsEvery is how often the server looks for lists of revocations that other nodes have
// taken.
const revocationsEvery = 10 * time.Second

// revocations opens the lists of revocations. Other holders of a place with rules do not learn who
// has sent what from where.
func (s *Server) revocations(ctx context.Context, kept store.Store) (*access.Revocations, error) {
	notes := kept
	if s.rules != nil && s.o.Dir != "" {
		var err error
		notes, err = store.OpenDirectory(filepath.Join(s.o.Dir, "standing"))
		if err != nil {
			return nil, err
		}
		s.closes = append(s.closes, notes.Close)
	} else if s.rules != nil {
		notes = store.NewMemory()
	}
	return access.NewRevocations(ctx, kept, notes)
}

// follow begins to look for what others have changed.
func (s *Server) follow(r *access.Revocations) {
	if s.rules != nil {
		s.every(rulesEvery, func(ctx context.Context) {
			if err := s.followRules(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("the rules of the replica", "error", err)
			}
		})
	}
	if r != nil {
		s.every(revocationsEvery, func(ctx context.Context) {
			if err := r.Load(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("lists of revocations could not be read", "error", err)
			}
		})
	}
}

// hooks returns what is to happen beside answering requests.
func (s *Server) hooks(cfg *config.Config) ([]collections.Hook, error) {
	s.remote = remote.New(s.docs, s.o.HTTP, s.log)
	s.closes = append(s.closes, func() error {
		s.remote.Close()
		return nil
	})
	all := []collections.Hook{s.remote.Hook()}
	if s.o.Wallets == nil { // an app has few of the documents: its server's list would lose the rest
		lists := func() []*projection.Projection { return projection.Configured(s.Config()) }
		all = append(all, projection.In(s.docs).Hook(lists, s.log))
	}
	q := cfg.Queue
	switch {
	case q == nil || s.o.Broker == nil:
		return all, nil
	case q.NATS == nil:
		return nil, errors.New("extensions.queue: there is nothing to announce writes on; " +
			"name a server in nats.url")
	}
	broker, err := s.o.Broker(q.NATS, func() []string { return s.Config().Queue.Subjects() }, s.log)
	if err != nil {
		return nil, fmt.Errorf("extensions.queue: %w", err)
	}
	s.queue = queue.NewAnnouncer(broker, s.Config, s.log)
	s.closes = append(s.closes, s.queue.Close)
	return append(all, s.queue.Hook()), nil
}

// Config returns the configuration by which is served.
func (s *Server) Config() *config.Config { return s.served.Config() }

// Remotes tells how far the server is in step with others.
func (s *Server) Remotes() []remote.Status { return s.remote.Statuses() }

// Announced returns what counts the writes that were announced, nil if none ever are.
func (s *Server) Announced() func() queue.Stats {
	if s.queue == nil {
		return nil
	}
	return s.queue.Stats
}

// SyncNow brings a collection, by its name, in step with another server now.
func (s *Server) SyncNow(ctx context.Context, collection string) error {
	return s.remote.SyncNow(ctx, &config.Collection{Name: collection})
}

// ErrClosed reports a server that has been closed.
var ErrClosed = errors.New("the server has been closed")

// Reload reads the configuration again. After an error, that of before goes on to count. It returns
// ErrClosed when the server has been closed, and may be called while it is.
func (s *Server) Reload() error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	if s.closed {
		return ErrClosed
	}
	c, err := s.load()
	switch {
	case err != nil || s.named:
	case s.Ruled():
		c, err = s.underRules(s.rules.InForce(), c)
	default:
		c, err = s.complete(c)
	}
	if err != nil {
		return err
	}
	if err := s.changeable(c); err != nil {
		return err
	}
	if c, err = s.reloadRules(c); err != nil {
		return err
	}
	was := s.Config()
	if err := s.remote.SetSigned(c, s.o.SignRemotes); err != nil {
		return err
	}
	if err := s.served.Reload(c); err != nil {
		return errors.Join(err, s.remote.SetSigned(was, s.o.SignRemotes))
	}
	for _, forget := range s.flush {
		forget()
	}
	return nil
}

// changeable returns an error for a configuration that counts only after a restart.
func (s *Server) changeable(c *config.Config) error {
	was := s.Config()
	if s.o.Broker != nil && !sameQueue(c.Queue, was.Queue) {
		return errors.New("extensions.queue: another server for the queue counts only after a restart")
	}
	if !reflect.DeepEqual(c.EVM, was.EVM) {
		return errors.New("extensions.evm: other chains, or other ways to ask them, count only after " +
			"a restart")
	}
	codec, err := s.codecOf(c)
	if err != nil {
		return err
	}
	if (codec == nil) != (s.codec == nil) || codec != nil && !codec.Same(s.codec) {
		return errors.New("encryption: which documents are encrypted at rest changes only after a " +
			"restart; skerry collections migrate is for those that are there")
	}
	return nil
}

// sameQueue reports whether two configurations, which a server with a broker has taken, name the
// same queue.
func sameQueue(a, b *config.Queue) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.NATS != nil && b.NATS != nil && *a.NATS == *b.NATS
}

// every does something again and again until the server is closed.
func (s *Server) every(d time.Duration, do func(ctx context.Context)) {
	ctx, stop := context.WithCancel(s.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				do(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
	s.closes = append(s.closes, func() error {
		stop()
		<-done
		return nil
	})
}

// Close ends the server, in the order opposite to that in which it was opened. What has been
// accepted is answered. It may be called several times, also at once: each call returns when the
// server has ended, and the first that does anything returns what has failed.
func (s *Server) Close() (err error) {
	s.reloading.Lock() // what is made to count now would begin again what is ended below
	s.closed = true
	s.reloading.Unlock()
	s.closing.Lock()
	defer s.closing.Unlock()
	for len(s.closes) > 0 {
		last := len(s.closes) - 1
		err = errors.Join(err, s.closes[last]())
		s.closes = s.closes[:last]
	}
	return err
}
