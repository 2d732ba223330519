package seed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// An identity is charged for all that the seed keeps for it, in the transaction that stores it:
//
//   - for each entry, deletions too, what its records take: entryBytes and its key as often as it is kept
//   - for each statement, its bytes and statementBytes
//   - for each different content, of those that its entries name by hash and size, the size that is
//     claimed, and 1/128 of it for the tree
//
// A node never stores content whose proved size is not what an entry claims (or, of content in
// chunks, the sum of the chunks), so what is claimed is what is kept: a claim that is too small
// brings nothing, and one that is too large costs whoever makes it. Two claims about one hash are
// two contents.
//
// Entries and statements of a replica are charged to all identities that have registered it,
// content to those that have room. What nobody is charged for is not kept.
const (
	// entryBytes is what the records of one entry take besides its key, in bytes: those of the
	// entry, its time, its content and its charges, and its share of the summary tree. See
	// TestChargesCoverTheDisk.
	entryBytes     = 1024
	statementBytes = 512
	// reserveShare is the share of a quota beyond it that deletions and statements may still take.
	reserveShare = 8
	// leastCost stands for the cost of refused content that is not known any more: it is looked at
	// as soon as there is any room.
	leastCost = 1
)

// recordCost is what the records of an entry are charged. The key is there up to three times: by
// order, where each zero byte takes two, by time, and while the content is wanted; and in pieces,
// if it is long.
func recordCost(e *replica.Entry) uint64 {
	n := uint64(len(e.Key))
	return entryBytes + 3*n + uint64(bytes.Count(e.Key, []byte{0})) + n/8
}

func contentCost(size uint64) uint64 {
	if size > math.MaxUint64/2 {
		return math.MaxUint64
	}
	return size + size/128
}

// charged is the record of what an entry is charged.
type charged struct {
	record  uint64
	content bool
	hash    blobs.Hash
	size    uint64 // as the entry claims it
	refused uint64 // the cost of content that there was no room for, or 0
}

func (c *charged) marshal() []byte {
	b := binary.BigEndian.AppendUint64(nil, c.record)
	switch {
	case c.content:
		b = binary.BigEndian.AppendUint64(append(b, c.hash[:]...), c.size)
	case c.refused > 0:
		b = binary.BigEndian.AppendUint64(b, c.refused)
	}
	return b
}

func parseCharged(b []byte) (c charged, err error) {
	switch len(b) {
	case 48:
		c.content, c.hash, c.size = true, blobs.Hash(b[8:40]), binary.BigEndian.Uint64(b[40:])
	case 16:
		c.refused = binary.BigEndian.Uint64(b[8:])
	case 8:
	default:
		return c, errBadRecord
	}
	c.record = binary.BigEndian.Uint64(b)
	return c, nil
}

// Held is what one registration is charged, in bytes. Content that several entries name counts for
// each.
type Held struct{ Records, Statements, Content uint64 }

func heldOf(rd kv.Reader, id identity.ID, rep replica.ID) (h Held, err error) {
	err = rd.Peek(key(keyHeld, id[:], rep[:]), func(b []byte) error {
		if len(b) != 24 {
			return errBadRecord
		}
		be := binary.BigEndian
		h = Held{be.Uint64(b), be.Uint64(b[8:]), be.Uint64(b[16:])}
		return nil
	})
	if errors.Is(err, kv.ErrNotFound) {
		err = nil
	}
	return h, err
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

func setUsage(tx kv.Txn, id identity.ID, u Usage) error {
	if u == (Usage{}) {
		return tx.Delete(key(keyUsage, id[:]))
	}
	return tx.Set(
		key(keyUsage, id[:]),
		binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, u.Bytes), u.Replicas),
	)
}

func parseUsage(b []byte) (Usage, error) {
	if len(b) != 12 {
		return Usage{}, errBadRecord
	}
	return Usage{binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])}, nil
}

// account is what an identity is charged for one replica, within a transaction: read, changed and
// saved.
type account struct {
	r   *Registry
	tx  kv.Txn
	id  identity.ID
	rep replica.ID
	u   Usage
	h   Held
}

func (r *Registry) account(tx kv.Txn, id identity.ID, rep replica.ID) (a *account, err error) {
	a = &account{r: r, tx: tx, id: id, rep: rep}
	if a.u, err = usageOf(tx, id); err == nil {
		a.h, err = heldOf(tx, id, rep)
	}
	return a, err
}

