package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/ticket"
)

// FarResult is the outcome of Far. Rates are in millions of bytes a second.
type FarResult struct {
	RoundTripMillis int64   `json:"round_trip_ms"`
	PathMBs         float64 `json:"path_mb_per_s"` // 0 is no limit
	Bytes           int64   `json:"bytes"`
	// one TLS 1.3 stream through the same proxy, with its handshake
	RawTLSMBs float64 `json:"raw_tls_mb_per_s"`
	// one blob, store to store, with the connection being made
	LargeMBs        float64 `json:"large_mb_per_s"`
	LargeToTLS      float64 `json:"large_to_raw_tls"`
	LargeCPUGiB     float64 `json:"large_cpu_seconds_per_gib"` // of both nodes and the proxy
	RawCPUGiB       float64 `json:"raw_tls_cpu_seconds_per_gib"`
	SmallFiles      int     `json:"small_files"`
	SmallBytes      int64   `json:"small_bytes"`
	RawSmallSeconds float64 `json:"raw_small_seconds"` // as many bytes over the raw TLS stream
	SmallSeconds    float64 `json:"small_seconds"`     // fetched into the store
	SmallToTLS      float64 `json:"small_to_raw_tls"`  // rate to rate
	// a read of 64 KiB in the middle of the large blob, by a node that has nothing
	FirstByteMillis float64 `json:"first_byte_ms"`
	FirstReadBytes  uint64  `json:"first_read_bytes"`
}

// Path is what lies between two nodes.
type Path struct {
	RoundTrip time.Duration
	Rate      float64 // bytes a second in each direction; 0 is as many as the machine can pass on
}

// Far moves a large blob and many small ones across a path with a long round trip: a proxy that
// holds back everything for half of it, in both directions.
func Far(ctx context.Context, cfg Config, path Path) (res FarResult, err error) {
	dir, remove, err := workDir(cfg)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	res.RoundTripMillis, res.PathMBs, res.Bytes, res.SmallFiles = path.RoundTrip.Milliseconds(), path.Rate/1e6, cfg.Size, cfg.Files
	res.SmallBytes = int64(cfg.Files) * smallSize
	p, err := newPair(ctx, dir)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	cfg.Note("adding a file of %d bytes, and %d files of 4 KiB", cfg.Size, cfg.Files)
	file := filepath.Join(dir, "file")
	if err := writeRandom(ctx, file, cfg.Size); err != nil {
		return res, err
	}
	large, err := p.a.Blobs().ImportFile(ctx, file, blobs.ImportOptions{})
	if err != nil {
		return res, err
	}
	in := filepath.Join(dir, "in")
	if err := smallFiles(in, cfg.Files); err != nil {
		return res, err
	}
	small, err := directory.Import(ctx, p.a.Blobs(), in, directory.ImportOptions{})
	if err != nil {
		return res, err
	}
	cfg.Note("moving them over a round trip of %s", path.RoundTrip)
	gib := float64(cfg.Size) / (1 << 30)
	cpu := cpuTime()
	raw, err := rawTLS(cfg.Size, path)
	if err != nil {
		return res, err
	}
	res.RawCPUGiB = cpuPerGiB(cpu, gib)
	rawSmall, err := rawTLS(res.SmallBytes, path)
	if err != nil {
		return res, err
	}
	res.RawTLSMBs, res.RawSmallSeconds = perSecond(cfg.Size, raw), seconds(rawSmall)
	cpu = cpuTime()
	start := time.Now()
	if err := p.far(ctx, path, func(far *pair) error {
		_, err := far.b.Get(ctx, large.Hash, content.Raw, far.infoA, nil)
		return err
	}); err != nil {
		return res, err
	}
	res.LargeMBs, res.LargeCPUGiB = perSecond(cfg.Size, time.Since(start)), cpuPerGiB(cpu, gib)
	res.LargeToTLS = ratio(res.LargeMBs, res.RawTLSMBs)
	if err := p.reopenB(ctx, filepath.Join(dir, "small")); err != nil {
		return res, err
	}
	start = time.Now()
	if err := p.far(ctx, path, func(far *pair) error {
		_, err := far.b.Get(ctx, small.Hash, content.Sequence, far.infoA, nil)
		return err
	}); err != nil {
		return res, err
	}
	took := time.Since(start)
	res.SmallSeconds = seconds(took)
	res.SmallToTLS = ratio(rawSmall.Seconds(), took.Seconds())
	if err := p.reopenB(ctx, filepath.Join(dir, "first")); err != nil {
		return res, err
	}
	return res, p.far(ctx, path, func(far *pair) error {
		start := time.Now()
		s := far.b.NewSession(ctx, far.infoA)
		off := uint64(cfg.Size) / 2
		r, err := s.OpenAt(large.Hash, off, 64<<10)
		if err == nil {
			_, err = r.ReadAt(make([]byte, 64<<10), int64(off))
		}
		res.FirstByteMillis = float64(time.Since(start).Microseconds()) / 1000
		got, closeErr := s.Close()
		res.FirstReadBytes = got.Bytes
		return errors.Join(err, closeErr)
	})
}

