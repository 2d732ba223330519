package seed

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/libp2pnet"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/seed/report"
	"github.com/skerry-sync/skerry/ticket"
	"github.com/skerry-sync/skerry/vault"
)

// clock is one that the test puts forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

func online(t *testing.T, cfg node.Config, before func(*node.Node)) *node.Node {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.SyncInterval = time.Second
	n, err := node.Open(t.Context(), cfg)
	require.NoError(t, err)
	if before != nil {
		before(n)
	}
	listen, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/0")
	require.NoError(t, err)
	net, err := libp2pnet.New(
		libp2pnet.Config{
			Key: n.Key(), Listen: []ma.Multiaddr{listen}, Log: slog.New(slog.DiscardHandler),
		},
	)
	require.NoError(t, err)
	require.NoError(t, n.GoOnline(net))
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

func infoOf(n *node.Node) peer.AddrInfo { return (&ticket.Blob{Addrs: n.Addrs()}).Peers()[0] }

// host is a seed at a node.
func host(t *testing.T, dir string, limits Limits, c *clock) *Seed {
	t.Helper()
	reg := NewRegistry(limits, c.now)
	var s *Seed
	online(t, node.Config{Dir: dir, Host: reg, Now: c.now}, func(n *node.Node) {
		s = New(n, reg, slog.New(slog.DiscardHandler), c.now)
		s.Serve(t.Context())
	})
	s.Start(t.Context())
	t.Cleanup(s.Close)
	return s
}

// person signs requests.
type person struct {
	key identity.Key
	id  identity.ID
	c   *clock
}

func newPerson(t *testing.T, c *clock) *person {
	key, err := identity.NewKey(identity.Wallet)
	require.NoError(t, err)
	return &person{key, identity.IDOf(key.Public(), key.Nonce()), c}
}

// sign is a Signer that has the person's key sign.
func (p *person) sign(what vault.ToSign) (vault.Signed, error) {
	m, err := what.Message(p.id)
	if err != nil {
		return vault.Signed{}, err
	}
	sig, err := p.key.Sign(m)
	return vault.Signed{Signature: sig, Nonce: p.key.Nonce()}, err
}

// request registers a replica with a ticket at a seed, or ends that if the ticket is empty.
func (p *person) request(t *testing.T, s *Seed, id replica.ID, text string) *Request {
	t.Helper()
	p.c.forward(time.Second) // each request is later than the one before
	if text == "" {
		req, err := NewUnregister(p.id, s.n.ID().String(), id, p.c.now(), p.sign)
		require.NoError(t, err)
		return req
	}
	req, err := NewRegister(p.id, s.n.ID().String(), id, text, "", p.c.now(), p.sign)
	require.NoError(t, err)
	return req
}

func (p *person) read(t *testing.T, s *Seed) *Read {
	t.Helper()
	req, err := NewRead(p.id, s.n.ID().String(), p.c.now(), p.sign)
	require.NoError(t, err)
	return req
}

func requireCode(t *testing.T, want Code, err error) {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, want, e.Code, e.Message)
}

func set(t *testing.T, n *node.Node, id replica.ID, key, value string) {
	t.Helper()
	ctx := t.Context()
	c := node.Change{Key: []byte(key), Value: []byte(value), Delete: value == ""}
	_, err := n.ReplicaOf(id).Apply(ctx, node.WriteOptions{}, c)
	require.NoError(t, err)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, 10*time.Millisecond, what)
}

// recordsOf is what the records of a replica's entries and statements are charged.
func recordsOf(t *testing.T, s *Seed, id replica.ID) (bytes uint64) {
	t.Helper()
	for e, err := range s.n.Replicas().Entries(t.Context(), id, replica.Query{Tombstones: true}) {
		require.NoError(t, err)
		bytes += recordCost(&e)
	}
	require.NoError(t, s.n.Store().View(t.Context(), func(rd kv.Reader) error {
		count, size, err := replica.StatementsIn(rd, id)
		bytes += size + uint64(count)*statementBytes
		return err
	}))
	return bytes
}

