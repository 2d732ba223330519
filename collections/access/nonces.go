package access

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

var (
	// ErrReplayed reports a nonce that has been used.
	ErrReplayed = errors.New("the nonce has been used")
	// ErrTooMany reports more requests than can be remembered; a request is denied rather than let in
	// twice.
	ErrTooMany = errors.New("too many requests to remember their nonces")
	// ErrForgotten reports a request of a time whose nonces are not remembered any more, which happens
	// only if the clock of the server has gone back.
	ErrForgotten = errors.New(
		"the clock of this server has gone back, to a time whose requests it cannot tell from new " +
			"ones: they are denied until that has passed",
	)
)

const (
	// The nonces of requests whose times differ by less than that part of the skew are remembered
	// together.
	bucketsOfSkew = 10
	maxNonces     = 4 << 20     // that are remembered at once, unless NonceOptions says otherwise
	recordSize    = 8 + 16      // time and digest
	journalNames  = "%s.%d.log" // of two, which take turns
)

// Signers cost nothing to make, so what is remembered is shared out by where requests come from,
// too. A nonce cannot be forgotten early, or its request could be made again; so a request that is
// one too many is denied.
const (
	partOfSigner = 64 // a signer has that part of what is remembered, at most,
	partOfSource = 16 // and all signers at one source this
	// When all of it is taken but a partReserved, each has but a partOfReserve of what it had: that is
	// left to those who ask for little.
	partReserved  = 4
	partOfReserve = 64
)

// NonceStore remembers the nonces of requests. It may share out what it remembers by the source of
// ctx (see WithSource).
type NonceStore interface {
	// Use takes note of a nonce of a signer, of a request that was signed at time; both times are in
	// Unix milliseconds. It returns ErrReplayed if it was used before, and any other error if that
	// cannot be told; the request is denied then as well.
	Use(ctx context.Context, signer, nonce string, time, now int64) error
}

// Nonces remembers the nonces of requests to this process for as long as a request of their time
// would be let in. With a journal they are remembered over the end of the process.
type Nonces struct {
	skew int64 // milliseconds
	unit int64 // milliseconds of a bucket
	most int   // nonces

	mu        sync.Mutex
	total     int
	buckets   map[int64]*bucket // by time of request, in units
	forgotten int64             // requests of before that time are denied
	journal   *journal
}

// NonceOptions says how nonces are remembered.
type NonceOptions struct {
	Dir  string // of the journal; "" is none
	Name string // that its files begin with; "" is nonces
	Max  int    // nonces that are remembered at once; 0 is 4,194,304
	// Skew is by how much the time of a request may differ from the server's; 0 is that of
	// certificates, five minutes.
	Skew  time.Duration
	Clock Clock
}

type bucket struct {
	seen             map[[16]byte]struct{}
	signers, sources map[string]int
}

// NewNonces returns a memory of nonces.
func NewNonces(o NonceOptions) (*Nonces, error) {
	n := &Nonces{
		skew: o.Skew.Milliseconds(), most: cmp.Or(o.Max, maxNonces), buckets: map[int64]*bucket{},
	}
	if n.skew == 0 {
		n.skew = skew
	}
	n.unit = max(1, n.skew/bucketsOfSkew)
	if o.Dir == "" {
		return n, nil
	}
	j, records, last, err := openJournal(
		o.Dir, cmp.Or(o.Name, "nonces"), 2*n.skew, o.Clock.Now().UnixMilli()-n.skew,
	)
	if err != nil {
		return nil, fmt.Errorf("journal of nonces: %w", err)
	}
	n.forgotten = last
	for _, r := range records { // also of later times: the clock may have gone back
		if b := n.bucket(r.time); !b.has(r.digest) {
			b.seen[r.digest] = struct{}{}
			n.total++
		}
	}
	n.journal = j
	return n, nil
}

func (n *Nonces) bucket(time int64) *bucket {
	b := n.buckets[time/n.unit]
	if b == nil {
		b = &bucket{map[[16]byte]struct{}{}, map[string]int{}, map[string]int{}}
		n.buckets[time/n.unit] = b
	}
	return b
}

func (b *bucket) has(digest [16]byte) bool {
	_, is := b.seen[digest]
	return is
}

func digestOf(signer, nonce string) [16]byte {
	sum := sha256.Sum256(append(append(append(make([]byte, 0, 128), signer...), '|'), nonce...))
	return [16]byte(sum[:16])
}

