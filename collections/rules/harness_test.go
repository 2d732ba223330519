package rules_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/chain"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/rules"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const text = `{"version": 1, "collections": [
	{"name": "shown", "storagePath": "users/{identity}/shown", "readRoles": ["public"], "writeRoles": [], "pullOnly": true, "encryption": "none", "maxBodyBytes": 2000},
	{"name": "settings", "storagePath": "users/{identity}/settings", "readRoles": ["public"], "writeRoles": ["self"], "encryption": "none", "maxBodyBytes": 2000},
	{"name": "signals", "storagePath": "products/{productId}/signals", "readRoles": ["public"], "writeRoles": ["owner"], "encryption": "none", "maxBodyBytes": 2000},
	{"name": "news", "storagePath": "news/{id}", "readRoles": ["public"], "writeRoles": ["admin", "editor", "entitlement:news"], "encryption": "none", "maxBodyBytes": 2000,
	 "objectSchema": {"type": "object", "properties": {"n": {"type": "number"}}}},
	{"name": "features", "storagePath": "users/{identity}/entitlements", "readRoles": ["public"], "writeRoles": ["admin", "entitlement:news"], "encryption": "none", "maxBodyBytes": 2000},
	{"name": "wall", "storagePath": "wall/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 2000},
	{"name": "events", "storagePath": "events/{id}", "readRoles": ["public"], "writeRoles": ["user", "cap:write:*"], "appendOnly": {"allowFull": true, "requireAuthorSignature": false}, "encryption": "none", "maxBodyBytes": 2000},
	{"name": "logo", "storagePath": "logos/{identity}", "readRoles": ["public"], "writeRoles": ["self"], "allowedMimeTypes": ["image/*"], "encryption": "none", "maxBodyBytes": 2000},
	{"name": "catalog", "storagePath": "catalog", "readRoles": ["public"], "writeRoles": [], "pullOnly": true, "encryption": "none", "maxBodyBytes": 2000},
	{"name": "signal", "storagePath": "signal", "readRoles": ["public"], "writeRoles": ["user"], "appendOnly": {"persist": false}, "encryption": "none", "maxBodyBytes": 2000},
	{"name": "caps", "storagePath": "caps/{identity}", "readRoles": ["public"], "writeRoles": ["self"], "encryption": "none", "maxBodyBytes": 2000}],
	"extensions": {"evm": {"admins": ["%s"], "chains": {"evm:8453": {}}}, "entitlements": true, "roles": {"editor": ["%s"]}}}`

func wallet(b byte) *evm.Signer {
	k, err := eth.KeyFromSecret([32]byte{31: b})
	if err != nil {
		panic(err)
	}
	return &evm.Signer{Key: k, Chain: "evm:8453"}
}

var alice, bob, admin, editor = wallet(1), wallet(2), wallet(3), wallet(4)

func parsed(t testing.TB) *config.Config {
	c, err := config.Parse(fmt.Appendf(nil, text, admin.Key.Address(), editor.Key.Address()))
	require.NoError(t, err)
	return c
}

// items is a chain of items.
type items struct {
	mu    sync.Mutex
	owner map[string]eth.Address
	away  bool
}

func (c *items) ID() string { return "evm:8453" }

func (c *items) Standing(_ context.Context, a chain.Ask) (s chain.Standing, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return s, &chain.UnavailableError{Chain: c.ID(), Err: errors.New("away")}
	}
	s.Owner = c.owner[a.Item.String()] == a.Who
	s.Member = s.Owner
	return s, nil
}

func (c *items) set(item string, a eth.Address, away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owner, c.away = map[string]eth.Address{item: a}, away
}

// member is a node that serves the collections of a replica.
type member struct {
	t      testing.TB
	n      *node.Node
	r      replica.Replica
	key    replica.SecretKey
	store  *replicas.Store
	guard  *rules.Guard
	http   http.Handler
	chain  *items
	ahead  atomic.Int64 // nanoseconds, of the node's clock and the guard's
	closed bool
}

