package project

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/replica"
)

// memory is a replica in memory.
type memory struct {
	id      replica.ID
	values  map[string][]byte
	missing map[string]bool // keys whose content is elsewhere
	updates int
	came    func() // called after content has been read, before the rest is set
}

func newMemory(id replica.ID) *memory {
	return &memory{id: id, values: map[string][]byte{}, missing: map[string]bool{}}
}

func (m *memory) ID() replica.ID { return m.id }

var errAway = errors.New("its content is not here")

func (m *memory) Get(_ context.Context, key []byte, most uint64) ([]byte, error) {
	b, ok := m.values[string(key)]
	switch {
	case !ok:
		return nil, replica.ErrNotFound
	case m.missing[string(key)]:
		return nil, errAway
	case uint64(len(b)) > most:
		return nil, blobs.ErrTooLarge
	}
	return b, nil
}

func (m *memory) Has(_ context.Context, key []byte) (bool, error) {
	if _, ok := m.values[string(key)]; !ok {
		return false, replica.ErrNotFound
	}
	return !m.missing[string(key)], nil
}

func (m *memory) Latest(_ context.Context, q replica.Query) iter.Seq2[replica.Item, error] {
	return func(yield func(replica.Item, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(m.values)) {
			if strings.HasPrefix(key, string(q.Prefix)) &&
				!yield(replica.Item{Key: []byte(key)}, nil) {
				return
			}
		}
	}
}

func (m *memory) Update(
	_ context.Context, progress func(uint64), fn func(Batch) error,
) error {
	b := &memoryBatch{m, progress, map[string][]byte{}}
	if err := fn(b); err != nil {
		return err
	}
	maps.Copy(m.values, b.values)
	m.updates++
	return nil
}

type memoryBatch struct {
	m        *memory
	progress func(uint64)
	values   map[string][]byte
}

func (b *memoryBatch) Set(key, value []byte) error {
	b.values[string(key)] = bytes.Clone(value)
	return nil
}

func (b *memoryBatch) SetFrom(key []byte, content io.Reader) error {
	all, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	if b.progress != nil {
		b.progress(uint64(len(all)))
	}
	if b.m.came != nil {
		b.m.came()
	}
	return b.Set(key, all)
}

// opened is a project in memory.
func opened(t *testing.T, find Finder) (*Opened, *memory) {
	t.Helper()
	m := newMemory(rid)
	require.NoError(t, Create(t.Context(), m, New(rid, "P", owner, now)))
	o, err := Open(t.Context(), m, find)
	require.NoError(t, err)
	return o, m
}

// add adds a version of an asset.
func add(t *testing.T, o *Opened, n NewAsset, text string) (FoundAsset, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "rotor v1.step")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	f, err := disk.OpenRegular(name)
	require.NoError(t, err)
	defer f.Close()
	n.FileName = name
	return o.AddAsset(t.Context(), n, f)
}

func at(hours int) time.Time { return now.Add(time.Duration(hours) * time.Hour) }

func TestOpen(t *testing.T) {
	m := newMemory(rid)
	_, err := Open(t.Context(), m, nil)
	require.ErrorIs(t, err, ErrNone)
	require.ErrorIs(t, Create(t.Context(), m, New(replica.ID{7}, "P", owner, now)), ErrInvalid)
	require.Zero(t, m.updates)
	for want, text := range map[error][]byte{
		ErrMalformed: []byte("nonsense"),
		ErrInvalid:   asProject(New(replica.ID{7}, "another's", owner, now)),
	} {
		m.values[ProjectKey] = text
		_, err = Read(t.Context(), m)
		require.ErrorIs(t, err, want)
	}
	m.values[ProjectKey] = make([]byte, MaxEncoded+1)
	_, err = Read(t.Context(), m)
	require.ErrorIs(t, err, ErrMalformed, "nobody reads it all")
	m.missing[ProjectKey] = true
	_, err = Read(t.Context(), m)
	require.ErrorIs(t, err, errAway)
}

func asProject(p Project) []byte { return p.Marshal() }

