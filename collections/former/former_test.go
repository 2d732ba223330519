package former_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/former"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

const text = `{"version": 1, "collections": [
	{"name": "settings", "storagePath": "users/{identity}/settings", "readRoles": ["self"], "writeRoles": ["self"], "encryption": "none", "maxBodyBytes": 1000},
	{"name": "featured", "storagePath": "notes/featured", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000},
	{"name": "notes", "storagePath": "notes/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000},
	{"name": "pictures", "storagePath": "pictures/{id}", "readRoles": ["public"], "writeRoles": ["public"], "allowedMimeTypes": ["image/*"], "encryption": "none", "maxBodyBytes": 1000},
	{"name": "log", "storagePath": "logs/{identity}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000,
	 "appendOnly": {"requireAuthorSignature": false}}],
	"extensions": {"remotes": {"featured": {"url": "http://127.0.0.1:1", "pullPath": "/x", "writeMode": "pull_only"}}}}`

const (
	capitals = "ABCDEF00000000000000000000000001"
	small    = "abcdef00000000000000000000000001"
	wallet   = "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"
	checksum = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
)

func parsed(t *testing.T) *config.Config {
	c, err := config.Parse([]byte(text))
	require.NoError(t, err)
	return c
}

// breaking is a store that stops after some writes.
type breaking struct {
	store.Store
	left int
}

var errBroken = errors.New("the power is gone")

func (b *breaking) Put(
	ctx context.Context, key string, o *store.Object, if_ store.Condition,
) error {
	if b.left--; b.left < 0 {
		return errBroken
	}
	return b.Store.Put(ctx, key, o, if_)
}

func (b *breaking) Delete(ctx context.Context, key string) error {
	if b.left--; b.left < 0 {
		return errBroken
	}
	return b.Store.Delete(ctx, key)
}

// fill stores what earlier versions have.
func fill(t *testing.T, s store.Store) {
	ctx := t.Context()
	d := document.In(s, nil)
	doc := func(key, data string) {
		o, err := value.ParseObject([]byte(data), value.MaxDepth)
		require.NoError(t, err)
		require.NoError(
			t,
			s.Put(ctx, key, &store.Object{Body: document.New(o, 5, nil, false).Bytes()}, store.Whatever),
		)
	}
	doc("users/"+capitals+"/settings", `{"n":1}`)
	doc("users/"+wallet+"/settings", `{"n":2}`)
	doc("notes/a__seg", `{"n":3}`)
	doc("notes/plain", `{"n":4}`)
	doc("notes/both__remote", `{"n":5}`)
	doc("notes/both_remote", `{"n":6}`)
	doc("notes/featured__remote", `{"inside":true}`)
	doc("users/0xnone/settings", `{"n":7}`)
	require.NoError(
		t,
		s.Put(
			ctx, "pictures/p__seg", &store.Object{Body: []byte("bytes"), Type: "image/png"},
			store.Whatever,
		),
	)
	require.NoError(
		t,
		s.Put(ctx, "__sync__/revocations/"+capitals, &store.Object{Body: []byte("{}")}, store.Whatever),
	)
	for i := range 5 {
		data := value.NewObject(value.Member{Key: "n", Value: float64(i)})
		_, err := d.Append(
			ctx, "logs/"+capitals, data, nil, nil, document.Log{Field: "items", ChunkSize: 2},
		)
		require.NoError(t, err)
	}
}

func keys(t *testing.T, s store.Store) []string {
	all, err := s.List(t.Context(), "", "", 1000)
	require.NoError(t, err)
	return all
}

// check looks at what has been moved.
func check(t *testing.T, s store.Store) {
	d := document.In(s, nil)
	for key, want := range map[string]string{
		"users/" + small + "/settings": `{"n":1}`, "users/" + checksum + "/settings": `{"n":2}`,
		"notes/a_seg": `{"n":3}`,
		"notes/plain": `{"n":4}`, "notes/both__remote": `{"n":5}`, "notes/both_remote": `{"n":6}`,
		"notes/featured__remote": `{"inside":true}`, "users/0xnone/settings": `{"n":7}`,
	} {
		doc, err := d.Get(t.Context(), key)
		require.NoError(t, err)
		require.NotNil(t, doc, key)
		require.Equal(t, want, string(value.Append(nil, doc.Data)), key)
	}
	o, err := s.Get(t.Context(), "pictures/p_seg")
	require.NoError(t, err)
	require.Equal(t, "image/png", o.Type)
	l := document.Log{Field: "items", ChunkSize: 2}
	_, err = d.Append(t.Context(), "logs/"+small, &value.Object{}, nil, nil, l)
	require.NoError(t, err)
	p, err := d.Elements(t.Context(), "logs/"+small, 0, nil, l)
	require.NoError(t, err)
	require.Len(t, p.Elements, 6)
	for _, k := range keys(t, s) {
		require.NotContains(t, k, "logs/"+capitals)
		require.NotContains(t, k, "users/"+capitals)
	}
	require.Contains(t, keys(t, s), "__sync__/revocations/"+capitals)
}

