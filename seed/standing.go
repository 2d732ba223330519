package seed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/seed/report"
)

// A device that has registered replicas at a seed asks from time to time whether they are still
// registered. The connection shows which device asks, so nobody has to unlock the identity's key
// for it.

// Stand asks which of some replicas are registered for the device that asks.
type Stand struct {
	Replicas []string `json:"replicas"` // at most maxStand
}

// maxStand is how many replicas one request may ask about.
const maxStand = 64

// Standing answers a device that asks whether replicas are registered: with those of them that were
// registered with this device named. It tells nothing about all others, not even whether they are
// here. The error is an *Error.
func (s *Seed) Standing(ctx context.Context, device string, req *Stand) ([]report.Answer, error) {
	if len(req.Replicas) > maxStand {
		return nil, failed(
			InvalidRequest, fmt.Errorf("%d replicas, at most %d", len(req.Replicas), maxStand),
		)
	}
	out := []report.Answer{}
	for _, text := range req.Replicas {
		id, err := replica.ParseID(text)
		if err != nil {
			return nil, failed(InvalidRequest, err)
		}
		g, err := s.namedIn(ctx, id, device)
		if errors.Is(err, ErrNotRegistered) {
			continue
		}
		if err != nil {
			return nil, asError(err)
		}
		st, err := s.status(ctx, &g)
		if err != nil {
			return nil, asError(err)
		}
		out = append(out, answerOf(&st))
	}
	return out, nil
}

// namedIn returns the registration of a replica that names a device, one that has not ended if
// there is one.
func (s *Seed) namedIn(
	ctx context.Context, id replica.ID, device string,
) (out Registration, err error) {
	err = s.n.Store().View(ctx, func(rd kv.Reader) error {
		all, err := identitiesOf(rd, id)
		if err != nil {
			return err
		}
		found := false
		for _, who := range all {
			g, err := getRegistration(rd, who, id)
			if err != nil {
				return err
			}
			if device != "" && slices.Contains(g.Devices, device) && (!found || g.Deletion.IsZero()) {
				found, out = true, g
			}
		}
		if !found {
			return ErrNotRegistered
		}
		return nil
	})
	return out, err
}

// Standing asks which replicas are registered for this node. The error is an *Error if the seed
// refuses.
func (c Client) Standing(ctx context.Context, ids []replica.ID) (all []report.Answer, err error) {
	req := &Stand{}
	for _, id := range ids {
		req.Replicas = append(req.Replicas, id.String())
	}
	err = c.do(ctx, "standing", req, &all)
	return all, err
}

// Stood is what a seed last said of a replica that this node has registered there. Its record on
// the device's node is its JSON:
//
//	s w replica[32] peer-id
type Stood struct {
	Replica replica.ID `json:"-"`
	Seed    peer.ID    `json:"-"`
	Asked   time.Time  `json:"asked"`
	// State is the state of the registration, or empty if the seed says that it has none.
	State    string    `json:"state"`
	Deletion time.Time `json:"deletion,omitzero"`
}

const keyStood = "sw"

// Stands reports whether the registration is there and has not ended.
func (s *Stood) Stands() bool { return s.State != "" && s.State != Deleted.String() }

// Watch asks the seeds at which a node has registered replicas whether they are still registered
// there. It notes what they say, for Stood, and logs when a registration does not stand any more.
type Watch struct {
	Node *node.Node
	Log  *slog.Logger
	Now  func() time.Time
}

// How often the seeds are asked, and how soon after the node has started.
const (
	watchEvery = time.Hour
	watchFirst = time.Minute
	watchTime  = time.Minute // for one seed
)

// Run asks the seeds once an hour until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	next := time.NewTimer(watchFirst)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		if err := w.Look(ctx); err != nil && ctx.Err() == nil {
			w.Log.Info("asking seeds whether registrations stand", "error", err)
		}
		next.Reset(watchEvery)
	}
}

// Look asks all seeds once. What a seed that is not reached said before stays noted.
func (w *Watch) Look(ctx context.Context) error {
	seeds, err := w.Node.RegisteredAt(ctx)
	if err != nil {
		return err
	}
	for _, at := range seeds {
		for ids := range slices.Chunk(at.Replicas, maxStand) {
			err = errors.Join(err, w.ask(ctx, at.Seed, ids))
		}
	}
	return err
}

func (w *Watch) ask(ctx context.Context, at peer.AddrInfo, ids []replica.ID) error {
	asking, cancel := context.WithTimeout(ctx, watchTime)
	defer cancel()
	all, err := Client{w.Node, at}.Standing(asking, ids)
	if err != nil {
		return err
	}
	said := map[string]report.Answer{}
	for _, a := range all {
		said[a.ReplicaID] = a
	}
	for _, id := range ids {
		now := Stood{Replica: id, Seed: at.ID, Asked: w.Now().UTC().Truncate(time.Second)}
		if a, ok := said[id.String()]; ok {
			now.State = a.State
			if a.DeletionAt > 0 {
				now.Deletion = time.Unix(a.DeletionAt, 0).UTC()
			}
		}
		before, known, err := w.note(ctx, &now)
		if err != nil {
			return err
		}
		if !now.Stands() && (!known || before.Stands()) {
			w.Log.Warn(
				"a seed does not keep a replica any more that this node has registered there: register it "+
					"again, or end it with seed unregister",
				"replica", id.Short(), "seed", at.ID, "until", now.Deletion,
			)
		}
	}
	return nil
}

func stoodKey(id replica.ID, p peer.ID) []byte { return key(keyStood, id[:], []byte(p)) }

// note stores what a seed says, and returns what it said before.
func (w *Watch) note(ctx context.Context, now *Stood) (before Stood, known bool, err error) {
	b, err := json.Marshal(now)
	if err != nil {
		return before, false, err
	}
	err = w.Node.Store().Update(ctx, func(tx kv.Txn) error {
		before, known = Stood{}, false
		err := tx.Peek(stoodKey(now.Replica, now.Seed), func(old []byte) error {
			return json.Unmarshal(old, &before)
		})
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return err
		}
		known = err == nil
		return tx.Set(stoodKey(now.Replica, now.Seed), b)
	})
	return before, known, err
}

// StoodAt returns what seeds last said of all that the node has registered: zero but for Replica
// and Seed where they have not been asked yet.
func StoodAt(ctx context.Context, n *node.Node) (out []Stood, err error) {
	seeds, err := n.RegisteredAt(ctx)
	if err != nil {
		return nil, err
	}
	err = n.Store().View(ctx, func(rd kv.Reader) error {
		out = nil
		for _, at := range seeds {
			for _, id := range at.Replicas {
				var s Stood
				err := rd.Peek(stoodKey(id, at.Seed.ID), func(b []byte) error { return json.Unmarshal(b, &s) })
				if err != nil && !errors.Is(err, kv.ErrNotFound) {
					return err
				}
				s.Replica, s.Seed = id, at.Seed.ID
				out = append(out, s)
			}
		}
		return nil
	})
	return out, err
}

// Forget drops what a seed said of a replica: the node has registered it anew, or ended that.
func Forget(ctx context.Context, n *node.Node, id replica.ID, p peer.ID) error {
	return n.Store().Update(ctx, func(tx kv.Txn) error { return tx.Delete(stoodKey(id, p)) })
}
