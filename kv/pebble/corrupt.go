package pebble

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	pbl "github.com/cockroachdb/pebble/v2"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/kv"
)

// listener keeps Pebble from ending the process over a damaged file, which it does by default:
// whoever needs the damaged part gets an error, and a compaction in the background that meets one
// leaves the tables as they are. When such work finds the disk full, it gets the ballast's room:
// else everything that writes would wait for it without end. Without a ballast, room is nil.
func listener(room *disk.Ballast) *pbl.EventListener {
	return &pbl.EventListener{
		DataCorruption: func(pbl.DataCorruptionInfo) {}, BackgroundError: func(err error) {
			if room != nil && disk.IsFull(err) {
				_, _ = room.Drop() // what comes next says so if there is no room still
			}
		},
	}
}

// damaged makes a *kv.CorruptError of an error that says that a file is damaged, and leaves others
// as they are.
func damaged(dir string, err error) error {
	if err == nil || !pbl.IsCorruptionError(err) {
		return err
	}
	var known *kv.CorruptError
	if errors.As(err, &known) {
		return err
	}
	out := &kv.CorruptError{File: dir, Err: err}
	if info := pbl.ExtractDataCorruptionInfo(err); info != nil {
		out.File = info.Path
	}
	return out
}

// openError makes a *kv.CorruptError of an error of opening, unless the operating system has
// refused something: nothing but the contents of files can be wrong then.
func openError(dir string, err error) error {
	var refused syscall.Errno
	if errors.As(err, &refused) && refused != syscall.ENOENT {
		return fmt.Errorf("open store %s: %w", dir, err)
	}
	if known := damaged(dir, err); known != err {
		return known
	}
	return &kv.CorruptError{File: dir, Err: err}
}

// caught turns a panic of Pebble over what is in its files into an error.
func caught(dir string, err *error) {
	if r := recover(); r != nil {
		*err = &kv.CorruptError{File: dir, Err: fmt.Errorf("%v", r)}
	}
}

// logger takes what Pebble has to say. Only what it cannot go on after is worth saying: it never
// returns from Fatalf.
type logger struct{}

func (logger) Infof(string, ...any)  {}
func (logger) Errorf(string, ...any) {}
func (logger) Fatalf(format string, args ...any) {
	first, _, _ := strings.Cut(fmt.Sprintf(format, args...), "\n")
	fmt.Fprintf(os.Stderr, "skerry: the store cannot go on: %s\n", first)
	os.Exit(1)
}
