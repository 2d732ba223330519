// Package seed hosts replicas for others: whoever has an identity registers a replica at a seed, which joins it, keeps it and serves it while the person's devices sleep, within a quota, and without being able to read
// it if it is encrypted.
//
// What belongs here: registrations, quotas, states, and the requests by which they are made and asked for, as OBJECTS has them (RFC-005, draft 0.1), over HTTP and over a stream. What never belongs here: how replicas are
// synced and content is fetched, which is node's.
//
// Start at [Registry], which keeps who has registered what, and [Seed], which serves it. docs/protocol/seed.md has the requests.
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
	"time"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// Records of a seed; all keys begin with 's'. Integers are big-endian. Everything that a seed knows is in them: a process that takes over goes on from there.
//
//	s r identity[15] replica[32]            a registration, as JSON: see Registration
//	s i replica[32]                         the identities that have registered it, 15 bytes each
//	s u identity[15]                        usage: bytes u64 of different contents, replicas u32
//	s e identity replica place[16]          what an entry of the replica has been charged: hash[32], size u64; place is BLAKE3 of author and key
//	s h identity hash[32]                   how many entries have been charged for a content u32, its size u64
//	s p identity replica                    some content of the replica has been refused
//	s c replica                             entries that were there before the registration are being charged
//	s o replica                             the seed's node held the replica before anybody registered it: it is the seed's own, fetched in any case, and never left
//	s t identity replica                    the timestamp of the last request, u64 seconds
//	s d deletion u64 identity replica       a registration that has ended: when the replica is left, in Unix seconds
const (
	keyRegistration = "sr"
	keyIdentities   = "si"
	keyUsage        = "su"
	keyCharged      = "se"
	keyContent      = "sh"
	keyRefused      = "sp"
	keyCharging     = "sc"
	keyLast         = "st"
	keyOwn          = "so"
	keyDeletion     = "sd"
)

// maxIdentities is how many identities may register one replica.
const maxIdentities = 64

// Limits are those of each identity, and how long things are kept.
type Limits struct {
	Bytes    uint64        // of different contents; entries do not count
	Replicas uint32        // at a time
	Grace    time.Duration // from the end of a registration until the replica is left
	// Retention is how long a replica is kept of which no device is heard any more, before its registration ends by itself; 0 is for ever.
	Retention time.Duration
}

// DefaultLimits are those of OBJECTS.
var DefaultLimits = Limits{Bytes: 1 << 30, Replicas: 10, Grace: 7 * 24 * time.Hour, Retention: 30 * 24 * time.Hour}

// Registration says that an identity has a replica kept.
type Registration struct {
	Identity   identity.ID `json:"-"`
	Replica    replica.ID  `json:"-"`
	Registered time.Time   `json:"registered"`
	// Deletion is when the replica is left, if the registration has ended; a new one takes that back.
	Deletion time.Time `json:"deletion,omitzero"`
	// Lapsed is when the registration ended by itself, if it did; a session with a device takes that back.
	Lapsed time.Time `json:"lapsed,omitzero"`
	// Ticket is the one that the replica was registered with, without what lets anybody read or write.
	Ticket string `json:"ticket"`
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
	// ErrOldRequest reports a request that is not later than the one before it: it has been made before, or the clock of whoever makes it has gone back.
	ErrOldRequest = errors.New("a request with this time, or a later one, has been made already: try again in a second, or set the clock")
)

// Registry keeps who has registered which replica, and what their content comes to. It decides which content is fetched.
type Registry struct {
	limits Limits
	now    func() time.Time
	room   chan struct{} // rings when there may be room for content that was refused
}

var _ node.Host = (*Registry)(nil)

