package versions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/replica"
)

// Clocks decide nothing about versions. But nodes refuse an entry of the future, and an entry of a
// clock that was ahead binds its slot: whatever follows there must be later still. So a device does
// not sign while most peers say that its clock is wrong. When the clock is right again, the device
// leaves a bound slot, and the author with it.

// Clock is what peers say about the clock of a device. The zero value is that nobody has said
// anything.
type Clock struct {
	Right bool        // most peers say so, or a person
	Wrong *ClockError // most peers say so; nil otherwise
}

// A ClockError reports that nothing is written, since most known peers say that the clock of this
// device is wrong.
type ClockError struct {
	Ahead    time.Duration // by how much the peers' clocks are ahead of this one
	Off      int           // peers that say so
	Answered int           // of so many
}

func (e *ClockError) Error() string {
	where := "behind"
	if e.Ahead < 0 {
		where = "ahead of"
	}
	return fmt.Sprintf(
		"nothing was written: this machine's clock is %s %s that of %d of %d known peers. Set the "+
			"clock; if it is right, and theirs are wrong, start the node with --trust-clock",
		e.Ahead.Abs().Round(time.Second), where, e.Off, e.Answered,
	)
}

// Kind implements kind.Of.
func (e *ClockError) Kind() kind.Kind { return kind.Conflict }

// isClockWrong reports an error that says that this device does not write until its clock is set.
func isClockWrong(err error) bool {
	_, is := errors.AsType[*ClockError](err)
	return is
}

func (s *Set) clock() Clock {
	if s.cfg.Clock == nil {
		return Clock{}
	}
	return s.cfg.Clock()
}

// maySign returns a *ClockError while nothing is to be signed.
func (s *Set) maySign() error {
	if wrong := s.clock().Wrong; wrong != nil {
		return wrong
	}
	return nil
}

// newKey makes a new author.
func (s *Set) newKey(ctx context.Context) (key replica.SecretKey, err error) {
	if err := s.maySign(); err != nil {
		return key, err
	}
	return s.cfg.NewKey(ctx)
}

// putAnew calls put, which writes into slots of this device, of some keys of items. If one of them
// is bound by a time of the future, and the clock is right, the device takes a new author, and put
// is called again. What else is bound is published under the new author, too: nobody else takes it
// before its time. The caller holds the lock.
func (s *Set) putAnew(ctx context.Context, keys map[string]bool, put func() error) error {
	err := put()
	bound, is := errors.AsType[*replica.ClockError](err)
	if !is || !s.clock().Right {
		return err
	}
	if err := s.leaveBound(ctx, bound.Now, keys); err != nil {
		return fmt.Errorf("taking a new author, since a slot is bound by a time of the future: %w", err)
	}
	if err := put(); err != nil {
		return err // what was left is published before the next write
	}
	return s.forgetFormer(ctx)
}

// leaveBound gives the device a new author, and publishes those of its versions again whose times
// nodes refuse now, but for those of some keys. Until forgetFormer, all of the former author's are
// to be published: nothing is lost if the program ends.
func (s *Set) leaveBound(ctx context.Context, now time.Time, but map[string]bool) error {
	key, err := s.newKey(ctx)
	if err != nil {
		return err
	}
	former := s.dev.Author
	dev := Device{
		Author: key.Author(), Incarnation: s.cfg.incarnate(), Former: former, Rescue: s.dev.Rescue,
	}
	if err := s.cfg.State.Save(ctx, dev); err != nil {
		return err
	}
	s.key = key
	s.take(dev)
	var all []replica.Item
	q := replica.Query{Author: &former, ByTime: true, Since: now.Add(replica.MaxAhead)}
	for it, err := range s.cfg.Slots.Entries(ctx, q) {
		if err != nil {
			return err
		}
		if !but[string(it.Key)] {
			all = append(all, it)
		}
	}
	for i := range all {
		if _, err := s.publish(ctx, &all[i]); err != nil {
			return fmt.Errorf("key %q: %w", all[i].Key, err)
		}
	}
	return nil
}

// forgetFormer notes that all of the former author's versions have been published that are to be.
func (s *Set) forgetFormer(ctx context.Context) error {
	dev := s.dev
	dev.Former = replica.AuthorID{}
	if err := s.cfg.State.Save(ctx, dev); err != nil {
		return err
	}
	s.dev = dev
	return nil
}