// What is not said of an asset follows from its file's name and the project; each version that
// differs is derived from the one before, and all of them are kept.
func TestVersions(t *testing.T) {
	o, m := opened(t, nil)
	var told uint64
	n := NewAsset{Now: at(1), Progress: func(read uint64) { told = read }}
	f, err := add(t, o, n, "one")
	require.NoError(t, err)
	require.EqualValues(t, 3, told)
	require.NoError(t, f.Fault)
	require.False(t, f.Signed)
	require.Equal(t, "rotor-v1-step", f.ID)
	require.Equal(t, "rotor v1.step", f.Name)
	require.Equal(t, owner.String(), f.Author)
	require.Equal(t, blake3.Sum256([]byte("one")), f.Content)
	require.Equal(t, "one", string(m.values[string(contentKey(f.Content))]))
	was := m.updates
	for i, text := range []string{"two", "two", "three"} {
		f, err = add(t, o, NewAsset{Now: at(2 + i)}, text)
		require.NoError(t, err)
		require.Equal(t, at(1), f.Created)
		require.Equal(t, at(2+i), f.Updated)
	}
	require.Equal(t, was+3, m.updates, "all of a version is written together")
	all, err := o.Assets(t.Context())
	require.NoError(t, err)
	require.Equal(t, []FoundAsset{f}, all)

	m.missing[string(contentKey(blake3.Sum256([]byte("one"))))] = true
	history, err := o.History(t.Context(), f.ID)
	require.NoError(t, err)
	require.Equal(t, []Version{
		{Asset: f.ID, Content: blake3.Sum256([]byte("three")), At: at(4), Here: true},
		{Asset: f.ID, Content: blake3.Sum256([]byte("two")), At: at(4), Here: true},
		{Asset: f.ID, Content: blake3.Sum256([]byte("one")), At: at(2)},
	}, history)
	var none *NoAssetError
	_, err = o.History(t.Context(), "stator")
	require.ErrorAs(t, err, &none)
	require.Equal(t, NoAssetError{rid, "stator"}, *none)

	// A clock that has gone back makes no asset that is updated before it was created.
	f, err = add(t, o, NewAsset{Now: at(0)}, "four")
	require.NoError(t, err)
	require.Equal(t, f.Created, f.Updated)
}

// An asset that cannot be added leaves nothing behind.
func TestAssetThatCannotBeAdded(t *testing.T) {
	o, m := opened(t, nil)
	was := maps.Clone(m.values)
	refused := errors.New("no")
	for want, n := range map[error]NewAsset{
		ErrInvalid: {ID: "no good"},
		refused: {Sign: func(context.Context, Asset) (SignedAsset, error) {
			return SignedAsset{}, refused
		}},
	} {
		_, err := add(t, o, n, "x")
		require.ErrorIs(t, err, want)
		require.Equal(t, was, m.values)
	}
	// One of which it cannot be told what it was is not written over.
	m.values[AssetPrefix+"bad"] = []byte("nonsense")
	_, err := add(t, o, NewAsset{ID: "bad"}, "x")
	require.ErrorIs(t, err, ErrMalformed)
	require.Equal(t, "nonsense", string(m.values[AssetPrefix+"bad"]))
}

// A file that changes between the two times that it is read is not added.
func TestFileThatChanges(t *testing.T) {
	o, m := opened(t, nil)
	name := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(name, []byte("before"), 0o600))
	f, err := disk.OpenRegular(name)
	require.NoError(t, err)
	defer f.Close()
	m.came = func() { require.NoError(t, os.WriteFile(name, []byte("behind"), 0o600)) }
	was := maps.Clone(m.values)
	_, err = o.AddAsset(t.Context(), NewAsset{FileName: name}, f)
	require.ErrorContains(t, err, "has changed while it was added")
	require.Equal(t, was, m.values)
}

func TestSignatureOfAnAsset(t *testing.T) {
	key, err := identity.NewKey(identity.Passkey)
	require.NoError(t, err)
	var nonce identity.Nonce
	id := identity.IDOf(key.Public(), nonce)
	o, m := opened(t, nil)
	n := NewAsset{ID: "a", Author: id.String(), Sign: func(_ context.Context, a Asset) (
		SignedAsset, error,
	) {
		return Sign(a, key, nonce)
	}}
	f, err := add(t, o, n, "one")
	require.NoError(t, err)
	require.True(t, f.Signed)
	require.NoError(t, f.Wrong)
	n.Sign = nil
	f, err = add(t, o, n, "two")
	require.NoError(t, err)
	require.True(t, f.Signed)
	require.ErrorContains(t, f.Wrong, "another version")
	m.values[SignaturePrefix+"a"] = []byte("nonsense")
	all, err := o.Assets(t.Context())
	require.NoError(t, err)
	require.ErrorIs(t, all[0].Wrong, ErrMalformed)
	require.NoError(t, all[0].Fault)
}

// What somebody has written wrongly is shown as such, and hides nothing.
func TestWhatIsWrongHidesNothing(t *testing.T) {
	o, m := opened(t, nil)
	_, err := add(t, o, NewAsset{ID: "good"}, "one")
	require.NoError(t, err)
	_, err = add(t, o, NewAsset{ID: "good"}, "two")
	require.NoError(t, err)
	m.values[AssetPrefix+"bad"] = []byte("nonsense")
	m.values[AssetPrefix+"moved"] = m.values[AssetPrefix+"good"]
	m.values[ReferencePrefix+"bad"] = []byte("nonsense")
	for key, b := range maps.Clone(m.values) {
		if strings.HasPrefix(key, ReferencePrefix) {
			m.values[ReferencePrefix+"moved"] = b
		}
	}
	assets, err := o.Assets(t.Context())
	require.NoError(t, err)
	var got []string
	for _, a := range assets {
		got = append(got, fmt.Sprint(a.ID, " ", a.Fault))
	}
	require.Len(t, got, 3)
	require.Contains(t, got[0], "bad malformed")
	require.Equal(t, "good <nil>", got[1])
	require.Equal(t, "moved invalid: it stands under /assets/moved", got[2])
	refs, err := o.References(t.Context())
	require.NoError(t, err)
	faults := 0
	for _, r := range refs {
		if r.Fault != nil {
			faults++
		}
	}
	require.Len(t, refs, 3)
	require.Equal(t, 2, faults)
	history, err := o.History(t.Context(), "good")
	require.NoError(t, err)
	require.Len(t, history, 2)
}