// accounts returns those of all identities that have registered a replica.
func (r *Registry) accounts(tx kv.Txn, rep replica.ID) (all []*account, err error) {
	ids, err := identitiesOf(tx, rep)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		a, err := r.account(tx, id, rep)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

func (a *account) save() error {
	at := key(keyHeld, a.id[:], a.rep[:])
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, a.h.Records), a.h.Statements)
	err := setUsage(a.tx, a.id, a.u)
	if a.h == (Held{}) {
		return errors.Join(err, a.tx.Delete(at))
	}
	return errors.Join(err, a.tx.Set(at, binary.BigEndian.AppendUint64(b, a.h.Content)))
}

// fits reports whether the identity may be charged more, in its quota or, of what may take its
// reserve, a little beyond.
func (a *account) fits(cost uint64, reserve bool) bool {
	limit := a.r.limits.Bytes
	if reserve {
		limit += min(limit/reserveShare, math.MaxUint64-limit)
	}
	return a.u.Bytes <= limit && cost <= limit-a.u.Bytes
}

// move changes part of what is held, and the usage with it. No more is given back than was charged:
// what goes before a replica is charged for the first time has not been.
func (a *account) move(part *uint64, from, to uint64) {
	from = min(from, *part)
	*part += to - from
	a.u.Bytes = a.u.Bytes - min(from, a.u.Bytes) + to
}

func (a *account) at(place []byte) []byte { return key(keyCharged, a.id[:], a.rep[:], place) }

// get returns what is charged in a place, the zero value for nothing.
func (a *account) get(at []byte) (c charged, err error) {
	b, err := a.tx.Get(at)
	if errors.Is(err, kv.ErrNotFound) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	return parseCharged(b)
}

// chargeRecord charges what the records of an entry take, in the place of what was charged before.
func (a *account) chargeRecord(e *replica.Entry) error {
	at, cost := a.at(place(e)), recordCost(e)
	c, err := a.get(at)
	if err != nil || c.record == cost {
		return err
	}
	a.move(&a.h.Records, c.record, cost)
	c.record = cost
	return errors.Join(a.tx.Set(at, c.marshal()), a.save())
}

// chargeContent charges the content of an entry, in the place of what was charged before, and
// reports whether there is room for it.
func (a *account) chargeContent(e *replica.Entry) (bool, error) {
	at := a.at(place(e))
	c, err := a.get(at)
	if err != nil {
		return false, err
	}
	if c.content && c.hash == e.Hash && c.size == e.Size && !e.IsTombstone() {
		return true, nil
	}
	if c.content {
		if err := errors.Join(a.dropContent(&c), a.r.freed(a.tx, a.id)); err != nil {
			return false, err
		}
	}
	fits, before := false, c.refused
	c.refused = 0
	if !e.IsTombstone() {
		if fits, err = a.addContent(&c, e); err != nil {
			return false, err
		}
	}
	if before != c.refused {
		if err := a.unrefuse(before); err != nil {
			return false, err
		}
	}
	return fits, errors.Join(a.tx.Set(at, c.marshal()), a.save())
}

func (a *account) addContent(c *charged, e *replica.Entry) (bool, error) {
	count, err := contentOf(a.tx, a.id, e.Hash, e.Size)
	if err != nil {
		return false, err
	}
	cost := contentCost(e.Size)
	if count == 0 {
		if !a.fits(cost, false) {
			c.refused = cost
			return false, a.refuse(refusal{content: cost})
		}
		a.u.Bytes += cost
	}
	a.h.Content += cost
	c.content, c.hash, c.size = true, e.Hash, e.Size
	return true, setContent(a.tx, a.id, e.Hash, e.Size, count+1)
}

// dropContent takes back what is charged for content. The caller stores c and saves.
func (a *account) dropContent(c *charged) error {
	count, err := contentOf(a.tx, a.id, c.hash, c.size)
	if err != nil {
		return err
	}
	cost := contentCost(c.size)
	if count <= 1 {
		a.u.Bytes -= min(cost, a.u.Bytes)
		a.r.loosen(cost)
	}
	a.h.Content -= min(cost, a.h.Content)
	c.content = false
	return setContent(a.tx, a.id, c.hash, c.size, max(count, 1)-1)
}

// loosen notes content that an identity is not charged for any more: it stays stored until the next
// collection, and without one, somebody could replace it over and over within a quota. A
// transaction that runs again counts twice, which only collects earlier.
func (r *Registry) loosen(bytes uint64) {
	if r.loose.Add(bytes) < r.limits.Bytes {
		return
	}
	select {
	case r.looseBell <- struct{}{}:
	default:
	}
}

