package collections

import (
	"net/http"
	"net/netip"
	"sync"

	"github.com/skerry-sync/skerry/internal/netaddr"
)

// An answer stays in memory until its caller has read it, who may take as long as a connection may,
// and a body until all of it has come. So what long ones take is counted, answers and bodies by
// themselves, for each network of the public internet and for all. Other addresses are those of a
// proxy, or of people whom the operator knows (netaddr.Limit).
const (
	// shortAnswer is up to how many bytes an answer is not counted; a body is not up to announced.
	shortAnswer = 16 << 10
	// roomOfParty, roomOfNetwork and roomOfAll are how many bytes the others take. One answer alone
	// may take more.
	roomOfParty   = 64 << 20
	roomOfNetwork = 128 << 20 // of all parties of a large network: see access.Network
	roomOfAll     = 512 << 20
	// roomAtLast is all that a party may have when no more than reserve is left.
	roomAtLast = 4 << 20
	reserve    = roomOfAll / 4
)

// answers are those that are being read, or bodies that are coming.
type answers struct {
	mu  sync.Mutex
	all int
	of  map[string]int // parties, and the large networks that they are in
}

// take counts n more bytes of a party, "" for one without a share, which has had some for the same
// answer. It reports whether there is room.
func (a *answers) take(party string, had, n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all > had && a.all+n > roomOfAll {
		return false
	}
	if party != "" {
		wide := network(party)
		of, ofWide := a.of[party], 0
		if wide != "" {
			ofWide = a.of[wide]
		}
		switch {
		case of > had && of+n > roomOfParty, ofWide > had && ofWide+n > roomOfNetwork,
			a.all > had && a.all+n > roomOfAll-reserve && of+n > roomAtLast:
			return false
		}
		if a.of == nil {
			a.of = map[string]int{}
		}
		a.of[party] += n
		if wide != "" {
			a.of[wide] += n
		}
	}
	a.all += n
	return true
}

func (a *answers) give(party string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all -= n
	if party == "" {
		return
	}
	for _, key := range []string{party, network(party)} {
		if key == "" {
			continue
		}
		if a.of[key] -= n; a.of[key] == 0 {
			delete(a.of, key)
		}
	}
}

// takeRoom counts n more bytes of the answer, until the request has been answered, or refuses it.
func (x *exchange) takeRoom(n int) error {
	if n <= 0 || x.held == 0 && n <= shortAnswer {
		return nil
	}
	who := x.sharer()
	if !x.s.answers.take(who, x.held, n) {
		h := x.w.Header()
		h.Del("Etag")
		h.Set("Cache-Control", "no-store")
		h.Set("Retry-After", "1")
		return refuse(http.StatusServiceUnavailable, "Too many large answers at once")
	}
	x.heldBy, x.held = who, x.held+n
	return nil
}

// sharer is the party for which is counted what the request takes, "" if it has no share.
func (x *exchange) sharer() string {
	if a, err := netip.ParseAddr(x.address()); err == nil && !netaddr.Public(a) {
		return ""
	}
	return party(x.address())
}

// takeBody counts n more bytes of the body that are going to be read, until the request has been
// answered, or refuses it.
func (x *exchange) takeBody(n int) error {
	who := x.sharer()
	if !x.s.bodies.take(who, x.bodyHeld, n) {
		x.w.Header().Set("Retry-After", "1")
		return refuse(http.StatusServiceUnavailable, "Too many large bodies at once")
	}
	x.bodyHeldBy, x.bodyHeld = who, x.bodyHeld+n
	return nil
}

// giveRoom is called when the request has been answered. What is kept to be compressed counts until
// it has been sent.
func (x *exchange) giveRoom() {
	if x.bodyHeld > 0 {
		x.s.bodies.give(x.bodyHeldBy, x.bodyHeld)
		x.bodyHeld = 0
	}
	if by, held := x.heldBy, x.held; held > 0 {
		afterSending(x.r, func() { x.s.answers.give(by, held) })
		x.held = 0
	}
}

// longAtOnce is how many requests parse more than shortAnswer bytes of a log at a time. Parsed,
// elements take 12 to 17 times the memory of their text.
const longAtOnce = 2

// takeTurn is called before n bytes of a log are read and parsed. If there are many, it waits until
// few others do that. A turn lasts while the rest is read from the store and parsed, at most as
// long as a request may take; nothing is sent meanwhile, so that no caller can keep one.
func (x *exchange) takeTurn(n int) error {
	if x.parsed += n; x.parsed <= shortAnswer {
		return nil
	}
	if err := x.takeRoom(x.before + x.parsed - x.held); err != nil { // for what waits to be parsed
		return err
	}
	if x.turn {
		return nil
	}
	select {
	case x.s.turns <- struct{}{}:
		x.turn = true
		return nil
	case <-x.r.Context().Done():
		return x.r.Context().Err()
	}
}

// endTurn is called when the text of what was parsed has been made.
func (x *exchange) endTurn() {
	x.parsed, x.before = 0, x.held
	if x.turn {
		x.turn = false
		<-x.s.turns
	}
}

// answer answers with JSON that is there, if there is room for it.
func (x *exchange) answer(body []byte) error {
	x.endTurn()
	if err := x.takeRoom(len(body) - x.held); err != nil {
		return err
	}
	replyBytes(x.w, http.StatusOK, body)
	return nil
}
