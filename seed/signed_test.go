package seed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// A seed that is sent a request can use it nowhere else and for nothing else: not at another seed,
// not to end what it begins, and not with another ticket or device.
func TestEvilSeedHandsRequestsOn(t *testing.T) {
	c := &clock{}
	honest, evil := host(t, t.TempDir(), DefaultLimits, c), host(t, t.TempDir(), DefaultLimits, c)
	ctx := t.Context()
	a := online(t, node.Config{}, nil)
	r, err := a.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	text := ticketFor(t, a, r, replica.Sync)
	p := newPerson(t, c)
	_, err = honest.Register(ctx, p.request(t, honest, r.ID, text))
	require.NoError(t, err)

	// What the evil seed is sent, for each request that the person may make there.
	register, unregister, read := p.request(
		t, evil, r.ID, text,
	), p.request(t, evil, r.ID, ""), p.read(t, evil)
	for _, got := range []*Request{register, unregister} {
		for _, ticket := range []string{"", text} {
			replayed := *got
			replayed.Ticket = ticket
			_, err = honest.Unregister(ctx, &replayed)
			requireCode(t, InvalidSignature, err)
			_, err = honest.Register(ctx, &replayed)
			requireCode(t, InvalidSignature, err)
		}
	}
	_, err = honest.Backups(ctx, read)
	requireCode(t, InvalidSignature, err)
	_, err = honest.Quota(ctx, read)
	requireCode(t, InvalidSignature, err)
	// A request to register does not read either, nor the other way round.
	_, err = evil.Backups(
		ctx, &Read{Identity: p.id, Timestamp: register.Timestamp, Signature: &register.Signature},
	)
	requireCode(t, InvalidSignature, err)

	all, _, err := honest.StatusOf(ctx, p.id)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.True(t, all[0].Deletion.IsZero(), "the registration at the honest seed stands")

	// At the seed itself, what was signed is bound to the ticket and the device.
	other := *register
	other.Ticket = ticketFor(t, a, r, replica.Write)
	_, err = evil.Register(ctx, &other)
	requireCode(t, InvalidSignature, err)
	other = *register
	other.Device = honest.n.ID().String()
	_, err = evil.Register(ctx, &other)
	requireCode(t, InvalidSignature, err)
	_, err = evil.Register(ctx, register)
	require.NoError(t, err)
}

// The same over HTTP, where the seed's id is in its health.
func TestEvilSeedHandsRequestsOnOverHTTP(t *testing.T) {
	c := &clock{}
	honest, evil := host(t, t.TempDir(), DefaultLimits, c), host(t, t.TempDir(), DefaultLimits, c)
	ctx := t.Context()
	a := online(t, node.Config{}, nil)
	r, err := a.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	p := newPerson(t, c)
	srv := httptest.NewServer(honest.Handler())
	defer srv.Close()
	do := func(method, path string, body *Request) (int, string) {
		b, err := json.Marshal(body)
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(ctx, method, srv.URL+path, bytes.NewReader(b))
		require.NoError(t, err)
		resp, err := srv.Client().Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		all, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(all)
	}
	_, health := do("GET", "/v1/health", nil)
	require.Contains(t, health, honest.n.ID().String())
	text := ticketFor(t, a, r, replica.Sync)
	status, out := do("POST", "/v1/replicas", p.request(t, honest, r.ID, text))
	require.Equal(t, 201, status, out)
	status, out = do("DELETE", "/v1/replicas/"+r.ID.String(), p.request(t, evil, r.ID, text))
	require.Equal(t, 400, status)
	require.Contains(t, out, "INVALID_SIGNATURE")
	status, out = do("DELETE", "/v1/replicas/"+r.ID.String(), p.request(t, evil, r.ID, ""))
	require.Equal(t, 400, status)
	require.Contains(t, out, "INVALID_SIGNATURE")
}