func newMember(t testing.TB, found func(n *node.Node) (replica.Replica, error)) *member {
	m := &member{t: t, chain: &items{}}
	n, err := node.Open(t.Context(), node.Config{
		Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Now: m.now,
	})
	require.NoError(t, err)
	m.n = n
	m.r, err = found(n)
	require.NoError(t, err)
	id, err := n.Authors().Default(t.Context())
	require.NoError(t, err)
	m.key, err = n.Authors().Key(t.Context(), id)
	require.NoError(t, err)
	t.Cleanup(m.close)
	return m
}

func (m *member) now() time.Time { return time.Now().Add(time.Duration(m.ahead.Load())) }

func (m *member) close() {
	if m.closed {
		return
	}
	m.closed = true
	if m.store != nil {
		require.NoError(m.t, m.store.Close())
	}
	require.NoError(m.t, m.n.Close())
}

// serve lets the node serve by rules.
func (m *member) serve(r *rules.Rules) {
	var known chain.Registry
	known.Register(m.chain)
	m.guard = rules.NewGuard(
		rules.Options{Chains: &known, Log: slog.New(slog.DiscardHandler), Clock: m.now},
	)
	require.NoError(m.t, m.guard.Set(r))
	log := slog.New(slog.DiscardHandler)
	var err error
	m.store, err = replicas.Open(
		m.t.Context(), m.n, m.r, m.key, replicas.Options{Guard: m.guard, Log: log},
	)
	require.NoError(m.t, err)
	m.guard.Read(m.store, nil)
	nonces, err := access.NewNonces(access.NonceOptions{})
	require.NoError(m.t, err)
	caps := &access.Caps{Nonces: nonces}
	verifier := &evm.Verifier{Chains: known.Has, Admins: r.Config.EVM.Admins, Nonces: nonces}
	docs := document.In(m.store, nil)
	cfg := r.Config
	m.http, err = collections.New(cfg, collections.Options{
		Documents: docs, Whole: m.guard.InForce, Prefix: r.Prefix, Log: log,
		KnownHost: collections.Known("example.com"),
		Enricher: access.Compose(access.Configured(func() *config.Config {
			return cfg
		}, docs, nil), known.Enricher()),
		Resolver: access.ResolverFunc(func(ctx context.Context, r *access.Request) (access.Auth, error) {
			if evm.Presents(r.HTTP.Header) {
				return verifier.Resolve(ctx, r)
			}
			return caps.Resolve(ctx, r)
		}),
	})
	require.NoError(m.t, err)
}

func (m *member) do(r *http.Request) (status int, body string) {
	w := httptest.NewRecorder()
	m.http.ServeHTTP(w, r)
	b, err := io.ReadAll(w.Result().Body)
	require.NoError(m.t, err)
	return w.Code, string(b)
}

// send sends a request that a wallet has signed; nil is nobody's.
func (m *member) send(
	who *evm.Signer, method, path, media, body string,
) (status int, answer string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if who != nil {
		h, err := who.Sign(method, path, []byte(body))
		require.NoError(m.t, err)
		r.Header = h
	}
	r.Header.Set("Content-Type", media)
	return m.do(r)
}

func object(t testing.TB, text string) *value.Object {
	o, err := value.ParseObject([]byte(text), value.MaxDepth)
	require.NoError(t, err)
	return o
}

// push writes a document over what is there.
func (m *member) push(who *evm.Signer, path, data string) (status int, answer string) {
	base := "null"
	if _, was := m.send(nil, "GET", "/v1/pull/"+path, "", ""); strings.Contains(was, `"hash":"`) {
		if o := object(m.t, was); o != nil {
			if h, _ := o.String("hash"); h != "" {
				base = `"` + h + `"`
			}
		}
	}
	signature := ""
	if who != nil {
		signature = fmt.Sprintf(`,"authorSignature":"%s"`, evm.SignData(who.Key, object(m.t, data)))
	}
	return m.send(
		who, "POST", "/v1/push/"+path, config.JSON,
		fmt.Sprintf(`{"data":%s,"baseHash":%s%s}`, data, base, signature),
	)
}

