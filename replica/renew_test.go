package replica

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
)

// renewing is an owner of an encrypted replica, a delegate below ours/, and some guests of the
// delegate, on nodes that keep few statements of delegates.
type renewing struct {
	t               *testing.T
	c               *clock
	id              ID
	owner, delegate *Store
	key             SecretKey // the delegate's
	guests          []*Store
	keys            []SecretKey
}

func newRenewing(t *testing.T, guests int, most keepLimits) *renewing {
	w := &renewing{t: t, c: newClock()}
	w.owner, w.delegate = newStore(t, w.c), newStore(t, w.c)
	r, err := w.owner.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	w.id, w.key = r.ID, authorOn(t, w.delegate)
	for range guests {
		s := newStore(t, w.c)
		w.guests, w.keys = append(w.guests, s), append(w.keys, authorOn(t, s))
	}
	w.owner.keep = most
	for _, s := range append([]*Store{w.delegate}, w.guests...) {
		s.keep = most
		_, err = s.Join(bg, Replica{ID: w.id, Capability: Sync})
		require.NoError(t, err)
	}
	_, err = w.owner.Grant(bg, w.id, w.key.Author(),
		Permission{Prefix: []byte("ours/"), Delegable: true})
	require.NoError(t, err)
	w.sync()
	return w
}

// sync lets all meet the owner, twice, and lets the delegate renew between.
func (w *renewing) sync() {
	for range 2 {
		exchange(w.t, w.owner, w.delegate, w.id)
		_, err := w.delegate.Renew(bg, w.id)
		require.NoError(w.t, err)
		exchange(w.t, w.owner, w.delegate, w.id)
		for _, s := range w.guests {
			exchange(w.t, w.owner, s, w.id)
		}
	}
}

func (w *renewing) grant(to SecretKey, prefix string) error {
	_, err := w.delegate.Grant(bg, w.id, to.Author(), Permission{Prefix: []byte(prefix)})
	return err
}

// rotate has the owner begin an epoch that has reached the delegate.
func (w *renewing) rotate() {
	w.c.t = w.c.t.Add(time.Second)
	_, err := w.owner.Rotate(bg, w.id)
	require.NoError(w.t, err)
	exchange(w.t, w.owner, w.delegate, w.id)
}

// However many epochs there are, a delegate's guests go on writing, and what they have written
// stays: what is made anew with an epoch takes no room from what was granted before.
func TestRenewalComesToNoLimit(t *testing.T) {
	testkit.OneGoroutine(t)
	w := newRenewing(t, 3, keepLimits{all: 4, about: 2})
	for _, key := range w.keys {
		require.NoError(t, w.grant(key, "ours/part/"))
	}
	require.NoError(t, w.grant(w.keys[0], "ours/other/"))
	require.ErrorIs(t, w.grant(testKey(9), "ours/"), ErrTooMany, "as many as are kept")
	w.sync()
	const epochs = 6
	for i := range epochs {
		w.rotate()
		w.sync()
		for k, s := range w.guests {
			_, err := s.WritePlain(bg, plain(t, s, w.id), w.keys[k],
				[]Change{change(fmt.Sprintf("ours/part/%d", i), fmt.Sprint(k))})
			require.NoError(t, err, "guest %d in epoch %d", k, i)
		}
		_, err := w.guests[0].WritePlain(bg, plain(t, w.guests[0], w.id), w.keys[0],
			[]Change{change(fmt.Sprintf("ours/other/%d", i), "v")})
		require.NoError(t, err)
		require.ErrorIs(t, w.grant(testKey(9), "ours/"), ErrTooMany, "in each epoch")
		w.sync()
	}
	for _, s := range append([]*Store{w.owner, w.delegate}, w.guests...) {
		c, err := s.Counts(bg, w.id)
		require.NoError(t, err)
		require.EqualValues(t, epochs*(len(w.guests)+1), c.Entries, "nothing written is lost")
		wholesome(t, s, w.id)
	}
}

// One author with as many new grants as are kept keeps nobody else's from being made anew.
func TestRenewalGoesOnAfterALimit(t *testing.T) {
	w := newRenewing(t, 0, keepLimits{all: 9, about: 2})
	a, b, c := testKey(21), testKey(22), testKey(23)
	for _, key := range []SecretKey{a, b, c} {
		require.NoError(t, w.grant(key, "ours/part/"))
	}
	w.rotate()
	for _, prefix := range []string{"ours/x/", "ours/y/"} { // before anything is made anew
		require.NoError(t, w.grant(b, prefix))
	}
	made, err := w.delegate.Renew(bg, w.id)
	require.ErrorIs(t, err, ErrTooMany)
	require.ErrorContains(t, err, b.Author().String())
	require.NotContains(t, err.Error(), a.Author().String())
	require.Equal(t, 2, made, "those of the others")
}

// A prefix that names an epoch which does not count has no room of its own: else whoever may grant
// could make as many as there are numbers.
func TestNoShelfForEpochsThatDoNotCount(t *testing.T) {
	owner, a := testKey(1), testKey(2)
	s := newStore(t, newClock())
	s.keep = keepLimits{all: 3, about: 3}
	id := hold(t, s, owner, Read)
	toA := grantFrom(nil, owner, a, 1, delegable)
	in := func(epoch uint32, to byte, issued uint64) *Grant {
		return ref(grantFrom(&toA, a, testKey(to), issued, func(g *Grant) {
			g.Prefix = sealedIn(epoch)
		}))
	}
	epoch := func(number uint32) *Epoch {
		e := &Epoch{Replica: id, Number: number, Issued: 1, Commitment: [32]byte{byte(number)}}
		e.Sign(owner)
		return e
	}
	insert := func(want Stated, all ...Statement) {
		t.Helper()
		out, err := s.InsertStatements(bg, id, all)
		require.NoError(t, err)
		require.Equal(t, want, out)
		wholesome(t, s, id)
	}
	insert(Stated{Added: 4}, &toA, in(1, 3, 10), in(2, 4, 11), in(1<<32-1, 5, 12))
	insert(Stated{Refused: 2}, in(1, 6, 13), in(3, 6, 14))
	insert(Stated{Added: 1}, epoch(2)) // behind a gap
	insert(Stated{Refused: 1}, in(2, 6, 13))
	// What comes with the epoch that gives it room is taken with it, in whatever order it is named.
	insert(Stated{Added: 4}, in(1, 6, 13), in(2, 6, 13), epoch(1), in(3, 6, 14))
	insert(Stated{Added: 1, Refused: 1}, in(4, 6, 15), in(5, 6, 16))
	insert(Stated{Added: 2, Refused: 1}, in(1, 7, 20), in(2, 7, 21), in(1, 8, 22))
}
