// Package seed hosts replicas for others: whoever has an identity registers a replica at a seed,
// which joins it, keeps it and serves it while the person's devices sleep, within a quota, and
// without being able to read it if it is encrypted.
//
// What belongs here: registrations, quotas, states, and the requests by which they are made and
// asked for, as OBJECTS has them (RFC-005, draft 0.1), over HTTP and over a stream. What never
// belongs here: how replicas are synced and content is fetched, which is node's.
//
// Start at [Registry], which keeps who has registered what, and [Seed], which serves it.
// docs/protocol/seed.md has the requests.
package seed

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// Records of a seed; all keys begin with 's'. Integers are big-endian. Everything that a seed knows
// is in them: a process that takes over goes on from there.
//
//	s r identity[15] replica[32]            a registration, as JSON: see Registration
//	s i replica[32]                         the identities that have registered it, 15 bytes each
//	s u identity[15]                        usage: bytes u64 of different contents, replicas u32
//	s b identity replica                    what the registration is charged, in bytes: records u64, statements u64, content u64; see Held
//	s e identity replica place[16]          what an entry of the replica is charged: its records u64, and, if its content is, hash[32], size u64; if its content was refused, what that would cost u64; place is BLAKE3 of author and key
//	s h identity hash[32] size u64          how many entries are charged for a content u32
//	s p identity replica                    something of the replica was refused: the least cost of content u64, of entries or statements u64; 0 for nothing
//	s l replica                             nobody has it registered any more: it is to be left
//	s c replica                             entries that were there before the registration are being charged
//	s o replica                             the seed's node held the replica before anybody registered it: it is the seed's own, fetched in any case, and never left
//	s t identity replica                    the timestamp of the last request, u64 seconds
//	s d deletion u64 identity replica       a registration that has ended: when the replica is left, in Unix seconds
const (
	keyRegistration = "sr"
	keyIdentities   = "si"
	keyUsage        = "su"
	keyCharged      = "se"
	keyHeld         = "sb"
	keyLeaving      = "sl"
	keyContent      = "sh"
	keyRefused      = "sp"
	keyCharging     = "sc"
	keyLast         = "st"
	keyOwn          = "so"
	keyDeletion     = "sd"
)

// How many identities may register one replica, and how many of them from one network: identities
// cost nothing, and whoever knows a replica's id could keep its owner out with some.
const (
	maxIdentities  = 64
	maxFromNetwork = 8
	maxFromRelays  = maxIdentities / 2 // from all of them: see relays
)

// Limits are those of each identity, and how long things are kept.
type Limits struct {
	Bytes    uint64        // of all that is kept, entries too; see charge.go
	Replicas uint32        // at a time
	Grace    time.Duration // from the end of a registration until the replica is left
	// Retention is how long a replica is kept of which no device is heard any more, before its
	// registration ends by itself; 0 is for ever.
	Retention time.Duration
}

// DefaultLimits are those of OBJECTS.
var DefaultLimits = Limits{
	Bytes: 1 << 30, Replicas: 10, Grace: 7 * 24 * time.Hour, Retention: 30 * 24 * time.Hour,
}

// Registration says that an identity has a replica kept.
type Registration struct {
	Identity   identity.ID `json:"-"`
	Replica    replica.ID  `json:"-"`
	Registered time.Time   `json:"registered"`
	// Deletion is when the replica is left, if the registration has ended; a new one takes that back.
	Deletion time.Time `json:"deletion,omitzero"`
	// Lapsed is when the registration ended by itself, if it did; a session with a device takes that
	// back.
	Lapsed time.Time `json:"lapsed,omitzero"`
	// Ticket is the one that the replica was registered with, without what lets anybody read or write.
	Ticket string `json:"ticket"`
	// Devices are the node ids of devices that may ask whether the registration stands; at most
	// maxDevices, the last named first.
	Devices []string `json:"devices,omitempty"`
	// From is the network that the first request came from: "relay" for any relay, and empty if it
	// is not known, or is none of the public internet.
	From string `json:"from,omitempty"`
}

// maxDevices is how many devices may ask whether one registration stands.
const maxDevices = 16

// named notes a device that has registered the replica. It forgets the one named longest ago if
// there are too many.
func (g *Registration) named(device string) {
	if device == "" {
		return
	}
	all := slices.DeleteFunc(slices.Clone(g.Devices), func(d string) bool { return d == device })
	g.Devices = append([]string{device}, all[:min(len(all), maxDevices-1)]...)
}

