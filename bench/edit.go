package bench

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/node/content"
)

// EditResult is the outcome of Edit.
type EditResult struct {
	Bytes int64 `json:"bytes"`
	// of the first version, cut in chunks, until on the disk
	ImportSeconds float64     `json:"import_seconds"`
	SyncSeconds   float64     `json:"sync_seconds"` // of all of it to the other node
	Edits         []EditSteps `json:"edits"`
}

// EditSteps is what one edit in the middle of the file cost.
type EditSteps struct {
	EditedBytes   int     `json:"edited_bytes"`
	ImportSeconds float64 `json:"import_seconds"` // of the whole file again
	SyncSeconds   float64 `json:"sync_seconds"`
	FetchedBytes  uint64  `json:"fetched_bytes"`
}

// Edit keeps a directory with a large file in chunks on two nodes, and edits the file.
func Edit(ctx context.Context, cfg Config, edits []int) (res EditResult, err error) {
	dir, remove, err := workDir(cfg)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	p, err := newPair(ctx, dir)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	in := filepath.Join(dir, "in")
	if err := os.Mkdir(in, 0o755); err != nil {
		return res, err
	}
	file := filepath.Join(in, "file")
	cfg.Note("writing a file of %d bytes, and syncing it in chunks", cfg.Size)
	if err := writeRandom(ctx, file, cfg.Size); err != nil {
		return res, err
	}
	res.Bytes = cfg.Size
	step := func() (imported, synced time.Duration, fetched uint64, err error) {
		start := time.Now()
		info, err := directory.Import(ctx, p.a.Blobs(), in, directory.ImportOptions{})
		if err == nil {
			err = p.a.Blobs().Sync(ctx)
		}
		if err != nil {
			return 0, 0, 0, err
		}
		imported = time.Since(start)
		start = time.Now()
		c, err := p.b.Get(ctx, info.Hash, content.Sequence, p.infoA, nil)
		return imported, time.Since(start), c.Fetched.Bytes, err
	}
	imported, synced, _, err := step()
	if err != nil {
		return res, err
	}
	res.ImportSeconds, res.SyncSeconds = seconds(imported), seconds(synced)
	src := rand.NewChaCha8([32]byte{9})
	for _, n := range edits {
		cfg.Note("editing %d bytes in the middle", n)
		if err := overwrite(file, cfg.Size/2, n, src); err != nil {
			return res, err
		}
		imported, synced, fetched, err := step()
		if err != nil {
			return res, err
		}
		res.Edits = append(res.Edits, EditSteps{n, seconds(imported), seconds(synced), fetched})
	}
	return res, nil
}

func overwrite(name string, at int64, n int, src *rand.ChaCha8) error {
	b := make([]byte, n)
	_, _ = src.Read(b) // never fails
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Close())
}
