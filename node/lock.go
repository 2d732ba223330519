package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// Owner describes the process that has a data directory open.
type Owner struct {
	PID    int    `json:"pid"`
	NodeID string `json:"node_id,omitempty"`
	API    string `json:"api,omitempty"` // path of the socket of its local API, once that answers
}

// InUseError reports a data directory that another process has open.
type InUseError struct {
	Dir   string
	Owner Owner
}

func (e *InUseError) Error() string {
	who := "another process"
	if e.Owner.NodeID != "" {
		who = "node " + e.Owner.NodeID
	}
	if e.Owner.PID != 0 {
		who += fmt.Sprintf(" (process %d)", e.Owner.PID)
	}
	return fmt.Sprintf("data directory %s is in use by %s: stop it, or choose another with --dir", e.Dir, who)
}

// lock is the exclusive hold on a data directory. The operating system lets go of it when the process ends, however it ends.
type lock struct {
	f    *os.File
	dir  string
	info Owner
}

const (
	lockName  = "lock"
	ownerName = "owner.json"
)

func acquire(dir string) (*lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := lockFile(f); err != nil {
		owner, _ := ReadOwner(dir) // if it cannot be read, the message names nobody
		return nil, errors.Join(&InUseError{dir, owner}, f.Close())
	}
	l := &lock{f: f, dir: dir, info: Owner{PID: os.Getpid()}}
	if err := l.write(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

func (l *lock) write() error {
	b, err := json.Marshal(l.info)
	if err != nil {
		return err
	}
	tmp := filepath.Join(l.dir, ownerName+".new")
	err = os.WriteFile(tmp, b, 0o600)
	if disk.IsFull(err) { // there is room that is kept for this
		if err = pebble.DropBallast(filepath.Join(l.dir, storeDir)); err == nil {
			err = os.WriteFile(tmp, b, 0o600)
		}
	}
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return os.Rename(tmp, filepath.Join(l.dir, ownerName))
}

func (l *lock) release() error {
	err := os.Remove(filepath.Join(l.dir, ownerName))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, l.f.Close())
}

// ReadOwner returns what the process that has dir open, or had it when it died, says of itself. It returns fs.ErrNotExist if nobody has.
func ReadOwner(dir string) (o Owner, err error) {
	b, err := os.ReadFile(filepath.Join(dir, ownerName))
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal(b, &o)
}
