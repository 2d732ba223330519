package downloads

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is Workers with stores of their own, of which nothing runs by itself.
type world struct {
	*Workers
	t        *testing.T
	wanted   *wanted.List
	replicas *replica.Store
	replica  replica.Replica
	author   replica.SecretKey
	peers    *peers
	blobs    *blobs.Store
}

// newWorld makes Workers, with what cfg leaves open, and a replica that all peers hold.
func newWorld(t *testing.T, cfg Config) *world {
	store, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	bytes, err := files.Open(t.TempDir(), files.Options{})
	require.NoError(t, err)
	var work sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	w := &world{t: t, author: replica.NewSecretKey()}
	w.blobs, err = blobs.Open(ctx, store, bytes)
	require.NoError(t, err)
	w.peers = &peers{
		blobs: w.blobs, have: map[peer.ID]map[blobs.Hash][]byte{}, asking: map[blobs.Hash]int{},
		wrong: map[blobs.Hash]uint64{}, slow: map[peer.ID]bool{},
	}
	log := slog.New(slog.DiscardHandler)
	w.wanted = wanted.New(wanted.Config{Store: store, Blobs: w.blobs, Log: log})
	w.replicas, err = replica.Open(ctx, store, replica.Config{Now: time.Now, OnPut: w.wanted.Put})
	require.NoError(t, err)
	require.NoError(t, w.wanted.Load(ctx))
	w.replica, err = w.replicas.Create(ctx, "r")
	require.NoError(t, err)
	cfg.Ctx, cfg.Store, cfg.Wanted, cfg.Replicas, cfg.Log = ctx, store, w.wanted, w.replicas, log
	cfg.Contacts, cfg.Content, cfg.Now, cfg.Go = w.peers, w.peers, time.Now, work.Go
	w.Workers = New(cfg)
	t.Cleanup(func() {
		cancel()
		w.replicas.Close()
		work.Wait()
		require.NoError(t, bytes.Close())
		require.NoError(t, store.Close())
	})
	return w
}

// run has the Workers run until the test is over.
func (w *world) run() { w.cfg.Go(func() { w.Run(w.cfg.Ctx) }) }

// offer gives a peer content, and returns a change that names it.
func (w *world) offer(p peer.ID, number int) replica.Change {
	b := fmt.Appendf(nil, "content %d", number)
	h := blobs.HashOf(b)
	w.peers.mu.Lock()
	defer w.peers.mu.Unlock()
	if w.peers.have[p] == nil {
		w.peers.have[p] = map[blobs.Hash][]byte{}
	}
	w.peers.have[p][h] = b
	return replica.Change{Key: fmt.Append(nil, number), Hash: h, Size: uint64(len(b))}
}

func (w *world) put(changes ...replica.Change) []replica.Entry {
	entries, err := w.replicas.Write(w.cfg.Ctx, w.replica.ID, w.author, changes)
	require.NoError(w.t, err)
	w.LookEverywhere()
	return entries
}

func (w *world) count() int {
	n, err := w.wanted.Count(w.cfg.Ctx)
	require.NoError(w.t, err)
	return n
}

func (w *world) state(e *replica.Entry) wanted.State {
	state, err := w.wanted.States().Of(w.cfg.Ctx, e)
	require.NoError(w.t, err)
	return state
}

// peers are connected, hold everything, and give what they have, a second for each question.
type peers struct {
	blobs *blobs.Store

	mu     sync.Mutex
	have   map[peer.ID]map[blobs.Hash][]byte
	wrong  map[blobs.Hash]uint64 // the sizes that are proved of what somebody claims
	slow   map[peer.ID]bool
	asking map[blobs.Hash]int // how many are asked for it now
	twice  []blobs.Hash       // of which two were asked at once
	asked  []question
	beside []peer.ID // who was asked beside the last one
}

type question struct {
	of   peer.ID
	hash blobs.Hash
	at   time.Time
}

func (ps *peers) FetchClaims(
	ctx context.Context, c content.Claims,
) (out content.Outcome, err error) {
	out = content.Outcome{
		Wrong: map[int]uint64{}, Untried: map[int]content.Untried{}, Gave: map[peer.ID]uint64{},
	}
	ps.mu.Lock()
	slow := ps.slow[c.Lead]
	ps.beside = c.Others
	for i, x := range c.Claims {
		if ps.asking[x.Hash]++; ps.asking[x.Hash] > 1 {
			ps.twice = append(ps.twice, x.Hash)
		}
		ps.asked = append(ps.asked, question{c.Lead, x.Hash, time.Now()})
		if proved, ok := ps.wrong[x.Hash]; ok {
			out.Wrong[i] = proved
		}
		if slow {
			out.Untried[i] = content.TooSlow
		}
	}
	ps.mu.Unlock()
	time.Sleep(time.Second)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, x := range c.Claims {
		ps.asking[x.Hash]--
		b, ok := ps.have[c.Lead][x.Hash]
		if !ok || slow {
			continue
		}
		if _, err := ps.blobs.ImportBytes(ctx, b); err != nil {
			return out, err
		}
		out.Gave[c.Lead] += uint64(len(b))
	}
	return out, nil
}

// times returns when a peer was asked for some content.
func (ps *peers) times(p peer.ID, h blobs.Hash) (all []time.Time) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, q := range ps.asked {
		if q.of == p && q.hash == h {
			all = append(all, q.at)
		}
	}
	return all
}

func (ps *peers) AllSharing() (all []peer.ID) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for p := range ps.have {
		all = append(all, p)
	}
	return all
}

func (ps *peers) SharesAny(p peer.ID) bool {
	return slices.Contains(ps.AllSharing(), p)
}
func (ps *peers) Holds(p peer.ID, _ replica.ID) bool    { return ps.SharesAny(p) }
func (ps *peers) ConnectedSharing(replica.ID) []peer.ID { return ps.AllSharing() }

func (ps *peers) Holders(ids map[replica.ID]bool) []peer.ID {
	if len(ids) == 0 {
		return nil
	}
	return ps.AllSharing()
}
