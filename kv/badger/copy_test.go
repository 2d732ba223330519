package badger_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	bdg "github.com/dgraph-io/badger/v4"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/badger"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// old makes a store as earlier versions did: small values in tables, large ones in the value log.
func old(t *testing.T, version byte, records map[string][]byte) (dir string) {
	dir = t.TempDir()
	db, err := bdg.Open(bdg.DefaultOptions(dir).WithLogger(nil).WithValueThreshold(64 << 10))
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bdg.Txn) error {
		for k, v := range records {
			if err := tx.Set([]byte(k), v); err != nil {
				return err
			}
		}
		if version == 0 {
			return nil
		}
		return tx.Set([]byte{0, 'v'}, []byte{version})
	}))
	require.NoError(t, db.Close())
	return dir
}

func TestCopy(t *testing.T) {
	ctx := context.Background()
	records := map[string][]byte{"empty": {}, "large": bytes.Repeat([]byte{7}, 512<<10)}
	for i := range 2000 {
		records[fmt.Sprintf("k%d", i)] = fmt.Appendf(nil, "value %d", i)
	}
	to, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, to.Close()) }()
	require.NoError(t, badger.Copy(ctx, old(t, 3, records), to, func(int) {}))

	got := map[string][]byte{}
	require.NoError(t, to.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Range{}, kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			got[string(p.Key)] = append([]byte{}, p.Value...)
		}
		return nil
	}))
	require.Equal(t, records, got)
}

func TestCopyRefuses(t *testing.T) {
	to, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, to.Close()) }()
	var version *kv.VersionError
	require.ErrorAs(t, badger.Copy(context.Background(), old(t, 4, nil), to, nil), &version)
	require.Equal(t, 4, version.Have)
	require.NoError(t, badger.Copy(context.Background(), old(t, 0, nil), to, nil), "killed before it wrote its version")
}
