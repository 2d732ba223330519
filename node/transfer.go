package node

import (
	"context"
	"fmt"
	"iter"

	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/node/sealed"
	"github.com/skerry-sync/skerry/replica"
)

// importBatch is how many changes of an import are written in one go.
const importBatch = 1024

// A ChangeError reports a change of an import that cannot be made.
type ChangeError struct {
	N   int // which it is, from 0
	Err error
}

func (e *ChangeError) Error() string { return fmt.Sprintf("change %d: %v", e.N, e.Err) }

func (e *ChangeError) Unwrap() error { return e.Err }

// Import makes many changes, some at a time, and returns how many it has made, which report, unless
// it is nil, is told now and then. A change is needed only until the next one is asked for. Import
// ends with the first error of changes, and with a *ChangeError for a change that Add refuses; what
// was made before stays. All of it is durable if there is no error.
func (r *Replica) Import(
	ctx context.Context, o WriteOptions, changes iter.Seq2[Change, error], report func(made int),
) (made int, err error) {
	batch, err := r.Batch(ctx, o)
	if err != nil {
		return 0, err
	}
	defer batch.Close()
	write := func(write func() ([]replica.Item, error)) error {
		n := batch.Len()
		if _, err := write(); err != nil {
			return err
		}
		if made += n; report != nil {
			report(made)
		}
		return nil
	}
	n := 0
	for c, err := range changes {
		if err != nil {
			return made, err
		}
		if err := batch.Add(c); err != nil {
			return made, &ChangeError{n, err}
		}
		n++
		if batch.Len() == importBatch {
			if err := write(batch.Write); err != nil {
				return made, err
			}
		}
	}
	return made, write(batch.Commit)
}

// Exported says what Export has written.
type Exported struct {
	Files      int
	Left       []LeftOut
	Unreadable uint64 // entries that no read key here opens
}

// LeftOut is a key whose value is not in an export, as it cannot be the path of a file.
type LeftOut struct {
	Key []byte
	Why string
}

// Export writes the latest value of each key to a file, whose path below dir is the key. dir must
// not exist, or be empty; it appears whole or not at all. Export waits for content as Get does. It
// returns an error of the kind NoSpace if there is no room for all of it.
func (r *Replica) Export(
	ctx context.Context, dir string, progress func(directory.Progress),
) (out Exported, err error) {
	if err := disk.Vacant(dir, true); err != nil { // sooner than after all has been fetched
		return out, err
	}
	view, err := r.n.replicas.Plain(ctx, r.id)
	if err != nil {
		return out, err
	}
	r, release := r.holding() // all is read at the end, when it may not be the latest any more
	defer release()
	var files []directory.Named
	for it, err := range view.Latest(ctx, replica.Query{}) {
		if err != nil {
			return out, err
		}
		if err := directory.CheckFile(string(it.Key)); err != nil {
			out.Left = append(out.Left, LeftOut{it.Key, err.Error()})
			continue
		}
		r.blobs.Touch(it.Entry.Hash) // before it has come: another may take the place of its entry
		if err := r.await(ctx, &it); err != nil {
			return out, err
		}
		content, err := sealed.Chunks(ctx, r.blobs, view, &it.Entry)
		if err != nil {
			return out, fmt.Errorf("export %q: %w", it.Key, err)
		}
		whole := len(content.Hashes) == 1 && content.Hashes[0] == it.Entry.Hash
		files = append(files, directory.Named{Path: string(it.Key), Content: content, Whole: whole})
	}
	d, hidden, err := directory.Gather(files)
	if err != nil {
		return out, fmt.Errorf("export to %s: %w", dir, err)
	}
	for _, path := range hidden {
		out.Left = append(out.Left, LeftOut{[]byte(path), "other keys lie below it"})
	}
	out.Files, out.Unreadable = len(files)-len(hidden), view.Unreadable()
	from := directory.FromStore(r.blobs)
	if view.Encrypted() {
		from = sealed.Copy(r.blobs, view)
	}
	ctx, room, err := r.blobs.NewRoom(ctx, dir, d.Size())
	if err != nil {
		return out, fmt.Errorf("export to %s: %w", dir, err)
	}
	return out, room.End(ctx, d.ExportFrom(ctx, from, dir, func(p directory.Progress) {
		room.Wrote(p.Bytes)
		if progress != nil {
			progress(p)
		}
	}))
}
