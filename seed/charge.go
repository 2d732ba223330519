package seed

import (
	"encoding/binary"
	"errors"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// What an identity uses is charged in the transaction that stores an entry, each content once, however many entries of however many of its replicas name it.

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
	return tx.Set(key(keyUsage, id[:]), binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, u.Bytes), u.Replicas))
}

func parseUsage(b []byte) (Usage, error) {
	if len(b) != 12 {
		return Usage{}, errBadRecord
	}
	return Usage{binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])}, nil
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
