package session

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// The overview protocol compares all replicas that two peers share, in one stream:
//
//	initiator  version u8 = 1, nonce[32]
//	responder  nonce[32]
//	initiator  digest[32]: of the tokens and fingerprints of all replicas that it knows the responder to hold
//	responder  status u8: 0 its own digest is the same, and that is all; 1 it is not
//	both       if not: a reconcile session for the set of these tokens, in which an item's id is made of its token and fingerprint
//
// The token of a replica is its id, hashed with both nonces and both peers: it tells nothing to a
// peer that does not hold the replica. Afterwards each side knows what the other holds in another
// state, and what it does not hold; the initiator begins sessions for these.
const (
	OverviewProtocol = "/skerry/overview/1"
	OverviewVersion  = 1
	statusSame       = 0
	statusDiffer     = 1
	maxOverview      = 1 << 20 // replicas compared with one peer
	// replicas of this node among which that of an unknown token is looked for
	maxSearched = 1 << 14
	// maxUnknown is how many tokens are kept of replicas that this node did not know the peer to
	// hold. More are read and dropped: when these are known, the next overview is about the rest.
	maxUnknown = 1 << 12
	// strangeTokens is how many tokens a stranger may send, beside twice those of what this node
	// knows it to hold.
	strangeTokens = 1 << 14
	// searchedUnit is how many replicas are looked at for a unit of work.
	searchedUnit = 8
	// overviewTime is how long a stranger has for a whole overview, and longOverview a known peer.
	overviewTime = time.Minute
	longOverview = 10 * time.Minute
	// unknownBytes is charged for each token that is kept.
	unknownBytes = 128
)

// overview is one side of an overview: the replicas in the order of their tokens.
type overview struct {
	key    [32]byte
	tokens [][32]byte
	prints [][32]byte
	ids    []replica.ID
}

func overviewKey(nonceI, nonceR [32]byte, initiator, responder peer.ID) [32]byte {
	var public [32]byte // the tokens are made with secrets; this key only ties them to the occasion
	return names.Keyed(public, []byte("skerry overview 1\n"), nonceI[:], nonceR[:],
		[]byte(initiator), []byte{0}, []byte(responder))
}

func (n *Syncer) newOverview(ctx context.Context, key [32]byte, p peer.ID) (*overview, error) {
	o := &overview{key: key}
	type line struct {
		token, print [32]byte
		id           replica.ID
	}
	var lines []line
	for _, id := range n.contacts.ToCompare(p) {
		print, err := n.replicas.SharedFingerprint(ctx, id)
		if errors.Is(err, replica.ErrNotFound) {
			continue // left meanwhile
		}
		if err != nil {
			return nil, err
		}
		lines = append(lines, line{names.Token(id, key), print, id})
	}
	lines = lines[:min(len(lines), maxOverview)]
	slices.SortFunc(lines, func(a, b line) int { return bytes.Compare(a.token[:], b.token[:]) })
	for _, l := range lines {
		o.tokens, o.prints, o.ids = append(o.tokens, l.token), append(o.prints, l.print), append(o.ids,
			l.id)
	}
	return o, nil
}

func (o *overview) digest() [32]byte {
	all := make([]byte, 0, 64*len(o.tokens))
	for i := range o.tokens {
		all = append(append(all, o.tokens[i][:]...), o.prints[i][:]...)
	}
	return names.Keyed(o.key, []byte("digest"), all)
}

// set is the set of tokens; data is the token.
func (o *overview) set() reconcile.Set {
	return reconcile.Scanned(func(_ context.Context, r reconcile.Range) iter.Seq2[reconcile.Item,
		error] {
		return func(yield func(reconcile.Item, error) bool) {
			at, _ := slices.BinarySearchFunc(o.tokens, r.From, func(t [32]byte,
				from []byte) int {
				return bytes.Compare(t[:], from)
			})
			for ; at < len(o.tokens) && (len(r.To) == 0 || bytes.Compare(o.tokens[at][:], r.To) < 0); at++ {
				id := names.Keyed(o.tokens[at], o.prints[at][:])
				mark := reconcile.Mark{ID: id, Element: reconcile.Element(id[:])}
				if !yield(reconcile.Item{Key: o.tokens[at][:], Mark: mark, Data: o.tokens[at][:]}, nil) {
					return
				}
			}
		}
	})
}

