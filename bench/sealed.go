package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// ValueTimes are those of one large value of a replica, on its way from a file on one node to a
// reader on the other. Rates are in millions of bytes a second.
type ValueTimes struct {
	SetMBs      float64 `json:"set_mb_per_s"`      // until it is on the disk
	TransferMBs float64 `json:"transfer_mb_per_s"` // until it is on the other's disk
	ReadMBs     float64 `json:"read_mb_per_s"`     // there, verified and opened
	TotalMBs    float64 `json:"total_mb_per_s"`
	CPUGiB      float64 `json:"cpu_seconds_per_gib"` // of both nodes together
	seconds     float64
}

// SealedResult is the outcome of Sealed.
type SealedResult struct {
	Bytes  int64      `json:"bytes"`
	Rounds int        `json:"rounds"`
	Plain  ValueTimes `json:"plain"`
	Sealed ValueTimes `json:"sealed"`
	Ratio  float64    `json:"sealed_to_plain"` // of the total rates
}

// Sealed moves large values through a replica that is not encrypted, and through one that is, in
// turns, and returns the mean of all rounds.
func Sealed(ctx context.Context, cfg Config, rounds int) (res SealedResult, err error) {
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
	res.Bytes, res.Rounds = cfg.Size, rounds
	sums := map[bool]*ValueTimes{false: {}, true: {}}
	for i := range 2*rounds + 1 {
		encrypted := i%2 == 0
		cfg.Note("round %d, sealed: %t", i, encrypted)
		at := filepath.Join(dir, fmt.Sprint("round", i))
		t, err := moveValue(ctx, cfg, at, file, encrypted)
		if err = errors.Join(err, os.RemoveAll(at)); err != nil {
			return res, err
		}
		if i == 0 { // into memory that nobody has touched
			continue
		}
		s := sums[encrypted]
		s.SetMBs += 1 / t.SetMBs
		s.TransferMBs += 1 / t.TransferMBs
		s.ReadMBs += 1 / t.ReadMBs
		s.CPUGiB += t.CPUGiB
		s.seconds += t.seconds
	}
	mean := func(s *ValueTimes) ValueTimes {
		n := float64(rounds)
		round := func(x float64) float64 { return float64(int(x*10)) / 10 }
		return ValueTimes{
			round(n / s.SetMBs), round(n / s.TransferMBs), round(n / s.ReadMBs),
			round(n * float64(cfg.Size) / 1e6 / s.seconds), float64(int(s.CPUGiB/n*100)) / 100,
			s.seconds / n,
		}
	}
	res.Plain, res.Sealed = mean(sums[false]), mean(sums[true])
	res.Ratio = float64(int(res.Plain.seconds/res.Sealed.seconds*1000)) / 1000
	return res, nil
}

func moveValue(
	ctx context.Context, cfg Config, dir, file string, encrypted bool,
) (t ValueTimes, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return t, err
	}
	p, err := newPair(ctx, dir)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	r, err := p.a.CreateReplica(ctx, "bench", encrypted)
	if err != nil {
		return t, err
	}
	tk, err := p.a.Ticket(ctx, r, replica.Read)
	if err != nil {
		return t, err
	}
	nothing := node.JoinOptions{Policy: &wanted.Policy{Nothing: true}}
	if _, err := p.b.JoinWith(ctx, tk, "bench", nothing); err != nil {
		return t, err
	}
	cpu := cpuTime()
	begin := time.Now()
	e, err := setFile(ctx, p.a, r.ID, file)
	if err != nil {
		return t, err
	}
	set := time.Since(begin)
	start := time.Now()
	if _, err := p.b.Get(ctx, e.Hash, content.Sequence, p.infoA, nil); err != nil {
		return t, err
	}
	transfer := time.Since(start)
	start = time.Now()
	view, err := p.b.Replicas().Plain(ctx, r.ID)
	if err != nil {
		return t, err
	}
	content, err := p.b.OpenPlain(ctx, view, &e)
	if err != nil {
		return t, err
	}
	n, err := io.CopyBuffer(
		struct{ io.Writer }{io.Discard}, struct{ io.Reader }{content}, make([]byte, 1<<20),
	)
	if err != nil || n != cfg.Size {
		return t, errors.Join(err, fmt.Errorf("read %d of %d bytes", n, cfg.Size))
	}
	read := time.Since(start)
	t = ValueTimes{
		perSecond(n, set), perSecond(n, transfer), perSecond(n, read), perSecond(n, time.Since(begin)), 0,
		(set + transfer + read).Seconds(),
	}
	t.CPUGiB = (cpuTime() - cpu).Seconds() / (float64(n) / (1 << 30))
	return t, nil
}

// setFile sets a key to the content of a file.
func setFile(
	ctx context.Context, n *node.Node, id replica.ID, name string,
) (e replica.Entry, err error) {
	f, err := disk.OpenRegular(name)
	if err != nil {
		return e, err
	}
	defer f.Close()
	items, err := n.ReplicaOf(id).Apply(ctx, node.WriteOptions{As: replica.NewSecretKey()},
		node.Change{Key: []byte("value"), File: f})
	if err != nil {
		return e, err
	}
	return items[0].Entry, nil
}
