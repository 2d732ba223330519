// Package wallet is where an app starts whose user has an EVM wallet: a client of a server of
// collections and, if it is wanted, a replica of that server beside the app, which answers also
// while the server is away.
//
// What belongs here: putting client, signatures and local replica together. What never belongs
// here: any of the three.
//
// Start at Open.
package wallet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/chain"
	"github.com/skerry-sync/skerry/collections/client"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/remote"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/netaddr"
)

// Options set up a Client. Key and Server must be given.
type Options struct {
	Key    eth.Key
	Chain  string       // that requests name; "" is config.DefaultChain
	Server string       // URL of the server, of its origin or with /v1 behind it
	Family evm.Family   // of the headers; "" is evm.OctoBot
	HTTP   *http.Client // nil is http.DefaultClient
	// Replica, unless nil, runs a replica beside the app, which the client uses instead of the server.
	Replica *Replica
}

// Replica sets up a replica.
type Replica struct {
	Config *config.Config   // nil is config.Default()
	Dir    string           // where documents are kept; "" with another Store
	Store  store.Store      // instead of Dir; it is closed with the client, also if Open fails
	Codec  store.Codec      // of documents in Dir that are encrypted at rest; nil if none are
	Listen string           // address on this machine; "" is a free port of 127.0.0.1
	Mode   config.WriteMode // "" is config.Bidirectional
	Every  time.Duration    // of syncs; 0 is a minute
	Chains *chain.Registry  // that give roles; nil gives none, and lets in callers of Options.Chain
	Admins []eth.Address    // nil is the wallet itself
	Log    *slog.Logger     // nil is slog.Default
}

// Client is a client of a wallet. What it pushes bears the wallet's signature.
type Client struct {
	client.Client
	Address eth.Address
	// Local says why collections are served by the replica alone, and are not kept in step with the
	// server.
	Local []error

	key    eth.Key
	remote *remote.Manager // of the replica; nil if there is none
	closes []func() error
}

// healthTime is how long a replica may take to answer for the first time.
const healthTime = 5 * time.Second

// Open returns a client. A replica answers when Open returns, and ends with Close.
func Open(ctx context.Context, o Options) (c *Client, err error) {
	primary := config.Primary{URL: o.Server}
	base, err := primary.Base()
	if err != nil {
		return nil, errors.Join(err, o.Replica.drop())
	}
	o.Chain = cmp.Or(o.Chain, config.DefaultChain)
	c = &Client{Address: o.Key.Address(), key: o.Key}
	signing := evm.NewClient(&evm.Signer{Key: o.Key, Chain: o.Chain, Family: o.Family}, o.HTTP)
	c.Client = client.Client{Base: base, HTTP: signing, SignAuthor: c.SignData}
	if o.Replica == nil {
		return c, nil
	}
	if c.Base, err = c.serve(ctx, &o); err != nil {
		return nil, errors.Join(fmt.Errorf("local replica: %w", err), c.Close())
	}
	return c, nil
}

// drop closes what Open was given and does not use.
func (r *Replica) drop() error {
	if r == nil || r.Store == nil {
		return nil
	}
	return r.Store.Close()
}

// SignData returns the wallet's signature of the data of a document.
func (c *Client) SignData(data *value.Object) string { return evm.SignData(c.key, data) }

// Sync brings a collection of the replica, by its name, in step with the server now.
func (c *Client) Sync(ctx context.Context, collection string) error {
	if c.remote == nil {
		return errors.New("there is no local replica")
	}
	return c.remote.SyncNow(ctx, &config.Collection{Name: collection})
}

// Close ends the replica.
func (c *Client) Close() (err error) {
	for len(c.closes) > 0 {
		last := len(c.closes) - 1
		err = errors.Join(err, c.closes[last]())
		c.closes = c.closes[:last]
	}
	return err
}

// serve starts a replica and returns the URL that paths of it follow.
func (c *Client) serve(ctx context.Context, o *Options) (base string, err error) {
	r := *o.Replica
	kept := r.Store
	if kept == nil {
		if r.Dir == "" {
			return "", errors.New("it needs a directory, or a store, for its documents")
		}
		if kept, err = store.OpenDirectory(r.Dir); err != nil {
			return "", err
		}
		if r.Codec != nil {
			kept = store.Coded(kept, r.Codec)
		}
	}
	c.closes = append(c.closes, kept.Close)
	if r.Config == nil {
		r.Config = config.Default()
	}
	if r.Log == nil {
		r.Log = slog.Default()
	}
	cfg, local, err := r.Config.Replica(config.Primary{URL: o.Server, Mode: cmp.Or(r.Mode, config.Bidirectional), Every: cmp.Or(r.Every, time.Minute), Chain: o.Chain})
	if err != nil {
		return "", err
	}
	c.Local = local
	nonces, err := access.NewNonces(access.NonceOptions{Skew: evm.Window})
	if err != nil {
		return "", err
	}
	c.closes = append(c.closes, nonces.Close)
	if r.Admins == nil {
		r.Admins = []eth.Address{c.Address}
	}
	docs := document.In(kept, nil)
	verifier := &evm.Verifier{Chains: func(id string) bool { return id == o.Chain }, Admins: r.Admins, Nonces: nonces}
	enricher := access.Configured(func() *config.Config { return cfg }, docs, nil)
	if r.Chains != nil {
		verifier.Chains, enricher = r.Chains.Has, access.Compose(enricher, r.Chains.Enricher())
	}
	c.remote = remote.New(docs, o.HTTP, r.Log)
	c.closes = append(c.closes, func() error {
		c.remote.Close()
		return nil
	})
	h, err := collections.New(cfg, collections.Options{
		Documents: docs, Resolver: verifier, Enricher: enricher, MustIdentify: true, Prefix: prefix, Hooks: []collections.Hook{c.remote.Hook()}, Log: r.Log,
	})
	if err != nil {
		return "", err
	}
	if err := c.remote.SetSigned(cfg, &o.Key); err != nil {
		return "", err
	}
	return c.listen(ctx, cmp.Or(r.Listen, "127.0.0.1:0"), h, r.Log)
}

// prefix is what the paths of a replica begin with.
const prefix = "/v1"

// headerTime is how long a request's headers may take.
const headerTime = 10 * time.Second

func (c *Client) listen(
	ctx context.Context, at string, h http.Handler, log *slog.Logger,
) (base string, err error) {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: netaddr.Local(l.Addr(), h), ReadHeaderTimeout: headerTime,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(netaddr.Limit(l, netaddr.MaxLocalConns)) }()
	c.closes = append(c.closes, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), healthTime)
		defer cancel()
		err := srv.Shutdown(ctx)
		if err != nil {
			err = errors.Join(err, srv.Close())
		}
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	})
	base = "http://" + l.Addr().String() + prefix
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	return base, healthy(ctx, base)
}

// healthy asks a server whether it is there.
func healthy(ctx context.Context, base string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/health", nil)
	if err != nil {
		return err
	}
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := hc.Do(req)
	if err != nil {
		return fmt.Errorf("it does not answer: %w", err)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<10))
	if err = errors.Join(err, res.Body.Close()); err != nil || res.StatusCode == http.StatusOK {
		return err
	}
	return fmt.Errorf("%s/health answers %d", base, res.StatusCode)
}
