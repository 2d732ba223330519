package migrate_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/migrate"
	"github.com/skerry-sync/skerry/collections/service"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/encrypted"
	"github.com/skerry-sync/skerry/collections/value"
)

// place is in memory, and outlasts its being closed.
type place struct {
	kept   *store.Memory
	closed int
}

func (p *place) Open(context.Context, service.Keep) (store.Store, error) {
	return opened{p.kept, p}, nil
}

type opened struct {
	*store.Memory
	p *place
}

func (o opened) Close() error { o.p.closed++; return nil }

// shared is a place that several servers write.
type shared struct {
	service.Ruled
	*place
}

func (s shared) Open(ctx context.Context, k service.Keep) (store.Store, error) {
	return s.place.Open(ctx, k)
}

const former, now, broken = "users/ABCDEF00000000000000000000000001/settings",
	"users/abcdef00000000000000000000000001/settings", "notes/broken"

// fill keeps a document in clear under a former name, and one that nobody can decrypt.
func fill(t *testing.T) *place {
	t.Helper()
	p := &place{kept: store.NewMemory()}
	o, err := value.ParseObject([]byte(`{"n":1}`), value.MaxDepth)
	require.NoError(t, err)
	for key, body := range map[string][]byte{
		former: document.New(o, 5, nil, false).Bytes(), broken: []byte("no document"),
	} {
		require.NoError(t, p.kept.Put(t.Context(), key, &store.Object{Body: body}, store.Whatever))
	}
	return p
}

func names(t *testing.T, p *place) []string {
	t.Helper()
	all, err := p.kept.List(t.Context(), "", "", 100)
	require.NoError(t, err)
	return all
}

// A migration encrypts and renames, in this order; a dry run only counts; and where several servers
// write nothing is renamed. What cannot be read stays, is told of, and fails the whole at its end.
func TestMigration(t *testing.T) {
	c, err := config.Parse([]byte(`{"version": 1, "collections": [
		{"name": "settings", "storagePath": "users/{identity}/settings", "readRoles": ["self"],
		 "writeRoles": ["self"], "encryption": "server", "maxBodyBytes": 1000},
		{"name": "notes", "storagePath": "notes/{id}", "readRoles": ["public"],
		 "writeRoles": ["public"], "encryption": "server", "maxBodyBytes": 1000}]}`))
	require.NoError(t, err)
	codec, err := encrypted.New(c, encrypted.Secrets{Server: []string{"secret"},
		Salts: []string{"0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"}, Spell: config.IdentityOf})
	require.NoError(t, err)
	run := func(in service.Place, dry bool) migrate.Done {
		t.Helper()
		var failed []string
		m := migrate.Migration{Place: in, Config: c, To: codec, DryRun: dry,
			Failed: func(key string, _ error) { failed = append(failed, key) },
			Left:   func(key string, _ error) { t.Errorf("%s was left", key) },
			Log:    slog.New(slog.DiscardHandler)}
		done, err := m.Run(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{broken}, failed)
		require.EqualError(t, done.Err(), "1 documents could not be read and stay as they were")
		return done
	}
	p := fill(t)
	done := run(p, true)
	require.Equal(t, encrypted.Migrated{Documents: 2, Encrypted: 1, Failed: 1}, done.Migrated)
	require.Equal(t, 1, done.Renamed)
	require.Equal(t, []string{broken, former}, names(t, p))
	before, err := p.kept.Get(t.Context(), former)
	require.NoError(t, err)
	require.Contains(t, string(before.Body), `"n":1`)

	require.Equal(t, done, run(p, false))
	require.Equal(t, []string{broken, now}, names(t, p))
	after, err := p.kept.Get(t.Context(), now)
	require.NoError(t, err)
	require.NotContains(t, string(after.Body), `"n":1`)
	done = run(p, false)
	require.Zero(t, done.Encrypted+done.Renamed, "it has been done")
	require.Equal(t, 3, p.closed)

	p = fill(t)
	done = run(shared{place: p}, false)
	require.Equal(t, 1, done.Encrypted)
	require.Zero(t, done.Renamed)
	require.Equal(t, []string{broken, former}, names(t, p))
	require.NoError(t, (&migrate.Done{}).Err())
}

// A migration that lacks what it needs says so, and has opened nothing.
func TestMigrationWithoutItsParts(t *testing.T) {
	c, err := config.Parse([]byte(`{"version": 1, "collections": []}`))
	require.NoError(t, err)
	codec, err := encrypted.New(c, encrypted.Secrets{})
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	p := fill(t)
	for name, m := range map[string]migrate.Migration{
		"nothing": {}, "no place": {Config: c, To: codec, Log: log},
		"no configuration": {Place: p, To: codec, Log: log},
		"no codec":         {Place: p, Config: c, Log: log},
		"no log":           {Place: p, Config: c, To: codec},
	} {
		_, err := m.Run(t.Context())
		require.ErrorContains(t, err, "needs Place, Config, To and Log", name)
	}
	require.Zero(t, p.closed)
	_, err = (&encrypted.Migration{}).Run(t.Context(), p.kept)
	require.ErrorContains(t, err, "needs To")
}
