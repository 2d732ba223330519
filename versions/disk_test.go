package versions

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

var testReplica = replica.ID{7}

// disk is a replica with its content, and what a device keeps, in memory. It is for one goroutine.
type disk struct {
	slots     map[slot]replica.Entry
	content   map[blobs.Hash][]byte
	keys      map[replica.AuthorID]replica.SecretKey
	displaced []replica.Item
	revoked   map[replica.AuthorID]bool
	// unreadable says that there may be entries that cannot be opened.
	unreadable error
	removed    bool           // an author of this disk is revoked: there is no new one for it
	void       []replica.Item // of authors whose keys are here
	device     *Device
	now        func() uint64
	writes     int // of values
	left       int // how often it can still be written to; 0 is without end
	// beforeWrite, if set, is called when values are about to take their places.
	beforeWrite func()
	onWrite     func(it replica.Item, content []byte)
	incarnate   func() record.Incarnation
	// time, if set, is the clock of a device that takes and signs nothing of the future, as nodes do.
	time  func() uint64
	clock Clock
}

// refuses reports whether an entry with this time is of the future.
func (d *disk) refuses(time uint64) bool {
	return d.time != nil && time > d.time()+uint64(replica.MaxAhead.Microseconds())
}

var errDead = errors.New("the device has died")

// dies reports whether the device is dead, or dies now.
func (d *disk) dies() bool {
	switch d.left {
	case 0:
		return false
	case 1:
		return true
	}
	d.left--
	return false
}

type slot struct {
	key string
	by  replica.AuthorID
}

func newDisk(now func() uint64) *disk {
	return &disk{
		slots: map[slot]replica.Entry{}, content: map[blobs.Hash][]byte{},
		keys: map[replica.AuthorID]replica.SecretKey{}, now: now, revoked: map[replica.AuthorID]bool{},
	}
}

// copy returns a disk with the same on it.
func (d *disk) copy() *disk {
	c := *d
	c.slots, c.content, c.keys = maps.Clone(d.slots), maps.Clone(d.content), maps.Clone(d.keys)
	c.displaced, c.revoked = slices.Clone(d.displaced), maps.Clone(d.revoked)
	c.void = slices.Clone(d.void)
	if d.device != nil {
		dev := *d.device
		c.device = &dev
	}
	return &c
}

func (d *disk) ID() replica.ID { return testReplica }

func (d *disk) Entries(
	_ context.Context, q replica.Query,
) iter.Seq2[replica.Item, error] {
	return func(yield func(replica.Item, error) bool) {
		var all []slot
		for at, e := range d.slots {
			if (q.Key == nil || at.key == string(q.Key)) && bytes.HasPrefix([]byte(at.key), q.Prefix) &&
				(q.Author == nil || *q.Author == at.by) && (q.Tombstones || !e.IsTombstone()) &&
				e.Timestamp >= uint64(max(0, q.Since.UnixMicro())) {
				all = append(all, at)
			}
		}
		slices.SortFunc(all, func(a, b slot) int {
			byTime := 0
			if q.ByTime {
				byTime = cmp.Compare(d.slots[a].Timestamp, d.slots[b].Timestamp)
			}
			return cmp.Or(byTime, compareSlots(a, b))
		})
		if q.Reverse {
			slices.Reverse(all)
		}
		if q.Limit > 0 {
			all = all[:min(len(all), q.Limit)]
		}
		for _, at := range all {
			e, ok := d.slots[at]
			if ok && !yield(replica.Item{Key: []byte(at.key), Entry: e}, nil) {
				return
			}
		}
	}
}

func (d *disk) Unreadable(context.Context) error { return d.unreadable }

func (d *disk) Entry(
	_ context.Context, key []byte, by replica.AuthorID,
) (replica.Entry, error) {
	e, ok := d.slots[slot{string(key), by}]
	if !ok || e.IsTombstone() {
		return e, replica.ErrNotFound
	}
	return e, nil
}

