package blobs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/kv"
)

// Content and the records that point at it are made durable apart from each other, so after a loss
// of power a record may be there whose content is not. Therefore each record is written together
// with a mark that names the file, and Sync removes the marks once the files are on stable storage.
// What is still marked when the store is opened in another run of the operating system is hashed
// again. After the mere death of a process, the system still has all that was written.

const (
	markFile byte = 0
	markPack byte = 1
)

func unsyncedKey(epoch uint64, kind byte, n uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte(keyUnsynced), epoch)
	return binary.BigEndian.AppendUint64(append(b, kind), n)
}

// markUnsynced notes that the record written in tx depends on content that may not be on stable
// storage. The caller holds writing.
func (s *Store) markUnsynced(tx kv.Writer, rec record) error {
	switch {
	case rec.hasFile():
		return tx.Set(unsyncedKey(s.epoch, markFile, uint64(rec.id)), nil)
	case rec.state == statePacked:
		return tx.Set(unsyncedKey(s.epoch, markPack, uint64(rec.extent.Pack)), nil)
	}
	return nil
}

// Sync returns when everything stored before the call survives the loss of power.
func (s *Store) Sync(ctx context.Context) error {
	s.writing.Lock() // waits for writes whose marks are not there yet
	epoch := s.epoch
	s.epoch++
	s.writing.Unlock()
	if err := errors.Join(s.files.Sync(ctx), s.kv.Sync(ctx)); err != nil {
		return err
	}
	var done [][]byte
	marks := kv.Range{From: []byte(keyUnsynced), To: unsyncedKey(epoch+1, 0, 0)}
	err := s.kv.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(marks, kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return err
			}
			done = append(done, append([]byte(nil), p.Key...))
		}
		return nil
	})
	if err != nil || len(done) == 0 {
		return err
	}
	return s.kv.Batch(ctx, func(w kv.Writer) error {
		for _, k := range done {
			if err := w.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// unsynced is what the marks in the store name.
type unsynced struct {
	files map[contentID]bool
	packs map[files.Pack]bool
	epoch uint64 // greater than that of any mark
}

func (s *Store) readUnsynced(ctx context.Context) (u unsynced, err error) {
	u = unsynced{files: map[contentID]bool{}, packs: map[files.Pack]bool{}}
	err = s.kv.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix([]byte(keyUnsynced)), kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return err
			}
			k := p.Key[len(keyUnsynced):]
			if len(k) != 17 {
				return errMalformed
			}
			u.epoch = max(u.epoch, binary.BigEndian.Uint64(k)+1)
			if n := binary.BigEndian.Uint64(k[9:]); k[8] == markPack {
				u.packs[files.Pack(n)] = true
			} else {
				u.files[contentID(n)] = true
			}
		}
		return nil
	})
	return u, err
}

func (u unsynced) names(rec record) bool {
	return rec.hasFile() && u.files[rec.id] || rec.state == statePacked && u.packs[rec.extent.Pack]
}

// recover takes over what the last process had not made durable, and drops what of it did not
// survive.
func (s *Store) recover(ctx context.Context) error {
	u, err := s.readUnsynced(ctx)
	if err != nil {
		return err
	}
	s.epoch = u.epoch
	boot := files.BootID()
	var last []byte
	err = s.kv.View(ctx, func(r kv.Reader) (err error) {
		last, err = r.Get([]byte(keyBoot))
		return err
	})
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	if len(u.files)+len(u.packs) > 0 {
		if boot == "" || string(last) != boot {
			if err := s.dropLost(ctx, u); err != nil {
				return err
			}
		}
		var ids []files.ID
		for id := range u.files {
			ids = append(ids, id)
		}
		var packs []files.Pack
		for p := range u.packs {
			packs = append(packs, p)
		}
		s.files.MarkDirty(ids, packs)
	}
	if string(last) == boot {
		return nil
	}
	return s.kv.Update(ctx, func(tx kv.Txn) error { return tx.Set([]byte(keyBoot), []byte(boot)) })
}

// dropLost hashes what u names again and forgets what is wrong.
func (s *Store) dropLost(ctx context.Context, u unsynced) error {
	var suspects []Hash
	err := s.kv.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix([]byte(keyRecord)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			rec, err := parseRecord(p.Value)
			if err != nil {
				return err
			}
			if u.names(rec) {
				suspects = append(suspects, Hash(p.Key[len(keyRecord):]))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, h := range suspects {
		damage, err := s.Verify(ctx, h, nil)
		if _, torn := errors.AsType[*kv.CorruptError](err); torn {
			continue // the records are to be repaired first; the blob's tree cannot be read until then
		}
		if err == nil {
			err = s.Drop(ctx, h, damage)
		}
		if err != nil {
			return fmt.Errorf("after a loss of power: %w", err)
		}
	}
	return nil
}
