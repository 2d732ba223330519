package replicas

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/replica"
)

// emptyMark is the content of a file without bytes, as an entry without content would be one that
// deletes.
const emptyMark = 0

// change is an entry that is to be written; one without content deletes.
type change struct {
	key     string
	content []byte
}

// put is a write. Those of objects are acknowledged when they are in the journal, and wait there
// for their turn to be written to the replica; elements of logs, and what is too large for the
// journal, are acknowledged when they are in the replica.
type put struct {
	key     string
	changes []change
	if_     store.Condition
	// object is there from then on; nil if nothing is, or if it is an element of a log.
	object  *store.Object
	element bool
	record  *record // what the journal has, nil if nothing
	at      uint64  // the time of its entries, in µs; 0 is when they are written

	late   bool   // it is aside, see aside.go; the queue's
	before state  // of the key
	stamp  uint64 // of the cache, before that
	signed int64  // as of a state
	hashes []blobs.Hash
	err    chan error // of one whose caller waits for the replica, or who waits for the journal
}

const (
	gather      = time.Millisecond // how long others are waited for
	atOnce      = 1024             // writes that are done together at most
	atOnceBytes = 4 << 20          // about how many bytes of content they have
	maxJournal  = 32 << 20
	maxInMemory = 1 << 20 // content of a write that goes by the journal

	// Of writes that wait for the replica, before others are held up.
	maxWaiting      = 4096
	maxWaitingBytes = 16 << 20
)

// size is that of the content.
func (p *put) size() (n int) {
	for _, c := range p.changes {
		n += len(c.content)
	}
	return n
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, o *store.Object, if_ store.Condition) error {
	if isTooLong(key) {
		return store.ErrKey
	}
	kept := o.Body
	if isDocument(o.Type) {
		var err error
		if kept, err = s.encode(key, s.attach(o.Proof, o.Body)); err != nil {
			return err
		}
	}
	p := newPut(key, o, kept, if_)
	if !isDocument(o.Type) {
		p.setType(s.withProof(o.Proof, o.Type))
	}
	return s.send(ctx, p)
}

// isTooLong reports a key that no entry can have. What is acknowledged must come to be written.
func isTooLong(key string) bool {
	return len(key)+max(len(docs), len(files), len(types), len(logs)) > replica.MaxKey
}

func isDocument(media string) bool { return media == "" || media == jsonType }

// newPut is the write of an object, of which is kept what the codec has made of its body.
func newPut(key string, o *store.Object, kept []byte, if_ store.Condition) *put {
	p := &put{key: key, if_: if_, object: &store.Object{Body: o.Body, Type: o.Type}}
	if isDocument(o.Type) {
		p.object.Type = jsonType
		p.changes = []change{{docs + key, kept}}
	} else {
		body := o.Body
		if len(body) == 0 {
			body = []byte{emptyMark}
		}
		p.changes = []change{{files + key, body}, {types + key, []byte(o.Type)}}
	}
	if len(kept)+len(o.Type)+len(key) <= maxInMemory {
		p.record = &record{kind: recordPut, key: key, kept: p.object.Type, body: kept}
	}
	return p
}

// needsNot reports whether an error is that what is there has not come, and the write takes place
// whatever is there.
func (p *put) needsNot(err error) bool {
	_, given := p.if_.Tag()
	return !given && errors.Is(err, errMissing)
}

// setType sets what is kept as the media type of a file.
func (p *put) setType(kept []byte) {
	p.changes[1].content = kept
	if p.record != nil {
		p.record.kept = string(kept)
	}
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if isTooLong(key) {
		return nil // there never is anything
	}
	return s.send(ctx, newDelete(key))
}

func newDelete(key string) *put {
	return &put{
		key: key, changes: []change{{docs + key, nil}, {files + key, nil}, {types + key, nil}},
		record: &record{kind: recordDelete, key: key},
	}
}

