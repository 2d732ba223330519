package pebble

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/kv"
)

const ballastName = "ballast"

// DropBallast gives back the room that the store in dir keeps for a full disk, if it does: for
// whoever has to write something before the store can be opened.
func DropBallast(dir string) error {
	_, err := disk.NewBallast(filepath.Join(dir, ballastName), 0).Drop()
	return err
}

// need is what a write needs room for.
type need int

const (
	toMakeRoom   need = iota // removes things, or comes before that: see kv.ToMakeRoom
	smallRecords             // so many that they cannot fill what is left soon
	content
)

// contentSize is the length from which a value counts as content.
const contentSize = 4 << 10

// leastRoom is what must be free to make room, in bytes: some records and a new log.
const leastRoom = 1 << 20

// needOf is what a write needs room for that is content, or is not.
func needOf(ctx context.Context, isContent bool) need {
	switch {
	case kv.MakesRoom(ctx):
		return toMakeRoom
	case isContent:
		return content
	}
	return smallRecords
}

// checkSpace returns a *kv.NoSpaceError if there is less room than a write of that kind may use.
// The ballast is dropped for what makes room, and taken again when there is enough. While it is
// dropped, its room is still not for others.
func (s *Store) checkSpace(n need) error {
	if s.room == nil {
		return nil
	}
	free, err := s.freeBytes()
	if err != nil {
		return err
	}
	reserve := s.opt.Reserve
	switch n {
	case toMakeRoom:
		if reserve = leastRoom; free < s.opt.Ballast {
			was, err := s.room.Drop()
			if err != nil {
				return err
			}
			if was {
				if free, err = s.freeBytes(); err != nil {
					return err
				}
			}
		}
	case smallRecords:
		reserve /= 4
	}
	if n != toMakeRoom && free < reserve+s.opt.Ballast { // else it makes no difference
		reserve += s.dropped()
	}
	if free < reserve {
		return &kv.NoSpaceError{Dir: s.dir, Free: free, Reserve: reserve}
	}
	if free >= s.opt.Reserve/4+2*s.opt.Ballast {
		_ = s.room.Keep() // else a later write tries again; there is room now
	}
	return nil
}

// dropped is the part of the free room that is the ballast's, in bytes.
func (s *Store) dropped() uint64 {
	if s.room.Kept() {
		return 0
	}
	return s.opt.Ballast
}

func (s *Store) freeBytes() (uint64, error) {
	free, err := s.opt.FreeBytes(s.dir)
	if err != nil {
		return 0, fmt.Errorf("ask for free disk space of %s: %w", s.dir, err)
	}
	return free, nil
}

// roomToCompact returns a *kv.NoSpaceError if the tables, written anew, might fill the disk.
func (s *Store) roomToCompact() error {
	if s.room == nil {
		return nil
	}
	free, err := s.freeBytes()
	if err != nil {
		return err
	}
	if reserve := s.Used() + s.opt.Reserve/4; free < reserve {
		return &kv.NoSpaceError{Dir: s.dir, Free: free, Reserve: reserve}
	}
	return nil
}