// far calls fn with the pair, in which the first node is reached through a delaying proxy.
func (p *pair) far(ctx context.Context, path Path, fn func(*pair) error) error {
	near, err := p.infoA[0].Addrs[0].ValueForProtocol(ma.P_TCP)
	if err != nil {
		return err
	}
	proxy, err := newDelay("127.0.0.1:"+near, path)
	if err != nil {
		return err
	}
	addr, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/127.0.0.1/tcp/%d/p2p/%s", proxy.port(), p.a.ID()))
	if err != nil {
		return errors.Join(err, proxy.close())
	}
	q := &pair{a: p.a, b: p.b, infoA: (&ticket.Blob{Addrs: []ma.Multiaddr{addr}}).Peers()}
	return errors.Join(fn(q), proxy.close())
}

// delay is a TCP proxy that passes everything on half a round trip after it came, and no faster
// than the path allows. It holds what is on the way, up to a bound.
type delay struct {
	l    net.Listener
	to   string
	path Path
	work sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newDelay(to string, path Path) (*delay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &delay{l: l, to: to, path: path}
	d.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.work.Go(func() { d.serve(c) })
		}
	})
	return d, nil
}

func (d *delay) port() int { return d.l.Addr().(*net.TCPAddr).Port }

func (d *delay) close() error {
	err := d.l.Close()
	d.mu.Lock()
	for _, c := range d.conns {
		_ = c.Close() // ends what still goes through
	}
	d.mu.Unlock()
	d.work.Wait()
	return err
}

func (d *delay) serve(c net.Conn) {
	up, err := net.Dial("tcp", d.to)
	if err != nil {
		_ = c.Close() // the client sees it
		return
	}
	d.mu.Lock()
	d.conns = append(d.conns, c, up)
	d.mu.Unlock()
	d.work.Go(func() { d.pass(c, up) })
	d.pass(up, c)
}

// piece is what came at one time.
type piece struct {
	b   []byte
	due time.Time
}

const (
	pieceSize = 64 << 10
	onTheWay  = 128 << 20 // bytes that a direction holds at most
)

// road is what is on the way in one direction.
type road struct {
	mu     sync.Mutex
	turn   *sync.Cond
	pieces []piece
	bytes  int
	free   [][]byte
	last   time.Time // when the last piece is due
	ended  bool      // nothing more comes in
	cut    bool      // nothing more goes out
}

func (d *delay) pass(from, to net.Conn) {
	r := &road{}
	r.turn = sync.NewCond(&r.mu)
	d.work.Go(func() { d.enter(r, from) })
	for {
		r.mu.Lock()
		for len(r.pieces) == 0 && !r.ended {
			r.turn.Wait()
		}
		if len(r.pieces) == 0 {
			r.mu.Unlock()
			break
		}
		p := r.pieces[0]
		r.pieces = r.pieces[1:]
		r.mu.Unlock()
		time.Sleep(time.Until(p.due))
		_, err := to.Write(p.b)
		r.mu.Lock()
		r.bytes -= len(p.b)
		r.free = append(r.free, p.b[:0])
		r.cut = r.cut || err != nil
		r.turn.Signal()
		r.mu.Unlock()
		if err != nil {
			_ = from.Close() // so that its reader ends, too
			break
		}
	}
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // passes the end on
	}
}

// enter reads what comes, and joins what came within a moment.
func (d *delay) enter(r *road, from net.Conn) {
	buf := make([]byte, pieceSize)
	for {
		n, err := from.Read(buf)
		r.mu.Lock()
		for r.bytes >= onTheWay && !r.cut {
			r.turn.Wait()
		}
		if n > 0 {
			due := time.Now().Add(d.path.RoundTrip / 2)
			if d.path.Rate > 0 {
				if next := r.last.Add(time.Duration(float64(n) / d.path.Rate * 1e9)); next.After(due) {
					due = next
				}
			}
			if i := len(r.pieces) - 1; i >= 0 && len(r.pieces[i].b)+n <= cap(r.pieces[i].b) &&
				due.Sub(r.pieces[i].due) < time.Millisecond {
				r.pieces[i].b = append(r.pieces[i].b, buf[:n]...)
			} else {
				b := make([]byte, 0, pieceSize)
				if k := len(r.free); k > 0 {
					b, r.free = r.free[k-1], r.free[:k-1]
				}
				r.pieces = append(r.pieces, piece{append(b, buf[:n]...), due})
			}
			r.last = due
			r.bytes += n
		}
		r.ended = r.ended || err != nil
		stop := r.ended || r.cut
		r.turn.Signal()
		r.mu.Unlock()
		if stop {
			return
		}
	}
}
