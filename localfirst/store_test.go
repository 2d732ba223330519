package localfirst_test

import (
	"context"
	"testing"

	"github.com/skerry-sync/skerry/localfirst"
	"github.com/skerry-sync/skerry/localfirst/storetest"
)

func openMemory(context.Context, string) (localfirst.Store, func() error, error) {
	return localfirst.NewMemoryStore(), func() error { return nil }, nil
}

func TestMemoryStore(t *testing.T) { storetest.Run(t, openMemory) }

func BenchmarkMemoryStore(b *testing.B) { storetest.Bench(b, openMemory) }