// Use implements NonceStore. It returns ErrTooMany, too, and ErrForgotten.
func (n *Nonces) Use(ctx context.Context, signer, nonce string, time, now int64) error {
	digest, source := digestOf(signer, nonce), SourceOf(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	ofSigner, ofSource := 0, 0
	for at, b := range n.buckets {
		if end := (at + 1) * n.unit; end < now-n.skew {
			n.total -= len(b.seen)
			n.forgotten = max(n.forgotten, end)
			delete(n.buckets, at)
			continue
		}
		if b.has(digest) {
			return ErrReplayed
		}
		ofSigner += b.signers[signer]
		ofSource += b.sources[source]
	}
	if time < n.forgotten {
		return ErrForgotten
	}
	if n.full(ofSigner, ofSource, source != "") {
		return ErrTooMany
	}
	if n.journal != nil {
		if err := n.journal.add(record{time, digest}, now); err != nil {
			return fmt.Errorf("journal of nonces: %w", err)
		}
	}
	b := n.bucket(time)
	b.seen[digest] = struct{}{}
	b.signers[signer]++
	if source != "" {
		b.sources[source]++
	}
	n.total++
	return nil
}

// full reports whether there is no room for another nonce of a signer, and a source if it is known,
// of whom that many are remembered. The caller holds the lock.
func (n *Nonces) full(ofSigner, ofSource int, known bool) bool {
	forSigner, forSource := n.most/partOfSigner, n.most/partOfSource
	if n.total >= n.most-n.most/partReserved {
		forSigner, forSource = forSigner/partOfReserve, forSource/partOfReserve
	}
	return n.total >= n.most || ofSigner >= forSigner || known && ofSource >= forSource
}

// Close closes the journal.
func (n *Nonces) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.journal == nil {
		return nil
	}
	return n.journal.f.Close()
}

// journal is two files of records. The system has what is written at once, so that the end of the
// process loses nothing; a loss of power may lose what was used in the last seconds, while the
// machine takes longer than that to start.
type journal struct {
	dir   string
	of    string // what the names begin with
	keep  int64  // milliseconds after which what a file holds is of no use any more
	turn  int
	f     journalFile
	size  int64 // of the whole records in f, which may have a part of one behind them if torn
	torn  bool
	since int64 // Unix milliseconds; 0 until something is written
}

// journalFile is what a journal asks of its file, which is opened for appending.
type journalFile interface {
	io.WriteCloser
	Truncate(size int64) error
}

type record struct {
	time   int64
	digest [16]byte
}

func (j *journal) name(turn int) string {
	return filepath.Join(j.dir, fmt.Sprintf(journalNames, j.of, turn))
}

// openJournal reads what both files hold and begins the one that was written to earlier anew. It
// returns the records of requests of the time from, and later; before last, the next millisecond
// after any other, it cannot tell what was let in.
func openJournal(
	dir, name string, keep, from int64,
) (j *journal, all []record, last int64, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, 0, err
	}
	j = &journal{dir: dir, of: name, keep: keep}
	for turn := range 2 {
		b, err := os.ReadFile(j.name(turn))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, 0, err
		}
		for ; len(b) >= recordSize; b = b[recordSize:] {
			if r := (record{int64(binary.BigEndian.Uint64(b)), [16]byte(b[8:])}); r.time >= from {
				all = append(all, r)
			} else {
				last = max(last, r.time+1)
			}
		}
	}
	// Both may hold what still counts: it goes into the first, and the second is begun.
	var whole []byte
	for _, r := range all {
		whole = r.append(whole)
	}
	if err := os.WriteFile(j.name(0)+".new", whole, 0o600); err != nil {
		return nil, nil, 0, err
	}
	if err := os.Rename(j.name(0)+".new", j.name(0)); err != nil {
		return nil, nil, 0, err
	}
	return j, all, last, j.begin(1)
}

func (r record) append(b []byte) []byte {
	return append(binary.BigEndian.AppendUint64(b, uint64(r.time)), r.digest[:]...)
}

// begin empties a file, which is written to from then on. If that fails, the one before still is.
func (j *journal) begin(turn int) error {
	f, err := os.OpenFile(j.name(turn), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	j.f, j.turn, j.since, j.size, j.torn = f, turn, 0, 0, false
	return nil
}

func (j *journal) add(r record, now int64) error {
	if j.since == 0 || now < j.since { // the clock was ahead, and this file would never end
		j.since = now
	}
	if now-j.since > j.keep {
		full := j.f
		if err := j.begin(1 - j.turn); err != nil {
			return err
		}
		j.since = now
		if err := full.Close(); err != nil {
			return err
		}
	}
	if err := j.mend(); err != nil {
		return err
	}
	if n, err := j.f.Write(r.append(make([]byte, 0, recordSize))); err != nil {
		j.torn = n > 0
		return errors.Join(err, j.mend())
	}
	j.size += recordSize
	return nil
}

// mend cuts off a record that was written in part, as on a full disk: all that follows it would be
// read from the wrong byte on. Until that succeeds nothing is added.
func (j *journal) mend() error {
	if !j.torn {
		return nil
	}
	if err := j.f.Truncate(j.size); err != nil {
		return err
	}
	j.torn = false
	return nil
}
