package service

import (
	"context"
	"log/slog"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/chain"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/store"
)

// Site is what a place may know of the server whose documents it keeps.
type Site struct {
	Prefix string          // of all paths that callers sign
	Chains *chain.Registry // that give roles
	Log    *slog.Logger
}

// Place is where the documents of a server are kept.
type Place interface {
	// Open opens the store. The server closes it.
	Open(ctx context.Context, k Keep) (store.Store, error)
}

// Keep says how documents are kept.
type Keep struct {
	Codec store.Codec // of documents that are encrypted at rest; nil keeps them as they are
	// SharedNonces is set if several servers remember used nonces in the store, which must tell for
	// sure which of them was first.
	SharedNonces bool
	Log          *slog.Logger
}

// Ruled is a place that several servers write, and that may have rules by which each of them tells
// what counts. Its methods are called before Open, too.
type Ruled interface {
	Place
	// Current returns the rules of the place, nil if it has none. If this server may make them and
	// its own configuration asks for rules, they are made of it.
	Current(ctx context.Context, own *config.Config) (Rules, error)
	// Newer returns rules that are newer than those in force, nil if there are none.
	Newer(ctx context.Context) (Rules, error)
	// Apply puts rules in force, unless they are not newer than those that are.
	Apply(r Rules) error
	// InForce returns the rules in force, nil without.
	InForce() Rules
	// Judge gives the rules what they ask for who may do what.
	Judge(kept store.Store, r *access.Revocations)
}

// Rules are what all servers of a place have in common.
type Rules interface {
	SerialNumber() uint64
	PathPrefix() string // of all paths that callers sign
	Shared() *config.Config
}

// In returns the place that is a store. A server that has opened it closes it.
func In(s store.Store) func(context.Context, Site) (Place, error) {
	return func(context.Context, Site) (Place, error) { return in{s}, nil }
}

type in struct{ store.Store }

func (p in) Open(_ context.Context, k Keep) (store.Store, error) {
	if k.Codec == nil {
		return p.Store, nil
	}
	return store.Coded(p.Store, k.Codec), nil
}