func (d *disk) EntriesOf(ctx context.Context, keys [][]byte) ([][]replica.Item, error) {
	all := make([][]replica.Item, len(keys))
	for i, k := range keys {
		for it, err := range d.Entries(ctx, replica.Query{Key: k}) {
			if err != nil {
				return nil, err
			}
			all[i] = append(all[i], it)
		}
	}
	return all, nil
}

func (d *disk) EntriesBy(
	_ context.Context, by replica.AuthorID, keys [][]byte,
) ([]*replica.Entry, error) {
	all := make([]*replica.Entry, len(keys))
	for i, k := range keys {
		if e, ok := d.slots[slot{string(k), by}]; ok && !e.IsTombstone() {
			all[i] = &e
		}
	}
	return all, nil
}

// Tiny returns contents of an odd length, so that some are opened.
func (d *disk) Tiny(_ context.Context, all []*replica.Entry) ([][]byte, error) {
	contents := make([][]byte, len(all))
	for i, e := range all {
		if b := d.content[e.Hash]; len(b)%2 == 1 {
			contents[i] = bytes.Clone(b)
		}
	}
	return contents, nil
}

func compareSlots(a, b slot) int {
	return cmp.Or(cmp.Compare(a.key, b.key), bytes.Compare(a.by[:], b.by[:]))
}

type inMemory struct{ *bytes.Reader }

func (d *disk) Open(_ context.Context, e *replica.Entry) (Content, error) {
	b, ok := d.content[e.Hash]
	if !ok {
		return nil, plan.ErrMissing
	}
	return inMemory{bytes.NewReader(b)}, nil
}

func (d *disk) Put(
	_ context.Context, as replica.SecretKey, all []Value,
) (out []replica.Item, err error) {
	if d.dies() {
		return nil, errDead
	}
	if d.revoked[as.Author()] {
		return nil, ErrRemoved
	}
	stored := make([][]byte, len(all))
	for i, v := range all {
		if stored[i], err = io.ReadAll(v.Stream); err != nil {
			return nil, err
		}
	}
	if d.beforeWrite != nil {
		d.beforeWrite()
	}
	for _, v := range all {
		if e, has := d.slots[slot{string(v.Key), as.Author()}]; v.Check != nil {
			old := &e
			if !has {
				old = nil
			}
			if err := v.Check(old); err != nil {
				return nil, err
			}
		}
	}
	now := d.now()
	for _, v := range all {
		last := d.slots[slot{string(v.Key), as.Author()}].Timestamp
		if d.refuses(last + 1) {
			return nil, &replica.ClockError{
				Key: v.Key, Last: time.UnixMicro(int64(last)), Now: time.UnixMicro(int64(d.time())),
			}
		}
	}
	for i, v := range all {
		at := slot{string(v.Key), as.Author()}
		e := replica.Entry{
			Replica: testReplica, Author: at.by, Key: v.Key, Size: uint64(len(stored[i])),
			Hash: blobs.HashOf(stored[i]), Timestamp: max(now, d.slots[at].Timestamp+1),
		}
		out = append(out, replica.Item{Key: v.Key, Entry: e})
		if d.onWrite != nil {
			d.onWrite(out[i], stored[i])
		}
		d.slots[at], d.content[e.Hash] = e, stored[i]
		d.writes++
	}
	return out, nil
}

// take stores an entry of another device, and its content unless that is nil. It reports whether
// that changed something.
func (d *disk) take(key string, e replica.Entry, content []byte) bool {
	if d.revoked[e.Author] || d.refuses(e.Timestamp) {
		return false
	}
	at := slot{key, e.Author}
	old, has := d.slots[at]
	if has && replica.CompareVersions(&e, &old) <= 0 {
		if content == nil || old.Hash != e.Hash || d.content[e.Hash] != nil {
			return false
		}
		d.content[e.Hash] = content
		return true
	}
	if has {
		d.displaced = append(d.displaced, replica.Item{Key: []byte(key), Entry: old})
	}
	d.slots[at] = e
	if content != nil {
		d.content[e.Hash] = content
	}
	return true
}