// OBJECTS' own text names neither seed nor request, so it does not count, and the answer says why.
func TestRegisterBackupDoesNotCount(t *testing.T) {
	c := &clock{}
	s := host(t, t.TempDir(), DefaultLimits, c)
	a := online(t, node.Config{}, nil)
	r, err := a.CreateReplica(t.Context(), "r", false)
	require.NoError(t, err)
	p := newPerson(t, c)
	req := &Request{
		Identity: p.id, Replica: r.ID.String(), Ticket: ticketFor(t, a, r, replica.Sync),
		Timestamp: c.now().Unix(),
	}
	sig, err := p.key.Sign(identity.RegisterBackup(p.id, r.ID.String(), time.Unix(req.Timestamp, 0)))
	require.NoError(t, err)
	req.Signature.Sign(sig, p.key.Nonce())
	_, err = s.Register(t.Context(), req)
	requireCode(t, InvalidSignature, err)
	require.ErrorContains(t, err, "names neither the seed nor the request")
	_, err = s.Unregister(t.Context(), req)
	requireCode(t, InvalidSignature, err)
}

// A request counts once: also after its registration has been deleted, and after the seed has
// started again.
func TestRequestsCountOnce(t *testing.T) {
	c := &clock{}
	ctx := t.Context()
	a := online(t, node.Config{}, nil)
	r, err := a.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	p := newPerson(t, c)
	dir := t.TempDir()
	reg := NewRegistry(Limits{Bytes: 1 << 20, Replicas: 2, Grace: time.Hour}, c.now)
	open := func() (*Seed, *node.Node) {
		n, err := node.Open(ctx, node.Config{Dir: dir, Host: reg, Now: c.now})
		require.NoError(t, err)
		return New(n, reg, slog.New(slog.DiscardHandler), c.now), n
	}
	s, n := open()
	register := p.request(t, s, r.ID, ticketFor(t, a, r, replica.Sync))
	_, err = s.Register(ctx, register)
	require.NoError(t, err)
	_, err = s.Unregister(ctx, p.request(t, s, r.ID, ""))
	require.NoError(t, err)
	c.forward(2 * time.Hour)
	require.NoError(t, s.sweep(ctx))
	all, _, err := s.StatusOf(ctx, p.id)
	require.NoError(t, err)
	require.Empty(t, all, "it is deleted")
	_, err = s.Register(ctx, register)
	requireCode(t, InvalidSignature, err)
	require.NoError(t, n.Close())

	s, n = open()
	_, err = s.Register(ctx, register)
	requireCode(t, InvalidSignature, err)
	s.lapse(ctx)
	_, err = s.Register(ctx, register)
	requireCode(t, InvalidSignature, err)
	c.forward(23 * time.Hour) // the request is out of time, and the note of it goes
	s.lapse(ctx)
	_, err = s.Register(ctx, register)
	requireCode(t, InvalidSignature, err)
	require.NoError(t, s.scan(ctx, keyLast, func(pair kv.Pair) error {
		return fmt.Errorf("%x is left", pair.Key)
	}))
	require.NoError(t, n.Close())
}

// A device learns that a seed does not keep a replica any more, without anybody's password; nobody
// else learns anything.
func TestDeviceSeesThatRegistrationEnded(t *testing.T) {
	c := &clock{}
	s := host(t, t.TempDir(), DefaultLimits, c)
	ctx := t.Context()
	a, stranger := online(t, node.Config{}, nil), online(t, node.Config{}, nil)
	p := newPerson(t, c)
	var ids []replica.ID
	for _, name := range []string{"kept", "ended", "never"} {
		r, err := a.CreateReplica(ctx, name, false)
		require.NoError(t, err)
		ids = append(ids, r.ID)
		require.NoError(t, a.AddSeed(ctx, r.ID, infoOf(s.n)))
		if name == "never" { // the seed never had it, or has lost it
			continue
		}
		c.forward(time.Second)
		req, err := NewRegister(
			p.id, s.n.ID().String(), r.ID, ticketFor(t, a, r, replica.Sync), a.ID().String(), c.now(),
			p.sign,
		)
		require.NoError(t, err)
		_, err = Client{a, infoOf(s.n)}.Register(ctx, req)
		require.NoError(t, err)
	}
	told := &warnings{}
	w := &Watch{Node: a, Log: slog.New(told), Now: c.now}
	stands := func() map[replica.ID]bool {
		require.NoError(t, w.Look(ctx))
		all, err := StoodAt(ctx, a)
		require.NoError(t, err)
		out := map[replica.ID]bool{}
		for _, x := range all {
			require.False(t, x.Asked.IsZero())
			out[x.Replica] = x.Stands()
		}
		return out
	}
	require.Equal(t, map[replica.ID]bool{ids[0]: true, ids[1]: true, ids[2]: false}, stands())
	require.Len(t, told.all, 1)

	// Another device of the person, or whoever it was, ends one of them.
	_, err := s.Unregister(ctx, p.request(t, s, ids[1], ""))
	require.NoError(t, err)
	require.Equal(t, map[replica.ID]bool{ids[0]: true, ids[1]: false, ids[2]: false}, stands())
	require.Len(t, told.all, 2)
	stands()
	require.Len(t, told.all, 2, "told once")

	all, err := Client{stranger, infoOf(s.n)}.Standing(ctx, ids)
	require.NoError(t, err)
	require.Empty(t, all, "a stranger that knows the ids learns nothing")
	_, err = Client{a, infoOf(s.n)}.Standing(ctx, make([]replica.ID, maxStand+1))
	requireCode(t, InvalidRequest, err)
}

