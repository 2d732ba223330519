package storetest

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/localfirst"
)

// RunDisk tests, beside Run, a store in a directory: it is there when it is opened again, it is
// open once at a time, and batches are whole after the death of the process. It starts the
// program of the test anew, so it must be called by a test of its own.
func RunDisk(t *testing.T, open Open) {
	if dir := os.Getenv(writerDir); dir != "" {
		writeUntilKilled(t, open, dir)
		return
	}
	t.Run("opened again", func(t *testing.T) { testReopened(t, open) })
	t.Run("opened twice", func(t *testing.T) { testOpenedTwice(t, open) })
	t.Run("killed", func(t *testing.T) { testKilled(t, open) })
}

func testReopened(t *testing.T, open Open) {
	dir := t.TempDir()
	for round := range 3 {
		s, end, err := open(t.Context(), dir)
		require.NoError(t, err)
		keys, values := scan(t, s, item("c", "", nil).Name)
		require.Len(t, keys, round)
		for key, value := range values {
			require.Equal(t, "value of "+key, value)
		}
		key := fmt.Sprint("k", round)
		apply(t, s, item("c", key, []byte("value of "+key)))
		require.NoError(t, end())
	}
}

func testOpenedTwice(t *testing.T, open Open) {
	dir := t.TempDir()
	s := opened(t, open, dir)
	_, _, err := open(t.Context(), dir)
	require.Error(t, err)
	apply(t, s, item("c", "k", []byte("v")))
}

// writerDir is in the environment of a process that writes until it is killed.
const writerDir = "SKERRY_STORETEST_WRITER"

const writerWidth = 40

// numbered is batch n: all its records say n. One only it has, instead of that of the last one.
func numbered(n int) []localfirst.Record {
	value := []byte(strconv.Itoa(n))
	all := []localfirst.Record{
		item("only", strconv.Itoa(n), value), item("only", strconv.Itoa(n-1), nil),
	}
	for i := range writerWidth {
		all = append(all, item("c", strconv.Itoa(i), value))
	}
	return all
}

func writeUntilKilled(t *testing.T, open Open, dir string) {
	s := opened(t, open, dir)
	n := 0
	for r, err := range s.Scan(t.Context(), localfirst.ItemRecord, "ns", "only") {
		require.NoError(t, err)
		n, err = strconv.Atoi(r.Key)
		require.NoError(t, err)
	}
	for {
		n++
		apply(t, s, numbered(n)...)
		_, err := fmt.Printf("%s%d\n", wrote, n)
		require.NoError(t, err)
	}
}

// wrote stands before the number of a batch that has been applied.
const wrote = "wrote "

// A process is killed while it applies batches. All that it was told was applied is there, and
// nothing is there in part.
func testKilled(t *testing.T, open Open) {
	dir := t.TempDir()
	last := 0
	for range testkit.Few(8, 3) {
		acknowledged := writeAndKill(t, dir, last, 1+rand.IntN(40))
		s, end, err := open(t.Context(), dir)
		require.NoError(t, err)
		keys, _ := scan(t, s, item("only", "", nil).Name)
		require.Len(t, keys, 1)
		n, err := strconv.Atoi(keys[0])
		require.NoError(t, err)
		require.Contains(t, []int{acknowledged, acknowledged + 1}, n)
		require.NoError(t, whole(t.Context(), s, writerWidth))
		b, err := s.Get(t.Context(), item("c", "0", nil).Name)
		require.NoError(t, err)
		require.Equal(t, keys[0], string(b))
		require.NoError(t, end())
		last = n
	}
}

// writeAndKill lets a process apply some batches to the store in dir, and kills it. It returns the
// number of the last batch of which the process said that it was applied.
func writeAndKill(t *testing.T, dir string, last, batches int) int {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	name, _, _ := strings.Cut(t.Name(), "/")
	c := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+name+"$", "-test.timeout=5m")
	c.Env = append(os.Environ(), writerDir+"="+dir)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	acknowledged := last
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); { // also what it said before it died
		text, ok := strings.CutPrefix(lines.Text(), wrote)
		if !ok {
			said = append(said, lines.Text())
			continue
		}
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		require.Equal(t, acknowledged+1, n, "it did not begin where the last one ended")
		acknowledged = n
		if n == last+batches {
			cancel()
		}
	}
	err = c.Wait()
	require.GreaterOrEqual(t, acknowledged, last+batches, "it ended by itself: %v %v", err, said)
	return acknowledged
}