// NewRegistry returns a registry with these limits; now is the clock, nil is time.Now. What it keeps is in the store of the transactions that it is given.
func NewRegistry(limits Limits, now func() time.Time) *Registry {
	if now == nil {
		now = time.Now
	}
	return &Registry{limits, now, make(chan struct{}, 1)}
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

func usageOf(rd kv.Reader, id identity.ID) (u Usage, err error) {
	err = rd.Peek(key(keyUsage, id[:]), func(b []byte) (err error) {
		u, err = parseUsage(b)
		return err
	})
	if errors.Is(err, kv.ErrNotFound) {
		err = nil
	}
	return u, err
}

func parseUsage(b []byte) (Usage, error) {
	if len(b) != 12 {
		return Usage{}, errBadRecord
	}
	return Usage{binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])}, nil
}

func setUsage(tx kv.Txn, id identity.ID, u Usage) error {
	if u == (Usage{}) {
		return tx.Delete(key(keyUsage, id[:]))
	}
	return tx.Set(key(keyUsage, id[:]), binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, u.Bytes), u.Replicas))
}

// Put implements node.Host: it charges the content of an entry to all identities that have registered its replica, and lets it be fetched if one of them has room for it. Of replicas that nobody has registered, all is
// fetched: they are the seed's own.
func (r *Registry) Put(tx kv.Txn, e *replica.Entry) (fetch bool, err error) {
	all, err := identitiesOf(tx, e.Replica)
	if err != nil || len(all) == 0 {
		return err == nil, err
	}
	for _, id := range all {
		ok, err := r.charge(tx, id, e)
		if err != nil {
			return false, err
		}
		fetch = fetch || ok
	}
	if !fetch {
		return tx.Has(key(keyOwn, e.Replica[:]))
	}
	return fetch, nil
}

// Drop implements node.Host.
func (r *Registry) Drop(tx kv.Txn, e *replica.Entry) error {
	all, err := identitiesOf(tx, e.Replica)
	if err != nil {
		return err
	}
	for _, id := range all {
		if err := discharge(tx, id, key(keyCharged, id[:], e.Replica[:], place(e))); err != nil {
			return err
		}
		if err := r.freed(tx, id); err != nil {
			return err
		}
	}
	return nil
}

// freed rings if content was refused to an identity: what is there of it has become less.
func (r *Registry) freed(rd kv.Reader, id identity.ID) error {
	for _, err := range rd.Scan(kv.Prefix(key(keyRefused, id[:])), kv.ScanOptions{KeysOnly: true}) {
		if err != nil {
			return err
		}
		select {
		case r.room <- struct{}{}:
		default:
		}
		break
	}
	return nil
}

// charge charges an entry's content to one identity, in the place of what was charged for its key before, and reports whether there is room.
func (r *Registry) charge(tx kv.Txn, id identity.ID, e *replica.Entry) (bool, error) {
	at := key(keyCharged, id[:], e.Replica[:], place(e))
	old, err := tx.Get(at)
	switch {
	case err == nil && len(old) == 40 && blobs.Hash(old) == e.Hash:
		return true, nil
	case err == nil:
		if err := errors.Join(discharge(tx, id, at), r.freed(tx, id)); err != nil {
			return false, err
		}
	case !errors.Is(err, kv.ErrNotFound):
		return false, err
	}
	count, size, err := contentOf(tx, id, e.Hash)
	if err != nil {
		return false, err
	}
	if count == 0 {
		u, err := usageOf(tx, id)
		if err != nil {
			return false, err
		}
		if size = e.Size; u.Bytes+size > r.limits.Bytes || u.Bytes+size < size {
			return false, tx.Set(key(keyRefused, id[:], e.Replica[:]), nil)
		}
		u.Bytes += size
		if err := setUsage(tx, id, u); err != nil {
			return false, err
		}
	}
	return true, errors.Join(setContent(tx, id, e.Hash, count+1, size),
		tx.Set(at, binary.BigEndian.AppendUint64(append([]byte{}, e.Hash[:]...), e.Size)))
}

