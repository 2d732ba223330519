// Package place has the places where a server of collections may keep its documents, by the names
// that people give them: in memory, in a directory, in a bucket of an S3 service, or in a replica
// of a node, with the rules by which all servers of the replica tell what counts.
//
// What belongs here: opening a place, and which rules of a replica count. What never belongs here:
// how documents lie in a place (package store and those below it), what rules say (package rules),
// and the server.
//
// Start at [Spec].
package place

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/skerry-sync/skerry/collections/service"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/s3"
	"github.com/skerry-sync/skerry/internal/kind"
)

// Spec names a place.
type Spec struct {
	// Name is replica:NAME, directory:PATH, s3:URL or memory.
	Name string

	// The rest is for buckets.
	Region          string // "" lets the service tell
	PlainNames      bool   // objects have the names of their documents' paths
	AccessKey       string // "" looks for keys where programs for S3 do
	SecretAccessKey string
}

// replicaPrefix begins the names of replicas.
const replicaPrefix = "replica:"

// InReplica reports whether the place is in a replica.
func (s *Spec) InReplica() bool {
	name, is := strings.CutPrefix(s.Name, replicaPrefix)
	return is && name != ""
}

// A NameError reports a name that is that of no place.
type NameError struct{ Name string }

func (e *NameError) Error() string {
	return fmt.Sprintf("%s: it is replica:NAME, directory:PATH, s3:URL or memory", e.Name)
}

// Kind implements kind.Of.
func (e *NameError) Kind() kind.Kind { return kind.Usage }

// Place returns a place that is in no replica.
func (s *Spec) Place() service.Place { return elsewhere{s} }

type elsewhere struct{ *Spec }

// Open implements service.Place.
func (s elsewhere) Open(ctx context.Context, k service.Keep) (kept store.Store, err error) {
	sort, name, _ := strings.Cut(s.Name, ":")
	switch {
	case sort == "memory" && name == "":
		k.Log.Warn("documents are kept in memory and will be gone when the server ends")
		kept = store.NewMemory()
	case sort == "directory" && name != "":
		kept, err = store.OpenDirectory(name)
	case sort == "s3" && name != "":
		kept, err = s.bucket(ctx, name, &k)
	default:
		return nil, &NameError{s.Name}
	}
	if err != nil {
		return nil, err
	}
	if k.Codec == nil {
		return kept, nil
	}
	return store.Coded(kept, k.Codec), nil
}

// bucket opens a bucket of an S3 service. If used nonces are remembered in it, the service must
// tell for sure which of several servers was first.
func (s *Spec) bucket(ctx context.Context, at string, k *service.Keep) (store.Store, error) {
	o := s3.Options{Region: s.Region, PlainNames: s.PlainNames}
	if s.AccessKey != "" {
		o.Credentials = credentials.NewStaticV4(s.AccessKey, s.SecretAccessKey, "")
	}
	kept, err := s3.Open(ctx, at, o)
	if err != nil {
		return nil, err
	}
	switch err = kept.Contend(ctx); {
	case err == nil:
		return kept, nil
	case errors.Is(err, s3.ErrRaces) && !k.SharedNonces:
		k.Log.Warn("only one server may write to this bucket: of writes at the same time, the "+
			"service lets several succeed that should exclude each other", "store", at)
		return kept, nil
	case errors.Is(err, s3.ErrRaces):
		err = fmt.Errorf("extensions.evm.sharedNonces: %w, and so would a request that somebody has "+
			"recorded; use a service that holds (docs/collections.md), or leave it out", err)
	}
	return nil, errors.Join(fmt.Errorf("bucket %s: %w", at, err), kept.Close())
}
