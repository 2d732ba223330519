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

// ReadEntry returns what authors have written under a key of a replica that is none of a document,
// as far as it is here, and how much is not.
func ReadEntry(
	ctx context.Context, n *node.Node, id replica.ID, key string,
) (all [][]byte, missing int, err error) {
	plain, err := n.Replicas().Plain(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	s := &Store{n: n, id: id, plain: plain, patience: newPatience(n.Now)}
	read := map[blobs.Hash]bool{} // what many authors have written alike takes no more memory
	for it, err := range plain.Entries(ctx, replica.Query{Key: []byte(key)}) {
		if err != nil {
			return nil, 0, err
		}
		if it.Entry.Size > maxEntry || read[it.Entry.Hash] {
			continue
		}
		b, err := s.content(ctx, &it.Entry, maxEntry)
		if errors.Is(err, errMissing) {
			missing++
			continue
		}
		var bad *unreadableError
		if errors.As(err, &bad) {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		read[it.Entry.Hash] = true
		all = append(all, b)
	}
	return all, missing, nil
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
func (s *Store) Forget() { s.cache.clear() }
