package badger

import (
	"testing"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/kvtest"
)

func openTemporary(b testing.TB) kv.Store { return open(b, b.TempDir()) }

func BenchmarkLargeValues(b *testing.B) { kvtest.BenchmarkLargeValues(b, openTemporary) }

func BenchmarkSmallUpdates(b *testing.B) { kvtest.BenchmarkSmallUpdates(b, openTemporary) }
