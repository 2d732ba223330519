// Package bench measures a node on the machine it runs on: adding, transfer, reconciliation and
// entries, each beside the limit that the same machine sets in the same run.
//
// What belongs here: loads, clocks and figures. What never belongs here: anything that a node needs
// to work; nothing imports this package but the command line.
package bench

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry"
	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/libp2pnet"
	"github.com/skerry-sync/skerry/ticket"
)

// Config says how large a load is and where its files go.
type Config struct {
	// an existing directory, in which each run makes and removes one of its own
	Dir   string
	Size  int64                         // bytes of the large file
	Files int                           // small files
	Note  func(format string, a ...any) // told what is going on
}

// seconds rounds a duration for a report.
func seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond)) / float64(time.Second)
}

// perSecond gives MB/s, in millions of bytes.
func perSecond(bytes int64, d time.Duration) float64 {
	return float64(int64(float64(bytes)/d.Seconds()/1e5)) / 10
}

// heap watches the Go heap of this process and keeps its greatest size.
type heap struct {
	once sync.Once
	stop chan struct{}
	done chan struct{}
	max  atomic.Uint64
}

func watchHeap() *heap {
	runtime.GC()
	h := &heap{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(h.done)
		t := time.NewTicker(20 * time.Millisecond)
		defer t.Stop()
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			h.max.Store(max(h.max.Load(), m.HeapInuse))
			select {
			case <-h.stop:
				return
			case <-t.C:
			}
		}
	}()
	return h
}

// end returns the greatest size in MiB.
// end ends the watch, and returns the greatest heap in MiB. It may be called again.
func (h *heap) end() float64 {
	h.once.Do(func() { close(h.stop) })
	<-h.done
	return float64(h.max.Load()>>10) / 1024
}

// writeRandom makes a file of size incompressible bytes.
func writeRandom(ctx context.Context, name string, size int64) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	src := mathrand.NewChaCha8([32]byte{1})
	buf := make([]byte, 1<<20)
	for size > 0 && ctx.Err() == nil {
		n := min(size, int64(len(buf)))
		_, _ = src.Read(buf[:n]) // never fails
		if _, err := f.Write(buf[:n]); err != nil {
			return err
		}
		size -= n
	}
	return ctx.Err()
}

func workDir(cfg Config) (string, func() error, error) {
	dir, err := os.MkdirTemp(cfg.Dir, "skerry-bench-")
	return dir, func() error { return os.RemoveAll(dir) }, err
}

// copyFile is cp: what the file system can do.
func copyFile(from, to string) (d copyTimes, err error) {
	in, err := os.Open(from)
	if err != nil {
		return d, err
	}
	defer in.Close()
	start := time.Now()
	out, err := os.Create(to)
	if err != nil {
		return d, err
	}
	// Without the reader's shortcut into the kernel, as cp does it where it cannot share blocks.
	_, err = io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, make([]byte, 256<<10))
	d.copied = time.Since(start)
	err = errors.Join(err, out.Sync())
	d.synced = time.Since(start)
	return d, errors.Join(err, out.Close())
}

// copyTimes are those of one copy: until cp would have ended, and until it was on the disk, where
// an import is when it is acknowledged.
type copyTimes struct{ copied, synced time.Duration }

// AddResult is the outcome of Add.
type AddResult struct {
	Bytes int64 `json:"bytes"`
	// the same file copied, as by cp, which leaves it in memory; the better of two
	CopySeconds   float64 `json:"copy_seconds"`
	SyncedSeconds float64 `json:"copy_synced_seconds"` // likewise, until it was on the disk
	// imported, and in memory like the copy; the better of two
	ImportSeconds float64 `json:"import_seconds"`
	// imported, until it was on the disk; the better of two
	AddSeconds    float64 `json:"add_seconds"`
	Ratio         float64 `json:"ratio"`        // import to copy
	RatioSynced   float64 `json:"ratio_synced"` // add to synced copy
	AddMBs        float64 `json:"add_mb_per_s"`
	CPUSecondsGiB float64 `json:"cpu_seconds_per_gib"`
	PeakHeapMiB   float64 `json:"peak_heap_mib"`
}

