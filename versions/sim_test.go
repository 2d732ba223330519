package versions

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

var (
	histories = flag.Int("versions.histories", defaultHistories(), "how many histories to try")
	oneSeed   = flag.Int("versions.seed", -1, "the only history to try, which is told step by step")
)

// defaultHistories is 300, in which each hard case comes up, few with the race detector, and 10,000
// in .ci/full.
func defaultHistories() int {
	if testkit.Full() && !testkit.Race {
		return 10_000
	}
	return testkit.Few(300, 20)
}

// TestHistories tries random histories of a few devices: edits, deletions, batches and resolutions,
// passes that merge, parts of what one has reaching another, deaths in the middle of a write,
// clocks that disagree, directories that are copied, and old ones that are brought back. In the
// end, all devices are the same, nothing that somebody wrote is gone which nobody knew when it was
// superseded, and one more pass writes nothing.
func TestHistories(t *testing.T) {
	met := map[string]int{}
	if *oneSeed >= 0 {
		newHistory(t, uint64(*oneSeed)).run()
		return
	}
	for seed := range *histories {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newHistory(t, uint64(seed))
			h.run()
			for what, n := range h.met {
				met[what] += n
			}
		})
	}
	if t.Failed() || *histories < 300 {
		return
	}
	for _, what := range []string{
		"merge of two", "merge of three or more", "conflict", "resolution", "edit against deletion",
		"equal contents", "part of a batch", "content that is missing", "displaced version",
		"copied device", "old directory", "death", "stale edit", "restored version", "no base here",
		"clock goes back", "acknowledgement", "revocation", "adopted version", "removed device",
		"write of a removed device", "unsent edit", "revocation of its own author",
		"adoption of what is missing",
	} {
		require.Positive(t, met[what], what)
	}
	for _, what := range slices.Sorted(maps.Keys(met)) {
		t.Logf("%6d %s", met[what], what)
	}
}

// history is one run.
type history struct {
	t       *testing.T
	seed    uint64
	rand    *rand.Rand
	time    uint64
	authors byte
	all     []*party
	met     map[string]int
	// What is true of versions: what each was written by somebody who knew which others.
	truths map[truthKey]*truth
	every  []*truth
	gone   map[int]bool // what was on no other device when it was lost on one
	cause  *cause
	// adopting says that the first device adopts.
	adopting bool
}

// truth is one edit or merge.
type truth struct {
	id   int
	key  string
	knew map[int]bool // ids, and its own
	hash record.Hash
	what string
}

func (t *truth) String() string {
	if t == nil {
		return "part of a batch"
	}
	return fmt.Sprintf("%d %s", t.id, t.what)
}

type truthKey struct {
	author replica.AuthorID
	key    string
	entry  string // hash and time
}

func keyOf(e *replica.Entry, key []byte) truthKey {
	return truthKey{e.Author, string(key), fmt.Sprint(e.Hash, e.Timestamp)}
}

// cause is why versions are being written.
type cause struct {
	what string
	knew map[string]map[int]bool // by key
}

// party is a device with its clock and what it has shown.
type party struct {
	h      *history
	name   string
	disk   *disk
	set    *Set
	looked map[string]Looked
	knew   map[string]map[record.Hash]bool // contents of what it has shown, with what that supersedes
	skew   int64
	backup *party // an older state
}

func newHistory(t *testing.T, seed uint64) *history {
	h := &history{
		t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), time: 1_800_000_000_000_000,
		met: map[string]int{}, truths: map[truthKey]*truth{}, gone: map[int]bool{},
	}
	for i := range 2 + h.rand.IntN(3) {
		h.party(string(rune('a'+i)), nil)
	}
	return h
}

func (h *history) newKey() replica.SecretKey {
	h.authors++
	return replica.SecretKeyFromSeed([32]byte{h.authors, byte(h.seed), byte(h.seed >> 8)})
}

func (h *history) party(name string, from *party) *party {
	p := &party{
		h: h, name: name, looked: map[string]Looked{}, knew: map[string]map[record.Hash]bool{},
		skew: int64(h.rand.IntN(600_000_000)),
	}
	p.disk = newDisk(nil)
	if from != nil {
		p.disk, p.looked, p.knew = from.disk.copy(), maps.Clone(from.looked), maps.Clone(from.knew)
	}
	h.use(p)
	h.all = append(h.all, p)
	return p
}

