// Package datadir is the directory in which a node keeps everything: who has it open, that nobody
// else may read it, the node's key, and where the store lies, also if it is damaged.
//
// What belongs here: what lies where in the directory, and who may open it. What never belongs
// here: what is in the store, and in the files of content (packages kv and blobs/files).
//
// Start at [Open].
package datadir

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

// Dir is an open data directory, on which it has the exclusive hold. The operating system lets go
// of it when the process ends, however it ends. Its methods are for one goroutine.
type Dir struct {
	f    *os.File
	path string
	info Owner
}

const (
	lockName  = "lock"
	ownerName = "owner.json"
)

// Open takes hold of a data directory for a process that was started as command says, and makes it
// if it is not there. It returns an *InUseError if another process has it open.
func Open(dir, command string) (*Dir, error) {
	if err := makePrivate(dir); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	return acquire(dir, command)
}

func acquire(dir, command string) (*Dir, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := disk.Lock(f); err != nil {
		owner, _ := ReadOwner(dir) // if it cannot be read, the message names nobody
		return nil, errors.Join(&InUseError{dir, owner}, f.Close())
	}
	d := &Dir{f: f, path: dir, info: Owner{
		PID: os.Getpid(), Command: command, Since: time.Now().UTC().Truncate(time.Second),
	}}
	if err := d.write(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return d, nil
}

func (d *Dir) write() error {
	b, err := json.Marshal(d.info)
	if err != nil {
		return err
	}
	tmp := filepath.Join(d.path, ownerName+".new")
	err = os.WriteFile(tmp, b, 0o600)
	if disk.IsFull(err) { // there is room that is kept for this
		if err = pebble.DropBallast(filepath.Join(d.path, storeDir)); err == nil {
			err = os.WriteFile(tmp, b, 0o600)
		}
	}
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return os.Rename(tmp, filepath.Join(d.path, ownerName))
}

// SetNode makes known which node has the directory open.
func (d *Dir) SetNode(id string) error {
	d.info.NodeID = id
	return d.write()
}

// SetAPI makes known where the node's local API answers.
func (d *Dir) SetAPI(path string) error {
	d.info.API = path
	return d.write()
}

// Close lets go of the directory.
func (d *Dir) Close() error {
	err := os.Remove(filepath.Join(d.path, ownerName))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, d.f.Close())
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
