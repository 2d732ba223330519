package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
)

// damageable makes a store of several tables and a log, and returns what is in it: of each key all
// values that it ever had, the present last.
func damageable(t *testing.T, dir string) map[string][]string {
	ctx := context.Background()
	all := map[string][]string{}
	for round := range 5 {
		s, err := Open(dir, Options{Reserve: 1})
		require.NoError(t, err)
		require.NoError(t, s.Batch(ctx, func(w kv.Writer) error {
			for i := range 1200 {
				if i%(round+1) != 0 {
					continue
				}
				key, value := fmt.Sprintf("k%05d", i*7919%1200), fmt.Sprintf(
					"%d/%d/%s", round, i, strings.Repeat("x", 200),
				)
				all[key] = append(all[key], value)
				if err := w.Set([]byte(key), []byte(value)); err != nil {
					return err
				}
			}
			return nil
		}))
		if round == 2 {
			require.NoError(t, s.Compact(ctx))
		}
		require.NoError(t, s.Close())
	}
	return all
}

// Whatever is damaged in a store: nothing panics or ends the process, what can be read is read, and
// Salvage keeps everything but what was in the damaged part, which it names.
func TestDamagedFiles(t *testing.T) {
	testkit.OneGoroutine(t)
	template := filepath.Join(t.TempDir(), "kv")
	all := damageable(t, template)
	files, err := os.ReadDir(template)
	require.NoError(t, err)
	tables := 0
	for _, f := range files {
		if f.Name() == "LOCK" {
			continue
		}
		if strings.HasSuffix(f.Name(), ".sst") {
			tables++
		}
		whole, err := os.ReadFile(filepath.Join(template, f.Name()))
		require.NoError(t, err)
		flip := func(at int) []byte {
			b := bytes.Clone(whole)
			for i := at; i < min(at+16, len(b)); i++ {
				b[i] ^= 0xff
			}
			return b
		}
		for name, b := range map[string][]byte{
			"start": flip(0), "middle": flip(len(whole) / 2), "third": flip(len(whole) / 3),
			"end":   flip(max(0, len(whole)-16)),
			"index": flip(max(0, len(whole)-1200)), "half": whole[:len(whole)/2], "empty": {},
		} {
			t.Run(f.Name()+"/"+name, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "kv")
				require.NoError(t, os.CopyFS(dir, os.DirFS(template)))
				require.NoError(t, os.WriteFile(filepath.Join(dir, f.Name()), b, 0o600))
				requireUsable(t, dir)
				require.NoError(t, os.RemoveAll(dir))
				require.NoError(t, os.CopyFS(dir, os.DirFS(template)))
				require.NoError(t, os.WriteFile(filepath.Join(dir, f.Name()), b, 0o600))
				block := strings.HasSuffix(f.Name(), ".sst") && (name == "middle" || name == "third")
				// A log that is damaged ends there, like that of a process that died: Pebble cannot tell.
				requireSalvaged(t, dir, all, block, strings.HasSuffix(f.Name(), ".log"))
			})
		}
	}
	require.GreaterOrEqual(t, tables, 2)
}

// countedFile counts how often each part of a file is read.
type countedFile struct {
	objstorage.Readable
	reads map[int64]int
}

func (c *countedFile) ReadAt(ctx context.Context, p []byte, at int64) error {
	c.reads[at]++
	return c.Readable.ReadAt(ctx, p, at)
}

