package sqlite

import (
	"context"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/localfirst"
	"github.com/skerry-sync/skerry/localfirst/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(_ context.Context, dir string) (localfirst.Store, func() error, error) {
	s, err := Open(filepath.Join(dir, "store"))
	if err != nil {
		return nil, nil, err
	}
	return s, s.Close, nil
}

func TestStore(t *testing.T)       { storetest.Run(t, open) }
func TestStoreOnDisk(t *testing.T) { storetest.RunDisk(t, open) }

func BenchmarkStore(b *testing.B) { storetest.Bench(b, open) }
