// Package remote keeps documents in step with those of other servers over HTTP, of any maker that
// speaks the Starfish v3 wire.
//
// What belongs here: when what is pulled and pushed, how what both sides have written is merged,
// and what becomes of requests on such collections. What never belongs here: nodes that hold the
// same replica, which need none of this.
//
// Start at New. The modes are those of docs/protocol/starfish-v3.md, "Remotes".
package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/client"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/pairing"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/internal/fault"
)

const (
	syncTime   = 30 * time.Second // that one sync may take
	onPullTime = 5 * time.Second  // that a pull waits for one
	afterError = 5 * time.Second  // until a pull begins one again
	attempts   = 4                // of a sync that others forestall
	refresh    = 24 * time.Hour   // before its end a certificate is made anew
)

// Manager keeps documents in step. Its methods may be called by several goroutines at once.
type Manager struct {
	docs *document.Documents
	log  *slog.Logger
	http *http.Client
	// direct follows no redirects: it is for requests with the signatures of callers.
	direct *http.Client

	setting sync.Mutex // held while remotes begin or end

	mu      sync.Mutex
	remotes map[string]*remote // by the collection's name
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

// Status tells of a remote.
type Status struct {
	Collection string
	Synced     time.Time // the last success; zero if none
	Failed     time.Time // the last failure; zero if none
	Err        error     // of the last sync, or nil
}

// remote is one document that another server has.
type remote struct {
	*config.Remote
	client *client.Client
	wallet *eth.Key      // which signs what is pushed; nil for none
	wake   chan struct{} // holds one

	one chan struct{} // holds one while there is a sync

	mu     sync.Mutex
	status Status
	began  time.Time // when the last sync that succeeded did
	hung   time.Time // when a pull last waited for a sync in vain, also for one that others began
}

// New returns a Manager that does nothing yet. hc is nil for one of its own.
func New(docs *document.Documents, hc *http.Client, log *slog.Logger) *Manager {
	if hc == nil {
		hc = &http.Client{Timeout: syncTime}
	}
	direct := *hc
	direct.CheckRedirect = func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}
	return &Manager{docs: docs, http: hc, direct: &direct, log: log, stop: func() {}}
}

// Set makes the remotes of a configuration count instead of those before. It returns an error if a
// passphrase or a wallet cannot be used, and then nothing has changed.
func (m *Manager) Set(c *config.Config) error { return m.SetSigned(c, nil) }

// SetSigned does the same, and lets a wallet sign for those remotes that nobody else signs for,
// unless it is nil.
func (m *Manager) SetSigned(c *config.Config, wallet *eth.Key) error {
	all := map[string]*remote{}
	for _, r := range c.Remotes {
		x := &remote{
			Remote: r, wake: make(chan struct{}, 1), one: make(chan struct{}, 1),
			status: Status{Collection: r.Collection.Name},
		}
		x.client = &client.Client{
			Base: strings.TrimRight(r.URL, "/"), HTTP: m.http, MaxAnswer: longest(r.Collection.MaxBodyBytes),
			Header: http.Header{"Accept": {config.JSON}}, Retries: -1,
		}
		for k, v := range r.Headers {
			x.client.Header.Set(k, v)
		}
		if r.Passphrase != "" {
			who, err := credentials(r.Passphrase)
			if err != nil {
				return fmt.Errorf("remote of collection %s: %w", r.Collection.Name, err)
			}
			x.client.Credentials = who
		}
		if r.Wallet != "" {
			key, err := evm.ReadKey(r.Wallet)
			if err != nil {
				return fmt.Errorf("remote of collection %s: %w", r.Collection.Name, err)
			}
			x.wallet = &key
		} else if r.Passphrase == "" {
			x.wallet = wallet
		}
		if x.wallet != nil {
			x.client.HTTP = evm.NewClient(
				&evm.Signer{Key: *x.wallet, Chain: cmp.Or(r.Chain, config.DefaultChain)}, m.http,
			)
		}
		all[r.Collection.Name] = x
	}
	m.setting.Lock()
	defer m.setting.Unlock()
	m.end()
	ctx, stop := context.WithCancel(context.Background())
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remotes, m.stop = all, stop
	for _, r := range all {
		if r.Mode != config.PushOnly {
			m.wg.Go(func() {
				fault.Keep(ctx, m.log, "keeping step with another server", func(ctx context.Context) {
					m.run(ctx, r)
				})
			})
		}
	}
	return nil
}