// A disk that fails may take seconds for each read: a damaged block is read once when it comes, and
// once when the next that can be read is looked for.
func TestSalvageReadsBlocksOnce(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "kv")
	s, err := Open(dir, Options{Reserve: 1})
	require.NoError(t, err)
	require.NoError(t, s.Batch(ctx, func(w kv.Writer) error {
		for i := range 20_000 {
			key := fmt.Appendf(nil, "k%05d", i)
			if err := w.Set(key, bytes.Repeat(key, 30)); err != nil {
				return err
			}
		}
		return nil
	}))
	require.NoError(t, s.Compact(ctx))
	require.NoError(t, s.Close())
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	require.NoError(t, err)
	require.Len(t, tables, 1)
	b, err := os.ReadFile(tables[0])
	require.NoError(t, err)
	b[len(b)/3] ^= 1
	require.NoError(t, os.WriteFile(tables[0], b, 0o600))

	v := &salvage{ctx: ctx, dir: dir, out: &Salvaged{}}
	defer v.close()
	from, err := v.openTable(tables[0], 0)
	require.NoError(t, err)
	counted := &countedFile{from.reads.Readable, map[int64]int{}}
	from.reads.Readable = counted
	records := 0
	for v.advance(from) {
		if from.at.key[0] == 'k' { // else it is of the store itself
			records++
		}
	}
	require.Len(t, v.out.Damaged, 1)
	lost := v.out.Damaged[0].Lost[0]
	require.Less(t, records, 20_000)
	require.Equal(t, 20_000-records, number(t, lost.To)-number(t, lost.From[:6])-1,
		"what was in it is named, and nothing else")
	require.Greater(t, len(counted.reads), 100)
	for at, n := range counted.reads {
		require.LessOrEqual(t, n, 2, "at %d", at)
	}
}

// number is the one in a key of TestSalvageReadsBlocksOnce.
func number(t *testing.T, key []byte) int {
	n, err := strconv.Atoi(string(key[1:]))
	require.NoError(t, err)
	return n
}

// requireUsable opens, reads, writes and compacts a store as far as that goes.
func requireUsable(t *testing.T, dir string) {
	ctx := context.Background()
	fine := func(err error) {
		var corrupt *kv.CorruptError
		if err != nil {
			require.ErrorAs(t, err, &corrupt)
			require.NotContains(t, err.Error(), "\n", "one sentence")
		}
	}
	s, err := Open(dir, Options{Reserve: 1})
	fine(err)
	if err != nil {
		return
	}
	for _, reverse := range []bool{false, true} {
		fine(s.View(ctx, func(r kv.Reader) error {
			for _, err := range r.Scan(kv.Prefix([]byte("k")), kv.ScanOptions{Reverse: reverse}) {
				if err != nil {
					return err
				}
			}
			return nil
		}))
	}
	for i := range 1200 {
		fine(s.View(ctx, func(r kv.Reader) error {
			_, err := r.Get(fmt.Appendf(nil, "k%05d", i))
			if errors.Is(err, kv.ErrNotFound) {
				return nil
			}
			return err
		}))
	}
	require.NoError(t, s.Update(ctx, func(tx kv.Txn) error {
		return tx.Set([]byte("other"), []byte("value"))
	}))
	fine(s.Compact(ctx))
	require.NoError(t, s.View(ctx, func(r kv.Reader) error {
		_, err := r.Get([]byte("other"))
		return err
	}), "what does not need the damaged part goes on")
	fine(s.Close())
}

func requireSalvaged(t *testing.T, dir string, all map[string][]string, oneBlock, silent bool) {
	ctx := context.Background()
	to := dir + ".new"
	got, err := Salvage(ctx, dir, to, Options{Reserve: 1})
	require.NoError(t, err)
	s, err := Open(to, Options{Reserve: 1})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	lost := 0
	named := func(key string) bool {
		for _, d := range got.Damaged {
			if len(d.Lost) == 0 {
				return true
			}
			for _, r := range d.Lost {
				if key >= string(r.From) && (r.To == nil || key < string(r.To)) {
					return true
				}
			}
		}
		return false
	}
	require.NoError(t, s.View(ctx, func(r kv.Reader) error {
		for key, values := range all {
			v, err := r.Get([]byte(key))
			if err == nil && string(v) == values[len(values)-1] {
				continue
			}
			lost++
			require.True(t, silent || named(key), "%s is lost without a word", key)
			if err == nil {
				require.Contains(t, values, string(v), "an older version")
			} else {
				require.ErrorIs(t, err, kv.ErrNotFound)
			}
		}
		return nil
	}))
	if oneBlock {
		require.LessOrEqual(t, lost, 200, "a damaged block costs what was in it")
	}
	if lost > 0 && !silent {
		require.NotEmpty(t, got.Damaged)
	}
}