// What no request reaches any more is where one does, unless something else is there or it has no
// name that a request could have; what servers keep for themselves stays.
func TestMove(t *testing.T) {
	for name, open := range map[string]func() store.Store{
		"memory": func() store.Store { return store.NewMemory() },
		"directory": func() store.Store {
			s, err := store.OpenDirectory(t.TempDir())
			require.NoError(t, err)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open()
			fill(t, s)
			before := keys(t, s)
			var left []string
			o := former.Options{DryRun: true, Left: func(key string, _ error) { left = append(left, key) }}
			stay := []string{"notes/both__remote", "users/0xnone/settings"}
			for _, dry := range []bool{true, false} {
				o.DryRun, left = dry, nil
				n, err := former.Move(t.Context(), parsed(t), s, o)
				require.NoError(t, err)
				slices.Sort(left)
				require.Equal(t, stay, left)
				require.Equal(t, former.Moved{Documents: 5, Left: 2}, n)
				if dry {
					require.Equal(t, before, keys(t, s))
				}
			}
			check(t, s)
			n, err := former.Move(t.Context(), parsed(t), s, o)
			require.NoError(t, err)
			require.Equal(t, former.Moved{Left: 2}, n)
		})
	}
}

// A store that fails ends the run, which then says so and has lost nothing, and the next goes on. A
// run that only looks tells what it will do.
func TestMoveAfterACut(t *testing.T) {
	for after := 0; ; after++ {
		s := store.NewMemory()
		fill(t, s)
		_, failed := former.Move(t.Context(), parsed(t), &breaking{s, after}, former.Options{})
		looked, err := former.Move(t.Context(), parsed(t), s, former.Options{DryRun: true})
		require.NoError(t, err)
		moved, err := former.Move(t.Context(), parsed(t), s, former.Options{})
		require.NoError(t, err)
		require.Equal(t, looked, moved)
		require.Equal(t, 2, moved.Left)
		check(t, s)
		if failed == nil {
			require.Greater(t, after, 10)
			return
		}
		require.ErrorIs(t, failed, errBroken)
	}
}

// away is a store that cannot be read under some keys.
type away struct {
	store.Store
	keys string // in the keys
	err  error
}

func (a *away) Get(ctx context.Context, key string) (*store.Object, error) {
	if strings.Contains(key, a.keys) {
		return nil, a.err
	}
	return a.Store.Get(ctx, key)
}

// What cannot be moved stays, and the rest is moved. A store that cannot be read is not that.
func TestWhatEndsAMove(t *testing.T) {
	for _, dry := range []bool{true, false} {
		s := store.NewMemory()
		fill(t, s)
		gone := errors.New("connection refused")
		o := former.Options{DryRun: dry}
		_, err := former.Move(t.Context(), parsed(t), &away{s, "notes/a_", gone}, o)
		require.ErrorIs(t, err, gone)
		require.ErrorContains(t, err, "notes/a__seg")
		sealed := fmt.Errorf("%w: another secret", store.ErrUndecoded)
		n, err := former.Move(t.Context(), parsed(t), &away{s, "notes/both", sealed}, o)
		require.NoError(t, err)
		require.Equal(t, 2, n.Left)
	}
}

// folding is a store that does not tell capitals from small letters, as some file systems.
type folding struct {
	store.Store
	names map[string]string // as they were first written
}

func (f *folding) name(key string) string {
	if name, ok := f.names[strings.ToLower(key)]; ok {
		return name
	}
	return key
}

func (f *folding) Get(ctx context.Context, key string) (*store.Object, error) {
	return f.Store.Get(ctx, f.name(key))
}

func (f *folding) Put(ctx context.Context, key string, o *store.Object, if_ store.Condition) error {
	name := f.name(key)
	f.names[strings.ToLower(key)] = name
	return f.Store.Put(ctx, name, o, if_)
}

func (f *folding) Delete(ctx context.Context, key string) error {
	return f.Store.Delete(ctx, f.name(key))
}

// Where capitals and small letters are the same, requests reach what is there, and it stays.
func TestMoveWithoutCapitals(t *testing.T) {
	s := &folding{store.NewMemory(), map[string]string{}}
	fill(t, s)
	_, err := former.Move(t.Context(), parsed(t), s, former.Options{})
	require.NoError(t, err)
	doc, err := document.In(s, nil).Get(t.Context(), "users/"+small+"/settings")
	require.NoError(t, err)
	require.Equal(t, `{"n":1}`, string(value.Append(nil, doc.Data)))
}

// A program that is told to stop stops.
func TestMoveStops(t *testing.T) {
	s := store.NewMemory()
	fill(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	cancel()
	_, err := former.Move(ctx, parsed(t), s, former.Options{})
	require.ErrorIs(t, err, context.Canceled, fmt.Sprint(err))
}