// outcome is what an overview has shown.
type outcome struct {
	differ map[replica.ID]bool
	gone   map[replica.ID]bool // the peer does not hold, or does not know this node to hold
	// tokens of replicas that the peer holds, and this node did not know it to
	unknown map[[32]byte]bool
	// a stranger has shown more than is looked at: of the rest nothing is known
	cut bool
}

// errShownEnough ends the session with a stranger that shows more replicas than this node looks at.
// An honest device does that which this node has forgotten: it is met by those that were looked at,
// and the next overview is about all.
var errShownEnough = errors.New("a stranger has shown enough replicas")

// compare runs the reconcile session.
func (o *overview) compare(
	ctx context.Context, s link.Stream, r *bufio.Reader, initiator bool,
) (out outcome, err error) {
	byToken := make(map[[32]byte]replica.ID, len(o.tokens))
	for i, t := range o.tokens {
		byToken[t] = o.ids[i]
	}
	var mu sync.Mutex // sent by the session's writer, received by its reader
	sent := map[replica.ID]bool{}
	out = outcome{differ: map[replica.ID]bool{}, gone: map[replica.ID]bool{},
		unknown: map[[32]byte]bool{}}
	received, most, v := 0, maxOverview, link.VisitOf(s)
	if v.Stranger() {
		most = min(most, 2*len(o.tokens)+strangeTokens)
	}
	_, err = reconcile.Run(ctx, r, s, func() { _ = s.Reset() }, reconcile.Config{
		Guard: fault.Call,
		Set:   o.set(), Key: names.Keyed(o.key, []byte("reconcile")), Initiator: initiator,
		Unchecked: true, Budget: v,
		Insert: func(_ context.Context, items [][]byte) error {
			mu.Lock()
			defer mu.Unlock()
			if received += len(items); received > most && most < maxOverview {
				return errShownEnough
			} else if received > most {
				return &reconcile.ProtocolError{Reason: "too many replicas in an overview"}
			}
			for _, b := range items {
				if len(b) != 32 {
					return &reconcile.ProtocolError{Reason: "a token of the wrong length"}
				}
				if id, ok := byToken[[32]byte(b)]; ok {
					out.differ[id] = true
				} else if len(out.unknown) < maxUnknown {
					if err := v.Take(unknownBytes); err != nil {
						return err
					}
					out.unknown[[32]byte(b)] = true
				}
			}
			return nil
		},
		Sent: func(it *reconcile.Item) {
			mu.Lock()
			defer mu.Unlock()
			sent[byToken[[32]byte(it.Key)]] = true
		},
	})
	if errors.Is(err, errShownEnough) {
		out.cut = true
		return out, nil
	}
	for id := range sent {
		if !out.differ[id] {
			out.gone[id] = true
		}
	}
	return out, err
}

// conclude notes the outcome. Whoever knows a token of a replica that is held here holds it, too:
// from now on it is compared with the others.
func (n *Syncer) conclude(
	ctx context.Context, s link.Stream, o *overview, out outcome, began bool,
) error {
	p, v := s.Remote(), link.VisitOf(s)
	if !out.cut {
		n.contacts.Compared(p, o.ids, out.differ, out.gone, began)
	}
	if len(out.unknown) == 0 {
		return nil
	}
	ids, searched, err := n.searchFor(ctx, o, out, v.Who())
	if err != nil {
		return err
	}
	// A token costs its sender next to nothing, and this node a look at each replica.
	if err := n.cfg.Limits.Worked(ctx, s, searched/searchedUnit); err != nil {
		return err
	}
	return n.contacts.Meet(ctx, p, ids)
}

