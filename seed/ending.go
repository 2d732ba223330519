package seed

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// How registrations end: by a request, or when nobody is heard of any more; and how what they kept
// goes after that.

// releaseAtOnce is how many charges are taken back in one transaction.
const releaseAtOnce = 256

// end ends a registration: from now on the time of grace runs.
func (r *Registry) end(tx kv.Txn, g *Registration) error {
	u, err := usageOf(tx, g.Identity)
	if err != nil {
		return err
	}
	u.Replicas -= min(u.Replicas, 1)
	g.Deletion = r.now().UTC().Truncate(time.Second).Add(r.limits.Grace)
	return errors.Join(
		setUsage(tx, g.Identity, u), setRegistration(tx, g), tx.Set(deletionKey(g), nil),
	)
}

// Lapse ends registrations of replicas that no device has synced for the time of retention, and
// takes back the end of those that one has synced since, and of those that lapsed at a time which
// is still to come: the clock was ahead. lastSync tells when that was, or zero.
func (r *Registry) Lapse(
	ctx context.Context, s kv.Store, lastSync func(context.Context, replica.ID) (time.Time, error),
) (lapsed, back int, err error) {
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
		ends := g.Deletion.IsZero() && r.now().Sub(g.Registered) > r.limits.Retention &&
			r.now().Sub(last) > r.limits.Retention
		// One that lapsed while the clock was ahead has not lapsed: whoever syncs it now would be too
		// early for it to return.
		ahead := g.Lapsed.After(r.now())
		if returns := !g.Lapsed.IsZero() && (ahead || last.After(g.Lapsed)); !ends && !returns {
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

// Sweep deletes the registrations whose grace period is over, and returns the replicas that nobody
// has registered any more, but for the seed's own: they are to be left, and Left is to be told.
func (r *Registry) Sweep(ctx context.Context, s kv.Store) (leave []replica.ID, err error) {
	end := key(keyDeletion, binary.BigEndian.AppendUint64(nil, uint64(r.now().Unix())+1))
	for p, err := range paged(ctx, s, []byte(keyDeletion), end) {
		if err != nil {
			return nil, err
		}
		k := p.Key[len(keyDeletion):]
		if len(k) != 8+identity.IDSize+32 {
			return nil, errBadRecord
		}
		g := Registration{
			Identity: identity.ID(k[8:]), Replica: replica.ID(k[8+identity.IDSize:]),
			Deletion: time.Unix(int64(binary.BigEndian.Uint64(k)), 0),
		}
		if err := r.delete(ctx, s, &g); err != nil {
			return nil, err
		}
	}
	for p, err := range paged(ctx, s, []byte(keyLeaving), nil) {
		if err != nil {
			return nil, err
		}
		if len(p.Key) != len(keyLeaving)+32 {
			return nil, errBadRecord
		}
		leave = append(leave, replica.ID(p.Key[len(keyLeaving):]))
	}
	return leave, nil
}

// Left notes that a replica has been left. One that was registered meanwhile is joined again, since
// what was there of it is still to be charged.
func (r *Registry) Left(ctx context.Context, s kv.Store, rep replica.ID) error {
	return s.Update(kv.ToMakeRoom(ctx), func(tx kv.Txn) error {
		return tx.Delete(key(keyLeaving, rep[:]))
	})
}

// delete takes back all that a registration was charged, and forgets it. It notes if nobody wants
// the replica any more.
func (r *Registry) delete(ctx context.Context, s kv.Store, g *Registration) error {
	ctx = kv.ToMakeRoom(ctx)
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
			a, err := r.account(tx, g.Identity, g.Replica)
			if err != nil {
				return err
			}
			for _, at := range some {
				if err := a.discharge(at); err != nil {
					return err
				}
			}
			more = len(some) == releaseAtOnce
			return errors.Join(a.save(), r.freed(tx, g.Identity))
		})
		if err != nil {
			return err
		}
	}
	again := false
	err := s.Update(ctx, func(tx kv.Txn) error {
		again = false
		now, err := getRegistration(tx, g.Identity, g.Replica)
		if err != nil {
			return err
		}
		if !now.Deletion.Equal(g.Deletion) { // it was taken up again just now, and is charged anew
			return tx.Set(key(keyCharging, g.Replica[:]), nil)
		}
		for _, err := range tx.Scan(kv.Prefix(prefix), kv.ScanOptions{KeysOnly: true}) {
			again = true // something has come since
			return err
		}
		a, err := r.account(tx, g.Identity, g.Replica)
		if err != nil {
			return err
		}
		a.move(&a.h.Statements, a.h.Statements, 0)
		if err := a.save(); err != nil {
			return err
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
		switch {
		case len(all) > 0:
		case own:
			err = errors.Join(
				tx.Delete(key(keyOwn, g.Replica[:])), tx.Delete(key(keyCharging, g.Replica[:])),
			)
		default:
			err = errors.Join(
				tx.Set(key(keyLeaving, g.Replica[:]), nil), tx.Delete(key(keyCharging, g.Replica[:])),
			)
		}
		if err != nil {
			return err
		}
		return errors.Join(
			tx.Delete(deletionKey(g)), tx.Delete(registrationKey(g.Identity, g.Replica)),
			tx.Delete(key(keyRefused, g.Identity[:], g.Replica[:])), setIdentities(tx, g.Replica, all),
		)
	})
	if err == nil && again {
		return r.delete(ctx, s, g)
	}
	if err != nil {
		return err
	}
	return s.Sync(ctx)
}

// forget deletes the notes of the last requests about replicas that are not registered any more,
// once no request of that time or before would count.
func (r *Registry) forget(ctx context.Context, s kv.Store) error {
	for p, err := range paged(ctx, s, []byte(keyLast), nil) {
		if err != nil {
			return err
		}
		k := p.Key[len(keyLast):]
		if len(k) != identity.IDSize+32 || len(p.Value) != 8 {
			return errBadRecord
		}
		at := time.Unix(int64(binary.BigEndian.Uint64(p.Value)), 0)
		if r.now().Sub(at) <= identity.RegistryBehind {
			continue
		}
		err := s.Update(ctx, func(tx kv.Txn) error {
			if has, err := tx.Has(key(keyRegistration, k)); err != nil || has {
				return err
			}
			now, err := tx.Get(p.Key)
			if err != nil || !bytes.Equal(now, p.Value) { // a request came in between
				return err
			}
			return tx.Delete(p.Key)
		})
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return err
		}
	}
	return nil
}
