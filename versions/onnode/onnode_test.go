package onnode

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
)

// Edits that two devices make without each other are merged, and a third one that joins later has
// the same.
func TestEditsAreMerged(t *testing.T) {
	for name, encrypted := range map[string]bool{"plain": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) {
			a := newMachine(t, t.TempDir()).start(true).found(encrypted)
			a.write("k", "ab")
			b := newMachine(t, t.TempDir()).start(true).join(a, replica.Write)
			eventually(t, "k", "ab", b)
			b.restart(false)
			b.write("k", "abx")
			b.write("only", "b")
			a.write("k", "bc")
			require.NoError(t, a.set.Write(t.Context(),
				versions.Edit{Item: a.read("many/1"), Content: source(a, "1")},
				versions.Edit{Item: a.read("many/2"), Content: source(a, "2")},
			))
			b.restart(true)
			b.meet(a)
			eventually(t, "k", "bcx", a, b)
			eventually(t, "only", "b", a, b)
			eventually(t, "many/2", "2", a, b)
			c := newMachine(t, t.TempDir()).start(true).join(b, replica.Read)
			eventually(t, "k", "bcx", c)
			eventually(t, "many/1", "1", c)
			require.False(t, c.read("k").Plan.Write, "the merge was written")
		})
	}
}

func source(m *machine, content string) *versions.Source {
	src := m.set.SourceOf([]byte(content))
	return &src
}

// A data directory is copied while the node is stopped, and both run: each notices, nothing that
// either wrote is lost, and they are different devices afterwards.
func TestCopiedDirectory(t *testing.T) {
	for name, encrypted := range map[string]bool{"plain": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) {
			a := newMachine(t, t.TempDir()).start(true).found(encrypted)
			witness := newMachine(t, t.TempDir()).start(true).join(a, replica.Write)
			a.write("k", "a")
			a.write("l", "l")
			eventually(t, "l", "l", witness)
			a.stop()
			dir := filepath.Join(t.TempDir(), "copy")
			require.NoError(t, os.CopyFS(dir, os.DirFS(a.dir)))
			require.NoError(t, os.Remove(filepath.Join(dir, "node.key")))
			b := newMachine(t, dir)
			b.id = a.id
			// Both write, in the same place and elsewhere, before they meet.
			a.start(false)
			b.start(false)
			a.write("k", "ab")
			a.write("k", "abc")
			a.write("mine", "a")
			b.write("k", "ax")
			b.write("mine", "b")
			b.write("new", "n")
			a.restart(true)
			b.restart(true)
			a.meet(witness)
			b.meet(witness)
			a.meet(b)
			eventually(t, "k", "abcx", a, b, witness)
			eventually(t, "mine", "ab", a, b, witness)
			eventually(t, "new", "n", a, b, witness)
			eventually(t, "l", "l", a, b, witness)
			a.write("k", "abcxy")
			eventually(t, "k", "abcxy", a, b, witness)
			b.write("k", "abcxyz")
			eventually(t, "k", "abcxyz", a, b, witness)
			of := map[string]bool{}
			for _, m := range []*machine{a, b} {
				d, ok := m.set.Device()
				require.True(t, ok)
				of[d.String()] = true
			}
			require.Len(t, of, 2)
		})
	}
}

// A device whose directory was restored from an old copy has all back that others had, goes on, and
// what it writes stands beside what it does not remember.
func TestRestoredDirectory(t *testing.T) {
	a := newMachine(t, t.TempDir()).start(true).found(false)
	b := newMachine(t, t.TempDir()).start(true).join(a, replica.Write)
	a.write("k", "a")
	a.write("l", "l")
	eventually(t, "k", "a", b)
	eventually(t, "l", "l", b)
	a.stop()
	old := filepath.Join(t.TempDir(), "old")
	require.NoError(t, os.CopyFS(old, os.DirFS(a.dir)))
	a.start(true)
	a.write("k", "ab")
	a.write("k", "abc")
	a.write("later", "x")
	a.meet(b)
	eventually(t, "k", "abc", b)
	eventually(t, "later", "x", b)
	a.stop()
	require.NoError(t, os.RemoveAll(a.dir))
	require.NoError(t, os.Rename(old, a.dir))
	a.start(false)
	require.Equal(t, "a", a.text("k"))
	a.write("k", "ay") // without what it wrote when it was newer
	a.restart(true)
	a.meet(b)
	eventually(t, "k", "abcy", a, b)
	eventually(t, "later", "x", a, b)
	a.write("k", "z")
	eventually(t, "k", "z", a, b)
}

// A host that holds the replica to sync, and can read nothing of it, keeps what versions need, also
// the contents of ancestors, however often it collects garbage.
func TestHostThatCannotRead(t *testing.T) {
	a := newMachine(t, t.TempDir()).start(true).found(true)
	a.write("k", "abc")
	host := newMachine(t, t.TempDir()).start(true).join(a, replica.Sync)
	b := newMachine(t, t.TempDir()).start(true).join(a, replica.Write)
	eventually(t, "k", "abc", b)
	a.stop()
	b.restart(false)
	b.write("k", "abcx")
	b.restart(true)
	b.meet(host)
	collect := func() {
		_, err := host.n.Collect(t.Context(), false, nil)
		require.NoError(t, err)
	}
	waitForContent(t, host)
	collect()
	b.stop()
	a.start(false)
	a.write("k", "bc") // its base is in what b wrote, too
	a.restart(true)
	a.meet(host)
	eventually(t, "k", "bcx", a)
	waitForContent(t, host)
	collect()
	a.stop()
	b.start(true)
	b.meet(host)
	eventually(t, "k", "bcx", b)
	history := b.read("k").History()
	require.GreaterOrEqual(t, len(history), 4)
	kept := 0
	for _, p := range history {
		if p.Kept {
			kept++
		}
	}
	require.Equal(t, len(history), kept)
}
