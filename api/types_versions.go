package api

import (
	"time"

	"github.com/skerry-sync/skerry/replica/ids"
)

// ItemVersion is a version of an item, or a plain value of a key.
type ItemVersion struct {
	Number int    `json:"number"`       // its place in the list, from 1
	ID     string `json:"id,omitempty"` // names it whatever comes; none of a plain value
	// Author is an author's id or, of a former version by somebody unknown, its first 25 characters.
	Author  string    `json:"author"`
	Here    bool      `json:"here,omitempty"`   // the author is one of this node
	Device  string    `json:"device,omitempty"` // what the author's device calls itself
	Time    time.Time `json:"time"`
	Size    uint64    `json:"size,omitempty"` // bytes, if it is known
	Deleted bool      `json:"deleted,omitempty"`
	Head    bool      `json:"head,omitempty"`  // nothing supersedes it
	Shown   bool      `json:"shown,omitempty"` // this device goes on with it
	Kept    bool      `json:"kept"`            // it can be read, and restored
	Plain   bool      `json:"plain,omitempty"` // it is a value without versions
}

// ConflictsRequest asks for the conflicts of a replica, or without a name for all.
type ConflictsRequest struct {
	Name string `json:"name,omitempty"`
}

// ItemConflict is an item of which a person must choose a version.
type ItemConflict struct {
	ReplicaID ids.Replica `json:"replica_id"`
	Replica   string      `json:"replica"`
	Key       Key         `json:"key"`
	// Kind is what keeps the item, such as "folder", and Name what people call it there.
	Kind   string        `json:"kind,omitempty"`
	Name   string        `json:"name,omitempty"`
	Reason string        `json:"reason"` // why its versions are not merged
	Heads  []ItemVersion `json:"heads"`  // the oldest first
}

// ShownConflict is a conflict with what its versions hold.
type ShownConflict struct {
	ItemConflict
	Base  *ItemVersion  `json:"base,omitempty"` // the last version that all heads follow on
	Texts []VersionText `json:"texts"`          // of the heads, in their order
}

// VersionText is the content of a version as text or, if Diff is set, how its lines differ from
// those of the base. Without a text, Why says why there is none.
type VersionText struct {
	Text string `json:"text,omitempty"`
	Diff bool   `json:"diff,omitempty"`
	Why  string `json:"why,omitempty"`
}

// ItemRequest names an item of a replica.
type ItemRequest struct {
	Name string `json:"name"`
	Key  Key    `json:"key"`
}

// VersionRequest names a version of an item by its number or by its id.
type VersionRequest struct {
	Name   string `json:"name"`
	Key    Key    `json:"key"`
	Number int    `json:"number,omitempty"`
	ID     string `json:"id,omitempty"`
}

// ResolveRequest ends a conflict: with a head, by its number or id, with the content of a file, or
// by deleting the item.
type ResolveRequest struct {
	Name   string `json:"name"`
	Key    Key    `json:"key"`
	Number int    `json:"number,omitempty"`
	ID     string `json:"id,omitempty"`
	File   string `json:"file,omitempty"` // absolute path
	Delete bool   `json:"delete,omitempty"`
}

// Resolved is what a conflict has ended with.
type Resolved struct {
	ReplicaID ids.Replica  `json:"replica_id"`
	Replica   string       `json:"replica"`
	Key       Key          `json:"key"`
	Took      *ItemVersion `json:"took,omitempty"` // the head that was chosen
	Size      uint64       `json:"size"`           // bytes that the item holds now
	Deleted   bool         `json:"deleted,omitempty"`
	Heads     int          `json:"heads"` // how many versions stood beside each other
}

// History is how a list of versions ends.
type History struct {
	// Waiting is how many entries of the key cannot be told yet: their content is not here.
	Waiting int `json:"waiting,omitempty"`
}

// Restored is what an item holds again.
type Restored struct {
	ReplicaID ids.Replica `json:"replica_id"`
	Replica   string      `json:"replica"`
	Key       Key         `json:"key"`
	Version   ItemVersion `json:"version"` // whose content it is
}
