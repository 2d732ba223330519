package replicas

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// apply writes to the replica what has been taken, until the queue has ended.
func (s *Store) apply(ctx context.Context) {
	for {
		all, more := s.queue.next(idle)
		s.aside.again(ctx)
		if len(all) > 0 && !s.applyAll(ctx, all, more) {
			s.queue.forget()
			return // it stays in the journal
		}
		if len(all) == 0 || s.journalSize() > maxJournal {
			s.settleJournal()
		}
		if len(all) == 0 && !more {
			return
		}
	}
}

// applyAll writes to the replica, again until that succeeds, or once if nothing more is to be
// waited for. It reports whether it has.
func (s *Store) applyAll(ctx context.Context, all []*put, again bool) bool {
	for wait := firstWait; ; wait = min(2*wait, maxWait) {
		if all = s.aside.without(all); len(all) == 0 {
			return true
		}
		err := s.store(ctx, all)
		if err == nil && slices.ContainsFunc(all, func(p *put) bool { return p.record == nil }) {
			err = s.n.Blobs().Sync(ctx)
		}
		if err == nil {
			s.done(all)
			return true
		}
		var no *replica.NotAllowedError
		if errors.As(err, &no) || errors.Is(err, replica.ErrFuture) {
			if all, err = s.storeEach(ctx, all); len(all) == 0 {
				return true
			}
		}
		if all = s.giveUp(all, err); len(all) == 0 {
			return true
		}
		s.log.Error(
			"what was written to collections is not in the replica yet", "replica", s.id.Short(), "writes",
			len(all), "error", err,
		)
		if !again {
			return false
		}
		select {
		case <-time.After(wait):
		case <-s.closed:
			again = false
		}
	}
}

// storeEach writes those to the replica, one by one, that can be written. It drops those that this
// node's author may not write: it could when they were taken, and its grant has been revoked since.
// And it puts those aside for which the clock is behind. Both would keep all that comes after them
// from the replica. It returns those that have failed otherwise.
func (s *Store) storeEach(ctx context.Context, all []*put) (left []*put, err error) {
	for _, p := range all {
		if s.aside.has(p.key) && p.record != nil {
			s.aside.add(p)
			continue
		}
		if _, bad := s.storeOne(ctx, p); bad != nil {
			left, err = append(left, p), bad
		}
	}
	return left, err
}

// storeOne writes one to the replica, or drops it, or puts it aside, and then it has not ended. It
// returns any other error.
func (s *Store) storeOne(ctx context.Context, p *put) (ended bool, err error) {
	one := []*put{p}
	err = s.store(ctx, one)
	if err == nil && p.record == nil {
		err = s.n.Blobs().Sync(ctx)
	}
	var no *replica.NotAllowedError
	switch {
	case err == nil:
		s.done(one)
	case errors.As(err, &no):
		s.drop(p, err)
	case errors.Is(err, replica.ErrFuture) && p.record != nil:
		s.aside.add(p)
		return false, nil
	case errors.Is(err, replica.ErrFuture):
		s.giveUp(one, fmt.Errorf("%w: %w", store.ErrAhead, err))
	default:
		return false, err
	}
	return true, nil
}

// drop ends a write that cannot take place any more.
func (s *Store) drop(p *put, err error) {
	s.cache.forget(p.key, nil)
	s.queue.done([]*put{p})
	if p.record == nil {
		p.err <- &store.ReadOnlyError{Err: err}
		return
	}
	s.log.Error(
		"what was written to collections is lost: this node may not write it to the replica any more",
		"replica", s.id.Short(), "key", p.key, "error", err,
	)
}

const (
	idle      = 100 * time.Millisecond // after which the journal is emptied
	firstWait = 100 * time.Millisecond // after a failure; each later one waits twice as long
	maxWait   = 5 * time.Second
)

// done makes reads see in the replica what has been written there, and tells who waits for that.
func (s *Store) done(all []*put) {
	for _, p := range all {
		if p.element || !p.before.own || p.object == nil {
			s.cache.forget(p.key, nil)
		} else {
			s.cache.put(p.key, p.after(), p.stamp)
		}
	}
	s.queue.done(all)
	for _, p := range all {
		if p.record == nil {
			p.err <- nil
		}
	}
}

// giveUp tells those who wait for the replica that it has failed, and returns the writes that were
// acknowledged before.
func (s *Store) giveUp(all []*put, err error) (kept []*put) {
	var waiting []*put
	for _, p := range all {
		if p.record == nil {
			waiting = append(waiting, p)
		} else {
			kept = append(kept, p)
		}
	}
	for _, p := range waiting {
		s.cache.forget(p.key, nil)
	}
	s.queue.done(waiting)
	for _, p := range waiting {
		p.err <- err
	}
	return kept
}

func (s *Store) journalSize() int64 {
	s.journaling.Lock()
	defer s.journaling.Unlock()
	return s.journal.size
}

// settleJournal empties the journal if all that is in it is in the replica, but for what is aside.
func (s *Store) settleJournal() {
	s.journaling.Lock() // nothing is added meanwhile
	defer s.journaling.Unlock()
	late := s.aside.records()
	if s.journal.isEmpty() || !s.queue.isEmpty() || len(late) > 0 && s.journal.size <= s.aside.enough {
		return
	}
	err := s.n.Blobs().Sync(context.Background())
	switch {
	case err != nil:
	case len(late) == 0:
		err = s.journal.reset()
		s.aside.enough = maxJournal
	default:
		err = s.journal.rewrite(late)
		s.aside.enough = 2*s.journal.size + maxJournal
	}
	if err != nil {
		s.log.Error("the journal of collections was not emptied", "replica", s.id.Short(), "error", err)
	}
}

// store writes the changes of all, in one transaction.
func (s *Store) store(ctx context.Context, all []*put) error {
	batch, err := s.handle.Batch(ctx, node.WriteOptions{As: s.author})
	if err != nil {
		return err
	}
	defer batch.Close()
	for _, p := range all {
		if err := addTo(batch, p); err != nil {
			return err
		}
	}
	_, err = batch.Write() // the journal has it: it need not be durable yet
	return err
}

// addTo adds a write to a batch. A document takes the place of a file, and the other way round.
func addTo(batch *node.Batch, p *put) error {
	now := p.before.object
	isFile := now != nil && now.Type != jsonType
	hashes := p.hashes // of those with content
	for _, c := range p.changes {
		ch := node.Change{Key: []byte(c.key), Value: c.content, Time: p.at}
		if len(c.content) == 0 {
			if now == nil || isFile == strings.HasPrefix(c.key, docs) {
				continue
			}
			ch.Delete = true
		} else {
			ch.Hash, hashes = hashes[0], hashes[1:]
		}
		if err := batch.Add(ch); err != nil {
			return err
		}
	}
	if p.object == nil || now == nil {
		return nil
	}
	switch toFile := p.object.Type != jsonType; {
	case toFile && !isFile:
		return batch.Add(node.Change{Key: []byte(docs + p.key), Delete: true, Time: p.at})
	case !toFile && isFile:
		return batch.Add(node.Change{Key: []byte(files + p.key), Delete: true, Time: p.at})
	}
	return nil
}
