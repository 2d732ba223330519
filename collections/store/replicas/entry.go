package replicas

import (
	"context"
	"errors"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// maxEntry is how long what ReadEntry returns may be in bytes.
const maxEntry = 8 << 20

// Written is what an author has written under a key of a replica.
type Written struct {
	Author replica.AuthorID
	Body   []byte // nil if it is not here
}

// ReadEntry returns what authors have written under a key of a replica that is none of a document.
// What is too long, or cannot be read, is left out.
func ReadEntry(
	ctx context.Context, n *node.Node, id replica.ID, key string,
) (all []Written, err error) {
	plain, err := n.Replicas().Plain(ctx, id)
	if err != nil {
		return nil, err
	}
	s := &Store{n: n, id: id, plain: plain, patience: newPatience(n.Now)}
	read := map[blobs.Hash][]byte{} // what many authors have written alike takes no more memory
	for it, err := range plain.Entries(ctx, replica.Query{Key: []byte(key)}) {
		if err != nil {
			return nil, err
		}
		if it.Entry.Size > maxEntry {
			continue
		}
		b, there := read[it.Entry.Hash]
		if !there {
			b, err = s.content(ctx, &it.Entry, maxEntry)
		}
		var bad *unreadableError
		switch {
		case errors.As(err, &bad):
			continue
		case errors.Is(err, errMissing):
			b = nil
		case err != nil:
			return nil, err
		default:
			read[it.Entry.Hash] = b
		}
		all = append(all, Written{it.Entry.Author, b})
	}
	return all, nil
}

// WriteEntry writes under a key of a replica that is none of a document.
func WriteEntry(
	ctx context.Context, n *node.Node, id replica.ID, author replica.SecretKey, key string, b []byte,
) error {
	_, err := n.ReplicaOf(id).Apply(ctx, node.WriteOptions{As: author},
		node.Change{Key: []byte(key), Value: b})
	return err
}

// Forget drops what is remembered of documents, as when other rules say what counts.
func (s *Store) Forget() {
	s.cache.clear()
	s.junk.forget()
	s.counts.forget()
}
