package onnode

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
)

// joinByGrant has a machine join that holds no write ticket, with a grant that it may pass on to
// its own authors. It returns the author whom the grant names.
func (m *machine) joinByGrant(o *machine) replica.AuthorID {
	ctx := m.t.Context()
	m.join(o, replica.Read)
	a, err := m.n.Authors().Default(ctx)
	require.NoError(m.t, err)
	_, err = o.n.Grant(ctx, o.id, a, replica.Permission{Delegable: true})
	require.NoError(m.t, err)
	m.meet(o)
	return a
}

// opened gives out the versions that a machine has open.
func (m *machine) opened() RevokeOptions {
	return RevokeOptions{
		Opened: func(context.Context, replica.ID) (*Set, func(), error) {
			return m.set, func() {}, nil
		},
	}
}

func (m *machine) unsent() map[string]string {
	all := map[string]string{}
	for u, err := range m.set.Unsent(m.t.Context()) {
		require.NoError(m.t, err)
		in, err := u.Open(m.t.Context())
		require.NoError(m.t, err)
		b, err := io.ReadAll(in)
		require.NoError(m.t, err)
		all[string(u.Key)] = string(b)
	}
	return all
}

// Whoever revokes a device keeps what that has written, with the authors whom its grant has let
// write; the device learns that it was removed, shows the same as the others, and gives out what it
// has not sent, also after garbage was collected.
func TestRevoke(t *testing.T) {
	for name, encrypted := range map[string]bool{"plain": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			a := newMachine(t, t.TempDir()).start(true).found(encrypted)
			b := newMachine(t, t.TempDir()).start(true)
			author := b.joinByGrant(a)
			c := newMachine(t, t.TempDir()).start(true).join(a, replica.Write)
			a.write("k", "a")
			eventually(t, "k", "a", b, c)
			b.write("k", "ab")
			b.write("only", "b")
			eventually(t, "k", "ab", a, c)
			eventually(t, "only", "b", a, c)
			b.restart(false)
			b.write("k", "abx")
			b.write("late", "l")
			c.restart(false)
			c.write("only", "bc") // it knows of no revocation

			got, err := Revoke(ctx, a.n, a.id, author, a.opened())
			require.NoError(t, err)
			require.True(t, got.Versions)
			require.Equal(t, 2, got.Adopted)
			require.NotZero(t, got.Dropped)
			require.Equal(t, "ab", a.text("k"))
			require.Equal(t, "b", a.text("only"))
			c.restart(true)
			c.meet(a)
			eventually(t, "only", "bc", a, c)
			b.restart(true)
			b.meet(a)
			eventually(t, "only", "bc", a, c)
			eventually(t, "k", "ab", a, c)
			require.ErrorIs(t, b.set.Set.Set(ctx, b.read("k"), []byte("q")), versions.ErrRemoved)
			if !encrypted { // an encrypted one, it cannot read any more
				eventually(t, "k", "ab", b)
				eventually(t, "only", "bc", b)
			}
			want := map[string]string{"k": "abx", "late": "l"}
			require.Equal(t, want, b.unsent())
			b.restart(false)
			_, err = b.n.Collect(ctx, false, nil)
			require.NoError(t, err)
			require.Equal(t, want, b.unsent())
			require.ErrorIs(t, b.set.Set.Set(ctx, b.read("k"), []byte("q")), versions.ErrRemoved)
		})
	}
}

// If it is asked for, what a revoked device wrote goes with it, and items show what is left. A
// replica without versions is revoked as ever, and nothing begins to be kept of it.
func TestRevokeAndDrop(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(true).found(false)
	b := newMachine(t, t.TempDir()).start(true)
	author := b.joinByGrant(a)
	a.write("k", "a")
	eventually(t, "k", "a", b)
	b.write("k", "ab")
	b.write("only", "b")
	eventually(t, "only", "b", a)
	eventually(t, "k", "ab", a)
	o := a.opened()
	o.Drop = true
	got, err := Revoke(ctx, a.n, a.id, author, o)
	require.NoError(t, err)
	require.Zero(t, got.Adopted)
	require.Equal(t, uint64(2), got.Dropped)
	require.Equal(t, "a", a.text("k"))
	require.Equal(t, "-", a.text("only"))
	require.False(t, a.read("k").Plan.Write)

	plain, err := a.n.CreateReplica(ctx, "plain", false)
	require.NoError(t, err)
	key := replica.NewSecretKey()
	_, err = a.n.ReplicaOf(plain.ID).Apply(ctx, node.WriteOptions{As: key},
		node.Change{Key: []byte("k"), Value: []byte("no version")})
	require.NoError(t, err)
	got, err = Revoke(ctx, a.n, plain.ID, key.Author(), RevokeOptions{KeepAs: replica.NewSecretKey()})
	require.NoError(t, err)
	require.False(t, got.Versions)
	require.Equal(t, 1, got.Kept)
	value, err := a.n.ReplicaOf(plain.ID).Get(ctx, []byte("k"), 100)
	require.NoError(t, err)
	require.Equal(t, "no version", string(value))
	require.False(t, a.n.KeepsDisplaced(plain.ID))
}