// discharge takes back what was charged under a key of the records, if anything was.
func discharge(tx kv.Txn, id identity.ID, at []byte) error {
	b, err := tx.Get(at)
	if errors.Is(err, kv.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(b) != 40 {
		return errBadRecord
	}
	h := blobs.Hash(b[:32])
	count, size, err := contentOf(tx, id, h)
	if err != nil {
		return err
	}
	if count <= 1 {
		u, err := usageOf(tx, id)
		if err != nil {
			return err
		}
		u.Bytes -= min(size, u.Bytes)
		if err := setUsage(tx, id, u); err != nil {
			return err
		}
	}
	return errors.Join(tx.Delete(at), setContent(tx, id, h, max(count, 1)-1, size))
}

func contentOf(rd kv.Reader, id identity.ID, h blobs.Hash) (count uint32, size uint64, err error) {
	err = rd.Peek(key(keyContent, id[:], h[:]), func(b []byte) error {
		if len(b) != 12 {
			return errBadRecord
		}
		count, size = binary.BigEndian.Uint32(b), binary.BigEndian.Uint64(b[4:])
		return nil
	})
	if errors.Is(err, kv.ErrNotFound) {
		err = nil
	}
	return count, size, err
}

func setContent(tx kv.Txn, id identity.ID, h blobs.Hash, count uint32, size uint64) error {
	at := key(keyContent, id[:], h[:])
	if count == 0 {
		return tx.Delete(at)
	}
	return tx.Set(at, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, count), size))
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

// later notes the time of a request, or returns ErrOldRequest: so nobody makes a request again that somebody else has made, and a registration does not count as the end of one, which has the same signature.
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

// keepOwn notes that the node holds a replica of its own, unless somebody has registered it already.
func keepOwn(ctx context.Context, s kv.Store, rep replica.ID) error {
	return s.Update(ctx, func(tx kv.Txn) error {
		all, err := identitiesOf(tx, rep)
		if err != nil || len(all) > 0 {
			return err
		}
		return tx.Set(key(keyOwn, rep[:]), nil)
	})
}

// Register notes that an identity has a replica kept, at the time of its request. It returns ErrRegistered, ErrReplicaLimit, ErrQuota or ErrOldRequest. The entries that are there already are still to be charged: see Charge.
func (r *Registry) Register(ctx context.Context, s kv.Store, id identity.ID, rep replica.ID, ticket string, at time.Time) (g Registration, err error) {
	err = s.Update(ctx, func(tx kv.Txn) error {
		g, err = getRegistration(tx, id, rep)
		switch {
		case err == nil && g.Deletion.IsZero():
			return ErrRegistered
		case err == nil: // it was ended, and is taken up again before it was deleted
		case !errors.Is(err, ErrNotRegistered):
			return err
		}
		if err := later(tx, id, rep, at); err != nil {
			return err
		}
		u, err := usageOf(tx, id)
		if err != nil {
			return err
		}
		if u.Replicas >= r.limits.Replicas {
			return ErrReplicaLimit
		}
		if u.Bytes >= r.limits.Bytes {
			return ErrQuota
		}
		u.Replicas++
		all, err := identitiesOf(tx, rep)
		if err != nil {
			return err
		}
		if !slices.Contains(all, id) {
			if len(all) >= maxIdentities {
				return fmt.Errorf("%d identities have registered this replica: %w", len(all), ErrReplicaLimit)
			}
			all = append(all, id)
		}
		if err := dropDeletion(tx, &g); err != nil {
			return err
		}
		g.Registered, g.Deletion, g.Lapsed, g.Ticket = r.now().UTC().Truncate(time.Second), time.Time{}, time.Time{}, ticket
		return errors.Join(setUsage(tx, id, u), setIdentities(tx, rep, all), setRegistration(tx, &g), tx.Set(key(keyCharging, rep[:]), nil))
	})
	if err != nil {
		return g, err
	}
	return g, s.Sync(ctx)
}