// Add imports a large file, beside a plain copy of it.
func Add(ctx context.Context, cfg Config) (res AddResult, err error) {
	dir, remove, err := workDir(cfg)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	file := filepath.Join(dir, "file")
	cfg.Note("writing a file of %d bytes", cfg.Size)
	if err := writeRandom(ctx, file, cfg.Size); err != nil {
		return res, err
	}
	res.Bytes = cfg.Size
	var copies, synced, imports, adds []time.Duration
	h := watchHeap()
	defer h.end()
	var cpu time.Duration
	for i := range 2 {
		cfg.Note("copying it, and adding it (%d of 2)", i+1)
		d, err := copyFile(file, filepath.Join(dir, "copy"))
		if err != nil {
			return res, err
		}
		copies, synced = append(copies, d.copied), append(synced, d.synced)
		if err := os.Remove(filepath.Join(dir, "copy")); err != nil {
			return res, err
		}
		n, err := node.Open(ctx, node.Config{Dir: filepath.Join(dir, fmt.Sprint("node", i))})
		if err != nil {
			return res, err
		}
		before := cpuTime()
		start := time.Now()
		_, err = n.Blobs().ImportFile(ctx, file, blobs.ImportOptions{})
		imports = append(imports, time.Since(start))
		if err == nil {
			err = n.Blobs().Sync(ctx)
		}
		adds = append(adds, time.Since(start))
		cpu = cpuTime() - before
		if err := errors.Join(err, n.Close(), os.RemoveAll(n.Dir())); err != nil {
			return res, err
		}
	}
	res.PeakHeapMiB = h.end()
	c, cs, i, a := slices.Min(copies), slices.Min(synced), slices.Min(imports), slices.Min(adds)
	res.CopySeconds, res.SyncedSeconds = seconds(c), seconds(cs)
	res.ImportSeconds, res.AddSeconds = seconds(i), seconds(a)
	res.Ratio, res.RatioSynced = ratio(i.Seconds(), c.Seconds()), ratio(a.Seconds(), cs.Seconds())
	res.AddMBs = perSecond(cfg.Size, a)
	res.CPUSecondsGiB = seconds(time.Duration(float64(cpu) * (1 << 30) / float64(cfg.Size)))
	return res, nil
}

// pair is two nodes on the loopback interface.
type pair struct {
	a, b  *node.Node
	infoA []peer.AddrInfo
}

// memberDir is the data directory of a node of a pair below dir.
func memberDir(dir string, i int) string { return filepath.Join(dir, fmt.Sprint("node", i)) }

func newPair(ctx context.Context, dir string) (p *pair, err error) {
	p = &pair{}
	for i, to := range []**node.Node{&p.a, &p.b} {
		if *to, err = online(ctx, memberDir(dir, i)); err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	p.infoA = (&ticket.Blob{Addrs: p.a.Addrs()}).Peers()
	return p, nil
}

// online opens a node that listens on the loopback interface.
func online(ctx context.Context, dir string) (*node.Node, error) {
	return onlineWith(ctx, node.Config{Dir: dir})
}

func onlineWith(ctx context.Context, cfg node.Config) (*node.Node, error) {
	n, err := whole(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return n.Node, nil
}

// whole opens a node with all that stands above it, as online does.
func whole(ctx context.Context, cfg node.Config) (*skerry.Node, error) {
	n, err := skerry.Open(ctx, cfg, nil)
	if err != nil {
		return nil, err
	}
	listen, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/0")
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	network, err := libp2pnet.New(libp2pnet.Config{
		Key: n.Key(), Listen: []ma.Multiaddr{listen}, Log: slog.New(slog.DiscardHandler),
	})
	if err == nil {
		err = n.GoOnline(network)
	}
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// reopenB replaces the second node by one that has nothing.
func (p *pair) reopenB(ctx context.Context, dir string) error {
	if err := p.b.Close(); err != nil {
		return err
	}
	n, err := online(ctx, dir)
	if err == nil {
		p.b = n
	}
	return err
}

func (p *pair) close() error {
	var err error
	for _, n := range []*node.Node{p.a, p.b} {
		if n != nil {
			err = errors.Join(err, n.Close())
		}
	}
	return err
}

// rawTLS moves size bytes over one TLS 1.3 connection on the loopback interface: what the wire and
// the cipher can do. Any other path is made by a delaying proxy.
func rawTLS(size int64, path Path) (d time.Duration, err error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return 0, err
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"bench"},
	}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return 0, err
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		return 0, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	l, err := tls.Listen(
		"tcp", "127.0.0.1:0",
		&tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}},
			MinVersion:   tls.VersionTLS13,
		},
	)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		buf := make([]byte, 256<<10)
		for left := size; left > 0 && err == nil; left -= int64(len(buf)) {
			_, err = c.Write(buf[:min(left, int64(len(buf)))])
		}
		done <- errors.Join(err, c.Close())
	}()
	addr := l.Addr().String()
	if path != (Path{}) {
		proxy, err := newDelay(addr, path)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, proxy.close()) }()
		addr = fmt.Sprintf("127.0.0.1:%d", proxy.port())
	}
	start := time.Now()
	c, err := tls.Dial(
		"tcp", addr, &tls.Config{RootCAs: roots, ServerName: "bench", MinVersion: tls.VersionTLS13},
	)
	if err != nil {
		return 0, err
	}
	n, err := io.CopyBuffer(
		struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10),
	)
	d = time.Since(start)
	var closed net.Error
	if err = errors.Join(err, c.Close(), <-done); err == nil && n != size {
		err = fmt.Errorf("raw TLS moved %d bytes of %d", n, size)
	} else if errors.As(err, &closed) {
		err = fmt.Errorf("raw TLS: %w", closed)
	}
	return d, err
}
