package session

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// piped is a network with one peer, which answers with the handler.
type piped struct {
	nowhere
	self  peer.ID
	to    peer.ID
	serve func(link.Stream)
}

func (p piped) Open(context.Context, peer.ID, string) (link.Stream, error) {
	ours, theirs := net.Pipe()
	go p.serve(pipeStream{theirs, p.self})
	return pipeStream{ours, p.to}, nil
}

// askable are two that hold a replica, and entries of the one that asks.
func askable(t *testing.T) (
	asks, answers *world, id replica.ID, write func(key string) replica.Entry,
) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	asks, answers = alone(t, &now), alone(t, &now)
	r, err := asks.replicas.Create(t.Context(), "r")
	require.NoError(t, err)
	_, err = answers.replicas.Join(t.Context(), replica.Replica{ID: r.ID, Name: "r"})
	require.NoError(t, err)
	author := replica.NewSecretKey()
	g := replica.Grant{Replica: r.ID, Author: author.Author(), NotAfter: replica.Forever}
	g.Sign(r.Secret)
	_, err = answers.InsertStatements(t.Context(), r.ID, [][]byte{g.Bytes()})
	require.NoError(t, err)
	asks.Online(piped{nowhere{}, asks.id, answers.id, answers.ServeHeld})
	return asks, answers, r.ID, func(key string) replica.Entry {
		now = now.Add(time.Second)
		e := replica.Entry{
			Replica: r.ID, Key: []byte(key), Timestamp: uint64(now.UnixMicro()), Size: 1,
			Hash: [32]byte{7},
		}
		e.Sign(author)
		return e
	}
}

// A peer says what it lacks, what it holds, and what it holds whole.
func TestHoldings(t *testing.T) {
	asks, answers, id, write := askable(t)
	put := func(entries ...replica.Entry) {
		_, err := answers.replicas.Insert(t.Context(), id, entries, replica.Origin{Peer: "asks"})
		require.NoError(t, err)
	}
	old := write("replaced")
	here, gone := write("here"), write("not here")
	put(old, here)
	ask := func() []Holding {
		held, err := asks.Holdings(t.Context(), answers.id, id, []replica.Entry{here, gone, old})
		require.NoError(t, err)
		return held
	}
	require.Equal(t, []Holding{EntryOnly, Lacking, EntryOnly}, ask())
	answers.whole = true
	put(write("replaced"))
	require.Equal(t, []Holding{WithContent, Lacking, Lacking}, ask(), "another took its place")
	none, err := asks.Holdings(t.Context(), answers.id, id, nil)
	require.NoError(t, err)
	require.Empty(t, none)
	many, err := asks.Holdings(t.Context(), answers.id, id, make([]replica.Entry, MaxAsked+1))
	require.NoError(t, err)
	require.Len(t, many, MaxAsked, "no more than a question can have")
}

// Who holds another replica, or refuses the peer, says nothing; an answer that is none is an
// offence.
func TestHoldingsOfStrangers(t *testing.T) {
	asks, answers, id, write := askable(t)
	e := write("key")
	_, err := asks.Holdings(t.Context(), answers.id, replica.ID{1}, []replica.Entry{e})
	require.ErrorIs(t, err, contacts.ErrNotShared)
	answers.blamed.Rubbish(asks.id, context.Canceled)
	_, err = asks.Holdings(t.Context(), answers.id, id, []replica.Entry{e})
	require.ErrorIs(t, err, contacts.ErrNotShared)

	asks, answers, id, write = askable(t)
	asks.Online(piped{nowhere{}, asks.id, answers.id, func(s link.Stream) {
		answers.ServeHeld(overstating{s})
	}})
	_, err = asks.Holdings(t.Context(), answers.id, id, []replica.Entry{write("key")})
	var protocol *reconcile.ProtocolError
	require.ErrorAs(t, err, &protocol)
	require.True(t, asks.blamed.Refused(answers.id))
}

// overstating answers with a holding that there is not.
type overstating struct{ link.Stream }

func (o overstating) Write(b []byte) (int, error) {
	if len(b) == 1 {
		b = []byte{byte(WithContent) + 1}
	}
	return o.Stream.Write(b)
}

// Only who shows that it knows the replica is told anything.
func TestHeldNeedsAProof(t *testing.T) {
	_, answers, id, _ := askable(t)
	for _, knows := range []bool{false, true} {
		ours, theirs := net.Pipe()
		ended := make(chan error, 1)
		go func() {
			ended <- answers.answerHeld(t.Context(), pipeStream{theirs, "peer"})
			_ = theirs.Close()
		}()
		who := alone(t, new(time.Time))
		who.cfg.Now = answers.cfg.Now
		who.id = "peer"
		if !knows {
			who.id = "another" // its proofs are not those of the connection's peer
		}
		_, err := who.askHeld(pipeStream{ours, answers.id}, id, [][]byte{make([]byte, heldID+32)})
		_ = ours.Close()
		if knows {
			require.NoError(t, err)
			require.NoError(t, <-ended)
			continue
		}
		require.Error(t, err)
		require.Error(t, <-ended)
	}
}

func FuzzAsked(f *testing.F) {
	f.Add(appendAsked(nil, &replica.Entry{Key: []byte("key")}))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		id, by, key, err := parseAsked(b)
		if err != nil {
			return
		}
		again := append(append(append([]byte{}, id[:]...), by[:]...), key...)
		require.Equal(t, b, again)
	})
}
