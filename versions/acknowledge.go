package versions

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// Each device that has written says now and then what it has seen of the others, in an entry of its
// own. So whoever writes knows on which version another device's next edit will follow, and names
// that among the ancestors, however many versions came after it: it is the base of the merge. What
// an acknowledgement says wrongly costs a conflict at worst.

const (
	// acknowledgementKey is the key of a device's acknowledgement.
	acknowledgementKey = "\x00device"
	// AwayFor is how long a device is remembered that says nothing.
	AwayFor = 15 * 30 * 24 * time.Hour
	// maxDevices is how many devices are remembered, the latest.
	maxDevices = 256
)

// DeviceInfo is what a device says of itself.
type DeviceInfo struct {
	Author      replica.AuthorID
	Incarnation record.Incarnation
	Name        string    // empty if it has none
	Said        time.Time // by the device's clock
	Seen        record.Vector
}

// acks are what this device has seen, and what others have.
type acks struct {
	mu     sync.Mutex
	own    record.Vector
	said   *record.Acknowledgement // what this device has said last, as far as that is known
	others map[replica.AuthorID]DeviceInfo
}

// saw takes note of a version that is here, unless the device itself has written it.
func (a *acks) saw(d record.Dot, self record.Device) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if d.Device == self || a.own.Covers(d) {
		return
	}
	known := a.own.Of(d.Device) > 0
	if !known && len(a.own) >= record.MaxDevices {
		return // they are forged
	}
	if a.own = a.own.With(d); !known {
		a.own = a.own.Bounded(d.Device)
	}
}

// toSay returns what the device has to say; ok is false if it has said that.
func (a *acks) toSay(i record.Incarnation, name string) (x record.Acknowledgement, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	x = record.Acknowledgement{Incarnation: i, Name: name, Seen: slices.Clone(a.own)}
	if a.said == nil {
		return x, len(x.Seen) > 0 || name != ""
	}
	return x, a.said.Name != name || a.said.Incarnation != i || !a.said.Seen.CoversAll(x.Seen)
}

func (a *acks) setSaid(x record.Acknowledgement) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said = &x
}

// heard takes note of what a device has said. Those that have said nothing for longest are
// forgotten first.
func (a *acks) heard(of DeviceInfo) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.others == nil {
		a.others = map[replica.AuthorID]DeviceInfo{}
	}
	a.others[of.Author] = of
	if len(a.others) <= maxDevices {
		return
	}
	var oldest DeviceInfo
	for _, x := range a.others {
		if oldest.Said.IsZero() || x.Said.Before(oldest.Said) {
			oldest = x
		}
	}
	delete(a.others, oldest.Author)
}

// devices returns those that have been heard of, the latest first.
func (a *acks) devices() []DeviceInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]DeviceInfo, 0, len(a.others))
	for _, x := range a.others {
		all = append(all, x)
	}
	slices.SortFunc(all, func(x, y DeviceInfo) int {
		return cmp.Or(y.Said.Compare(x.Said), bytes.Compare(x.Author[:], y.Author[:]))
	})
	return all
}

// seen returns what the devices have seen that are not away for too long: those that have been away
// longest first, since the others have seen more.
func (a *acks) seen() (all []record.Vector) {
	devices := a.devices()
	for i := range devices {
		if devices[0].Said.Sub(devices[i].Said) < AwayFor {
			all = append(all, devices[i].Seen)
		}
	}
	slices.Reverse(all)
	return all
}

// acknowledged reads what a device has seen.
func (s *Set) acknowledged(ctx context.Context, e *replica.Entry) error {
	c, err := s.cfg.Slots.Open(ctx, e)
	if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) ||
		err == nil && c.Size() > record.MaxRecord {
		return nil
	}
	if err != nil {
		return err
	}
	b := make([]byte, c.Size())
	if err := readAt(c, b, 0); err != nil {
		if errors.Is(err, plan.ErrMissing) {
			return nil
		}
		return err
	}
	a, err := record.ParseAcknowledgement(b)
	if err != nil {
		return nil
	}
	if e.Author == s.dev.Author {
		s.acks.setSaid(a)
		return nil
	}
	s.acks.heard(DeviceInfo{
		Author: e.Author, Incarnation: a.Incarnation, Name: a.Name,
		Said: time.UnixMicro(int64(e.Timestamp)).UTC(), Seen: a.Seen,
	})
	return nil
}

// Acknowledge says what this device has seen, in the replica, if that has changed since it last
// did. A device that has written nothing says nothing: it needs no author.
func (s *Set) Acknowledge(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dev.Author == (replica.AuthorID{}) || s.dev.Copied {
		return nil
	}
	a, ok := s.acks.toSay(s.dev.Incarnation, s.cfg.Name)
	if !ok {
		return nil
	}
	err := s.putAnew(ctx, nil, func() error {
		a.Incarnation = s.dev.Incarnation
		b, err := a.Append(nil)
		if err != nil {
			return err
		}
		v := Value{Key: []byte(acknowledgementKey), Stream: bytes.NewReader(b)}
		return s.put(ctx, s.key, []Value{v})
	})
	if mayNotWrite(err) {
		return nil // a device that may not write says nothing
	}
	if err != nil {
		return s.failed(fmt.Errorf("saying what has been seen: %w", err))
	}
	s.acks.setSaid(a)
	return nil
}

// Devices returns the other devices that have said what they are, the latest first: at most 256.
func (s *Set) Devices() []DeviceInfo { return s.acks.devices() }
