package review

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
)

// History returns the versions of an item that are known, the newest first, and then the plain
// values that its key has. waiting is how many of its entries cannot be told, since their content
// is not here. It returns replica.ErrNotFound for a key that nobody has written.
func (s *Service) History(
	ctx context.Context, r replica.Replica, key []byte,
) (all []Version, waiting int, err error) {
	_, _, all, waiting, err = s.history(ctx, r, key)
	return all, waiting, err
}

func (s *Service) history(ctx context.Context, r replica.Replica, key []byte) (
	set *versions.Set, item *versions.Item, all []Version, waiting int, err error,
) {
	set, devices, err := s.look(ctx, r)
	if err != nil {
		return nil, nil, nil, 0, err
	}
	if item, err = read(ctx, set, key); err != nil {
		return nil, nil, nil, 0, about(r, key, err)
	}
	of, err := s.authors(ctx, r, devices, item, true)
	if err != nil {
		return nil, nil, nil, 0, about(r, key, err)
	}
	for _, p := range item.History() {
		all = append(all, of.version(item, p))
	}
	others, err := set.Others(ctx, key)
	if err != nil {
		return nil, nil, nil, 0, about(r, key, err)
	}
	for i := range others {
		o := &others[i]
		if o.Missing {
			waiting++
			continue
		}
		if o.IsTombstone() && len(item.Heads) > 0 {
			continue // it withdraws a version of its author, and says nothing of the item
		}
		all = append(all, Version{
			Author: o.Author.String(), Here: of.here[o.Author], Device: of.devices[o.Author],
			Time: o.Time(), Size: o.Size, Deleted: o.IsTombstone(), Kept: !o.IsTombstone(),
			Plain: true, entry: &o.Entry,
		})
	}
	if len(all) == 0 && waiting == 0 {
		return nil, nil, nil, 0, about(r, key, replica.ErrNotFound)
	}
	number(all)
	return set, item, all, waiting, nil
}

// ErrNoVersion reports a version that was asked for and is not known.
var ErrNoVersion = kind.New(kind.NotFound, "there is no such version")

// errAmbiguous reports an id that two versions have.
var errAmbiguous = kind.New(kind.Usage, "two versions have this id: take one by its number")

// Choice names a version in a list: by its number or, if that is 0, by its id.
type Choice struct {
	Number int
	ID     string
}

// of returns the version that is chosen.
func (c Choice) of(all []Version) (v Version, err error) {
	if c.Number != 0 {
		if c.Number < 0 || c.Number > len(all) {
			return v, fmt.Errorf("%w: number %d of %d", ErrNoVersion, c.Number, len(all))
		}
		return all[c.Number-1], nil
	}
	found := 0
	for i := range all {
		if all[i].ID == c.ID && c.ID != "" {
			v = all[i]
			found++
		}
	}
	switch found {
	case 1:
		return v, nil
	case 0:
		return v, fmt.Errorf("%w: %q", ErrNoVersion, c.ID)
	}
	return v, errAmbiguous
}

// ErrPlain reports a plain value, which has no versions.
var ErrPlain = kind.New(
	kind.Usage, "it is a plain value and no version: skerry replica set writes a value again",
)

// Restore gives an item the content of one of its versions again, in a version over all that there
// are, and returns that of which it is the content. It returns ErrNoVersion, ErrPlain,
// versions.ErrNotKept, versions.ErrNoAuthor and replica.NotAllowedError.
func (s *Service) Restore(
	ctx context.Context, r replica.Replica, key []byte, c Choice,
) (Version, error) {
	_, _, all, _, err := s.history(ctx, r, key)
	if err != nil {
		return Version{}, err
	}
	v, err := c.of(all)
	if err == nil {
		switch {
		case v.Plain: // before the replica is opened as one that has versions
			err = ErrPlain
		case !v.Kept:
			err = notKept(v)
		}
	}
	if err != nil {
		return Version{}, about(r, key, err)
	}
	return v, about(r, key, s.write(ctx, r, key, func(set *versions.Set, item *versions.Item) error {
		p, err := item.Past(v.past.Dot)
		if err != nil {
			return err
		}
		return set.Restore(ctx, item, p)
	}))
}

func notKept(v Version) error {
	if v.Deleted {
		return fmt.Errorf("%w: it is a deletion", versions.ErrNotKept)
	}
	return versions.ErrNotKept
}

// tries is how often a decision is written anew if the item has been written here meanwhile.
const tries = 3

// write opens the versions of a replica to be written, and has decide write an item as it is now.
func (s *Service) write(
	ctx context.Context, r replica.Replica, key []byte,
	decide func(*versions.Set, *versions.Item) error,
) error {
	set, release, err := s.sets.Open(ctx, r.ID)
	if errors.Is(err, node.ErrDisplacedInUse) {
		return fmt.Errorf("an app of this node has its versions open: decide in the app, or end it: %w",
			err)
	}
	if err != nil {
		return err
	}
	defer release()
	for range tries {
		item, err2 := read(ctx, set.Set, key)
		if err2 != nil {
			return err2
		}
		if err = decide(set.Set, item); !errors.Is(err, versions.ErrStale) {
			return err
		}
	}
	return err
}

// Open opens the content of a version, or of a plain value, in an item's history, as long as ctx
// lives. It returns versions.ErrNotKept, and ErrNoVersion.
func (s *Service) Open(
	ctx context.Context, r replica.Replica, key []byte, c Choice,
) (*io.SectionReader, error) {
	set, item, all, _, err := s.history(ctx, r, key)
	if err != nil {
		return nil, err
	}
	v, err := c.of(all)
	if err != nil {
		return nil, about(r, key, err)
	}
	in, err := s.open(ctx, set, item, v)
	return in, about(r, key, err)
}

func (s *Service) open(
	ctx context.Context, set *versions.Set, item *versions.Item, v Version,
) (*io.SectionReader, error) {
	switch {
	case !v.Kept:
		return nil, notKept(v)
	case v.Plain:
		c, err := set.OpenOther(ctx, v.entry)
		if err != nil {
			return nil, err
		}
		return io.NewSectionReader(c, 0, c.Size()), nil
	}
	return item.OpenPast(ctx, v.past)
}