func ticketFor(t *testing.T, n *node.Node, r replica.Replica, c replica.Capability) string {
	t.Helper()
	tk, err := n.Ticket(t.Context(), r, c)
	require.NoError(t, err)
	text, err := tk.Text()
	require.NoError(t, err)
	return text
}

// A device registers a replica and sleeps; another one, that knows the seed only, has everything,
// and what it writes waits for the first.
func TestSeedWhileDevicesSleep(t *testing.T) {
	c := &clock{}
	s := host(t, t.TempDir(), DefaultLimits, c)
	ctx := t.Context()
	dirA := t.TempDir()
	a := online(t, node.Config{Dir: dirA}, nil)
	r, err := a.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	set(t, a, r.ID, "before", "registered")
	p := newPerson(t, c)
	client := Client{a, infoOf(s.n)}

	req := p.request(t, s, r.ID, ticketFor(t, a, r, replica.Write))
	got, err := client.Register(ctx, req)
	require.NoError(t, err)
	require.Equal(t, "SYNCING", got.State)
	require.Contains(t, got.Note, "has kept no more")
	held, err := s.n.Replicas().Get(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, replica.Sync, held.Capability, "the secret of a write ticket is dropped")
	require.True(t, held.Secret.IsZero())
	set(t, a, r.ID, "after", "it, too")
	state := func() report.Answer {
		all, err := client.Backups(ctx, p.read(t, s))
		require.NoError(t, err)
		require.Len(t, all, 1)
		return all[0]
	}
	eventually(t, "synced", func() bool {
		x := state()
		return x.State == "SYNCED" && x.EntryCount == 2 && x.BytesStored == 17+recordsOf(t, s, r.ID)
	})
	require.NotZero(t, state().LastSync)

	// Replayed, and by somebody else.
	_, err = client.Register(ctx, req)
	requireCode(t, AlreadyRegistered, err)
	_, err = client.Unregister(ctx, req)
	requireCode(t, InvalidSignature, err) // it is signed to register
	_, err = client.Register(ctx, p.request(t, s, r.ID, req.Ticket))
	requireCode(t, AlreadyRegistered, err)
	mallory := newPerson(t, c)
	forged := mallory.request(t, s, r.ID, req.Ticket)
	forged.Identity = p.id
	_, err = client.Register(ctx, forged)
	requireCode(t, InvalidSignature, err)
	_, err = client.Unregister(ctx, mallory.request(t, s, r.ID, ""))
	requireCode(t, NotFound, err)
	late := p.request(t, s, r.ID, "")
	c.forward(25 * time.Hour)
	_, err = client.Unregister(ctx, late)
	requireCode(t, InvalidSignature, err)
	// nodes whose clocks are two days apart do not find each other's replicas
	c.forward(-25 * time.Hour)
	other, err := a.CreateReplica(ctx, "other", false)
	require.NoError(t, err)
	_, err = client.Register(ctx, p.request(t, s, other.ID, req.Ticket))
	requireCode(t, InvalidTicket, err)
	_, err = client.Register(ctx, p.request(t, s, other.ID, "doc"))
	requireCode(t, InvalidTicket, err)
	wrong := p.read(t, s)
	wrong.Identity = mallory.id
	_, err = client.Quota(ctx, wrong)
	requireCode(t, InvalidSignature, err)
	_, err = client.Quota(ctx, &Read{Identity: p.id})
	requireCode(t, InvalidSignature, err)

	// The device sleeps.
	require.NoError(t, a.Close())
	b := online(t, node.Config{}, nil)
	doc := &ticket.Doc{Capability: replica.Write, Replica: r.ID, Secret: r.Secret, Addrs: s.n.Addrs()}
	_, err = b.Join(ctx, doc, "r")
	require.NoError(t, err)
	require.Equal(t, "registered", value(t, b, r.ID, "before"))
	require.Equal(t, "it, too", value(t, b, r.ID, "after"))
	set(t, b, r.ID, "from b", "while a sleeps")
	eventually(t, "the seed has it", func() bool {
		e, err := s.n.Replicas().LatestOf(ctx, r.ID, []byte("from b"))
		if err != nil {
			return false
		}
		ok, err := s.n.Blobs().Has(ctx, e.Hash)
		return ok && err == nil
	})
	require.NoError(t, b.Close())
	a = online(t, node.Config{Dir: dirA}, nil)
	require.NoError(t, a.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{infoOf(s.n)}))
	eventually(t, "and the first device gets it from there", func() bool {
		_, err := a.Replicas().LatestOf(ctx, r.ID, []byte("from b"))
		return err == nil
	})
	require.Equal(t, "while a sleeps", value(t, a, r.ID, "from b"))
}

