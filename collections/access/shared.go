package access

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/collections/store"
)

// SharedNonces remembers nonces in a store that several servers share, so that no two of them let
// the same request in. The store must tell for sure whether an object was there: one in an S3
// bucket does, one in a replica does not, as nodes learn of each other's writes later.
//
// The objects are empty, under sharedNonces ‖ number of the skew's tenth in which the request was
// made, 16 digits ‖ / ‖ digest of signer and nonce, 32 hex digits.
type SharedNonces struct {
	Store store.Store
	Skew  time.Duration // by which the time of a request may differ from the servers'
	// Local, if not nil, is asked first: it shares out what callers of this server may have
	// remembered.
	Local *Nonces
}

const sharedNonces = store.Internal + "nonces/"

func (s *SharedNonces) unit() int64 { return max(1, s.Skew.Milliseconds()/bucketsOfSkew) }

// Use implements NonceStore.
func (s *SharedNonces) Use(ctx context.Context, signer, nonce string, time, now int64) error {
	if s.Local != nil {
		if err := s.Local.Use(ctx, signer, nonce, time, now); err != nil {
			return err
		}
	}
	key := fmt.Sprintf("%s%016d/%x", sharedNonces, time/s.unit(), digestOf(signer, nonce))
	err := s.Store.Put(
		ctx, key, &store.Object{Body: []byte("{}"), Type: "application/json"}, store.Absent,
	)
	if errors.Is(err, store.ErrChanged) {
		return ErrReplayed
	}
	if err != nil {
		return fmt.Errorf("shared nonces: %w", err)
	}
	return nil
}

// Clean removes nonces of requests that are not let in any more by a server whose clock is at now,
// Unix milliseconds, or by one whose clock is a skew behind.
func (s *SharedNonces) Clean(ctx context.Context, now int64) error {
	for {
		keys, err := s.Store.List(ctx, sharedNonces, "", 1000)
		if err != nil {
			return fmt.Errorf("shared nonces: %w", err)
		}
		removed := 0
		for _, key := range keys {
			unit, _, _ := strings.Cut(strings.TrimPrefix(key, sharedNonces), "/")
			at, err := strconv.ParseInt(unit, 10, 64)
			if err == nil && (at+1)*s.unit() >= now-2*s.Skew.Milliseconds() {
				return nil // as are all that follow
			}
			if err := s.Store.Delete(ctx, key); err != nil {
				return fmt.Errorf("shared nonces: %w", err)
			}
			removed++
		}
		if removed < 1000 {
			return nil
		}
	}
}
