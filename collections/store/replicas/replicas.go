// Package replicas keeps the documents of collections in a replica of a node, so that every node
// which holds the replica serves the same documents, and none of them is needed by the others.
//
// What belongs here: which entries of the replica an object lies in, and how the versions of
// several authors become one. What never belongs here: the form of a document and the rule by which
// versions merge; both are package document's.
//
// The replica must not be encrypted: whoever serves documents reads them. Its keys, which
// docs/protocol/collections.md describes for others:
//
//	doc/KEY              a document, in the form that package document stores; each author has a version
//	file/KEY             the bytes of a file; the latest author's count
//	type/KEY             the media type of that file
//	log/KEY NUL TIME     an element of a log, at a time in Unix milliseconds of 16 digits
//	rules                the rules by which nodes tell what counts, see package rules
package replicas

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

const (
	docs  = "doc/"
	files = "file/"
	types = "type/"
	logs  = "log/"
)

var (
	// ErrEncrypted reports a replica whose entries hosts cannot read.
	ErrEncrypted = errors.New(
		"an encrypted replica cannot hold collections, as every node that serves them must read them: " +
			"make one without encryption",
	)
	// ErrClosed reports a store that has been closed.
	ErrClosed = errors.New("the store is closed")
)

// fewAuthors is how many can be asked about one by one sooner than all entries of a key are looked
// for.
const fewAuthors = 4

// Store is a store in a replica. Writes that come at the same time are made durable together, in a
// journal beside the replica, and are in the replica, for other nodes to see, a moment later.
type Store struct {
	n        *node.Node
	id       replica.ID
	plain    *replica.Plain
	author   replica.SecretKey
	cache    *cache
	filter   *filter
	patience *patience
	junk     *junk
	counts   counts
	sub      *replica.Subscription
	catching sync.Mutex
	authors  []replica.AuthorID // all that have written; nil if that must be looked up
	puts     chan *put
	queue    *queue
	aside    *aside
	handle   *node.Replica // writes to the replica
	holder   bool          // of the replica's key, who may write anything
	codec    store.Codec   // nil keeps bodies as they are
	guard    Guard         // nil lets all versions count
	longest  func(key string) int64
	log      *slog.Logger

	journaling sync.Mutex // held while what is in the journal, and in the queue, changes
	journal    *journal
	buffer     []byte // of what is added to the journal

	stop    context.CancelFunc
	closed  <-chan struct{}
	writers sync.WaitGroup
}

// Options set up a Store.
type Options struct {
	Codec store.Codec // of documents and elements of logs, not of files; nil keeps them as they are
	Guard Guard       // says which versions count; nil lets all
	// Longest, unless nil, returns of how many bytes what is read under a key may be, which for an
	// element of a log has NUL and its time at the end. nil is 64 MiB.
	Longest func(key string) int64
	Log     *slog.Logger // is told of failures that nobody waits for; nil is slog.Default
}