func (m *member) pushed(who *evm.Signer, path, data string) {
	status, answer := m.push(who, path, data)
	require.Equal(m.t, http.StatusOK, status, answer)
}

// has returns what a node answers as the data under a path.
func (m *member) has(path string) string {
	status, answer := m.send(nil, "GET", "/v1/pull/"+path, "", "")
	if status != http.StatusOK {
		return fmt.Sprint(status)
	}
	if !strings.HasPrefix(answer, "{") {
		return answer
	}
	v, _ := object(m.t, answer).Get("data")
	return string(value.Append(nil, v))
}

// learn brings the entries of another node, with their content, to this one.
func (m *member) learn(from *member) {
	ctx := m.t.Context()
	for _, x := range []*member{from, m} {
		if x.store != nil {
			require.NoError(m.t, x.store.Settle(ctx))
		}
	}
	grants, err := from.n.Replicas().Grants(ctx, from.r.ID)
	require.NoError(m.t, err)
	var statements [][]byte
	for i := range grants {
		statements = append(statements, grants[i].Bytes())
	}
	_, err = m.n.TakeStatements(ctx, m.r.ID, statements)
	require.NoError(m.t, err)
	var entries []replica.Entry
	for e, err := range from.n.Replicas().Entries(ctx, from.r.ID, replica.Query{Tombstones: true}) {
		require.NoError(m.t, err)
		entries = append(entries, e)
	}
	for i := range entries {
		if e := &entries[i]; !e.IsTombstone() {
			_, err := m.n.Blobs().ImportBytes(ctx, from.content(e))
			require.NoError(m.t, err)
		}
	}
	_, err = m.n.TakeEntries(ctx, m.r.ID, entries, replica.Origin{})
	require.NoError(m.t, err)
}

func (m *member) content(e *replica.Entry) []byte {
	r, err := m.n.OpenContent(m.t.Context(), e.Hash, e.Size)
	require.NoError(m.t, err)
	b, err := io.ReadAll(r)
	require.NoError(m.t, err)
	return b
}

// kept returns what this node has written under a key of the replica.
func (m *member) kept(key string) []byte {
	require.NoError(m.t, m.store.Settle(m.t.Context()))
	me := m.key.Author()
	for e, err := range m.n.Replicas().Entries(
		m.t.Context(), m.r.ID, replica.Query{Key: []byte(key), Author: &me},
	) {
		require.NoError(m.t, err)
		return m.content(&e)
	}
	m.t.Fatalf("there is no %q", key)
	return nil
}

// forge writes under a key of the replica what no door would.
func (m *member) forge(key string, b []byte) {
	require.NoError(m.t, replicas.WriteEntry(m.t.Context(), m.n, m.r.ID, m.key, key, b))
}

// town is a replica whose rules a founder has made, an honest node beside the founder's, and one
// that writes what it likes.
type town struct {
	founder, honest, evil *member
	rules                 *rules.Rules
}

func newTown(t testing.TB) *town {
	x := &town{}
	x.founder = newMember(t, func(n *node.Node) (replica.Replica, error) {
		return n.CreateReplica(t.Context(), "docs", false)
	})
	r := x.founder.r
	doc := &ticket.Doc{Capability: r.Capability, Replica: r.ID, Secret: r.Secret}
	join := func(n *node.Node) (replica.Replica, error) { return n.Keep(t.Context(), doc, r.Name) }
	x.honest, x.evil = newMember(t, join), newMember(t, join)
	x.rules = rules.Sign(
		rules.Rules{
			Serial: 1, Prefix: "/v1", Config: parsed(t), Servers: []replica.AuthorID{x.founder.key.Author()},
			Hosts: []string{"example.com"},
		},
		x.founder.r.Secret,
	)
	x.founder.serve(x.rules)
	x.honest.serve(x.rules)
	return x
}

// tell brings what the founder and the evil node have to the honest one.
func (x *town) tell() {
	x.honest.learn(x.founder)
	x.honest.learn(x.evil)
}
