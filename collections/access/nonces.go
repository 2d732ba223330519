package access

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

var (
	// ErrReplayed reports a nonce that has been used.
	ErrReplayed = errors.New("the nonce has been used")
	// ErrTooMany reports more requests than can be remembered; a request is denied rather than let in twice.
	ErrTooMany = errors.New("too many requests to remember their nonces")
	// ErrForgotten reports a request of a time whose nonces are not remembered any more, which happens only if the clock of the server has gone back.
	ErrForgotten = errors.New("the clock of this server has gone back, to a time whose requests it cannot tell from new ones: they are denied until that has passed")
)

const (
	bucketsOfSkew = 10          // the nonces of requests whose times differ by less than that part of the skew are remembered together
	maxNonces     = 4 << 20     // of all signers
	maxOfSigner   = 1 << 20     // of each
	recordSize    = 8 + 16      // time and digest
	maxJournal    = maxNonces   // records that are read back
	journalNames  = "%s.%d.log" // of two, which take turns
)

// NonceStore remembers the nonces of requests.
type NonceStore interface {
	// Use takes note of a nonce of a signer, of a request that was signed at time; both times are in Unix milliseconds. It returns ErrReplayed if it was used before, and
	// any other error if that cannot be told; the request is denied then as well.
	Use(ctx context.Context, signer, nonce string, time, now int64) error
}

// Nonces remembers the nonces of requests to this process for as long as a request of their time would be let in. With a journal they are remembered over the end of the process.
type Nonces struct {
	skew int64 // milliseconds
	unit int64 // milliseconds of a bucket

	mu        sync.Mutex
	total     int
	buckets   map[int64]*bucket // by time of request, in units
	forgotten int64             // requests of before that time are denied
	journal   *journal
}

// NonceOptions says how nonces are remembered.
type NonceOptions struct {
	Dir   string        // of the journal; "" is none
	Name  string        // that its files begin with; "" is nonces
	Skew  time.Duration // by which the time of a request may differ from the server's; 0 is that of certificates, five minutes
	Clock Clock
}

type bucket struct {
	seen    map[[16]byte]struct{}
	signers map[string]int
}

// NewNonces returns a memory of nonces.
func NewNonces(o NonceOptions) (*Nonces, error) {
	n := &Nonces{skew: o.Skew.Milliseconds(), buckets: map[int64]*bucket{}}
	if n.skew == 0 {
		n.skew = skew
	}
	n.unit = max(1, n.skew/bucketsOfSkew)
	if o.Dir == "" {
		return n, nil
	}
	j, records, err := openJournal(o.Dir, cmp.Or(o.Name, "nonces"), 2*n.skew)
	if err != nil {
		return nil, fmt.Errorf("journal of nonces: %w", err)
	}
	now := o.Clock.Now().UnixMilli()
	for _, r := range records {
		if r.time < now-n.skew {
			n.forgotten = max(n.forgotten, r.time+1)
		} else if b := n.bucket(r.time); !b.has(r.digest) { // also of later times: the clock may have gone back
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
		b = &bucket{map[[16]byte]struct{}{}, map[string]int{}}
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
func (n *Nonces) Use(_ context.Context, signer, nonce string, time, now int64) error {
	digest := digestOf(signer, nonce)
	n.mu.Lock()
	defer n.mu.Unlock()
	ofSigner := 0
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
	}
	if time < n.forgotten {
		return ErrForgotten
	}
	if n.total >= maxNonces || ofSigner >= maxOfSigner {
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
	n.total++
	return nil
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

// journal is two files of records. The system has what is written at once, so that the end of the process loses nothing; a loss of power may lose what was
// used in the last seconds, while the machine takes longer than that to start.
type journal struct {
	dir   string
	of    string // what the names begin with
	keep  int64  // milliseconds after which what a file holds is of no use any more
	turn  int
	f     *os.File
	since int64 // Unix milliseconds; 0 until something is written
}

type record struct {
	time   int64
	digest [16]byte
}

func (j *journal) name(turn int) string {
	return filepath.Join(j.dir, fmt.Sprintf(journalNames, j.of, turn))
}

// openJournal reads what both files hold and begins the one that was written to earlier anew.
func openJournal(dir, name string, keep int64) (j *journal, all []record, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	j = &journal{dir: dir, of: name, keep: keep}
	for turn := range 2 {
		b, err := os.ReadFile(j.name(turn))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
		for ; len(b) >= recordSize && len(all) < maxJournal; b = b[recordSize:] {
			all = append(all, record{int64(binary.BigEndian.Uint64(b)), [16]byte(b[8:])})
		}
	}
	// Both may hold what still counts: it goes into the first, and the second is begun.
	var whole []byte
	for _, r := range all {
		whole = r.append(whole)
	}
	if err := os.WriteFile(j.name(0)+".new", whole, 0o600); err != nil {
		return nil, nil, err
	}
	if err := os.Rename(j.name(0)+".new", j.name(0)); err != nil {
		return nil, nil, err
	}
	return j, all, j.begin(1)
}

func (r record) append(b []byte) []byte {
	return append(binary.BigEndian.AppendUint64(b, uint64(r.time)), r.digest[:]...)
}

func (j *journal) begin(turn int) (err error) {
	j.turn, j.since = turn, 0
	j.f, err = os.OpenFile(j.name(turn), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	return err
}

func (j *journal) add(r record, now int64) error {
	if j.since == 0 {
		j.since = now
	}
	if now-j.since > j.keep {
		if err := errors.Join(j.f.Close(), j.begin(1-j.turn)); err != nil {
			return err
		}
		j.since = now
	}
	_, err := j.f.Write(r.append(make([]byte, 0, recordSize)))
	return err
}
