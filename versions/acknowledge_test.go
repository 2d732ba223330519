package versions

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// However many versions others write while a device is away, what it writes afterwards, over the
// last that it has said to have seen, is merged.
func TestBasesAreKeptForThoseThatAreAway(t *testing.T) {
	for name, says := range map[string]bool{"said": true, "not said": false} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			a, b, away := l.device(), l.device(), l.device()
			away.set("other", "o")
			a.set("k", "abc")
			l.sync()
			if says {
				require.NoError(t, away.Acknowledge(t.Context()))
			}
			l.sync()
			for range record.MaxAncestors {
				for _, d := range []*device{a, b} {
					d.set("k", map[string]string{"abc": "abcd", "abcd": "abc"}[d.text("k")])
					a.from(b)
					b.from(a)
				}
			}
			a.set("k", "abcx")
			b.from(a)
			away.set("k", "bc")
			l.sync()
			item := a.settle("k")
			if !says {
				require.ErrorIs(t, item.Conflict, plan.ErrNoBase)
				return
			}
			require.NoError(t, item.Conflict)
			l.sync()
			l.requireAll("k", "bcx")
		})
	}
}

// A device says what it has seen when there is more to say, also after it was opened anew.
func TestAcknowledge(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	a.cfg.Name = "desk"
	writes := func() int {
		before := a.disk.writes
		require.NoError(t, a.Acknowledge(t.Context()))
		return a.disk.writes - before
	}
	require.Zero(t, writes(), "it has no author yet")
	a.set("k", "a")
	require.Equal(t, 1, writes(), "its name")
	require.Zero(t, writes())
	b.set("l", "b")
	l.sync()
	require.Equal(t, 1, writes())
	require.Zero(t, writes())
	l.sync()
	a.reopen()
	a.cfg.Name = "desk"
	_, err := a.LookAgain(t.Context(), a.items())
	require.NoError(t, err)
	require.Zero(t, writes())
	known := b.Devices()
	require.Len(t, known, 1)
	require.Equal(t, "desk", known[0].Name)
	require.Equal(t, a.device().Incarnation, known[0].Incarnation)
	require.True(t, known[0].Seen.Covers(record.Dot{Device: b.device(), Counter: 1}))
	require.Empty(t, a.Devices(), "b has said nothing")
	for item, err := range b.All(t.Context(), nil, nil) {
		require.NoError(t, err)
		require.NotEqual(t, byte(0), item.Key[0])
	}
}

// items are all entries of a device.
func (d *device) items() (all []replica.Item) {
	for it, err := range d.disk.Entries(d.l.t.Context(), replica.Query{}) {
		require.NoError(d.l.t, err)
		all = append(all, it)
	}
	return all
}

// What devices say is bounded, and who says nothing for long is not waited for.
func TestAcknowledgementsAreBounded(t *testing.T) {
	var a acks
	at := func(days int) time.Time { return time.Unix(int64(days)*24*3600, 0) }
	for i := range maxDevices + 10 {
		a.heard(DeviceInfo{Author: replica.AuthorID{byte(i), byte(i >> 8)}, Said: at(1000 + i)})
	}
	require.Len(t, a.devices(), maxDevices)
	require.Equal(t, at(1000+maxDevices+9), a.devices()[0].Said)
	require.Len(t, a.seen(), maxDevices)
	a.heard(DeviceInfo{Author: replica.AuthorID{1, 2, 3}, Said: at(2000)})
	require.Len(t, a.seen(), 1, "the others have been away for too long")
	for i := range 3 * record.MaxDevices {
		a.saw(record.Dot{
			Device:  record.Device{Author: record.AuthorTag{byte(i), byte(i >> 8)}},
			Counter: 1,
		}, record.Device{})
	}
	require.Len(t, a.own, record.MaxDevices)
	a.own = nil
	for i := range 100 {
		a.saw(record.Dot{
			Device:  record.Device{Incarnation: record.Incarnation{byte(i), 1}},
			Counter: 1,
		}, record.Device{})
	}
	require.Less(t, len(a.own), 20, fmt.Sprint("of one author ", len(a.own)))
}