var (
	// ErrRegistered reports a replica that the identity has registered already.
	ErrRegistered = errors.New("the identity has registered this replica already")
	// ErrNotRegistered reports a replica that the identity has not registered.
	ErrNotRegistered = errors.New("the identity has not registered this replica")
	// ErrQuota reports an identity that uses all the bytes that it may.
	ErrQuota = errors.New("the identity uses as many bytes as it may")
	// ErrReplicaLimit reports an identity that has as many replicas as it may.
	ErrReplicaLimit = errors.New("the identity has registered as many replicas as it may")
	// ErrOldRequest reports a request that is not later than the one before it: it has been made
	// before, or the clock of whoever makes it has gone back.
	ErrOldRequest = errors.New(
		"a request with this time, or a later one, has been made already: try again in a second, or " +
			"set the clock",
	)
)

// Registry keeps who has registered which replica, and what their content comes to. It decides
// which content is fetched.
type Registry struct {
	limits Limits
	now    func() time.Time
	bell   chan struct{} // rings when there may be room for what was refused
	// loose is how many bytes of content nobody is charged for any more since the last collection,
	// and looseBell rings when that is a whole quota.
	loose     atomic.Uint64
	looseBell chan struct{}
}

var _ node.Host = (*Registry)(nil)

// NewRegistry returns a registry with these limits; now is the clock, nil is time.Now. What it
// keeps is in the store of the transactions that it is given.
func NewRegistry(limits Limits, now func() time.Time) *Registry {
	if now == nil {
		now = time.Now
	}
	return &Registry{
		limits: limits, now: now, bell: make(chan struct{}, 1), looseBell: make(chan struct{}, 1),
	}
}

// Limits returns the limits of each identity.
func (r *Registry) Limits() Limits { return r.limits }

