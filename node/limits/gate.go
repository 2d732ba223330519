package limits

import (
	"context"
	"sync"

	"github.com/skerry-sync/skerry/node/admission"
)

// Rank is who goes first at a gate.
type Rank int

// Whom a person has named goes before who has a history, and that before who has proved to know a
// replica's id, and that before strangers. What somebody waits for goes before background work.
const (
	rankNamed Rank = iota
	rankKnown
	rankProved
	rankStrange
	rankNamedLater
	rankKnownLater
	rankProvedLater
	rankStrangeLater
	ranks
)

// RankOf returns the rank of a peer.
func RankOf(who admission.Party, inBackground bool) Rank {
	r := rankStrange
	switch {
	case who.Known && who.Named:
		r = rankNamed
	case who.Known:
		r = rankKnown
	case who.Proved:
		r = rankProved
	}
	if inBackground {
		r += rankNamedLater
	}
	return r
}

// Gate lets so many through at a time, those of the first rank before the others.
type Gate struct {
	places int

	mu      sync.Mutex
	free    int
	waiting [ranks][]chan struct{}
}

// NewGate returns a gate with so many places.
func NewGate(places int) *Gate { return &Gate{places: places, free: places} }

// Enter waits for a place, which Leave gives back.
func (g *Gate) Enter(ctx context.Context, as Rank) error {
	g.mu.Lock()
	if g.free > 0 {
		g.free--
		g.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	g.waiting[as] = append(g.waiting[as], turn)
	g.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	for i, w := range g.waiting[as] {
		if w == turn {
			g.waiting[as] = append(g.waiting[as][:i], g.waiting[as][i+1:]...)
			g.mu.Unlock()
			return ctx.Err()
		}
	}
	g.mu.Unlock()
	g.Leave() // the turn came at the same moment
	return ctx.Err()
}

// Leave gives a place to who waits, or back.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for class := range g.waiting {
		if len(g.waiting[class]) > 0 {
			close(g.waiting[class][0])
			g.waiting[class] = g.waiting[class][1:]
			return
		}
	}
	g.free++
}

// Load returns how many places are taken, and how many wait for one.
func (g *Gate) Load() (taken, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range g.waiting {
		waiting += len(w)
	}
	return g.places - g.free, waiting
}
