package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/node/content"
)

// TransferResult is the outcome of Transfer. Rates are in millions of bytes a second.
type TransferResult struct {
	Bytes     int64   `json:"bytes"`
	CopyMBs   float64 `json:"copy_mb_per_s"`    // the file copied by the file system
	RawTLSMBs float64 `json:"raw_tls_mb_per_s"` // one TLS 1.3 connection over loopback
	// store to a reader that verifies and discards; the better of two
	DiscardMBs       float64 `json:"discard_mb_per_s"`
	DiscardToTLS     float64 `json:"discard_to_raw_tls"`
	StoreMBs         float64 `json:"store_mb_per_s"` // store to store, synced to disk
	StoreToCopy      float64 `json:"store_to_copy"`
	StoreToSynced    float64 `json:"store_to_synced_copy"`
	DiscardCPUGiB    float64 `json:"discard_cpu_seconds_per_gib"` // of both nodes together
	StoreCPUGiB      float64 `json:"store_cpu_seconds_per_gib"`
	PeakHeapMiB      float64 `json:"peak_heap_mib"` // of both nodes together
	SmallFiles       int     `json:"small_files"`
	SmallAddSeconds  float64 `json:"small_add_seconds"`
	SmallGetSeconds  float64 `json:"small_get_seconds"` // fetched, stored, and written as files
	SmallBothSeconds float64 `json:"small_total_seconds"`
}

type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// Transfer moves a large blob, and many small files, between two nodes in this process over
// loopback.
func Transfer(ctx context.Context, cfg Config) (res TransferResult, err error) {
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
	file := filepath.Join(dir, "file")
	cfg.Note("writing, copying and adding a file of %d bytes", cfg.Size)
	if err := writeRandom(ctx, file, cfg.Size); err != nil {
		return res, err
	}
	copied, err := copyFile(file, filepath.Join(dir, "copy"))
	if err != nil {
		return res, err
	}
	if err := os.Remove(filepath.Join(dir, "copy")); err != nil {
		return res, err
	}
	info, err := p.a.Blobs().ImportFile(ctx, file, blobs.ImportOptions{})
	if err == nil {
		err = errors.Join(p.a.Blobs().Sync(ctx), os.Remove(file))
	}
	if err != nil {
		return res, err
	}
	cfg.Note("moving it over raw TLS, to a discarding reader, and into a store")
	raw, err := rawTLS(cfg.Size, Path{})
	if err != nil {
		return res, err
	}
	h := watchHeap()
	defer h.end()
	gib := float64(cfg.Size) / (1 << 30)
	res.Bytes, res.CopyMBs = cfg.Size, perSecond(cfg.Size, copied.copied)
	res.RawTLSMBs = perSecond(cfg.Size, raw)
	for range 2 {
		cpu, start := cpuTime(), time.Now()
		if _, err := p.b.Stream(ctx, info.Hash, p.infoA[0], nowhere{}); err != nil {
			return res, err
		}
		if rate := perSecond(cfg.Size, time.Since(start)); rate > res.DiscardMBs {
			res.DiscardMBs, res.DiscardCPUGiB = rate, cpuPerGiB(cpu, gib)
		}
	}
	cpu, start := cpuTime(), time.Now()
	if _, err := p.b.Get(ctx, info.Hash, content.Raw, p.infoA, nil); err != nil { // syncs at its end
		return res, err
	}
	res.StoreMBs, res.StoreCPUGiB = perSecond(cfg.Size, time.Since(start)), cpuPerGiB(cpu, gib)
	res.PeakHeapMiB = h.end()
	res.DiscardToTLS = ratio(res.DiscardMBs, res.RawTLSMBs)
	res.StoreToCopy = ratio(res.StoreMBs, res.CopyMBs)
	res.StoreToSynced = ratio(res.StoreMBs, perSecond(cfg.Size, copied.synced))
	return res, small(ctx, cfg, dir, p, &res)
}

func ratio(a, b float64) float64 { return float64(int(100*a/b)) / 100 }

func small(ctx context.Context, cfg Config, dir string, p *pair, res *TransferResult) error {
	cfg.Note("sharing and fetching %d files of 4 KiB", cfg.Files)
	in := filepath.Join(dir, "in")
	if err := smallFiles(in, cfg.Files); err != nil {
		return err
	}
	start := time.Now()
	info, err := directory.Import(ctx, p.a.Blobs(), in, directory.ImportOptions{})
	if err == nil {
		err = p.a.Blobs().Sync(ctx)
	}
	if err != nil {
		return err
	}
	added := time.Since(start)
	start = time.Now()
	c, err := p.b.Get(ctx, info.Hash, content.Sequence, p.infoA, nil)
	if err == nil {
		err = p.b.Export(ctx, &c, filepath.Join(dir, "out"), nil)
	}
	got := time.Since(start)
	res.SmallFiles, res.SmallAddSeconds = cfg.Files, seconds(added)
	res.SmallGetSeconds, res.SmallBothSeconds = seconds(got), seconds(added+got)
	return err
}

func cpuPerGiB(since time.Duration, gib float64) float64 {
	return seconds(time.Duration(float64(cpuTime()-since) / gib))
}

const smallSize = 4096

// smallFiles makes files of 4 KiB, a thousand to a directory.
func smallFiles(dir string, count int) error {
	content := make([]byte, smallSize)
	for i := range count {
		name := filepath.Join(dir, fmt.Sprintf("%03d", i/1000), fmt.Sprintf("%05d", i))
		if i%1000 == 0 {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				return err
			}
		}
		copy(content, fmt.Sprintf("%08d", i))
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