// A device that registers what another has registered already is told so, and may ask about it,
// too.
func TestSecondDeviceMayAsk(t *testing.T) {
	s, now := newStore(t), time.Unix(1_000_000, 0)
	reg := NewRegistry(DefaultLimits, func() time.Time { return now })
	id, rep := identity.ID{1}, replica.ID{1}
	for i := range maxDevices + 2 {
		g, err := reg.Register(
			bg, s, id, rep, "ticket", fmt.Sprint("device", i), now.Add(time.Duration(i)*time.Second),
		)
		if i == 0 {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, ErrRegistered)
		}
		require.Equal(t, fmt.Sprint("device", i), g.Devices[0])
		require.Len(t, g.Devices, min(i+1, maxDevices))
	}
	_, u, err := reg.Of(bg, s, id)
	require.NoError(t, err)
	require.EqualValues(t, 1, u.Replicas)
}

// warnings keeps what is logged at the level of warnings or above.
type warnings struct{ all []string }

func (w *warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	w.all = append(w.all, r.Message)
	return nil
}
func (w *warnings) WithAttrs([]slog.Attr) slog.Handler { return w }
func (w *warnings) WithGroup(string) slog.Handler      { return w }

// Whoever registers a replica first tells the seed nothing about its epochs, which only the replica
// key can, nor that it is encrypted; and what devices send names none.
func TestRegistrationNamesNoEpoch(t *testing.T) {
	c := &clock{}
	s := host(t, t.TempDir(), DefaultLimits, c)
	ctx := t.Context()
	a := online(t, node.Config{}, nil)
	r, err := a.CreateReplica(ctx, "r", true)
	require.NoError(t, err)
	_, err = a.Rotate(ctx, r.ID)
	require.NoError(t, err)
	text, err := TicketFor(ctx, a, r)
	require.NoError(t, err)
	doc, err := ticket.ParseDoc(text)
	require.NoError(t, err)
	require.Equal(t, replica.Sync, doc.Capability)
	require.NotEmpty(t, doc.Addrs)
	require.Zero(t, doc.Least)
	full, err := ticket.ParseDoc(ticketFor(t, a, r, replica.Sync))
	require.NoError(t, err)
	require.NotZero(t, full.Least, "another node is told")

	plain := replica.NewSecretKey().Replica()
	mallory := newPerson(t, c)
	planted, err := (&ticket.Doc{Capability: replica.Sync, Replica: plain,
		Least: replica.EpochID{Number: 4_000_000_000}, Addrs: doc.Addrs}).Text()
	require.NoError(t, err)
	_, err = s.Register(ctx, mallory.request(t, s, plain, planted))
	require.NoError(t, err)
	held, err := s.n.Replicas().Get(ctx, plain)
	require.NoError(t, err)
	require.Zero(t, held.Least)
	require.False(t, held.Encrypted)
}
