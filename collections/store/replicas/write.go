package replicas

import (
	"context"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/replica"
)

// emptyMark is the content of a file without bytes, as an entry without content would be one that deletes.
const emptyMark = 0

// change is an entry that is to be written; one without content deletes.
type change struct {
	key     string
	content []byte
}

// put is a write that waits for its turn.
type put struct {
	key     string
	changes []change
	if_     store.Condition
	object  *store.Object // what is there from then on, nil if that is not all that is written

	before state  // of the key
	stamp  uint64 // of the cache, before that
	again  bool   // an earlier write of the same transaction has the same key
	hashes []blobs.Hash
	err    chan error
}

// atOnce is how many writes are done together, and atOnceBytes about how many bytes of content.
const (
	gather      = time.Millisecond // how long company is waited for
	atOnce      = 256
	atOnceBytes = 4 << 20
)

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, o *store.Object, if_ store.Condition) error {
	p := &put{key: key, if_: if_, object: &store.Object{Body: o.Body, Type: o.Type}}
	if o.Type == "" || o.Type == jsonType {
		p.object.Type = jsonType
		p.changes = []change{{docs + key, o.Body}}
	} else {
		body := o.Body
		if len(body) == 0 {
			body = []byte{emptyMark}
		}
		p.changes = []change{{files + key, body}, {types + key, []byte(o.Type)}}
	}
	return s.send(ctx, p)
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.send(ctx, &put{key: key, changes: []change{{docs + key, nil}, {files + key, nil}, {types + key, nil}}})
}

// send hands a write over and waits for it. Once it is taken, it is done whether or not somebody waits.
func (s *Store) send(ctx context.Context, p *put) error {
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

// write does what is sent, together with what else has come meanwhile, and hands it to sync.
func (s *Store) write(ctx context.Context) {
	defer close(s.written)
	expected := 1 // as many as came together the last time are waited for
	company := time.NewTimer(0)
	defer company.Stop()
	for {
		var all []*put
		select {
		case p := <-s.puts:
			all = append(all, p)
		case <-ctx.Done():
			return
		}
		size := len(all[0].changes[0].content)
		company.Reset(gather)
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
				case <-company.C:
					break more
				}
			}
			all = append(all, p)
			size += len(p.changes[0].content)
		}
		expected = len(all)
		if all = s.writeAll(context.WithoutCancel(ctx), all); len(all) > 0 {
			s.written <- all
		}
	}
}

// sync makes durable what has been written, and tells those who wait for it. The next is written meanwhile.
func (s *Store) sync() {
	for all := range s.written {
	more:
		for {
			select {
			case other, ok := <-s.written:
				if !ok {
					break more
				}
				all = append(all, other...)
			default:
				break more
			}
		}
		err := s.n.Blobs.Sync(context.Background())
		for _, p := range all {
			p.err <- err
		}
	}
}

// writeAll writes in one transaction what may be written, and returns it. The others have been told.
func (s *Store) writeAll(ctx context.Context, all []*put) (taken []*put) {
	seen := map[string]bool{} // keys that an earlier one of all writes
	for _, p := range all {
		var err error
		p.before, p.stamp, err = s.get(ctx, p.key)
		if tag, given := p.if_.Tag(); given && err == nil {
			have := ""
			if p.before.object != nil {
				have = p.before.object.Tag
			}
			if seen[p.key] || have != tag {
				err = store.ErrChanged
			}
		}
		if err != nil {
			p.err <- err
			continue
		}
		p.again = seen[p.key]
		seen[p.key] = true
		taken = append(taken, p)
	}
	if len(taken) == 0 {
		return nil
	}
	if err := s.store(ctx, taken); err != nil {
		for _, p := range taken {
			s.cache.forget(p.key, blobs.Hash{})
			p.err <- err
		}
		return nil
	}
	for _, p := range taken {
		if p.again || !p.before.own || p.object == nil {
			s.cache.forget(p.key, blobs.Hash{})
			continue
		}
		s.cache.put(p.key, state{p.object, p.hashes, true}, p.stamp)
	}
	return taken
}

// store writes the changes of all.
func (s *Store) store(ctx context.Context, all []*put) error {
	var changes []replica.Change
	for _, p := range all {
		more, err := s.changesOf(ctx, p)
		if err != nil {
			return err
		}
		changes = append(changes, more...)
	}
	if err := s.importer.Flush(); err != nil {
		return err
	}
	_, err := s.plain.Write(ctx, s.author, changes)
	return err
}

// changesOf imports the content of a write. A document takes the place of a file, and the other way round.
func (s *Store) changesOf(ctx context.Context, p *put) (changes []replica.Change, err error) {
	now := p.before.object
	isFile := now != nil && now.Type != jsonType
	for _, c := range p.changes {
		if len(c.content) == 0 {
			if now != nil && isFile != strings.HasPrefix(c.key, docs) {
				changes = append(changes, replica.Change{Key: []byte(c.key)})
			}
			continue
		}
		ch := replica.Change{Key: []byte(c.key), Size: uint64(len(c.content))}
		if len(c.content) > blobs.SegmentSize {
			info, err := s.n.Blobs.ImportBytes(ctx, c.content)
			if err != nil {
				return nil, err
			}
			ch.Hash = info.Hash
		} else if ch.Hash, err = s.importer.Add(c.content); err != nil {
			return nil, err
		}
		p.hashes = append(p.hashes, ch.Hash)
		changes = append(changes, ch)
	}
	if p.object != nil && now != nil {
		switch toFile := p.object.Type != jsonType; {
		case toFile && !isFile:
			changes = append(changes, replica.Change{Key: []byte(docs + p.key)})
		case !toFile && isFile:
			changes = append(changes, replica.Change{Key: []byte(files + p.key)})
		}
	}
	if p.object != nil {
		p.object.Tag = tagOf(p.hashes)
	}
	return changes, nil
}