func value(t *testing.T, n *node.Node, id replica.ID, key string) string {
	t.Helper()
	e, err := n.Replicas().LatestOf(t.Context(), id, []byte(key))
	require.NoError(t, err)
	require.NoError(t, n.WaitContent(t.Context(), e.Hash, e.Size))
	b, err := n.Blobs().ReadAll(t.Context(), e.Hash, 1<<20)
	require.NoError(t, err)
	return string(b)
}

// A full quota refuses new content, keeps what is there, and goes on with entries; room that is
// made is used.
func TestQuota(t *testing.T) {
	const limit, size = 110_000, 40_000 // room for two values, and not for three
	c := &clock{}
	s := host(t, t.TempDir(), Limits{Bytes: limit, Replicas: 2, Grace: 24 * time.Hour}, c)
	ctx := t.Context()
	a := online(t, node.Config{}, nil)
	p := newPerson(t, c)
	client := Client{a, infoOf(s.n)}
	var reps []replica.Replica
	for _, name := range []string{"one", "two", "three"} {
		r, err := a.CreateReplica(ctx, name, false)
		require.NoError(t, err)
		reps = append(reps, r)
	}
	value := func(b byte) string { return strings.Repeat(string(b), size) }
	set(t, a, reps[0].ID, "a", value('a')) // before the registration
	_, err := client.Register(ctx, p.request(t, s, reps[0].ID, ticketFor(t, a, reps[0], replica.Sync)))
	require.NoError(t, err)
	_, err = client.Register(ctx, p.request(t, s, reps[1].ID, ticketFor(t, a, reps[1], replica.Sync)))
	require.NoError(t, err)
	_, err = client.Register(ctx, p.request(t, s, reps[2].ID, ticketFor(t, a, reps[2], replica.Sync)))
	requireCode(t, ReplicaLimit, err)
	quota := func() report.Quota {
		q, err := client.Quota(ctx, p.read(t, s))
		require.NoError(t, err)
		return q
	}
	states := func() map[string]report.Answer {
		all, err := client.Backups(ctx, p.read(t, s))
		require.NoError(t, err)
		out := map[string]report.Answer{}
		for _, x := range all {
			out[x.ReplicaID] = x
		}
		return out
	}
	one, two := reps[0].ID.String(), reps[1].ID.String()
	records := func() uint64 { return recordsOf(t, s, reps[0].ID) + recordsOf(t, s, reps[1].ID) }
	each := contentCost(size)
	eventually(t, "the first value", func() bool {
		return quota() == quotaOf(each+records(), limit, 2) && states()[one].State == "SYNCED"
	})
	set(t, a, reps[1].ID, "a", value('a')) // the same content counts once
	set(t, a, reps[1].ID, "b", value('b'))
	eventually(t, "the second", func() bool {
		return quota().BytesUsed == 2*each+records() &&
			states()[two].State == "SYNCED"
	})
	set(t, a, reps[1].ID, "c", value('c'))
	set(t, a, reps[1].ID, "small", "there is room for this")
	eventually(t, "paused, with all entries", func() bool {
		x := states()[two]
		return x.State == "PAUSED" && x.EntryCount == 4
	})
	eventually(t, "what fits is fetched", func() bool {
		return quota().BytesUsed == 2*each+22+records()
	})
	has := func(key string) bool {
		e, err := s.n.Replicas().LatestOf(ctx, reps[1].ID, []byte(key))
		require.NoError(t, err)
		ok, err := s.n.Blobs().Has(ctx, e.Hash)
		require.NoError(t, err)
		return ok
	}
	require.False(t, has("c"))
	require.True(t, has("b"))
	require.Equal(t, "SYNCED", states()[one].State)
	set(t, a, reps[1].ID, "b", "") // deleted
	eventually(t, "room", func() bool { return quota().BytesUsed <= each+22+records() || has("c") })
	eventually(t, "what was refused is fetched", func() bool {
		return states()[two].State == "SYNCED" && has("c")
	})
	require.Equal(t, 2*each+22+records(), quota().BytesUsed)

	// Ended: kept for the time of grace, taken up again, and at last gone.
	got, err := client.Unregister(ctx, p.request(t, s, reps[1].ID, ""))
	require.NoError(t, err)
	require.Equal(t, "DELETED", got.State)
	require.InDelta(t, c.now().Add(24*time.Hour).Unix(), got.DeletionAt, 5)
	require.EqualValues(t, 1, quota().ReplicaCount)
	require.Equal(t, "DELETED", states()[two].State)
	_, err = client.Register(ctx, p.request(t, s, reps[1].ID, ticketFor(t, a, reps[1], replica.Sync)))
	require.NoError(t, err)
	eventually(t, "as before", func() bool { return states()[two].State == "SYNCED" })
	again := p.request(t, s, reps[1].ID, ticketFor(t, a, reps[1], replica.Sync))
	_, err = client.Unregister(ctx, p.request(t, s, reps[1].ID, ""))
	require.NoError(t, err)
	_, err = client.Register(ctx, again)
	requireCode(t, InvalidSignature, err) // made before the end
	c.forward(25 * time.Hour)
	s.ring()
	eventually(t, "it is gone", func() bool {
		_, err := s.n.Replicas().Get(ctx, reps[1].ID)
		return err != nil && len(states()) == 1
	})
	require.Equal(t, quotaOf(each+recordsOf(t, s, reps[0].ID), limit, 1), quota())
	_, err = client.Unregister(ctx, p.request(t, s, reps[1].ID, ""))
	requireCode(t, NotFound, err)
}

