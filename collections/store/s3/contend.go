package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
)

// ErrRaces reports a service that looks whether the condition of a write is met and stores the
// object later: of writes at the same time more than one succeeds.
var ErrRaces = errors.New(
	"the service lets several writes with the same condition succeed when they come at the same time",
)

const (
	contenders   = 16
	contests     = 4         // of each condition
	stagedSize   = 256 << 10 // of the body of a write that is held up in its middle
	stagedAtMost = 2 * time.Second
)

// Contend finds out whether the service tells for sure which of several writers at the same time
// was first, by letting some write. Where that matters, as for nonces, a service that fails must
// not be used. A service that passes may still fail: only its maker can promise that it does not.
// It returns an error that is ErrRaces.
func (s *Store) Contend(ctx context.Context) error {
	probe := newProbe()
	for i := range contests {
		for _, staged := range []bool{true, false} {
			name := fmt.Sprintf("%s%s-%d-%t", s.prefix, probe, i, staged)
			if err := s.contest(ctx, name, staged); err != nil {
				return err
			}
		}
	}
	return nil
}

// contest lets writers contend for an object that is not there, and then for one that is.
func (s *Store) contest(ctx context.Context, name string, staged bool) (err error) {
	defer func() {
		always := context.WithoutCancel(ctx)
		err = errors.Join(err, s.client.RemoveObject(always, s.bucket, name, minio.RemoveObjectOptions{}))
	}()
	compete := s.together
	if staged {
		compete = s.staged
	}
	if err := compete(func(body io.Reader, size int64) (bool, error) {
		o := minio.PutObjectOptions{DisableMultipart: true}
		o.SetMatchETagExcept("*")
		return s.wins(ctx, name, body, size, o)
	}); err != nil {
		return err
	}
	first, err := s.client.PutObject(
		ctx, s.bucket, name, bytes.NewReader([]byte("first")), 5,
		minio.PutObjectOptions{DisableMultipart: true},
	)
	if err != nil {
		return err
	}
	return compete(func(body io.Reader, size int64) (bool, error) {
		o := minio.PutObjectOptions{DisableMultipart: true}
		o.SetMatchETag(first.ETag)
		return s.wins(ctx, name, body, size, o)
	})
}

// wins reports whether a write has succeeded, and an error that says nothing of conditions.
func (s *Store) wins(
	ctx context.Context, name string, body io.Reader, size int64, o minio.PutObjectOptions,
) (bool, error) {
	_, err := s.client.PutObject(ctx, s.bucket, name, body, size, o)
	switch {
	case err == nil:
		return true, nil
	case unmet(err) || missing(err):
		return false, nil
	}
	return false, err
}

type write func(body io.Reader, size int64) (won bool, err error)

// together lets all write at once.
func (s *Store) together(w write) error {
	var all sync.WaitGroup
	var mu sync.Mutex
	won, failed := 0, error(nil)
	start := make(chan struct{})
	for i := range contenders {
		body := fmt.Sprintf("contender %2d", i)
		all.Go(func() {
			<-start
			ok, err := w(bytes.NewReader([]byte(body)), int64(len(body)))
			mu.Lock()
			defer mu.Unlock()
			if ok {
				won++
			}
			failed = errors.Join(failed, err)
		})
	}
	close(start)
	all.Wait()
	if failed == nil && won > 1 {
		failed = ErrRaces
	}
	return failed
}

// staged holds up one write in the middle of its body while another one is made.
func (s *Store) staged(w write) error {
	held := &heldBody{half: make(chan struct{}), release: make(chan struct{})}
	type result struct {
		won bool
		err error
	}
	slow := make(chan result, 1)
	go func() {
		won, err := w(held, stagedSize)
		slow <- result{won, err}
	}()
	release := sync.OnceFunc(func() { close(held.release) })
	var first result
	ended := false
	select {
	case <-held.half:
	case first = <-slow: // it was refused before
		ended = true
	}
	// A service that holds others up until the first has ended is waited for in vain.
	late := time.AfterFunc(stagedAtMost, release)
	defer late.Stop()
	won, err := w(bytes.NewReader([]byte("second")), 6)
	release()
	if !ended {
		first = <-slow
	}
	if err = errors.Join(err, first.err); err == nil && won && first.won {
		err = ErrRaces
	}
	return err
}

// heldBody is a body whose second half comes when that is released.
type heldBody struct {
	half, release chan struct{}
	once          sync.Once
	read          int
}

func (b *heldBody) Read(p []byte) (int, error) {
	if b.read == stagedSize {
		return 0, io.EOF
	}
	left := stagedSize - b.read
	if b.read < stagedSize/2 {
		left = stagedSize/2 - b.read
	} else {
		b.once.Do(func() { close(b.half) })
		<-b.release
	}
	n := min(len(p), left)
	clear(p[:n])
	b.read += n
	return n, nil
}