// Refute implements node.Host: content whose claimed size is wrong is not kept, and not charged.
func (r *Registry) Refute(tx kv.Txn, e *replica.Entry) error {
	all, err := r.accounts(tx, e.Replica)
	if err != nil {
		return err
	}
	for _, a := range all {
		at := a.at(place(e))
		c, err := a.get(at)
		if err != nil {
			return err
		}
		if !c.content || c.hash != e.Hash || c.size != e.Size {
			continue
		}
		err = errors.Join(a.dropContent(&c), a.tx.Set(at, c.marshal()), a.save(), r.freed(tx, a.id))
		if err != nil {
			return err
		}
	}
	return nil
}

// discharge takes back all that is charged in a place. The caller saves.
func (a *account) discharge(at []byte) error {
	c, err := a.get(at)
	if err != nil || c.record == 0 {
		return err
	}
	if c.content {
		if err := a.dropContent(&c); err != nil {
			return err
		}
	}
	if err := a.unrefuse(c.refused); err != nil {
		return err
	}
	a.move(&a.h.Records, c.record, 0)
	return a.tx.Delete(at)
}

// Take implements node.Host: it charges the records of an entry to all identities that have
// registered its replica, if one of them has room. What replaces an entry is taken in any case: it
// takes no more.
func (r *Registry) Take(tx kv.Txn, e, old *replica.Entry, full bool) (bool, error) {
	all, err := r.accounts(tx, e.Replica)
	if err != nil || len(all) == 0 {
		return err == nil && !full, err
	}
	if old == nil {
		ok, err := r.room(tx, e.Replica, all, recordCost(e), e.IsTombstone(), full)
		if err != nil || !ok {
			return false, err
		}
	}
	for _, a := range all {
		if err := a.chargeRecord(e); err != nil {
			return false, err
		}
	}
	return true, nil
}

// room reports whether one of the accounts has room for more of a replica, or the replica is the
// seed's own. If not, it notes that it has refused something.
func (r *Registry) room(
	tx kv.Txn, rep replica.ID, all []*account, cost uint64, reserve, full bool,
) (bool, error) {
	own, err := tx.Has(key(keyOwn, rep[:]))
	if err != nil {
		return false, err
	}
	ok := own
	for _, a := range all {
		ok = ok || a.fits(cost, reserve)
	}
	if ok && !full {
		return true, nil
	}
	for _, a := range all {
		if err := a.refuse(refusal{entries: cost}); err != nil {
			return false, err
		}
	}
	return false, nil
}

// State implements node.Host: it charges a statement to all identities that have registered its
// replica.
func (r *Registry) State(tx kv.Txn, rep replica.ID, bytes int, full bool) (bool, error) {
	all, err := r.accounts(tx, rep)
	if err != nil || len(all) == 0 {
		return err == nil && (!full || bytes < 0), err
	}
	if bytes < 0 { // one is gone
		for _, a := range all {
			a.move(&a.h.Statements, uint64(-bytes)+statementBytes, 0)
			if err := errors.Join(a.save(), r.freed(tx, a.id)); err != nil {
				return false, err
			}
		}
		return true, nil
	}
	cost := uint64(bytes) + statementBytes
	if ok, err := r.room(tx, rep, all, cost, true, full); err != nil || !ok {
		return false, err
	}
	for _, a := range all {
		a.move(&a.h.Statements, 0, cost)
		if err := a.save(); err != nil {
			return false, err
		}
	}
	return true, nil
}

// chargeStatements charges all statements of a replica that are stored, instead of those charged
// before.
func (r *Registry) chargeStatements(tx kv.Txn, rep replica.ID) error {
	count, bytes, err := replica.StatementsIn(tx, rep)
	if err != nil {
		return err
	}
	all, err := r.accounts(tx, rep)
	for _, a := range all {
		a.move(&a.h.Statements, a.h.Statements, bytes+uint64(count)*statementBytes)
		err = errors.Join(err, a.save())
	}
	return err
}

