package versions

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
)

// A device that was copied publishes the newest of its own versions that were displaced, and what
// was displaced of its copies stays until somebody has published it.
func TestManyDisplacedOfOneKey(t *testing.T) {
	l := newLab(t)
	a := l.device()
	a.set("k", "a")
	at := slot{"k", a.authorID()}
	var copies []*device
	for range 2 {
		copies = append(copies, l.deviceOn(a.disk.copy()))
	}
	written := func(d *device, content string) replica.Item {
		d.set("k", content)
		e := d.disk.slots[at]
		a.disk.content[e.Hash] = d.disk.content[e.Hash]
		return replica.Item{Key: []byte("k"), Entry: e}
	}
	first, second := written(a, "ab"), written(a, "abc")
	x, y := written(copies[0], "ax"), written(copies[1], "ay")
	a.disk.slots[at] = x.Entry
	a.disk.displaced = []replica.Item{first, y, second}
	a.disk.device.Copied = true
	a.reopen()
	require.Equal(t, []replica.Item{y}, a.disk.displaced)
	e := a.disk.slots[slot{"k", a.authorID()}]
	v, err := a.load(t.Context(), &e)
	require.NoError(t, err)
	content, err := a.Bytes(t.Context(), v, -1, 10)
	require.NoError(t, err)
	require.Equal(t, "abc", string(content))
	a.settle("k")
	require.Equal(t, "abcxy", a.text("k"))
}

// An edit in a conflict supersedes what it shows and what it overwrites, not what was displaced: of
// that, the person has seen nothing.
func TestDisplacedIsNotOverwritten(t *testing.T) {
	l := newLab(t)
	a := l.device()
	a.set("other", "o")
	at := slot{"k", a.authorID()}
	b := l.deviceOn(a.disk.copy())
	b.set("other", "p")
	a.set("k", "A")
	b.set("k", "B")
	require.True(t, a.disk.take("k", b.disk.slots[at], b.disk.content[b.disk.slots[at].Hash]))
	require.Error(t, a.read("k").Conflict)
	require.Equal(t, "B", a.text("k"))
	a.set("k", "Bc") // before it has taken note of what has come
	_, err := a.Arrived(t.Context(), nil)
	require.NoError(t, err)
	item := a.read("k")
	require.Error(t, item.Conflict)
	require.True(t, slices.ContainsFunc(item.Heads, func(v *plan.Version) bool {
		return v.Content.Hash == a.SourceOf([]byte("A")).Hash
	}))
}