// maxPassphrase is how long a file with a passphrase may be, in bytes.
const maxPassphrase = 64 << 10

// credentials returns those of the identity of a passphrase in a file.
func credentials(file string) (func() client.Credentials, error) {
	text, err := disk.ReadFile(file, maxPassphrase)
	if err != nil {
		return nil, err
	}
	root, err := pairing.Root(strings.TrimRight(string(text), "\r\n"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var mu sync.Mutex
	var cert *capcert.Cert
	return func() client.Credentials {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now().Unix()
		if cert == nil || now > cert.Expires-int64(refresh/time.Second) {
			fresh, err := pairing.RootCert(root, now)
			if err == nil { // nothing can fail that has not failed before
				cert = fresh
			}
		}
		return client.Credentials{Cert: cert, Key: root.Key}
	}, nil
}

// Close ends what is going on and waits for it.
func (m *Manager) Close() {
	m.setting.Lock()
	defer m.setting.Unlock()
	m.end()
}

// end does so while setting is held.
func (m *Manager) end() {
	m.mu.Lock()
	stop := m.stop
	m.mu.Unlock()
	stop()
	m.wg.Wait()
}

// Statuses returns how the remotes do.
func (m *Manager) Statuses() (all []Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.remotes {
		r.mu.Lock()
		all = append(all, r.status)
		r.mu.Unlock()
	}
	return all
}

func (m *Manager) of(c *config.Collection) *remote {
	if c.Namespace != "" {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.remotes[c.Name]
}

// run syncs once, and then as often as it is due or asked for.
func (m *Manager) run(ctx context.Context, r *remote) {
	var due <-chan time.Time
	if r.Every > 0 {
		t := time.NewTicker(r.Every)
		defer t.Stop()
		due = t.C
	}
	for {
		m.trySync(ctx, r)
		select {
		case <-ctx.Done():
			return
		case <-due:
		case <-r.wake:
		}
	}
}

func (m *Manager) trySync(ctx context.Context, r *remote) {
	if err := m.sync(ctx, r); err != nil && ctx.Err() == nil {
		m.log.Warn(
			"a collection is not in step with the other server", "collection", r.Collection.Name, "url",
			r.URL, "error", err,
		)
	}
}

// SyncNow brings a collection in step.
func (m *Manager) SyncNow(ctx context.Context, c *config.Collection) error {
	r := m.of(c)
	if r == nil {
		return fmt.Errorf("collection %s has no remote", c.Name)
	}
	return m.sync(ctx, r)
}

// sync brings a remote in step, unless a sync that began after this one was asked for has done so.
func (m *Manager) sync(ctx context.Context, r *remote) (err error) {
	asked := time.Now()
	select {
	case r.one <- struct{}{}:
		defer func() { <-r.one }()
	case <-ctx.Done():
		return ctx.Err()
	}
	r.mu.Lock()
	done := r.began.After(asked)
	r.mu.Unlock()
	if done {
		return nil
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, syncTime)
	defer cancel()
	for range attempts {
		if err = m.once(ctx, r); !errors.Is(err, document.ErrConflict) &&
			!errors.Is(err, client.ErrConflict) {
			break
		}
	}
	// whoever asked has gone, which says nothing of the other server
	if errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status.Err = err; err != nil {
		r.status.Failed = time.Now()
	} else {
		r.status.Synced, r.began = time.Now(), began
	}
	return err
}

// longest is how many bytes of an answer are read of a server whose document may be so long: it may
// spell the document with escapes and white space, and adds a hash, a time and a proof.
func longest(document int64) int64 { return 4*document + 64<<10 }

// fit refuses data that is longer than what callers may push to the collection.
func (r *remote) fit(data *value.Object, whose string) error {
	if n := len(value.Append(nil, data)); int64(n) > r.Collection.MaxBodyBytes {
		return fmt.Errorf(
			"%s has %d bytes, but maxBodyBytes of collection %s is %d: raise it, or shorten the document",
			whose, n, r.Collection.Name, r.Collection.MaxBodyBytes,
		)
	}
	return nil
}

// pulled is what the other server has.
type pulled struct {
	hash   string // "" is nothing
	data   *value.Object
	author *document.Author
}

func (r *remote) pull(ctx context.Context) (*pulled, error) {
	body, err := r.client.Send(ctx, http.MethodGet, r.PullPath, nil, "")
	if err != nil {
		return nil, err
	}
	answer, err := value.ParseWithin(ctx, body, value.MaxDepth+4)
	if err != nil {
		return nil, fmt.Errorf("the other server's answer: %w", err)
	}
	o, ok := answer.(*value.Object)
	if !ok {
		return nil, errors.New("the other server's answer is no object")
	}
	p := &pulled{}
	p.hash, _ = o.String("hash")
	v, _ := o.Get("data")
	data, ok := v.(*value.Object)
	if !ok {
		return nil, errors.New("the other server's answer has no data")
	}
	p.data = value.Sanitize(data)
	if err := r.fit(p.data, "the other server's document"); err != nil {
		return nil, err
	}
	key, _ := o.String("authorPubkey")
	sig, _ := o.String("authorSignature")
	if a, err := eth.ParseAddress(key); err == nil && evm.VerifyData(a, p.data, sig) == nil {
		p.author = &document.Author{Key: a.String(), Signature: sig}
	} else if key != "" &&
		capcert.VerifyAuthor(capcert.DocumentDomain, r.Collection.StoragePath, p.data, key, sig) {
		p.author = &document.Author{Key: key, Signature: sig}
	}
	return p, nil
}

// push brings data to the other server, in the place of what was pulled.
func (r *remote) push(ctx context.Context, data *value.Object, was *pulled) error {
	body := value.NewObject(
		value.Member{Key: "data", Value: data}, value.Member{Key: "baseHash", Value: nil},
	)
	if was.hash != "" {
		body.Set("baseHash", was.hash)
	}
	if r.wallet != nil {
		body.Set("authorSignature", evm.SignData(*r.wallet, data))
	}
	_, err := r.client.Send(ctx, http.MethodPost, r.PushPath, value.Append(nil, body), config.JSON)
	var status *client.StatusError
	if errors.As(err, &status) && status.Status == http.StatusConflict {
		return client.ErrConflict
	}
	return err
}

// once syncs, unless somebody writes meanwhile.
func (m *Manager) once(ctx context.Context, r *remote) error {
	key := r.Collection.StoragePath
	theirs, err := r.pull(ctx)
	if err != nil {
		return err
	}
	ours, err := m.docs.Get(ctx, key)
	if err != nil {
		return err
	}
	if r.Mode == config.Bidirectional && ours != nil {
		return m.both(ctx, r, ours, theirs)
	}
	if theirs.hash == "" || ours != nil && ours.Hash == theirs.hash {
		return nil
	}
	if err := m.take(ctx, key, theirs.data, ours, theirs.author); err != nil ||
		r.Mode != config.Bidirectional {
		return err
	}
	return m.remember(ctx, key, theirs.data)
}

// take stores data in the place of a document, which may be nil.
func (m *Manager) take(
	ctx context.Context, key string, data *value.Object, was *document.Document,
	author *document.Author,
) error {
	var base *string
	if was != nil {
		base = &was.Hash
	}
	_, err := m.docs.Push(ctx, key, data, base, author, false)
	return err
}

// Hook returns what a server must ask and tell.
func (m *Manager) Hook() collections.Hook {
	return collections.Hook{
		BeforePull: m.beforePull, BeforePush: m.beforePush, AfterWrite: m.afterWrite,
	}
}

func (m *Manager) beforePull(ctx context.Context, e *collections.Event) error {
	r := m.of(e.Collection)
	if r == nil {
		return nil
	}
	if r.Mode == config.PushOnly {
		return &collections.RefusedError{
			Status: http.StatusMethodNotAllowed, Reason: "This collection is write-only on this server",
		}
	}
	if !r.OnPull || !r.due() {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, onPullTime)
	defer cancel()
	m.trySync(within, r) // otherwise what is here is what there is
	if within.Err() != nil && ctx.Err() == nil {
		r.mu.Lock()
		r.hung = time.Now()
		r.mu.Unlock()
	}
	return nil
}

// due reports whether a pull is to begin a sync.
func (r *remote) due() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.status.Synced) >= r.OnPullAfter && time.Since(r.status.Failed) >= afterError &&
		time.Since(r.hung) >= afterError
}

// ask lets a sync begin soon.
func (r *remote) ask() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (m *Manager) afterWrite(_ context.Context, e *collections.Event) error {
	if r := m.of(e.Collection); r != nil && r.Mode == config.Bidirectional {
		r.ask()
	}
	return nil
}