// Entries that are no versions are signed anew beside versions, if it is asked for. What is not all
// here keeps a revocation back.
func TestRevokeBesidePlainEntries(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(true).found(false)
	b := newMachine(t, t.TempDir()).start(true)
	author := b.joinByGrant(a)
	b.write("k", "b")
	key, err := b.n.Authors().Key(ctx, author)
	require.NoError(t, err)
	_, err = b.n.ReplicaOf(b.id).Apply(ctx, node.WriteOptions{As: key},
		node.Change{Key: []byte("plain"), Value: []byte("no version")})
	require.NoError(t, err)
	eventually(t, "k", "b", a)
	require.Eventually(t, func() bool {
		has, err := a.n.ReplicaOf(a.id).Has(ctx, []byte("plain"))
		return err == nil && has
	}, 30*time.Second, 10*time.Millisecond)
	waitForContent(t, a)
	o := a.opened()
	o.KeepAs = replica.NewSecretKey()
	got, err := Revoke(ctx, a.n, a.id, author, o)
	require.NoError(t, err)
	require.Equal(t, 1, got.Adopted)
	require.Equal(t, 1, got.Kept)
	require.Equal(t, "b", a.text("k"))
	value, err := a.n.ReplicaOf(a.id).Get(ctx, []byte("plain"), 100)
	require.NoError(t, err)
	require.Equal(t, "no version", string(value))
}

// An owner can revoke the author of this very device, which goes on as another one. A delegate
// cannot revoke whom its own right stems from, nor keep anything if it could.
func TestRevokeOwnAuthor(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(true).found(false)
	b := newMachine(t, t.TempDir()).start(true)
	granted := b.joinByGrant(a)
	a.write("k", "a")
	eventually(t, "k", "a", b)
	own, ok := a.set.Author()
	require.True(t, ok)
	got, err := Revoke(ctx, a.n, a.id, own, a.opened())
	require.NoError(t, err)
	require.Equal(t, 1, got.Adopted)
	now, ok := a.set.Author()
	require.True(t, ok)
	require.NotEqual(t, own, now)
	a.write("k", "ac")
	eventually(t, "k", "ac", a, b)

	b.write("k", "abc")
	mine, ok := b.set.Author()
	require.True(t, ok)
	_, err = Revoke(ctx, b.n, b.id, mine, b.opened())
	require.ErrorIs(t, err, ErrOwnRights)
	eventually(t, "k", "abc", a, b)
	_, err = Revoke(ctx, b.n, b.id, granted, b.opened())
	require.ErrorIs(t, err, replica.ErrCannotGrant)
}

// A device that was revoked, and whose author is granted anew, publishes again what it had not
// sent, and writes.
func TestGrantedAnew(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(true).found(false)
	b := newMachine(t, t.TempDir()).start(true)
	author := b.joinByGrant(a)
	a.write("k", "a")
	eventually(t, "k", "a", b)
	b.write("k", "ab")
	eventually(t, "k", "ab", a)
	b.restart(false)
	b.write("k", "abx")
	b.write("late", "l")
	_, err := Revoke(ctx, a.n, a.id, author, a.opened())
	require.NoError(t, err)
	b.restart(true)
	b.meet(a)
	require.Eventually(t, func() bool {
		return errors.Is(b.set.Set.Set(ctx, b.read("q"), []byte("q")), versions.ErrRemoved)
	}, 30*time.Second, 20*time.Millisecond)
	require.Equal(t, map[string]string{"k": "abx", "late": "l"}, b.unsent())

	device, _ := b.set.Author()
	_, err = a.n.Grant(ctx, a.id, device, replica.Permission{})
	require.NoError(t, err)
	b.meet(a)
	eventually(t, "late", "l", a, b)
	eventually(t, "k", "abx", a, b)
	b.write("k", "abxy")
	b.write("q", "q")
	eventually(t, "k", "abxy", a, b)
	eventually(t, "q", "q", a, b)
}
