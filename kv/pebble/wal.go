package pebble

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// logFS divides what Pebble does in one step when it commits: handing a record of the write-ahead
// log to the operating system, so that it survives the death of the process, and having it brought
// to the disk, so that it survives the loss of power. Pebble commits with pbl.Sync; here that does
// the first, and [logFS.sync] the second, for all commits at once. Without pbl.Sync a commit would
// be left in the memory of the process for a while.
//
// A log that is closed is brought to the disk then. Other files are none of its business.
type logFS struct {
	vfs.FS

	mu   sync.Mutex
	open map[*logFile]struct{}
}

func newLogFS(fs vfs.FS) *logFS { return &logFS{FS: fs, open: map[*logFile]struct{}{}} }

func (l *logFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.Create(name, category)
	return l.wrap(name, f, err)
}

func (l *logFS) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.ReuseForWrite(old, name, category)
	return l.wrap(name, f, err)
}

func (l *logFS) wrap(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	log := &logFile{File: f, fs: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[log] = struct{}{}
	return log, nil
}

// sync returns when everything that was written to the logs before the call is on the disk. It must
// not run beside itself: what one call has begun with, another would take for done.
func (l *logFS) sync() error {
	l.mu.Lock()
	logs := make([]*logFile, 0, len(l.open))
	for f := range l.open {
		logs = append(logs, f)
	}
	l.mu.Unlock()
	var errs []error
	for _, f := range logs {
		errs = append(errs, f.flush())
	}
	return errors.Join(errs...)
}

// logFile is a write-ahead log that is being written.
type logFile struct {
	vfs.File
	fs *logFS

	mu     sync.Mutex // held while the file is brought to the disk, or closed
	closed bool
	dirty  atomic.Bool // something was written since that was last begun
}

func (f *logFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.dirty.Store(true)
	return n, err
}

// Sync and SyncData do nothing: see logFS.
func (f *logFile) Sync() error     { return nil }
func (f *logFile) SyncData() error { return nil }

func (f *logFile) flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flushLocked()
}

func (f *logFile) flushLocked() error {
	if f.closed || !f.dirty.Swap(false) {
		return nil
	}
	if err := f.File.SyncData(); err != nil {
		f.dirty.Store(true)
		return err
	}
	return nil
}

func (f *logFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.flushLocked()
	f.closed = true
	f.fs.mu.Lock()
	delete(f.fs.open, f)
	f.fs.mu.Unlock()
	return errors.Join(err, f.File.Close())
}