// Charged notes that what was there of a replica before its registration has been charged.
func (r *Registry) Charged(ctx context.Context, s kv.Store, rep replica.ID) error {
	return s.Update(ctx, func(tx kv.Txn) error { return tx.Delete(key(keyCharging, rep[:])) })
}

// Unregister ends a registration: after the grace period the replica is left. It returns ErrNotRegistered or ErrOldRequest.
func (r *Registry) Unregister(ctx context.Context, s kv.Store, id identity.ID, rep replica.ID, at time.Time) (g Registration, err error) {
	err = s.Update(ctx, func(tx kv.Txn) error {
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

// end ends a registration: from now on the time of grace runs.
func (r *Registry) end(tx kv.Txn, g *Registration) error {
	u, err := usageOf(tx, g.Identity)
	if err != nil {
		return err
	}
	u.Replicas -= min(u.Replicas, 1)
	g.Deletion = r.now().UTC().Truncate(time.Second).Add(r.limits.Grace)
	return errors.Join(setUsage(tx, g.Identity, u), setRegistration(tx, g), tx.Set(deletionKey(g), nil))
}

func deletionKey(g *Registration) []byte {
	return key(keyDeletion, binary.BigEndian.AppendUint64(nil, uint64(g.Deletion.Unix())), g.Identity[:], g.Replica[:])
}

func dropDeletion(tx kv.Txn, g *Registration) error {
	if g.Deletion.IsZero() {
		return nil
	}
	return tx.Delete(deletionKey(g))
}

// Lapse ends registrations of replicas that no device has synced for the time of retention, and takes back the end of those that one has synced since. lastSync tells when that was, or zero.
func (r *Registry) Lapse(ctx context.Context, s kv.Store, lastSync func(context.Context, replica.ID) (time.Time, error)) (lapsed, back int, err error) {
	if r.limits.Retention == 0 {
		return 0, 0, nil
	}
	for p, err := range paged(ctx, s, []byte(keyRegistration), nil) {
		if err != nil {
			return lapsed, back, err
		}
		g, err := parseRegistration(p)
		if err != nil {
			return lapsed, back, err
		}
		last, err := lastSync(ctx, g.Replica)
		if err != nil {
			return lapsed, back, err
		}
		ends := g.Deletion.IsZero() && r.now().Sub(g.Registered) > r.limits.Retention && r.now().Sub(last) > r.limits.Retention
		if returns := !g.Lapsed.IsZero() && last.After(g.Lapsed); !ends && !returns {
			continue
		}
		err = s.Update(ctx, func(tx kv.Txn) error {
			now, err := getRegistration(tx, g.Identity, g.Replica)
			if err != nil || !now.Deletion.Equal(g.Deletion) {
				return err // a request came in between
			}
			if ends {
				now.Lapsed = r.now().UTC().Truncate(time.Second)
				return r.end(tx, &now)
			}
			u, err := usageOf(tx, g.Identity)
			if err != nil {
				return err
			}
			u.Replicas++
			if err := dropDeletion(tx, &now); err != nil {
				return err
			}
			now.Deletion, now.Lapsed = time.Time{}, time.Time{}
			return errors.Join(setUsage(tx, g.Identity, u), setRegistration(tx, &now))
		})
		switch {
		case errors.Is(err, ErrNotRegistered):
		case err != nil:
			return lapsed, back, err
		case ends:
			lapsed++
		default:
			back++
		}
	}
	return lapsed, back, s.Sync(ctx)
}

// pageSize is how many records are read from one state of the store.
const pageSize = 256

// paged yields the records whose keys begin with a prefix and are before an end, if that is not nil; a few at a time in memory, so that what is done with them may change the store. The slices are the caller's.
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
					if some = append(some, kv.Pair{Key: bytes.Clone(p.Key), Value: bytes.Clone(p.Value)}); len(some) == pageSize {
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

// Of returns the registrations of an identity, also those that have ended and are not deleted yet, and what it uses.
func (r *Registry) Of(ctx context.Context, s kv.Store, id identity.ID) (all []Registration, u Usage, err error) {
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

// Refused reports whether content of a replica was refused to an identity for want of room.
func (r *Registry) Refused(ctx context.Context, s kv.Store, id identity.ID, rep replica.ID) (refused bool, err error) {
	err = s.View(ctx, func(rd kv.Reader) error {
		refused, err = rd.Has(key(keyRefused, id[:], rep[:]))
		return err
	})
	return refused, err
}

// releaseAtOnce is how many charges are taken back in one transaction.
const releaseAtOnce = 256

// Sweep deletes the registrations whose grace period is over, and returns the replicas that nobody has registered any more, but for the seed's own: they are to be left.
func (r *Registry) Sweep(ctx context.Context, s kv.Store) (leave []replica.ID, err error) {
	end := key(keyDeletion, binary.BigEndian.AppendUint64(nil, uint64(r.now().Unix())+1))
	for p, err := range paged(ctx, s, []byte(keyDeletion), end) {
		if err != nil {
			return leave, err
		}
		k := p.Key[len(keyDeletion):]
		if len(k) != 8+identity.IDSize+32 {
			return leave, errBadRecord
		}
		g := Registration{Identity: identity.ID(k[8:]), Replica: replica.ID(k[8+identity.IDSize:]), Deletion: time.Unix(int64(binary.BigEndian.Uint64(k)), 0)}
		last, err := r.delete(ctx, s, &g)
		if err != nil {
			return leave, err
		}
		if last {
			leave = append(leave, g.Replica)
		}
	}
	return leave, nil
}

// delete takes back all that a registration was charged, and forgets it. It reports whether nobody wants the replica any more.
func (r *Registry) delete(ctx context.Context, s kv.Store, g *Registration) (last bool, err error) {
	prefix := key(keyCharged, g.Identity[:], g.Replica[:])
	for more := true; more; {
		err := s.Update(ctx, func(tx kv.Txn) error {
			var some [][]byte
			for p, err := range tx.Scan(kv.Prefix(prefix), kv.ScanOptions{KeysOnly: true}) {
				if err != nil {
					return err
				}
				if some = append(some, slices.Clone(p.Key)); len(some) == releaseAtOnce {
					break
				}
			}
			for _, at := range some {
				if err := discharge(tx, g.Identity, at); err != nil {
					return err
				}
			}
			more = len(some) == releaseAtOnce
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	err = s.Update(ctx, func(tx kv.Txn) error {
		last = false
		now, err := getRegistration(tx, g.Identity, g.Replica)
		if err != nil {
			return err
		}
		if !now.Deletion.Equal(g.Deletion) { // it was taken up again just now, and is charged anew
			return tx.Set(key(keyCharging, g.Replica[:]), nil)
		}
		all, err := identitiesOf(tx, g.Replica)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(id identity.ID) bool { return id == g.Identity })
		own, err := tx.Has(key(keyOwn, g.Replica[:]))
		if err != nil {
			return err
		}
		if last = len(all) == 0 && !own; len(all) == 0 && own {
			if err := tx.Delete(key(keyOwn, g.Replica[:])); err != nil {
				return err
			}
		}
		return errors.Join(tx.Delete(deletionKey(g)), tx.Delete(registrationKey(g.Identity, g.Replica)), tx.Delete(key(keyRefused, g.Identity[:], g.Replica[:])),
			tx.Delete(key(keyLast, g.Identity[:], g.Replica[:])), setIdentities(tx, g.Replica, all))
	})
	if err != nil {
		return false, err
	}
	return last, s.Sync(ctx)
}

// chargedSize reads the size out of the record of a charge.
func chargedSize(b []byte) uint64 { return binary.BigEndian.Uint64(b[32:]) }