// use has a party work with the disk that it has.
func (h *history) use(p *party) {
	p.disk.now = func() uint64 { h.time++; return uint64(int64(h.time) + p.skew) }
	p.disk.onWrite = h.note
	p.disk.incarnate = func() record.Incarnation {
		return record.Incarnation(binary.BigEndian.AppendUint64(nil, h.rand.Uint64()))
	}
	p.reopen()
}

func (p *party) reopen() {
	p.disk.left = 0
	s, err := p.disk.open(p.h.t.Context(), p.h.newKey)
	p.h.require(err)
	p.set = s
}

func (h *history) require(err error) {
	require.NoError(h.t, err, "seed %d", h.seed)
}

// tell tells a step of the only history.
func (h *history) tell(format string, args ...any) {
	if *oneSeed >= 0 {
		h.t.Logf(format, args...)
	}
}

// note notes what is true of an entry that is written.
func (h *history) note(it replica.Item, content []byte) {
	if it.Key[0] == 0 {
		return
	}
	n, _, err := record.Length(content)
	h.require(err)
	r, err := record.Parse(content[:n], it.Entry.Author)
	h.require(err)
	at := keyOf(&it.Entry, it.Key)
	if h.adopting {
		if t := h.adopted(string(it.Key), r); t != nil && t.hash == r.Content.Hash {
			h.truths[at] = t
			h.tell("  adopts %d: %s %s", t.id, t.key, r)
			return
		}
	}
	if h.cause != nil {
		if knew, ok := h.cause.knew[string(it.Key)]; ok {
			delete(h.cause.knew, string(it.Key))
			for _, t := range h.every { // the same content on top of the same is the same
				less := maps.Clone(t.knew)
				delete(less, t.id)
				if t.key == string(it.Key) && t.hash == r.Content.Hash && maps.Equal(less, knew) {
					h.truths[at] = t
					h.tell("  the same as %s", t)
					return
				}
			}
			t := &truth{
				id: len(h.every), key: string(it.Key), knew: maps.Clone(knew), hash: r.Content.Hash,
				what: h.cause.what + " " + string(content[n:n+int(r.Content.Size)]),
			}
			t.knew[t.id] = true
			h.tell("  %d: %s %s %s", t.id, t.key, t.what, r)
			h.every = append(h.every, t)
			h.truths[at] = t
			return
		}
	}
	// A device publishes again what it wrote as another: it is the same edit.
	for _, t := range h.every {
		if t.key == string(it.Key) && t.hash == r.Content.Hash && t.isOf(h, r) {
			h.truths[at] = t
			h.tell("  again %d: %s %s", t.id, t.key, r)
			return
		}
	}
	require.Fail(h.t, "a version that nobody wrote", "seed %d: %s", h.seed, r)
}

// isOf reports whether a record that was published again is of an edit: it supersedes the same.
func (t *truth) isOf(h *history, r *record.Record) bool {
	for at, other := range h.truths {
		if other != t {
			continue
		}
		for _, p := range h.all {
			for _, d := range []*disk{p.disk} {
				for s, e := range d.slots {
					if keyOf(&e, []byte(s.key)) == at && sameBut(h.parse(d, &e), r) {
						return true
					}
				}
				for _, it := range d.displaced {
					if keyOf(&it.Entry, it.Key) == at && sameBut(h.parse(d, &it.Entry), r) {
						return true
					}
				}
			}
		}
	}
	return false
}

func (h *history) parse(d *disk, e *replica.Entry) *record.Record {
	b, ok := d.content[e.Hash]
	if !ok {
		return &record.Record{}
	}
	n, _, err := record.Length(b)
	h.require(err)
	r, err := record.Parse(b[:n], e.Author)
	h.require(err)
	return r
}

func sameBut(a, b *record.Record) bool {
	x, y := *a, *b
	x.Dot, y.Dot, x.Batch, y.Batch = record.Dot{}, record.Dot{}, nil, nil
	return fmt.Sprint(x) == fmt.Sprint(y)
}

// knows returns what somebody knows who has seen some versions of a key.
func (h *history) knows(key string, all []*plan.Version) map[int]bool {
	knew := map[int]bool{}
	for _, v := range all {
		t := h.truths[keyOf(v.Entry, []byte(key))]
		require.NotNil(h.t, t, "seed %d: an unknown version of %s: %s", h.seed, key, v)
		maps.Copy(knew, t.knew)
	}
	return knew
}