// A replica of the seed's own operator, which somebody registers who knows its id: it is neither
// left when the registration ends nor kept from being fetched by a quota.
func TestOperatorsOwnReplica(t *testing.T) {
	c := &clock{}
	s := host(t, t.TempDir(), Limits{Bytes: 10, Replicas: 2, Grace: time.Hour}, c)
	ctx := t.Context()
	a := online(t, node.Config{}, nil)
	r, err := a.CreateReplica(ctx, "mine", false)
	require.NoError(t, err)
	doc, err := a.Ticket(ctx, r, replica.Write)
	require.NoError(t, err)
	_, err = s.n.Join(ctx, doc, "mine")
	require.NoError(t, err)
	p := newPerson(t, c)
	client := Client{a, infoOf(s.n)}
	_, err = client.Register(ctx, p.request(t, s, r.ID, ticketFor(t, a, r, replica.Sync)))
	require.NoError(t, err)
	set(t, a, r.ID, "large", "more than ten bytes")
	eventually(t, "fetched all the same", func() bool {
		e, err := s.n.Replicas().LatestOf(ctx, r.ID, []byte("large"))
		if err != nil {
			return false
		}
		ok, err := s.n.Blobs().Has(ctx, e.Hash)
		return ok && err == nil
	})
	_, err = client.Unregister(ctx, p.request(t, s, r.ID, ""))
	require.NoError(t, err)
	c.forward(2 * time.Hour)
	s.ring()
	eventually(t, "the registration is gone", func() bool {
		all, err := client.Backups(ctx, p.read(t, s))
		return err == nil && len(all) == 0
	})
	time.Sleep(50 * time.Millisecond)
	held, err := s.n.Replicas().Get(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, "mine", held.Name)
	require.Equal(t, replica.Write, held.Capability)
}

