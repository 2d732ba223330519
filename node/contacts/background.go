package contacts

import (
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/replica"
)

// How many sessions that are due run at once. Newcomers of one replica must not keep those of
// another waiting, and a session with one may last for minutes: so each replica may have one with a
// newcomer, whatever the others have, as long as there are fewer than mostNewcomers in all.
// Anybody can make replicas and identities; addresses cost money. So no network has more than a
// sixteenth of these.
const (
	// parallelSessions is how many run with peers that are known, and from how many with newcomers
	// on no replica begins a second one.
	parallelSessions = 8
	mostNewcomers    = 256
	// mostLongSessions is how many with known peers go on beside those, once they have lasted for
	// longSession (see sessions.go).
	mostLongSessions = 256
	// namedSessions is how many run with peers that are known, if a person has named the next one:
	// patience gets a history, which must not take all places from friends.
	namedSessions = 2 * parallelSessions
	// mostOfNetwork is how many with newcomers may be from one network.
	mostOfNetwork = mostNewcomers / 16
)

// background counts the sessions that are under way because they were due.
type background struct {
	known     int // that have not lasted long
	long      int // with known peers
	newcomers int
	of        map[replica.ID]int // with newcomers
	from      map[string]int     // likewise, by networks
}

// room reports whether one may begin with a peer of a network (see Located); "" is for a peer whose
// network is not known. named says that a person has named the peer.
func (b *background) room(id replica.ID, is holders.Standing, named bool, from string) bool {
	switch of := b.of[id]; {
	case is == holders.Known && named:
		return b.known < namedSessions
	case is == holders.Known:
		return b.known < parallelSessions
	case from != "" && b.from[from] >= mostOfNetwork:
		return false
	case of == 0:
		return b.newcomers < mostNewcomers
	default:
		return of < mostPlaces[holders.Newcomer] && b.newcomers < parallelSessions
	}
}

func (b *background) begin(id replica.ID, is holders.Standing, from string) {
	if is == holders.Known {
		b.known++
		return
	}
	if b.of == nil {
		b.of, b.from = map[replica.ID]int{}, map[string]int{}
	}
	b.newcomers++
	b.of[id]++
	b.from[from]++
}

// lasts gives the room of a session with a known peer to others, unless too many have done so. It
// reports whether it did; pass that to end.
func (b *background) lasts(is holders.Standing) bool {
	if is != holders.Known || b.long >= mostLongSessions {
		return false
	}
	b.known--
	b.long++
	return true
}

func (b *background) end(id replica.ID, is holders.Standing, from string, long bool) {
	switch {
	case long:
		b.long--
		return
	case is == holders.Known:
		b.known--
		return
	}
	b.newcomers--
	if b.of[id]--; b.of[id] == 0 {
		delete(b.of, id)
	}
	if b.from[from]--; b.from[from] == 0 {
		delete(b.from, from)
	}
}
