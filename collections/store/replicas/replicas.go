// Package replicas keeps the documents of collections in a replica of a node, so that every node which holds the replica serves the same documents, and
// none of them is needed by the others.
//
// What belongs here: which entries of the replica an object lies in, and how the versions of several authors become one. What never belongs here: the
// form of a document and the rule by which versions merge; both are package document's.
//
// The replica must not be encrypted: whoever serves documents reads them. Its keys, which docs/protocol/collections.md describes for others:
//
//	doc/KEY              a document, in the form that package document stores; each author has a version
//	file/KEY             the bytes of a file; the latest author's count
//	type/KEY             the media type of that file
//	log/KEY NUL TIME     an element of a log, at a time in Unix milliseconds of 16 digits
package replicas

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/collections/document"
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
	ErrEncrypted = errors.New("an encrypted replica cannot hold collections, as every node that serves them must read them: make one without encryption")
	// ErrClosed reports a store that has been closed.
	ErrClosed = errors.New("the store is closed")
)

// fewAuthors is how many can be asked about one by one sooner than all entries of a key are looked for.
const fewAuthors = 4

// contentWait is how long a reader waits for the content of a version that is on its way.
const contentWait = 2 * time.Second

// Store is a store in a replica. Writes that come at the same time are made durable together, in a journal beside the replica, and are in the replica, for
// other nodes to see, a moment later.
type Store struct {
	n        *node.Node
	id       replica.ID
	plain    *replica.Plain
	author   replica.SecretKey
	cache    *cache
	filter   *filter
	sub      *replica.Subscription
	catching sync.Mutex
	authors  []replica.AuthorID // all that have written; nil if that must be looked up
	puts     chan *put
	queue    *queue
	importer *blobs.Importer // of what is written to the replica
	codec    store.Codec     // nil keeps bodies as they are
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
	Codec store.Codec  // of documents and elements of logs, not of files; nil keeps them as they are
	Log   *slog.Logger // is told of failures that nobody waits for; nil is slog.Default
}

