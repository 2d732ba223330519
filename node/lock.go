package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// Owner describes the process that has a data directory open.
type Owner struct {
	PID    int    `json:"pid"`
	NodeID string `json:"node_id,omitempty"`
	API    string `json:"api,omitempty"` // path of the socket of its local API, once that answers
	// Command is what the process runs, such as "skerry share"; Since is when it began.
	Command string    `json:"command,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

// String names the process, and what a node is known by once it answers.
func (o Owner) String() string {
	who := "another process"
	switch {
	case o.API == "" && o.Command != "":
		who = o.Command
	case o.NodeID != "":
		who = "node " + o.NodeID
	}
	if o.PID == 0 {
		return who
	}
	if o.Since.IsZero() {
		return fmt.Sprintf("%s (process %d)", who, o.PID)
	}
	return fmt.Sprintf("%s (process %d, since %s)", who, o.PID, o.Since.Local().Format(time.DateTime))
}

// InUseError reports a data directory that another process has open.
type InUseError struct {
	Dir   string
	Owner Owner
}

func (e *InUseError) Error() string {
	if e.Owner.API == "" && e.Owner.Command != "" {
		return fmt.Sprintf("data directory %s is in use by %s, which does nothing for other "+
			"commands, or not yet: wait for it, or end it; or choose another directory with --dir",
			e.Dir, e.Owner)
	}
	return fmt.Sprintf("data directory %s is in use by %s: stop it, or choose another with --dir",
		e.Dir, e.Owner)
}

// lock is the exclusive hold on a data directory. The operating system lets go of it when the
// process ends, however it ends.
type lock struct {
	f    *os.File
	dir  string
	info Owner
}

const (
	lockName  = "lock"
	ownerName = "owner.json"
)

func acquire(dir, command string) (*lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := lockFile(f); err != nil {
		owner, _ := ReadOwner(dir) // if it cannot be read, the message names nobody
		return nil, errors.Join(&InUseError{dir, owner}, f.Close())
	}
	l := &lock{f: f, dir: dir, info: Owner{
		PID: os.Getpid(), Command: command, Since: time.Now().UTC().Truncate(time.Second),
	}}
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

// ReadOwner returns what the process that has dir open, or had it when it died, says of itself. It
// returns fs.ErrNotExist if nobody has.
func ReadOwner(dir string) (o Owner, err error) {
	b, err := os.ReadFile(filepath.Join(dir, ownerName))
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal(b, &o)
}