// Put implements node.Host: it charges the content of an entry to all identities that have
// registered its replica and have room for it, and lets it be fetched if there are any. Of replicas
// that nobody has registered, all is fetched: they are the seed's own.
func (r *Registry) Put(tx kv.Txn, e *replica.Entry) (fetch bool, err error) {
	all, err := r.accounts(tx, e.Replica)
	if err != nil || len(all) == 0 {
		return err == nil, err
	}
	for _, a := range all {
		if err := a.chargeRecord(e); err != nil { // of one that was here before the registration
			return false, err
		}
		ok, err := a.chargeContent(e)
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
	all, err := r.accounts(tx, e.Replica)
	if err != nil {
		return err
	}
	for _, a := range all {
		if err := errors.Join(a.discharge(a.at(place(e))), a.save(), r.freed(tx, a.id)); err != nil {
			return err
		}
	}
	return nil
}

// Keeps implements node.Host: content is kept for those who are charged for it, and for the seed
// itself.
func (r *Registry) Keeps(rd kv.Reader, e *replica.Entry) (bool, error) {
	ids, err := identitiesOf(rd, e.Replica)
	if err != nil || len(ids) == 0 {
		return err == nil, err
	}
	for _, kind := range []string{keyOwn, keyCharging} { // or nobody knows yet
		if has, err := rd.Has(key(kind, e.Replica[:])); err != nil || has {
			return has, err
		}
	}
	for _, id := range ids {
		b, err := rd.Get(key(keyCharged, id[:], e.Replica[:], place(e)))
		if errors.Is(err, kv.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		c, err := parseCharged(b)
		if err != nil || c.content && c.hash == e.Hash && c.size == e.Size {
			return err == nil, err
		}
	}
	return false, nil
}

// refusal says that something was refused for want of room: the least cost of some content, and of
// some entry or statement, or 0 for nothing.
type refusal struct{ content, entries uint64 }

func parseRefusal(b []byte) (f refusal, err error) {
	if len(b) != 16 {
		return f, errBadRecord
	}
	return refusal{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, nil
}

func refusalOf(rd kv.Reader, id identity.ID, rep replica.ID) (f refusal, err error) {
	err = rd.Peek(key(keyRefused, id[:], rep[:]), func(b []byte) error {
		f, err = parseRefusal(b)
		return err
	})
	if errors.Is(err, kv.ErrNotFound) {
		err = nil
	}
	return f, err
}

// refuse notes that something was refused.
func (a *account) refuse(f refusal) error {
	old, err := refusalOf(a.tx, a.id, a.rep)
	if err != nil {
		return err
	}
	least := func(x, y uint64) uint64 {
		if x == 0 || y == 0 {
			return max(x, y)
		}
		return min(x, y)
	}
	f = refusal{least(f.content, old.content), least(f.entries, old.entries)}
	if f == old {
		return nil
	}
	return a.setRefusal(f)
}

// unrefuse notes that content which had been refused is not asked for any more. If nothing that was
// refused costs less, nobody knows what the rest costs, or whether there is any: it is looked at
// again.
func (a *account) unrefuse(cost uint64) error {
	f, err := refusalOf(a.tx, a.id, a.rep)
	if err != nil || cost == 0 || f.content != cost {
		return err
	}
	f.content = leastCost
	return errors.Join(a.setRefusal(f), a.r.freed(a.tx, a.id))
}

func (a *account) setRefusal(f refusal) error {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, f.content), f.entries)
	return a.tx.Set(key(keyRefused, a.id[:], a.rep[:]), b)
}

// freed rings if something was refused to an identity: what is there of it has become less.
func (r *Registry) freed(rd kv.Reader, id identity.ID) error {
	for _, err := range rd.Scan(kv.Prefix(key(keyRefused, id[:])), kv.ScanOptions{KeysOnly: true}) {
		if err != nil {
			return err
		}
		select {
		case r.bell <- struct{}{}:
		default:
		}
		break
	}
	return nil
}

func contentKey(id identity.ID, h blobs.Hash, size uint64) []byte {
	return binary.BigEndian.AppendUint64(key(keyContent, id[:], h[:]), size)
}

func contentOf(rd kv.Reader, id identity.ID, h blobs.Hash, size uint64) (count uint32, err error) {
	err = rd.Peek(contentKey(id, h, size), func(b []byte) error {
		if len(b) != 4 {
			return errBadRecord
		}
		count = binary.BigEndian.Uint32(b)
		return nil
	})
	if errors.Is(err, kv.ErrNotFound) {
		err = nil
	}
	return count, err
}

func setContent(tx kv.Txn, id identity.ID, h blobs.Hash, size uint64, count uint32) error {
	at := contentKey(id, h, size)
	if count == 0 {
		return tx.Delete(at)
	}
	return tx.Set(at, binary.BigEndian.AppendUint32(nil, count))
}