// Open returns the store in a replica of the node, in which it writes as author. There must be no other in the same replica. What the last one has
// acknowledged, and not written to the replica yet, is taken up. It returns ErrEncrypted.
func Open(ctx context.Context, n *node.Node, r replica.Replica, author replica.SecretKey, o Options) (*Store, error) {
	log := o.Log
	if log == nil {
		log = slog.Default()
	}
	if r.Encrypted {
		return nil, ErrEncrypted
	}
	plain, err := n.Replicas.Plain(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	always := context.WithoutCancel(ctx)
	s := &Store{n: n, id: r.ID, plain: plain, author: author, cache: newCache(cacheBytes), filter: newFilter(), puts: make(chan *put), queue: newQueue(), importer: n.Blobs.NewImporter(always), codec: o.Codec, log: log}
	j, left, cut, err := openJournal(filepath.Join(n.Dir(), "collections", r.ID.String()+".journal"))
	if err != nil {
		return nil, err
	}
	s.journal = j
	s.sub = n.Replicas.Subscribe(r.ID)
	if cut > 0 {
		log.Warn("the end of the journal of collections was cut off, as by a loss of power; it was of writes that nobody was told were done", "replica", r.ID.Short(), "bytes", cut)
	}
	if err := s.recover(ctx, left); err != nil {
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
	s.catching.Lock() // nobody reads the cache while somebody else has taken events from the queue and not heeded them yet
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
			s.cache.forget(key, e.Hash)
		}
		if !slices.Contains(s.authors, e.Author) {
			s.authors = nil
		}
	}
	if s.authors == nil {
		all, err := s.n.Replicas.AuthorsOf(ctx, s.id)
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

// read reads an object from the replica. whole is set if the content of all versions is here.
func (s *Store) read(ctx context.Context, key string) (st state, whole bool, err error) {
	var versions []replica.Entry
	gone := uint64(0) // when it was last deleted
	for it, err := range s.plain.Entries(ctx, replica.Query{Key: []byte(docs + key), Tombstones: true}) {
		if err != nil {
			return st, false, err
		}
		if it.Entry.IsTombstone() {
			gone = max(gone, it.Entry.Timestamp)
		} else {
			versions = append(versions, it.Entry)
		}
	}
	versions = slices.DeleteFunc(versions, func(e replica.Entry) bool { return e.Timestamp <= gone })
	if len(versions) == 0 {
		return s.readFile(ctx, key)
	}
	whole, st.own = true, true
	var parsed []*document.Document
	var body []byte
	var unreadable error
	for i := range versions {
		b, err := s.content(ctx, &versions[i])
		if errors.Is(err, errMissing) {
			whole = false
			continue
		}
		if err != nil {
			return st, false, err
		}
		if b, err = s.decode(key, b); err != nil { // another version may be one that can be read
			unreadable = errors.Join(unreadable, fmt.Errorf("the version of author %x: %w", versions[i].Author[:5], err))
			continue
		}
		body = b
		st.hashes = append(st.hashes, versions[i].Hash)
		st.own = st.own && versions[i].Author == s.author.Author()
		if len(versions) > 1 {
			d, err := document.Parse(b)
			if err != nil { // another version may be one
				continue
			}
			parsed = append(parsed, d)
		}
	}
	if len(st.hashes) == 0 && unreadable != nil {
		return st, false, unreadable
	}
	if unreadable != nil {
		s.log.Error("a version of a document is left out, as it cannot be read", "replica", s.id.Short(), "error", unreadable)
	}
	if len(st.hashes) == 0 {
		return st, false, fmt.Errorf("the content of %s has not come yet", key)
	}
	if len(parsed) > 0 {
		body = document.Merge(parsed).Bytes()
	}
	st.object = &store.Object{Body: body, Type: jsonType, Tag: tagOf(st.hashes)}
	return st, whole, nil
}

const jsonType = "application/json"

func tagOf(hashes []blobs.Hash) string {
	var b []byte
	for _, h := range hashes {
		b = append(b, h[:8]...)
	}
	return hex.EncodeToString(b)
}

func (s *Store) readFile(ctx context.Context, key string) (st state, whole bool, err error) {
	it, err := s.plain.LatestOf(ctx, []byte(files+key))
	if errors.Is(err, replica.ErrNotFound) {
		st.own = true
		return st, true, nil
	}
	if err != nil {
		return st, false, err
	}
	body, err := s.content(ctx, &it.Entry)
	if err != nil {
		return st, false, err
	}
	if len(body) == 1 && body[0] == emptyMark {
		body = nil
	}
	o := &store.Object{Body: body, Type: "application/octet-stream"}
	st.hashes = []blobs.Hash{it.Entry.Hash}
	switch it, err := s.plain.LatestOf(ctx, []byte(types+key)); {
	case err == nil:
		b, err := s.content(ctx, &it.Entry)
		if err != nil {
			return st, false, err
		}
		o.Type = string(b)
		st.hashes = append(st.hashes, it.Entry.Hash)
	case !errors.Is(err, replica.ErrNotFound):
		return st, false, err
	}
	o.Tag = tagOf(st.hashes)
	st.object = o
	return st, true, nil
}

var errMissing = errors.New("the content has not come yet")

// content reads the content of an entry, for which it waits a little if it is on its way.
func (s *Store) content(ctx context.Context, e *replica.Entry) ([]byte, error) {
	r, err := s.n.OpenPlain(ctx, s.plain, e)
	if errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrIncomplete) {
		wait, cancel := context.WithTimeout(ctx, contentWait)
		defer cancel()
		if err := s.n.WaitContent(wait, e.Hash, e.Size); err != nil {
			if ctx.Err() == nil && wait.Err() != nil {
				err = errMissing
			}
			return nil, err
		}
		r, err = s.n.OpenPlain(ctx, s.plain, e)
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, r.Size())
	_, err = io.ReadFull(r, b)
	return b, err
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (all []string, err error) {
	if err := s.Settle(ctx); err != nil {
		return nil, err
	}
	for _, kind := range []string{docs, files} {
		q := replica.Query{Prefix: []byte(kind + prefix), Limit: limit}
		if after != "" {
			q.After = []byte(kind + after)
		}
		for it, err := range s.plain.Latest(ctx, q) {
			if err != nil {
				return nil, err
			}
			all = append(all, string(it.Key[len(kind):]))
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return all[:min(limit, len(all))], nil
}

// elementKey is the key of an element of a log.
func elementKey(key string, time int64) string { return fmt.Sprintf("%s\x00%016d", key, time) }

// logPrefix is what the keys of a log's elements begin with.
func logPrefix(key string) []byte { return []byte(logs + key + "\x00") }

func timeIn(key []byte) (int64, error) {
	i := bytes.LastIndexByte(key, 0)
	return strconv.ParseInt(string(key[i+1:]), 10, 64)
}

// Length implements store.Logs.
func (s *Store) Length(ctx context.Context, key string) (n, last int64, err error) {
	r := replica.PrefixRange(logPrefix(key))
	sums, err := s.n.Replicas.EntrySet(s.id).Summaries(ctx, [][]byte{r.From, r.To})
	if err != nil || sums[0].Count == 0 {
		return 0, 0, err
	}
	for it, err := range s.plain.Entries(ctx, replica.Query{Prefix: logPrefix(key), Reverse: true, Limit: 1}) {
		if err != nil {
			return 0, 0, err
		}
		if last, err = timeIn(it.Key); err != nil {
			return 0, 0, fmt.Errorf("log %s: %w", key, err)
		}
	}
	return int64(sums[0].Count), last, nil
}

// Append implements store.Logs.
func (s *Store) Append(ctx context.Context, key string, e store.Element, head *store.Object) error {
	at := elementKey(key, e.Time)
	body, err := s.encode(at, e.Body)
	if err != nil {
		return err
	}
	p := &put{key: key, element: true, changes: []change{{logs + at, body}}}
	switch _, err := s.Get(ctx, key); {
	case errors.Is(err, store.ErrNotFound):
		if body, err = s.encode(key, head.Body); err != nil {
			return err
		}
		p.changes = append(p.changes, change{docs + key, body})
	case err != nil:
		return err
	}
	return s.send(ctx, p)
}

// Elements implements store.Logs.
func (s *Store) Elements(ctx context.Context, key string, after int64, limit int) (all []store.Element, err error) {
	if limit == 0 {
		return nil, nil
	}
	var entries []replica.Item
	q := replica.Query{Prefix: logPrefix(key), Reverse: true, Limit: max(0, limit)}
	if after > 0 {
		q.After = fmt.Appendf(nil, "%s%016d", logPrefix(key), after)
	}
	for it, err := range s.plain.Entries(ctx, q) {
		if err != nil {
			return nil, err
		}
		entries = append(entries, it)
	}
	slices.Reverse(entries)
	for i := range entries {
		t, err := timeIn(entries[i].Key)
		if err != nil {
			return nil, fmt.Errorf("log %s: %w", key, err)
		}
		b, err := s.content(ctx, &entries[i].Entry)
		if errors.Is(err, errMissing) {
			continue // whoever asks again is given it
		}
		if err != nil {
			return nil, err
		}
		if b, err = s.decode(elementKey(key, t), b); err != nil {
			s.log.Error("an element of a log is left out, as it cannot be read", "replica", s.id.Short(), "error", err)
			continue
		}
		all = append(all, store.Element{Time: t, Body: b})
	}
	return all, nil
}