// alive returns the ids of what is in a version that is somewhere, with its content.
func (h *history) alive() map[int]bool {
	all := map[int]bool{}
	look := func(e *replica.Entry, key []byte) {
		t := h.truths[keyOf(e, key)]
		if t == nil || all[t.id] {
			return
		}
		for _, p := range h.all {
			if p.disk.content[e.Hash] != nil {
				maps.Copy(all, t.knew)
				return
			}
		}
	}
	for _, p := range h.all {
		if p.disk.removed {
			continue // it gives nothing to others
		}
		for at, e := range p.disk.slots {
			look(&e, []byte(at.key))
		}
		for _, it := range p.disk.displaced {
			look(&it.Entry, it.Key)
		}
	}
	return all
}

var simKeys = []string{"k", "l", "m"}

func (h *history) key() string { return simKeys[h.rand.IntN(len(simKeys))] }

func (h *history) any() *party { return h.all[h.rand.IntN(len(h.all))] }

func (p *party) read(key string) *Item {
	return p.readAs(key, p.looked[key])
}

func (p *party) readAs(key string, l Looked) *Item {
	item, err := p.set.Read(p.h.t.Context(), []byte(key), l)
	p.h.require(err)
	return item
}

// atLast reads an item when all has been waited for.
func (p *party) atLast(key string) *Item {
	l := p.looked[key]
	l.Waited = true
	return p.readAs(key, l)
}

func (h *history) run() {
	for range 25 + h.rand.IntN(50) {
		h.step()
	}
	h.settle()
}

// step does one thing.
func (h *history) step() {
	p := h.any()
	dies := h.rand.IntN(12) == 0
	if dies {
		p.disk.left = 1 + h.rand.IntN(6)
	}
	var err error
	h.tell("%s dies %v", p.name, dies)
	switch n := h.rand.IntN(100); {
	case n < 2:
		err = p.set.Acknowledge(h.t.Context())
		h.met["acknowledgement"]++
	case n < 30:
		err = p.edit()
	case n < 35:
		err = p.editMany()
	case n < 50:
		err = p.pass(h.rand.IntN(3) == 0)
	case n < 88:
		err = p.from(h.any(), h.rand.Float64(), h.rand.IntN(4) == 0)
	case n < 90:
		p.skew = int64(h.rand.IntN(600_000_000)) - 300_000_000
		h.met["clock goes back"]++
	case n < 93:
		p.backup = &party{
			disk: p.disk.copy(), looked: maps.Clone(p.looked), knew: maps.Clone(p.knew),
		}
	case n < 95:
		if p.backup != nil {
			before := h.alive()
			p.disk, p.looked, p.knew, p.backup = p.backup.disk, p.backup.looked, p.backup.knew, nil
			h.lost(before)
			h.use(p)
			h.met["old directory"]++
			h.tell("%s is an old directory", p.name)
		}
	case n < 98:
		of := p
		p = h.all[0] // whose disk may die
		p.disk.left, of.disk.left = of.disk.left, 0
		err = h.revoke(of)
	default:
		if len(h.all) < 5 {
			h.tell("%s is copied", p.name)
			h.party(fmt.Sprintf("%s'%d", p.name, len(h.all)), p)
		}
	}
	if p.disk.left == 1 {
		require.True(h.t, err == nil || errors.Is(err, errDead), "seed %d: %v", h.seed, err)
		h.met["death"]++
		p.reopen()
		return
	}
	p.disk.left = 0
	h.require(err)
}

