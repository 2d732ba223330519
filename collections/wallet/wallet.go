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
	"net/http"
	"time"

	"github.com/skerry-sync/skerry/collections/chain"
	"github.com/skerry-sync/skerry/collections/client"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/service"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
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
	Config *config.Config // nil is config.Default()
	Dir    string         // where documents are kept; "" with another Store
	Store  store.Store    // instead of Dir; it is closed with the client, also if Open fails
	// Place, unless nil, is instead of Dir where documents are kept; package place has some, such as
	// in a replica of a node, whose rules count here then, too.
	Place  func(ctx context.Context, at service.Site) (service.Place, error)
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
	server *service.Server // the replica; nil if there is none
}

// healthTime is how long a replica may take to answer for the first time.
const healthTime = 5 * time.Second

// Open returns a client. A replica answers when Open returns, and ends with Close.
func Open(ctx context.Context, o Options) (c *Client, err error) {
	primary := config.Primary{URL: o.Server}
	base, err := primary.Base()
	if err == nil && o.Key == (eth.Key{}) {
		err = errors.New("a client of a wallet needs Key")
	}
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
	if c.server == nil {
		return errors.New("there is no local replica")
	}
	return c.server.SyncNow(ctx, collection)
}

// Close ends the replica.
func (c *Client) Close() error {
	if c.server == nil {
		return nil
	}
	return c.server.Close()
}

// serve starts a replica and returns the URL that paths of it follow.
func (c *Client) serve(ctx context.Context, o *Options) (base string, err error) {
	r := *o.Replica
	in, err := r.place()
	if err != nil {
		return "", err
	}
	if r.Config == nil {
		r.Config = config.Default()
	}
	p := config.Primary{URL: o.Server, Mode: cmp.Or(r.Mode, config.Bidirectional),
		Every: cmp.Or(r.Every, time.Minute), Chain: o.Chain}
	cfg, local, err := r.Config.Replica(p)
	if err != nil {
		return "", errors.Join(err, r.drop())
	}
	c.Local = local
	wallets := &service.Wallets{Admins: r.Admins,
		Chains: func(id string) bool { return id == o.Chain }}
	if r.Admins == nil {
		wallets.Admins = []eth.Address{c.Address}
	}
	if r.Chains != nil {
		wallets.Chains = r.Chains.Has
	}
	c.server, err = service.Start(context.WithoutCancel(ctx), service.Options{
		Load:  func() (*config.Config, error) { return cfg, nil },
		Place: in, Chains: r.Chains, Wallets: wallets, Prefix: prefix,
		HTTP: o.HTTP, SignRemotes: &o.Key, Log: r.Log,
	})
	if err != nil {
		return "", err
	}
	base, err = c.server.Listen(service.ListenOptions{
		At: cmp.Or(r.Listen, "127.0.0.1:0"), Local: true, Drain: healthTime,
	})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	return base, healthy(ctx, base)
}

// place is where documents are kept.
func (r *Replica) place() (func(context.Context, service.Site) (service.Place, error), error) {
	kept := r.Store
	switch {
	case r.Place != nil:
		return r.Place, r.drop()
	case kept != nil:
		return service.In(kept), nil
	case r.Dir == "":
		return nil, errors.New("it needs a directory, or a store, for its documents")
	}
	kept, err := store.OpenDirectory(r.Dir)
	if err != nil {
		return nil, err
	}
	if r.Codec != nil {
		kept = store.Coded(kept, r.Codec)
	}
	r.Store = kept // so that drop closes it
	return service.In(kept), nil
}

// prefix is what the paths of a replica begin with.
const prefix = "/v1"

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