func key(kind string, parts ...[]byte) []byte {
	b := append(make([]byte, 0, 96), kind...)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func place(e *replica.Entry) []byte {
	h := blake3.New(16, nil)
	_, _ = h.Write(e.Author[:]) // never fails
	_, _ = h.Write(e.Key)
	return h.Sum(nil)
}

var errBadRecord = errors.New("seed: malformed record")

// identitiesOf returns who has registered a replica.
func identitiesOf(rd kv.Reader, id replica.ID) (all []identity.ID, err error) {
	err = rd.Peek(key(keyIdentities, id[:]), func(b []byte) error {
		if len(b)%identity.IDSize != 0 {
			return errBadRecord
		}
		for ; len(b) > 0; b = b[identity.IDSize:] {
			all = append(all, identity.ID(b[:identity.IDSize]))
		}
		return nil
	})
	if errors.Is(err, kv.ErrNotFound) {
		err = nil
	}
	return all, err
}

func setIdentities(tx kv.Txn, id replica.ID, all []identity.ID) error {
	if len(all) == 0 {
		return tx.Delete(key(keyIdentities, id[:]))
	}
	var b []byte
	for _, i := range all {
		b = append(b, i[:]...)
	}
	return tx.Set(key(keyIdentities, id[:]), b)
}

// Usage is what an identity uses of its quota.
type Usage struct {
	Bytes    uint64
	Replicas uint32
}

func registrationKey(id identity.ID, rep replica.ID) []byte {
	return key(keyRegistration, id[:], rep[:])
}

func getRegistration(rd kv.Reader, id identity.ID, rep replica.ID) (g Registration, err error) {
	err = rd.Peek(registrationKey(id, rep), func(b []byte) error { return json.Unmarshal(b, &g) })
	g.Identity, g.Replica = id, rep
	if errors.Is(err, kv.ErrNotFound) {
		err = ErrNotRegistered
	}
	return g, err
}

func setRegistration(tx kv.Txn, g *Registration) error {
	b, err := json.Marshal(g)
	if err != nil {
		return err
	}
	return tx.Set(registrationKey(g.Identity, g.Replica), b)
}

// later notes the time of a request, or returns ErrOldRequest, so nobody makes a request again that
// was made before. The note outlives the registration, until no request of that time would count:
// see forget.
func later(tx kv.Txn, id identity.ID, rep replica.ID, at time.Time) error {
	last := uint64(0)
	where := key(keyLast, id[:], rep[:])
	err := tx.Peek(where, func(b []byte) error {
		if len(b) != 8 {
			return errBadRecord
		}
		last = binary.BigEndian.Uint64(b)
		return nil
	})
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	if at.Unix() <= 0 || uint64(at.Unix()) <= last {
		return ErrOldRequest
	}
	return tx.Set(where, binary.BigEndian.AppendUint64(nil, uint64(at.Unix())))
}

// keepOwn notes that the node holds a replica of its own, unless somebody has registered it
// already, or had and it is to be left.
func keepOwn(ctx context.Context, s kv.Store, rep replica.ID) error {
	return s.Update(ctx, func(tx kv.Txn) error {
		all, err := identitiesOf(tx, rep)
		if err != nil || len(all) > 0 {
			return err
		}
		if leaving, err := tx.Has(key(keyLeaving, rep[:])); err != nil || leaving {
			return err
		}
		return tx.Set(key(keyOwn, rep[:]), nil)
	})
}

// RegisterFrom notes that an identity has a replica kept, at the time of its request, and that a
// device, if it is not empty, may ask whether it stands. from is the network of the request, of
// which no more than a few identities may register one replica. An empty one is not known, and has
// no limit of its own.
//
// It returns ErrRegistered, ErrReplicaLimit, ErrQuota or ErrOldRequest. If the replica is
// registered already, the device is noted all the same. The entries that are there already are
// still to be charged: see Charge.
func (r *Registry) RegisterFrom(
	ctx context.Context, s kv.Store, id identity.ID, rep replica.ID, ticket, device, from string,
	at time.Time,
) (g Registration, err error) {
	registered := false
	err = s.Update(ctx, func(tx kv.Txn) error {
		if g, err = getRegistration(tx, id, rep); err != nil && !errors.Is(err, ErrNotRegistered) {
			return err
		}
		// it was ended, and is taken up before it is deleted: all of it is charged still
		again := err == nil
		registered = again && g.Deletion.IsZero()
		if err := later(tx, id, rep, at); err != nil {
			if registered && errors.Is(err, ErrOldRequest) {
				return nil
			}
			return err
		}
		g.named(device)
		if registered {
			return setRegistration(tx, &g)
		}
		u, err := usageOf(tx, id)
		if err != nil {
			return err
		}
		if u.Replicas >= r.limits.Replicas {
			return ErrReplicaLimit
		}
		if !again && u.Bytes >= r.limits.Bytes {
			return ErrQuota
		}
		u.Replicas++
		all, err := identitiesOf(tx, rep)
		if err != nil {
			return err
		}
		if !slices.Contains(all, id) {
			if err := r.fitsAll(tx, u, rep, all); err != nil {
				return err
			}
			if len(all) >= maxIdentities {
				return fmt.Errorf("%d identities have registered this replica: %w", len(all), ErrReplicaLimit)
			}
			if err := fewFrom(tx, from, rep, all); err != nil {
				return err
			}
			all, g.From = append(all, id), from
		}
		// Until its time of grace is over, nothing of a registration is taken back: to charge all of it
		// anew would cost the seed a look at every entry for a request that costs nothing.
		if !again || !g.Deletion.After(r.now()) {
			if err := tx.Set(key(keyCharging, rep[:]), nil); err != nil {
				return err
			}
		}
		if err := dropDeletion(tx, &g); err != nil {
			return err
		}
		g.Registered, g.Ticket = r.now().UTC().Truncate(time.Second), ticket
		g.Deletion, g.Lapsed = time.Time{}, time.Time{}
		return errors.Join(
			setUsage(tx, id, u), setIdentities(tx, rep, all), setRegistration(tx, &g),
			tx.Delete(key(keyLeaving, rep[:])),
		)
	})
	if err == nil {
		err = s.Sync(ctx)
	}
	if err == nil && registered {
		err = ErrRegistered
	}
	return g, err
}

// IsRegistered reports whether an identity has a registration of a replica that has not ended.
func (r *Registry) IsRegistered(
	ctx context.Context, s kv.Store, id identity.ID, rep replica.ID,
) (is bool, err error) {
	err = s.View(ctx, func(rd kv.Reader) error {
		g, err := getRegistration(rd, id, rep)
		is = err == nil && g.Deletion.IsZero()
		if errors.Is(err, ErrNotRegistered) {
			return nil
		}
		return err
	})
	return is, err
}

// fewFrom returns ErrReplicaLimit if as many identities as may have registered a replica from a
// network.
func fewFrom(rd kv.Reader, from string, rep replica.ID, all []identity.ID) error {
	if from == "" {
		return nil
	}
	count := 0
	for _, other := range all {
		g, err := getRegistration(rd, other, rep)
		if err != nil {
			return err
		}
		if g.From == from {
			count++
		}
	}
	most := maxFromNetwork
	if from == relays {
		most = maxFromRelays
	}
	if count >= most {
		return fmt.Errorf(
			"%d identities have registered this replica from your network: %w", count,
			ErrReplicaLimit,
		)
	}
	return nil
}

// fitsAll returns ErrQuota if an identity has no room for the entries of a replica that others have
// registered: it is charged for them in full, also when the others have gone.
func (r *Registry) fitsAll(tx kv.Txn, u Usage, rep replica.ID, others []identity.ID) error {
	if len(others) == 0 {
		return nil
	}
	h, err := heldOf(tx, others[0], rep)
	if err == nil && h.Records+h.Statements > r.limits.Bytes-u.Bytes {
		err = ErrQuota
	}
	return err
}

// Charged notes that what was there of a replica before its registration has been charged.
func (r *Registry) Charged(ctx context.Context, s kv.Store, rep replica.ID) error {
	return s.Update(ctx, func(tx kv.Txn) error { return tx.Delete(key(keyCharging, rep[:])) })
}

// Unregister ends a registration: after the grace period the replica is left. It returns
// ErrNotRegistered or ErrOldRequest.
func (r *Registry) Unregister(
	ctx context.Context, s kv.Store, id identity.ID, rep replica.ID, at time.Time,
) (g Registration, err error) {
	err = s.Update(kv.ToMakeRoom(ctx), func(tx kv.Txn) error {
		if g, err = getRegistration(tx, id, rep); err != nil {
			return err
		}
		if !g.Deletion.IsZero() {
			return ErrNotRegistered
		}
		if err := later(tx, id, rep, at); err != nil {
			return err
		}
		return r.end(tx, &g)
	})
	if err != nil {
		return g, err
	}
	return g, s.Sync(ctx)
}

func deletionKey(g *Registration) []byte {
	return key(
		keyDeletion, binary.BigEndian.AppendUint64(nil, uint64(g.Deletion.Unix())), g.Identity[:],
		g.Replica[:],
	)
}

func dropDeletion(tx kv.Txn, g *Registration) error {
	if g.Deletion.IsZero() {
		return nil
	}
	return tx.Delete(deletionKey(g))
}

// pageSize is how many records are read from one state of the store.
const pageSize = 256

// paged yields the records whose keys begin with a prefix and are before an end, if that is not
// nil; a few at a time in memory, so that what is done with them may change the store. The slices
// are the caller's.
func paged(ctx context.Context, s kv.Store, prefix, end []byte) iter.Seq2[kv.Pair, error] {
	return func(yield func(kv.Pair, error) bool) {
		in := kv.Prefix(prefix)
		if end != nil {
			in.To = end
		}
		for {
			var some []kv.Pair
			err := s.View(ctx, func(rd kv.Reader) error {
				some = nil
				for p, err := range rd.Scan(in, kv.ScanOptions{}) {
					if err != nil {
						return err
					}
					if some = append(
						some, kv.Pair{Key: bytes.Clone(p.Key), Value: bytes.Clone(p.Value)},
					); len(some) == pageSize {
						break
					}
				}
				return nil
			})
			if err != nil {
				yield(kv.Pair{}, err)
				return
			}
			for _, p := range some {
				if !yield(p, nil) {
					return
				}
			}
			if len(some) < pageSize {
				return
			}
			in.From = append(some[len(some)-1].Key, 0)
		}
	}
}

// Of returns the registrations of an identity, also those that have ended and are not deleted yet,
// and what it uses.
func (r *Registry) Of(
	ctx context.Context, s kv.Store, id identity.ID,
) (all []Registration, u Usage, err error) {
	err = s.View(ctx, func(rd kv.Reader) error {
		all = nil
		prefix := key(keyRegistration, id[:])
		for p, err := range rd.Scan(kv.Prefix(prefix), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			g, err := parseRegistration(p)
			if err != nil {
				return err
			}
			all = append(all, g)
		}
		u, err = usageOf(rd, id)
		return err
	})
	return all, u, err
}

func parseRegistration(p kv.Pair) (g Registration, err error) {
	k := p.Key[len(keyRegistration):]
	if len(k) != identity.IDSize+32 {
		return g, errBadRecord
	}
	if err := json.Unmarshal(p.Value, &g); err != nil {
		return g, fmt.Errorf("%w: %w", errBadRecord, err)
	}
	g.Identity, g.Replica = identity.ID(k[:identity.IDSize]), replica.ID(k[identity.IDSize:])
	return g, nil
}