// letters returns a content, mostly one that follows on another.
func (h *history) letters(from []byte) []byte {
	out := slices.Clone(from)
	switch n := h.rand.IntN(10); {
	case n < 2 && len(out) > 0:
		i := h.rand.IntN(len(out))
		out = slices.Delete(out, i, i+1)
	case n < 3:
		out = slices.DeleteFunc(out, isCapital)
		out = append(out, byte('A'+h.rand.IntN(5)))
	default:
		out = append(out, byte('a'+h.rand.IntN(26)))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// edit edits, deletes, resolves or restores one item.
func (p *party) edit() error {
	h, ctx := p.h, p.h.t.Context()
	key := h.key()
	item := p.read(key)
	if h.rand.IntN(10) == 0 { // something comes between reading and writing
		if err := p.from(h.any(), 1, false); err != nil {
			return err
		}
	}
	var content []byte
	if !item.Plan.Deleted() {
		var err error
		if content, err = item.Content(ctx, 1<<20); err != nil {
			return err
		}
	}
	knew := h.knows(key, item.Basis)
	var err error
	switch n := h.rand.IntN(10); {
	case n == 0:
		h.cause = &cause{"delete", map[string]map[int]bool{key: knew}}
		err = p.set.Delete(ctx, item)
	case n == 1 && len(item.Heads) > 1:
		h.cause = &cause{"resolve", map[string]map[int]bool{key: h.knows(key, item.Heads)}}
		h.met["resolution"]++
		err = p.set.Resolve(ctx, item, h.letters(content))
	case n == 2 && len(item.Heads) > 0:
		past := item.History()
		v := past[h.rand.IntN(len(past))]
		if !v.Kept {
			return nil
		}
		h.cause = &cause{"restore", map[string]map[int]bool{key: h.knows(key, item.Heads)}}
		h.met["restored version"]++
		err = p.set.Restore(ctx, item, v)
	default:
		h.cause = &cause{"edit", map[string]map[int]bool{key: knew}}
		err = p.set.Set(ctx, item, h.letters(content))
	}
	return p.wrote(err)
}

// wrote ends an edit.
func (p *party) wrote(err error) error {
	p.h.cause = nil
	if errors.Is(err, ErrStale) {
		p.h.met["stale edit"]++
		return nil
	}
	if errors.Is(err, ErrPending) {
		p.h.met["edit of what is missing"]++
		return nil
	}
	if p.mayNotWrite(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.pass(false)
}

// editMany edits all items at once.
func (p *party) editMany() error {
	h := p.h
	var edits []Edit
	h.cause = &cause{"batch", map[string]map[int]bool{}}
	for _, key := range simKeys {
		item := p.read(key)
		src := p.set.SourceOf(h.letters(nil))
		h.cause.knew[key] = h.knows(key, item.Basis)
		edits = append(edits, Edit{Item: item, Content: &src})
	}
	return p.wrote(p.set.Write(h.t.Context(), edits...))
}

// pass looks at all items, as an app or folder does, and writes merges.
func (p *party) pass(waited bool) error {
	h := p.h
	for _, key := range simKeys {
		l := p.looked[key]
		l.Waited = waited
		item, err := p.set.Read(h.t.Context(), []byte(key), l)
		if err != nil {
			return err
		}
		h.meet(item)
		if item.Plan.Write {
			h.cause = &cause{"merge", map[string]map[int]bool{key: h.knows(key, item.Heads)}}
		}
		item, err = p.set.Settle(h.t.Context(), []byte(key), l)
		h.cause = nil
		if errors.Is(err, ErrStale) || errors.Is(err, ErrPending) {
			continue
		}
		if err != nil {
			return err
		}
		now := item.Looked()
		h.tell("    %s sees %s: %v pending %d waited %v displaced %d", p.name, key, item.Heads,
			item.Pending, waited, len(p.disk.displaced))
		knew := h.contents(h.knows(key, item.Basis))
		if before := p.knew[key]; len(knew) < len(before) && isIn(knew, before) {
			require.True(h.t, item.Conflict != nil || item.Pending > 0 || item.Missing,
				"seed %d: %s goes back with %s: from %x to %x", h.seed, p.name, key, before, knew)
		}
		p.looked[key], p.knew[key] = now, knew
	}
	return nil
}

func isIn(a, b map[record.Hash]bool) bool {
	for h := range a {
		if !b[h] {
			return false
		}
	}
	return true
}

// contents returns the contents of edits. Equal ones are one.
func (h *history) contents(ids map[int]bool) map[record.Hash]bool {
	all := map[record.Hash]bool{}
	for id := range ids {
		all[h.every[id].hash] = true
	}
	return all
}

// meet counts what an item is.
func (h *history) meet(item *Item) {
	count := func(what string, is bool) {
		if is {
			h.met[what]++
		}
	}
	count("merge of two", item.Plan.Write && len(item.Heads) == 2)
	count("merge of three or more", item.Plan.Write && len(item.Heads) > 2)
	count("conflict", item.Conflict != nil)
	count("no base here", errors.Is(item.Conflict, plan.ErrNoBase))
	deleted := slices.ContainsFunc(item.Heads, func(v *plan.Version) bool {
		return v.Kind == record.Deletion
	})
	count("edit against deletion", deleted && !item.Deleted())
	for i, v := range item.Heads {
		for _, w := range item.Heads[:i] {
			count("equal contents", v.Content.Hash == w.Content.Hash && v.Kind != record.Deletion)
		}
	}
	count("content that is missing", item.Pending > 0)
}

// from takes a part of what another device has; withheld leaves contents out.
func (p *party) from(o *party, part float64, withheld bool) error {
	h := p.h
	if o == p {
		return nil
	}
	for _, a := range slices.SortedFunc(maps.Keys(o.disk.revoked), func(a, b replica.AuthorID) int {
		return bytes.Compare(a[:], b[:])
	}) {
		h.learn(p, a)
	}
	var came []replica.Item
	for _, at := range slices.SortedFunc(maps.Keys(o.disk.slots), compareSlots) {
		if h.rand.Float64() > part {
			continue
		}
		e := o.disk.slots[at]
		content := o.disk.content[e.Hash]
		if withheld && h.rand.IntN(3) == 0 {
			content = nil
		}
		if p.disk.take(at.key, e, content) {
			h.tell("  %s takes %s from %s: %s", p.name, at.key, o.name, h.truths[keyOf(&e, []byte(at.key))])
			came = append(came, replica.Item{Key: []byte(at.key), Entry: e})
		}
	}
	h.met["displaced version"] += len(p.disk.displaced)
	before, _ := p.set.Device()
	keys, err := p.set.Arrived(h.t.Context(), came)
	if after, _ := p.set.Device(); after.Author != before.Author {
		h.met["copied device"]++
		h.tell("  %s was copied", p.name)
	}
	for _, it := range came {
		if bytes.HasPrefix(it.Key, []byte(manifestPrefix)) && len(keys) > 0 {
			h.met["part of a batch"]++
		}
	}
	if p.mayNotWrite(err) {
		return nil
	}
	return err
}

// settle has all devices meet until nothing more happens, and looks at what is left.
func (h *history) settle() {
	const passes = 200
	quiet := 0
	for n := 0; quiet < 2 || n < 8; n++ { // in the end, all has been waited for
		require.Less(h.t, n, passes, "seed %d: it does not end", h.seed)
		before := 0
		for _, p := range h.all {
			before += p.disk.writes
		}
		for _, p := range h.all {
			for _, o := range h.all {
				h.require(p.from(o, 1, false))
			}
		}
		for _, p := range h.all {
			h.require(p.pass(n > 3))
		}
		after := 0
		for _, p := range h.all {
			after += p.disk.writes
		}
		if quiet++; after != before {
			quiet = 0
		}
	}
	for _, p := range h.all {
		for _, it := range p.disk.displaced {
			h.tell("  %s still has displaced %s of %s: %s", p.name, h.truths[keyOf(&it.Entry, it.Key)],
				it.Key, h.parse(p.disk, &it.Entry))
		}
	}
	final := map[string][]*plan.Version{}
	for _, key := range simKeys {
		first := h.all[0].atLast(key)
		final[key] = first.Heads
		for _, p := range h.all {
			if p.disk.removed {
				continue // it may have what it must not give to others
			}
			item := p.atLast(key)
			require.Equal(h.t, dots(first), dots(item), "seed %d: %s of %s", h.seed, key, p.name)
			require.Equal(h.t, first.Conflict, item.Conflict, "seed %d", h.seed)
			require.Zero(h.t, item.Malformed, "seed %d", h.seed)
			if item.Conflict == nil {
				require.Equal(h.t, first.Deleted(), item.Deleted(), "seed %d", h.seed)
				if !item.Deleted() {
					a, err := first.Content(h.t.Context(), 1<<20)
					h.require(err)
					b, err := item.Content(h.t.Context(), 1<<20)
					h.require(err)
					require.True(h.t, bytes.Equal(a, b), "seed %d: %q and %q", h.seed, a, b)
				}
			}
		}
		knew := h.knows(key, first.Heads)
		contents := h.contents(knew)
		for _, t := range h.every { // equal contents are one, with all that either supersedes
			if contents[t.hash] && t.key == key {
				maps.Copy(knew, t.knew)
			}
		}
		for _, t := range h.every {
			if t.key == key && !contents[t.hash] {
				require.True(h.t, knew[t.id] || h.gone[t.id], "seed %d: %q of %s is lost: %v", h.seed,
					t.what, key, first.Heads)
			}
		}
	}
	for _, p := range h.all {
		if p.disk.removed {
			p.requireUnsent(final)
		}
	}
}

func dots(i *Item) (all []record.Dot) {
	for _, v := range i.Heads {
		all = append(all, v.Dot)
	}
	return all
}