// revoke makes all void that an author has written. It reports whether that is new.
func (d *disk) revoke(a replica.AuthorID) bool {
	if d.revoked[a] {
		return false
	}
	d.revoked[a] = true
	drop := func(it replica.Item) bool {
		if it.Entry.Author != a {
			return false
		}
		if _, own := d.keys[a]; own {
			d.void = append(d.void, it)
		}
		return true
	}
	for _, at := range slices.SortedFunc(maps.Keys(d.slots), compareSlots) {
		if drop(replica.Item{Key: []byte(at.key), Entry: d.slots[at]}) {
			delete(d.slots, at)
		}
	}
	d.displaced = slices.DeleteFunc(d.displaced, drop)
	return true
}

func (d *disk) Void(context.Context) iter.Seq2[replica.Item, error] {
	return func(yield func(replica.Item, error) bool) {
		for _, it := range slices.Clone(d.void) {
			if !yield(it, nil) {
				return
			}
		}
	}
}

func (d *disk) Displaced(_ context.Context, key []byte) iter.Seq2[replica.Item, error] {
	return func(yield func(replica.Item, error) bool) {
		for _, it := range slices.Clone(d.displaced) {
			if (key == nil || bytes.Equal(it.Key, key)) && !yield(it, nil) {
				return
			}
		}
	}
}

func (d *disk) Forget(_ context.Context, displaced ...replica.Item) error {
	if d.dies() {
		return errDead
	}
	forget := func(it replica.Item) bool {
		return slices.ContainsFunc(displaced, func(x replica.Item) bool {
			return bytes.Equal(x.Key, it.Key) && x.Entry.Hash == it.Entry.Hash &&
				x.Entry.Author == it.Entry.Author && x.Entry.Timestamp == it.Entry.Timestamp
		})
	}
	d.displaced = slices.DeleteFunc(d.displaced, forget)
	d.void = slices.DeleteFunc(d.void, forget)
	return nil
}

func (d *disk) Load(context.Context) (Device, error) {
	if d.device == nil {
		return Device{}, ErrNoDevice
	}
	return *d.device, nil
}

func (d *disk) Save(_ context.Context, dev Device) error {
	if d.dies() {
		return errDead
	}
	d.device = &dev
	return nil
}

// open returns a Set on the disk. Contents are sets of letters, of which capital ones cannot be
// merged with each other.
func (d *disk) open(ctx context.Context, newKey func() replica.SecretKey) (*Set, error) {
	return Open(ctx, Config{
		incarnate: d.incarnate,
		Slots:     d, State: d,
		Key: func(_ context.Context, a replica.AuthorID) (replica.SecretKey, error) {
			k, ok := d.keys[a]
			if !ok {
				return k, fmt.Errorf("author %s: %w", a, replica.ErrNotFound)
			}
			return k, nil
		},
		NewKey: func(context.Context) (k replica.SecretKey, err error) {
			if d.removed {
				return k, ErrNoAuthor
			}
			k = newKey()
			d.keys[k.Author()] = k
			return k, nil
		},
		Merge: mergeLetters, Clock: func() Clock { return d.clock },
	})
}

func isCapital(c byte) bool { return c >= 'A' && c <= 'Z' }

// mergeLetters merges sets of letters.
func mergeLetters(_, base, local, remote []byte) ([]byte, error) {
	out := []byte{}
	for _, c := range slices.Concat(local, remote) {
		both := bytes.IndexByte(local, c) >= 0 && bytes.IndexByte(remote, c) >= 0
		if (both || bytes.IndexByte(base, c) < 0) && bytes.IndexByte(out, c) < 0 {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	capitals := slices.DeleteFunc(slices.Clone(out), func(c byte) bool { return !isCapital(c) })
	if len(capitals) > 1 {
		return nil, errCapitals
	}
	return out, nil
}

// errCapitals says why letters are not merged.
var errCapitals = errors.New("two capitals")