// searchFor returns those replicas of this node of which the peer has shown tokens, and how many
// were looked at. One search runs at a time; who has to wait for having caused much does so
// afterwards.
func (n *Syncer) searchFor(
	ctx context.Context, o *overview, out outcome, who admission.Party,
) (ids []replica.ID, searched int, err error) {
	if err := n.cfg.Search.Enter(ctx, limits.RankOf(who, true)); err != nil {
		return nil, 0, err
	}
	defer n.cfg.Search.Leave()
	for r, err := range n.replicas.All(ctx) {
		if err != nil {
			return nil, searched, err
		}
		if out.unknown[names.Token(r.ID, o.key)] {
			ids = append(ids, r.ID)
		}
		if searched++; searched == maxSearched { // the peer asks by name before long
			break
		}
	}
	return ids, searched, nil
}

// CompareWith compares all shared replicas with a connected peer.
func (n *Syncer) CompareWith(ctx context.Context, p peer.ID) error {
	raw, err := n.net.Open(ctx, p, OverviewProtocol)
	if err != nil {
		return err
	}
	defer link.ResetAfterFault(raw)
	s := link.Within(raw, idleTimeout).Paced()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if err := n.askOverview(ctx, s); err != nil {
		return errors.Join(err, link.GiveUp(s))
	}
	_ = s.Close()
	return nil
}

// askOverview is the initiator's part.
func (n *Syncer) askOverview(ctx context.Context, s link.Stream) error {
	p := s.Remote()
	var nonceI, nonceR [32]byte
	_, _ = rand.Read(nonceI[:]) // never fails
	if _, err := s.Write(append([]byte{OverviewVersion}, nonceI[:]...)); err != nil {
		return fmt.Errorf("overview: %w", err)
	}
	r := bufio.NewReader(s)
	if _, err := io.ReadFull(r, nonceR[:]); err != nil {
		return fmt.Errorf("overview: %w", link.NoEOF(err))
	}
	o, err := n.newOverview(ctx, overviewKey(nonceI, nonceR, n.id, p), p)
	if err != nil {
		return err
	}
	digest := o.digest()
	if _, err := s.Write(digest[:]); err != nil {
		return fmt.Errorf("overview: %w", err)
	}
	status, err := r.ReadByte()
	if err != nil {
		return fmt.Errorf("overview: %w", link.NoEOF(err))
	}
	var out outcome
	if status != statusSame {
		if out, err = o.compare(ctx, s, r, true); err != nil {
			return n.blame(p, fmt.Errorf("overview: %w", err))
		}
	}
	return n.conclude(ctx, s, o, out, true)
}

// ServeOverview is the responder's part.
func (n *Syncer) ServeOverview(s link.Stream) {
	limit := overviewTime
	if !link.VisitOf(s).Stranger() {
		limit = longOverview
	}
	if err := n.answerOverview(n.ctx, link.Within(s, idleTimeout).EndingIn(limit)); err != nil {
		n.log.Debug("serving an overview", "peer", s.Remote(), "error", err)
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

func (n *Syncer) answerOverview(ctx context.Context, s link.Stream) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if n.blamed.Refused(s.Remote()) {
		return contacts.ErrNotShared
	}
	r := bufio.NewReader(s)
	var hello [33]byte
	if _, err := io.ReadFull(r, hello[:]); err != nil {
		return fmt.Errorf("overview: %w", link.NoEOF(err))
	}
	if hello[0] != OverviewVersion {
		return fmt.Errorf("overview of version %d, expected %d", hello[0], OverviewVersion)
	}
	var nonceR, theirs [32]byte
	_, _ = rand.Read(nonceR[:]) // never fails
	if _, err := s.Write(nonceR[:]); err != nil {
		return fmt.Errorf("overview: %w", err)
	}
	if _, err := io.ReadFull(r, theirs[:]); err != nil {
		return fmt.Errorf("overview: %w", link.NoEOF(err))
	}
	p := s.Remote()
	o, err := n.newOverview(ctx, overviewKey([32]byte(hello[1:]), nonceR, p, n.id), p)
	if err != nil {
		return err
	}
	status := byte(statusDiffer)
	if o.digest() == theirs {
		status = statusSame
	}
	if _, err := s.Write([]byte{status}); err != nil {
		return fmt.Errorf("overview: %w", err)
	}
	var out outcome
	if status == statusDiffer {
		if out, err = o.compare(ctx, s, r, false); err != nil {
			return n.blame(p, fmt.Errorf("overview: %w", err))
		}
	}
	return n.conclude(ctx, s, o, out, false)
}
