// Package api is how programs on the same machine talk to a node: JSON over HTTP on a Unix socket
// in the data directory. It has the client, which the command line uses, and links no database.
//
// What belongs here: requests, results, errors as they travel, and the client. What never belongs
// here: answering (package server), whatever needs a node or a store, and anything about terminals,
// which is cmd/skerry's.
//
// An operation is POST /v1/NAME with a JSON body. The answer is a sequence of JSON lines, each with
// one field: progress any number of times, item for each element of a list, and at the end result
// or error. Bytes travel as bodies: GET /v1/blob and GET /v1/value answer with them, POST /v1/blob
// takes them. See docs/api.md.
//
// Start at [Dial]; [Client] has a method for each operation.
package api

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/replica/ids"
)

// Kind tells programs what went wrong.
type Kind = kind.Kind

// The kinds of package kind, and one of the API's own.
const (
	Failed       = kind.Failed
	Conflict     = kind.Conflict
	NoSpace      = kind.NoSpace
	Usage        = kind.Usage
	NotFound     = kind.NotFound
	Verification = kind.Verification
	NotAllowed   = kind.NotAllowed
	Unreachable  = kind.Unreachable
	// Unsigned says that a wallet must sign the text that is the message; see JoinWallet.
	Unsigned Kind = "unsigned"
)

// exitCodes are those that the command line gives.
var exitCodes = map[Kind]int{
	Failed: 1, Conflict: 1, NoSpace: 1, Usage: 2, NotFound: 3, Verification: 4, NotAllowed: 5,
	Unreachable: 6, Unsigned: 5,
}

// Error is an operation's failure as it crosses the API.
type Error struct {
	Kind    Kind   `json:"kind"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// ExitCode returns the exit code that a command gives for err: 0 for none, 1 for what has no kind.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if code := exitCodes[AsError(err).Kind]; code != 0 {
		return code
	}
	return 1
}

// UsageErrorf makes an error about how something was asked for.
func UsageErrorf(format string, args ...any) error {
	return &Error{Usage, fmt.Sprintf(format, args...)}
}

// Brief shortens an argument that is shown in an error: it may be a mistyped ticket, which is a
// secret.
func Brief(text string) string {
	const most = 24
	if len(text) <= most {
		return text
	}
	return fmt.Sprintf("%s… (%d characters)", text[:most/2], len(text))
}

// Progress tells how far a long operation has come. Totals are 0 while unknown.
type Progress struct {
	Doing      string `json:"doing"` // "adding", "fetching", "writing", "checking", "importing"
	Bytes      uint64 `json:"bytes"`
	TotalBytes uint64 `json:"total_bytes,omitempty"`
	Files      int    `json:"files,omitempty"`
	TotalFiles int    `json:"total_files,omitempty"`
	Entries    uint64 `json:"entries,omitempty"`
}

// Status describes a running node.
type Status struct {
	NodeID   string          `json:"node_id"`
	Addrs    []string        `json:"addrs"`
	Peers    []PeerStatus    `json:"peers"`
	Replicas []ReplicaStatus `json:"replicas"`
	Blobs    BlobStatus      `json:"blobs"`
	Version  string          `json:"version"`
	// Warnings are what is wrong with the node and keeps it from its work, for people.
	Warnings []string `json:"warnings,omitempty"`
}

// PeerStatus describes a connected peer.
type PeerStatus struct {
	ID        string `json:"id"`
	Addr      string `json:"addr"`
	Transport string `json:"transport"`
	Direct    bool   `json:"direct"`
}

// ReplicaStatus describes a replica.
type ReplicaStatus struct {
	ReplicaID  ids.Replica    `json:"replica_id"`
	Name       string         `json:"name"`
	Capability ids.Capability `json:"capability"`
	Entries    uint64         `json:"entries"`
	Encrypted  bool           `json:"encrypted,omitempty"` // names and content are sealed
	// MayWrite is set if the capability is read, and a grant lets an author of this node write now.
	// status does not tell it.
	MayWrite bool `json:"may_write,omitempty"`
}

// BlobStatus counts blobs.
type BlobStatus struct {
	Count   int    `json:"count"`
	Bytes   uint64 `json:"bytes"`
	Partial int    `json:"partial"`
}

// Line is one line of an answer, as JSON. One of its fields is set. An operation gives Progress,
// Warning and Item any number of times, and ends with Error or Result; what Item and Result hold
// depends on the operation.
type Line struct {
	Progress *Progress       `json:"progress,omitempty"`
	Warning  string          `json:"warning,omitempty"`
	Item     json.RawMessage `json:"item,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *Error          `json:"error,omitempty"`
}

// ErrStopped reports a node that went away in the middle of an answer.
var ErrStopped = errors.New("the node stopped before it had answered")
