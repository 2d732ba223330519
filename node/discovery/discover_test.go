package discovery

import (
	"context"
	"iter"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
)

// allOf gives replicas in the order of their ids.
func allOf(ids ...replica.ID) func(context.Context) iter.Seq2[replica.Replica, error] {
	return func(context.Context) iter.Seq2[replica.Replica, error] {
		return func(yield func(replica.Replica, error) bool) {
			for _, id := range ids {
				if !yield(replica.Replica{ID: id}, nil) {
					return
				}
			}
		}
	}
}

// claimed is a table in which everybody claims everything.
type claimed []peer.AddrInfo

func (claimed) Announce(context.Context, [32]byte) error                  { return nil }
func (c claimed) Find(context.Context, [32]byte) ([]peer.AddrInfo, error) { return c, nil }

func (claimed) Situation() link.Situation { return link.Situation{TableSize: 1} }

func finderOf(now func() time.Time, ids ...replica.ID) *Finder {
	return New(Config{
		Self: "self", Now: now, Log: slog.New(slog.DiscardHandler), All: allOf(ids...),
		Here: func(replica.ID) []peer.ID { return nil }, AnyHere: func(replica.ID) bool { return false },
		Seeds:     func(context.Context, replica.ID) ([]peer.ID, error) { return nil, nil },
		Connected: func(p peer.ID) bool { return p == "silent" },
		Refused:   func(p peer.ID) bool { return p == "refused" },
	})
}

// More replicas than fit in one round are announced in turns.
func TestInTurn(t *testing.T) {
	var ids []replica.ID
	for i := range 20 {
		ids = append(ids, replica.ID{byte(i + 1)})
	}
	d := finderOf(time.Now, ids...)
	first, from, err := d.inTurn(t.Context(), replica.ID{})
	require.NoError(t, err)
	require.Equal(t, ids, first)
	require.Equal(t, ids[19], from)
	again, from, err := d.inTurn(t.Context(), ids[7])
	require.NoError(t, err)
	require.Equal(t, append(append([]replica.ID{}, ids[8:]...), ids[:8]...), again)
	require.Equal(t, ids[7], from)
}

// One that has claimed falsely is not asked again for an hour, unless it was only busy; this node
// itself and whoever is refused are not asked at all. Two holders are enough.
func TestFalseClaims(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		id := replica.ID{1}
		d := finderOf(time.Now, id)
		d.Online(claimed{{ID: "liar"}, {ID: "busy"}, {ID: "self"}, {ID: "refused"}, {ID: "liar"}})
		var mu sync.Mutex
		met := map[peer.ID]int{}
		meet := func(
			_, _ context.Context, _ time.Duration, p peer.AddrInfo, _ replica.ID,
		) error {
			mu.Lock()
			defer mu.Unlock()
			met[p.ID]++
			if p.ID == "busy" {
				return contacts.ErrBusy
			}
			return contacts.ErrNotShared
		}
		for range 3 {
			require.NoError(t, d.Find(t.Context(), id, meet))
		}
		require.Equal(t, map[peer.ID]int{"liar": 1, "busy": 3}, met)
		require.EqualValues(t, 1, d.Stats().FalseClaims)
		require.EqualValues(t, 3, d.Stats().Searches)
		time.Sleep(falseMemory)
		require.NoError(t, d.Find(t.Context(), id, meet))
		require.Equal(t, 2, met["liar"])

		var many claimed
		for i := range maxClaims {
			many = append(many, peer.AddrInfo{ID: peer.ID([]byte{'p', byte(i)})})
		}
		d.Online(many)
		found := 0
		err := d.Find(t.Context(), id, func(
			proving, _ context.Context, _ time.Duration, p peer.AddrInfo, _ replica.ID,
		) error {
			if p.ID[1] < claimsAtOnce-1 { // it says nothing, and another one can be asked beside it
				<-proving.Done()
				return proving.Err()
			}
			mu.Lock()
			defer mu.Unlock()
			found++
			return nil
		})
		require.NoError(t, err)
		require.GreaterOrEqual(t, found, enoughHolders)
		require.EqualValues(t, 2, d.Stats().FalseClaims, "who was not waited for has not lied")
	})
}

// One that cannot be reached has not lied: it is asked again in the next search, after the others
// while there are more than one search asks. Neither has one that is connected and slow: it is
// asked again in a few minutes.
func TestUnreachableIsNotLying(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		id := replica.ID{1}
		d := finderOf(time.Now, id)
		var mu sync.Mutex
		met := map[peer.ID]int{}
		meet := func(
			_, _ context.Context, limit time.Duration, p peer.AddrInfo, _ replica.ID,
		) error {
			mu.Lock()
			defer mu.Unlock()
			met[p.ID]++
			return &link.UnreachableError{Peer: p.ID, Timeout: limit, Err: context.DeadlineExceeded}
		}
		d.Online(claimed{{ID: "away"}, {ID: "silent"}})
		for range 3 {
			require.NoError(t, d.Find(t.Context(), id, meet))
		}
		require.Equal(t, map[peer.ID]int{"away": 3, "silent": 1}, met)
		require.Zero(t, d.Stats().FalseClaims)
		time.Sleep(slowMemory)
		require.NoError(t, d.Find(t.Context(), id, meet))
		require.Equal(t, 2, met["silent"])

		var many claimed
		for i := range 3 * maxClaims {
			many = append(many, peer.AddrInfo{ID: peer.ID([]byte{'p', byte(i)})})
		}
		d.Online(many)
		clear(met)
		for range 3 {
			require.NoError(t, d.Find(t.Context(), id, meet))
		}
		require.Len(t, met, 3*maxClaims, "each was asked once before any was asked again")
	})
}