// What a seed knows survives it: a registration whose replica was not joined yet is joined when it
// starts again.
func TestSeedGoesOn(t *testing.T) {
	c := &clock{}
	ctx := t.Context()
	a := online(t, node.Config{}, nil)
	r, err := a.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	set(t, a, r.ID, "k", "value")
	dir := t.TempDir()
	reg := NewRegistry(DefaultLimits, c.now)
	n, err := node.Open(ctx, node.Config{Dir: dir, Host: reg})
	require.NoError(t, err)
	_, err = reg.Register(
		ctx, n.Store(), identity.ID{1}, r.ID, ticketFor(t, a, r, replica.Sync), "", c.now(),
	)
	require.NoError(t, err)
	require.NoError(t, n.Close()) // in this moment

	s := host(t, dir, DefaultLimits, c)
	eventually(t, "it has come", func() bool {
		all, _, err := s.StatusOf(ctx, identity.ID{1})
		return err == nil && len(all) == 1 && all[0].State == Synced &&
			all[0].Bytes == 5+recordsOf(t, s, r.ID)
	})
}

// The same over HTTP, with its statuses, bodies and headers.
func TestHTTP(t *testing.T) {
	c := &clock{}
	s := host(t, t.TempDir(), DefaultLimits, c)
	ctx := t.Context()
	a := online(t, node.Config{}, nil)
	r, err := a.CreateReplica(ctx, "r", true)
	require.NoError(t, err)
	p := newPerson(t, c)
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	do := func(method, path string, body any, auth string) (int, map[string]any) {
		t.Helper()
		b, err := json.Marshal(body)
		require.NoError(t, err)
		if raw, ok := body.(string); ok {
			b = []byte(raw)
		}
		req, err := http.NewRequestWithContext(ctx, method, srv.URL+path, bytes.NewReader(b))
		require.NoError(t, err)
		if auth != "" {
			req.Header.Set("Authorization", auth)
		}
		resp, err := srv.Client().Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
		var out map[string]any
		all, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(all, &out), string(all))
		return resp.StatusCode, out
	}
	code := func(out map[string]any) any {
		e, ok := out["error"].(map[string]any)
		require.True(t, ok, out)
		require.NotEmpty(t, e["message"])
		return e["code"]
	}
	auth := func(req *Read) string {
		b, err := json.Marshal(req)
		require.NoError(t, err)
		return "Skerry " + base64.RawURLEncoding.EncodeToString(b)
	}
	status, out := do(
		"POST", "/v1/replicas", p.request(t, s, r.ID, ticketFor(t, a, r, replica.Sync)), "",
	)
	require.Equal(t, 201, status, out)
	require.Equal(t, r.ID.String(), out["replica_id"])
	require.NotContains(t, out, "note")
	status, out = do(
		"POST", "/v1/replicas", p.request(t, s, r.ID, ticketFor(t, a, r, replica.Sync)), "",
	)
	require.Equal(t, 409, status)
	require.Equal(t, "ALREADY_REGISTERED", code(out))
	bad := p.request(t, s, r.ID, ticketFor(t, a, r, replica.Sync))
	bad.Timestamp++
	status, out = do("POST", "/v1/replicas", bad, "")
	require.Equal(t, 400, status)
	require.Equal(t, "INVALID_SIGNATURE", code(out))
	status, out = do("POST", "/v1/replicas", "{", "")
	require.Equal(t, 400, status)
	require.Equal(t, "INVALID_REQUEST", code(out))
	status, _ = do("POST", "/v1/replicas", strings.Repeat(" ", MaxRequest+1), "")
	require.Equal(t, 400, status)

	status, out = do("GET", "/v1/identities/"+p.id.String()+"/quota", "", "")
	require.Equal(t, 400, status)
	require.Equal(t, "INVALID_SIGNATURE", code(out))
	status, out = do("GET", "/v1/identities/"+p.id.String()+"/quota", "", auth(p.read(t, s)))
	require.Equal(t, 200, status)
	require.EqualValues(t, 1, out["replica_count"])
	require.EqualValues(t, 1<<30, out["bytes_limit"])
	status, out = do("GET", "/v1/identities/"+p.id.String()+"/backups", "", auth(p.read(t, s)))
	require.Equal(t, 200, status)
	require.Len(t, out["backups"], 1)
	mallory := newPerson(t, c)
	status, _ = do("GET", "/v1/identities/"+p.id.String()+"/backups", "", auth(mallory.read(t, s)))
	require.Equal(t, 400, status)
	status, _ = do("GET", "/v1/identities/nobody/backups", "", "")
	require.Equal(t, 400, status)
	s.OpenReads = true
	status, _ = do("GET", "/v1/identities/"+p.id.String()+"/backups", "", "")
	require.Equal(t, 200, status)
	s.OpenReads = false

	status, out = do("DELETE", "/v1/replicas/"+replica.ID{1}.String(), p.request(t, s, r.ID, ""), "")
	require.Equal(t, 400, status)
	require.Equal(t, "INVALID_REQUEST", code(out))
	status, out = do("DELETE", "/v1/replicas/"+r.ID.String(), p.request(t, s, r.ID, ""), "")
	require.Equal(t, 200, status)
	require.Equal(t, "DELETED", out["state"])
	require.NotZero(t, out["deletion_at"])
	status, out = do("DELETE", "/v1/replicas/"+r.ID.String(), p.request(t, s, r.ID, ""), "")
	require.Equal(t, 404, status)
	require.Equal(t, "NOT_FOUND", code(out))
	status, _ = do("GET", "/v1/health", "", "")
	require.Equal(t, 200, status)
	status, _ = do("GET", "/v1/ready", "", "")
	require.Equal(t, 200, status)
	status, out = do("GET", "/v2/anything", "", "")
	require.Equal(t, 404, status)
	require.Equal(t, "NOT_FOUND", code(out))
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"op":"register","request":{"identity_id":"obj_1","replica_id":"x","timestamp":1}}`))
	f.Add([]byte(`{"op":"quota","request":{}}`))
	n, err := node.Open(f.Context(), node.Config{Dir: f.TempDir()})
	require.NoError(f, err)
	f.Cleanup(func() { _ = n.Close() })
	s := New(n, NewRegistry(DefaultLimits, nil), slog.New(slog.DiscardHandler), nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := s.asked(t.Context(), source{counted: string(b)}, b); err == nil {
			t.Fatalf("nobody has signed this: %v", v)
		}
	})
}

// A registration that comes between a seed's check and its leaving is not dropped.
func TestRegisteredWhileItIsLeft(t *testing.T) {
	ctx, c := t.Context(), &clock{}
	reg := NewRegistry(DefaultLimits, c.now)
	var s *Seed
	online(t, node.Config{Host: reg, Now: c.now}, func(n *node.Node) {
		s = New(n, reg, slog.New(slog.DiscardHandler), c.now)
	})
	device := online(t, node.Config{Now: c.now}, nil)
	r, err := device.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	tk, err := device.Ticket(ctx, r, replica.Sync)
	require.NoError(t, err)
	text, err := tk.Text()
	require.NoError(t, err)
	p := newPerson(t, c)
	_, err = s.Register(ctx, p.request(t, s, r.ID, text))
	require.NoError(t, err)
	_, err = s.Unregister(ctx, p.request(t, s, r.ID, ""))
	require.NoError(t, err)
	c.forward(DefaultLimits.Grace + time.Hour)

	again := make(chan error, 1)
	req := p.request(t, s, r.ID, text)
	s.onLeaving = func() {
		s.onLeaving = nil
		go func() { _, err := s.Register(ctx, req); again <- err }()
		select { // it must wait; if it does not, it is over before the replica is left
		case err := <-again:
			again <- err
		case <-time.After(100 * time.Millisecond):
		}
	}
	require.NoError(t, s.sweep(ctx))
	require.NoError(t, <-again)
	_, err = s.n.Replicas().Get(ctx, r.ID)
	require.NoError(t, err, "what is registered is held")
	_, err = s.anyOf(ctx, r.ID)
	require.NoError(t, err)
}

// quotaOf is the quota of who keeps so many of two replicas.
func quotaOf(used, limit uint64, replicas uint32) report.Quota {
	return report.Quota{
		BytesUsed: used, BytesLimit: limit, ReplicaCount: replicas, ReplicaLimit: 2,
	}
}