// send hands a write over and waits for it. Once it is taken, it is done whether or not somebody
// waits.
func (s *Store) send(ctx context.Context, p *put) error {
	select {
	case <-s.closed:
		return ErrClosed
	default:
	}
	// What must be waited for, to tell what is there, is waited for here: it holds up no other.
	if !p.element {
		if _, _, err := s.get(ctx, p.key); err != nil && !p.needsNot(err) {
			return err
		}
	}
	p.err = make(chan error, 1)
	select {
	case s.puts <- p:
	case <-s.closed:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-p.err:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write takes what is sent, together with what else has come meanwhile, makes it durable in the
// journal and hands it to apply.
func (s *Store) write(ctx context.Context) {
	defer s.queue.end()
	expected := 1 // as many as came together the last time are waited for
	late := time.NewTimer(0)
	defer late.Stop()
	for {
		var all []*put
		select {
		case p := <-s.puts:
			all = append(all, p)
		case <-ctx.Done():
			return
		}
		size := all[0].size()
		late.Reset(gather)
	more:
		for len(all) < atOnce && size < atOnceBytes {
			var p *put
			select {
			case p = <-s.puts:
			default:
				if len(all) >= expected {
					break more
				}
				select {
				case p = <-s.puts:
				case <-late.C:
					break more
				}
			}
			all = append(all, p)
			size += p.size()
		}
		expected = len(all)
		if err := s.queue.room(ctx); err != nil {
			for _, p := range all {
				p.err <- err
			}
			continue
		}
		s.take(context.WithoutCancel(ctx), all)
	}
}

// take acknowledges, or refuses, writes.
func (s *Store) take(ctx context.Context, all []*put) {
	s.journaling.Lock()
	defer s.journaling.Unlock()
	taken := s.admit(ctx, all, false)
	s.buffer = s.buffer[:0]
	for _, p := range taken {
		if p.record != nil {
			p.record.time = p.at
			s.buffer = s.journal.append(s.buffer, p.record)
		}
	}
	var err error
	if len(s.buffer) > 0 {
		err = s.journal.add(s.buffer)
	}
	if err != nil {
		kept := taken[:0]
		for _, p := range taken {
			if p.record != nil {
				p.err <- err
			} else {
				kept = append(kept, p)
			}
		}
		taken = kept
	}
	s.queue.add(taken) // first, so that whoever is told reads it
	for _, p := range taken {
		if p.record != nil {
			p.err <- nil
		}
	}
	if cap(s.buffer) > maxInMemory {
		s.buffer = nil
	}
}

// admit returns the writes that may take place; the others have been told. If again is set, they
// were admitted before: it is not asked once more whether this node may write, and what has come
// since and cannot be read keeps none from being done.
func (s *Store) admit(ctx context.Context, all []*put, again bool) (taken []*put) {
	ctx, cancel := hurried(ctx)
	defer cancel()
	latest := map[string]*put{} // of all, by their keys
	for _, p := range all {
		var err error
		if earlier := latest[p.key]; earlier != nil && !p.element {
			p.before, p.stamp = earlier.after(), earlier.stamp
		} else {
			p.before, p.stamp, err = s.get(ctx, p.key)
		}
		if again && isLeftOut(err) || p.needsNot(err) {
			err = nil
		}
		if tag, given := p.if_.Tag(); given && err == nil {
			have := ""
			if p.before.object != nil {
				have = p.before.object.Tag
			}
			if have != tag {
				err = store.ErrChanged
			}
		}
		if err == nil && !again && !s.holder { // what is acknowledged must come to be written
			err = s.mayWrite(ctx, p)
		}
		at := p.at
		if at == 0 && !p.element {
			at = s.timeAfter(&p.before)
		}
		if s.isOrdered(p) {
			if at, p.signed = s.signedAfter(p, at); err == nil && !again && p.signed < p.before.signed {
				err = fmt.Errorf("%s: %w", p.key, store.ErrSignedLater)
			}
		}
		if err == nil && !again && !p.element && (s.isAhead(at-soon) || s.queue.isLate(p.key)) {
			err = fmt.Errorf("%s: %w: %s", p.key, store.ErrAhead, microseconds(at))
		}
		if err != nil {
			p.err <- err
			continue
		}
		p.at = at
		for _, c := range p.changes {
			if len(c.content) > 0 {
				p.hashes = append(p.hashes, blobs.HashOf(c.content))
			}
		}
		if p.object != nil {
			p.object.Tag = tagOf(p.hashes)
		}
		s.filter.add(p.key)
		if !p.element {
			latest[p.key] = p
		}
		taken = append(taken, p)
	}
	return taken
}

// mayWrite returns an error that is a *store.ReadOnlyError if no grant lets this node do a write.
func (s *Store) mayWrite(ctx context.Context, p *put) error {
	keys := make([][]byte, len(p.changes))
	for i, c := range p.changes {
		keys[i] = []byte(c.key)
	}
	err := s.n.Replicas().MayWrite(ctx, s.id, s.author.Author(), keys...)
	var no *replica.NotAllowedError
	if errors.As(err, &no) {
		return &store.ReadOnlyError{Err: err}
	}
	return err
}

// after is the state of the key when the write has been done.
func (p *put) after() state {
	return state{p.object, p.hashes, p.before.own, p.at, max(p.before.known, p.at), p.signed}
}

// recover takes up what a journal has that may not be in the replica.
func (s *Store) recover(ctx context.Context, all []record) error {
	last := map[string]int{}
	for i := range all {
		last[all[i].key] = i
	}
	var puts []*put
	for i, r := range all {
		if last[r.key] != i {
			continue
		}
		p := newDelete(r.key)
		if r.kind == recordPut {
			o := &store.Object{Body: r.body, Type: r.kept}
			if isDocument(r.kept) {
				var err error
				if o.Body, err = s.decode(r.key, r.body); err != nil {
					return fmt.Errorf("what the journal of collections has, and the replica not yet: %w", err)
				}
			}
			o.Type, _ = cutProof([]byte(r.kept))
			p = newPut(r.key, o, r.body, store.Whatever)
			if !isDocument(o.Type) {
				p.setType([]byte(r.kept))
			}
		}
		p.err, p.at = make(chan error, 1), r.time
		if p.record != nil {
			p.record.time = r.time
		}
		there, err := s.hasWritten(ctx, p)
		if err != nil {
			return err
		}
		if !there {
			puts = append(puts, p)
		}
	}
	taken := s.admit(ctx, puts, true)
	if len(taken) < len(puts) {
		return errors.New("the journal of collections cannot be read into the replica")
	}
	s.queue.add(taken)
	return nil
}

// hasWritten reports whether a write is in the replica, or this store's author has written
// something else under its key since, as it has if the journal is from an older backup than the
// replica. A store gives all writes of a key times that increase.
func (s *Store) hasWritten(ctx context.Context, p *put) (bool, error) {
	latest, whole := uint64(0), true
	for _, c := range p.changes {
		mine, err := s.own(ctx, c.key)
		if err != nil {
			return false, err
		}
		if mine != nil {
			latest = max(latest, mine.Timestamp)
		}
		if len(c.content) > 0 && (mine == nil || mine.Timestamp < p.at) {
			whole = false
		}
	}
	// What is of another kind lies elsewhere.
	for _, kind := range []string{docs, files} {
		mine, err := s.own(ctx, kind+p.key)
		if err != nil {
			return false, err
		}
		if mine != nil {
			latest = max(latest, mine.Timestamp)
		}
	}
	return latest > p.at || whole && latest == p.at, nil
}

// own returns the entry of this store's author under a key of the replica, which may be a
// tombstone; nil if there is none.
func (s *Store) own(ctx context.Context, key string) (mine *replica.Entry, err error) {
	me := s.author.Author()
	for it, err := range s.plain.Entries(
		ctx, replica.Query{Key: []byte(key), Author: &me, Tombstones: true},
	) {
		if err != nil {
			return nil, err
		}
		mine = &it.Entry
	}
	return mine, nil
}