// A reference says the version of its target; a target elsewhere need not be here.
func TestReferences(t *testing.T) {
	elsewhere := newMemory(replica.ID{7})
	other := IDOf(elsewhere.id)
	failing := errors.New("the store is gone")
	var fail error
	o, m := opened(t, func(_ context.Context, id string) (Replica, error) {
		if id == other {
			return elsewhere, fail
		}
		return nil, fail
	})
	_, err := add(t, o, NewAsset{ID: "motor"}, "m")
	require.NoError(t, err)
	rotor, err := add(t, o, NewAsset{ID: "rotor"}, "r")
	require.NoError(t, err)
	ctx := t.Context()

	n := NewReference{Source: "motor", Target: "rotor", Type: Contains, Now: at(3)}
	f, err := o.AddReference(ctx, n)
	require.NoError(t, err)
	require.True(t, f.Here)
	require.Equal(t, rotor.Content, f.Content)
	n.Now = at(4)
	again, err := o.AddReference(ctx, n)
	require.NoError(t, err)
	require.Equal(t, f.ID, again.ID, "saying it twice is saying it once")

	var none *NoAssetError
	for _, wrong := range []NewReference{
		{Source: "nothing", Target: "rotor", Type: Contains},
		{Source: "motor", Target: "nothing", Type: Contains},
		{Source: "motor", Target: "nothing", Type: Contains, Content: &rotor.Content},
		{Source: "motor", Target: "wheel", Type: Contains, Project: other, In: elsewhere},
	} {
		_, err = o.AddReference(ctx, wrong)
		require.ErrorAs(t, err, &none)
	}
	_, err = o.AddReference(ctx, NewReference{Source: "motor", Target: "rotor", Type: 9})
	require.ErrorIs(t, err, ErrInvalid)

	n = NewReference{Source: "motor", Target: "wheel", Type: DependsOn, Now: at(2),
		Project: other, In: elsewhere, Content: &rotor.Content}
	f, err = o.AddReference(ctx, n)
	require.NoError(t, err)
	require.False(t, f.Here)
	elsewhere.values[AssetPrefix+"wheel"] = m.values[AssetPrefix+"rotor"]
	n = NewReference{Source: "motor", Target: "wheel", Type: DerivedFrom, Now: at(1),
		Project: strings.Repeat("0", 32)}
	_, err = o.AddReference(ctx, n)
	require.NoError(t, err)

	refs, err := o.References(ctx)
	require.NoError(t, err)
	var got []string
	for _, r := range refs {
		got = append(got, fmt.Sprint(r.Type, " ", r.Target, " ", r.Here))
	}
	require.Equal(t, []string{"derived-from wheel false", "depends-on wheel true",
		"contains rotor true"}, got, "the oldest first")
	history, err := o.History(ctx, "motor")
	require.NoError(t, err)
	require.Len(t, history, 2)
	require.Equal(t, strings.Repeat("0", 32), history[1].Project)
	require.False(t, history[1].Here)

	fail = failing
	refs, err = o.References(ctx)
	require.NoError(t, err)
	require.ErrorIs(t, refs[0].Fault, failing)
	require.Equal(t, "wheel", refs[0].Target, "what it says is known")
}

// However many references lead to another project, it is looked for once; and again when somebody
// asks again.
func TestReferencesLookForAProjectOnce(t *testing.T) {
	asked := map[string]int{}
	o, _ := opened(t, func(_ context.Context, id string) (Replica, error) {
		asked[id]++
		return nil, nil
	})
	_, err := add(t, o, NewAsset{ID: "a", Now: at(1)}, "1")
	require.NoError(t, err)
	for i := range 3 {
		for _, project := range []string{"other", "third"} {
			_, err := o.AddReference(t.Context(), NewReference{Source: "a", Target: fmt.Sprint("t", i),
				Project: project, Content: &[32]byte{1}, Type: DependsOn, Now: at(i)})
			require.NoError(t, err)
		}
	}
	for range 2 {
		clear(asked)
		all, err := o.References(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 6)
		require.Equal(t, map[string]int{"other": 1, "third": 1}, asked)
	}
}