// Open returns the store in a replica of the node, in which it writes as author. There must be no
// other in the same replica. What the last one has acknowledged, and not written to the replica
// yet, is taken up. It returns ErrEncrypted.
func Open(
	ctx context.Context, n *node.Node, r replica.Replica, author replica.SecretKey, o Options,
) (*Store, error) {
	log := o.Log
	if log == nil {
		log = slog.Default()
	}
	if r.Encrypted {
		return nil, ErrEncrypted
	}
	plain, err := n.Replicas().Plain(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	always := context.WithoutCancel(ctx)
	s := &Store{
		n: n, id: r.ID, plain: plain, author: author, cache: newCache(cacheBytes), filter: newFilter(),
		puts: make(chan *put), queue: newQueue(), handle: n.ReplicaOf(r.ID), codec: o.Codec,
		patience: newPatience(n.Now), junk: &junk{now: n.Now}, guard: o.Guard, longest: o.Longest,
		holder: r.Capability >= replica.Write, log: log,
	}
	j, left, err := openJournal(filepath.Join(n.Dir(), "collections", r.ID.String()+".journal"))
	if err != nil {
		return nil, err
	}
	s.journal, s.aside = j, &aside{s: s, enough: maxJournal}
	s.sub = n.Replicas().Subscribe(r.ID)
	left.tell(log, r.ID.Short())
	if err := s.recover(ctx, left.records); err != nil {
		s.sub.Close()
		return nil, errors.Join(err, j.close())
	}
	ctx, s.stop = context.WithCancel(always)
	s.closed = ctx.Done()
	s.writers.Go(func() { s.write(ctx) })
	s.writers.Go(func() { s.apply(always) })
	s.writers.Go(func() { s.fill(ctx) })
	return s, nil
}

// Close implements store.Store. What Put has taken is written.
func (s *Store) Close() error {
	s.stop()
	s.writers.Wait()
	s.sub.Close()
	return s.journal.close()
}

// Settle waits until what Put has taken is in the replica.
func (s *Store) Settle(ctx context.Context) error { return s.queue.settled(ctx) }

// catchUp forgets what has changed, and returns all authors.
func (s *Store) catchUp(ctx context.Context) ([]replica.AuthorID, error) {
	// Nobody reads the cache while somebody else has taken events from the queue and not applied them
	// yet.
	s.catching.Lock()
	defer s.catching.Unlock()
	events, lost := s.sub.Poll()
	if lost > 0 {
		s.cache.clear()
		s.filter.miss()
		s.authors = nil
	}
	for i := range events {
		e := &events[i].Entry
		kind, key, ok := strings.Cut(string(e.Key), "/")
		if ok && (kind+"/" == docs || kind+"/" == files || kind+"/" == types) {
			s.filter.add(key)
			s.cache.forget(key, e)
		}
		if !slices.Contains(s.authors, e.Author) {
			s.authors = nil
		}
	}
	if s.authors == nil {
		all, err := s.n.Replicas().AuthorsOf(ctx, s.id)
		if err != nil {
			return nil, err
		}
		if me := s.author.Author(); !slices.Contains(all, me) {
			all = append(all, me)
		}
		s.authors = all
	}
	return s.authors, nil
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (*store.Object, error) {
	st, _, err := s.get(ctx, key)
	if err == nil && st.object == nil {
		err = store.ErrNotFound
	}
	return st.object, err
}

// get returns what is under a key, and the cache's stamp of before it was read.
func (s *Store) get(ctx context.Context, key string) (st state, stamp uint64, err error) {
	authors, err := s.catchUp(ctx)
	if err != nil {
		return st, 0, err
	}
	p := s.queue.object(key) // before the cache, where it is from when it is not there any more
	st, ok, stamp := s.cache.get(key)
	if p != nil {
		return p.after(), stamp, nil
	}
	if ok {
		return st, stamp, nil
	}
	if s.filter.excludes(key) {
		st.own = true
		return st, stamp, nil
	}
	if len(authors) <= fewAuthors {
		there, err := s.plain.HasAny(ctx, authors, []byte(docs+key), []byte(files+key))
		if err != nil {
			return st, stamp, err
		}
		if !there {
			st.own = true
			s.cache.put(key, st, stamp)
			return st, stamp, nil
		}
	}
	st, whole, err := s.read(ctx, key)
	if err == nil && whole {
		s.cache.put(key, st, stamp)
	}
	return st, stamp, err
}

// List implements store.Store.
func (s *Store) List(
	ctx context.Context, prefix, after string, limit int,
) (all []string, err error) {
	if err := s.Settle(ctx); err != nil {
		return nil, err
	}
	for _, kind := range []string{docs, files} {
		some, err := s.list(ctx, kind, prefix, after, limit)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return all[:min(limit, len(all))], nil
}

// list returns the first limit keys of a kind under which there is an entry that no deletion stands
// for, whether or not it counts.
func (s *Store) list(
	ctx context.Context, kind, prefix, after string, limit int,
) (all []string, err error) {
	q := replica.Query{Prefix: []byte(kind + prefix), Tombstones: true}
	if after != "" {
		q.After = []byte(kind + after)
	}
	var key string // of the entries that are looked at
	var latest, gone uint64
	done := func() {
		if latest > gone {
			all = append(all, key)
		}
	}
	for it, err := range s.plain.Entries(ctx, q) {
		if err != nil {
			return nil, err
		}
		if k := string(it.Key[len(kind):]); k != key {
			if done(); len(all) >= limit {
				return all, nil
			}
			key, latest, gone = k, 0, 0
		}
		switch e := &it.Entry; {
		case !e.IsTombstone():
			latest = max(latest, e.Timestamp)
		case s.deletes(key, e):
			gone = max(gone, e.Timestamp)
		}
	}
	done()
	return all[:min(limit, len(all))], nil
}
