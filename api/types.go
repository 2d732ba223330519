// Package api is how programs on the same machine talk to a node: JSON over HTTP on a Unix socket in the data directory, with a server, and
// the client that the command line uses.
//
// What belongs here: requests, results, errors and their translation from and to those of the node. What never belongs here: the
// work itself, which is node's, and anything about terminals, which is cmd/skerry's.
//
// An operation is POST /v1/NAME with a JSON body. The answer is a sequence of JSON lines, each with one field: progress any number of
// times, item for each element of a list, and at the end result or error. Bytes travel as bodies: GET /v1/blob and GET
// /v1/value answer with them, POST /v1/blob takes them. See docs/api.md.
package api

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
)

// Kind tells programs what went wrong.
type Kind string

// The kinds, and the exit codes that the command line gives for them.
const (
	Failed       Kind = "failed"       // 1
	Usage        Kind = "usage"        // 2
	NotFound     Kind = "not_found"    // 3
	Verification Kind = "verification" // 4
	NotAllowed   Kind = "not_allowed"  // 5
	Unreachable  Kind = "unreachable"  // 6
)

var exitCodes = map[Kind]int{Failed: 1, Usage: 2, NotFound: 3, Verification: 4, NotAllowed: 5, Unreachable: 6}

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
	ReplicaID  replica.ID         `json:"replica_id"`
	Name       string             `json:"name"`
	Capability replica.Capability `json:"capability"`
	Entries    uint64             `json:"entries"`
}

// BlobStatus counts blobs.
type BlobStatus struct {
	Count   int    `json:"count"`
	Bytes   uint64 `json:"bytes"`
	Partial int    `json:"partial"`
}

// AddRequest asks to import files and directories of this machine.
type AddRequest struct {
	Paths           []string `json:"paths"` // absolute
	SkipUnsafeLinks bool     `json:"skip_unsafe_links,omitempty"`
	Pin             string   `json:"pin,omitempty"`     // name to pin it under; empty is the path, with a number if that is taken
	NoPin           bool     `json:"no_pin,omitempty"`  // the next blob/gc removes it, unless something else keeps it
	NoCopy          bool     `json:"no_copy,omitempty"` // leave the files where they are
	Chunked         bool     `json:"chunked,omitempty"` // cut single files in chunks, too
	Whole           bool     `json:"whole,omitempty"`   // cut no file in chunks
}

// Added describes what was imported.
type Added struct {
	Path    string     `json:"path"`
	Hash    blobs.Hash `json:"hash"`
	Size    uint64     `json:"size"`
	Kind    string     `json:"kind"` // "blob" or "directory"
	Chunked bool       `json:"chunked"`
	Files   int        `json:"files,omitempty"`
	Skipped []string   `json:"skipped,omitempty"`
	Pin     string     `json:"pin,omitempty"`
}

// BlobInfo describes a blob.
type BlobInfo struct {
	Hash     blobs.Hash `json:"hash"`
	Size     uint64     `json:"size"`
	Complete bool       `json:"complete"`
	Present  uint64     `json:"present"`
	Pins     []string   `json:"pins"`
}

// HashRequest names a blob, by its hash or the first 8 or more digits of it.
type HashRequest struct {
	Hash string `json:"hash"`
}

// BlobStat describes a blob at length.
type BlobStat struct {
	BlobInfo
	Kind      string     `json:"kind"`                // "blob", "directory", "chunked" or "sequence"
	Content   uint64     `json:"content_bytes"`       // of the blob, or of all files of a directory or chunks of a file, if that is known
	Children  int        `json:"children,omitempty"`  // of a sequence
	Missing   int        `json:"missing,omitempty"`   // children that are not here whole
	Reference string     `json:"reference,omitempty"` // the file it lies in, if it was added without a copy
	Ranges    []Span     `json:"ranges"`              // bytes that are here
	Providers []Provider `json:"providers"`           // connected peers that say they have some of it
}

// Span is a run of bytes.
type Span struct {
	Offset uint64 `json:"offset"`
	Length uint64 `json:"length"`
}

// Provider is a peer that says it has a blob, or some of it.
type Provider struct {
	ID       string `json:"id"`
	Present  uint64 `json:"present"`
	Complete bool   `json:"complete"`
}

// PinRequest asks to keep a blob.
type PinRequest struct {
	Hash   string `json:"hash"`
	Name   string `json:"name,omitempty"`   // empty is the hash
	Single bool   `json:"single,omitempty"` // of a sequence, keep only the list itself
}

// Pin keeps a blob.
type Pin struct {
	Name     string     `json:"name"`
	Hash     blobs.Hash `json:"hash"`
	Sequence bool       `json:"sequence"` // the children are kept, too
}

// UnpinRequest names a pin, or a blob of which all pins are meant.
type UnpinRequest struct {
	Name string `json:"name"`
}

// CollectRequest asks to remove what nothing keeps.
type CollectRequest struct {
	DryRun bool `json:"dry_run,omitempty"`
}

// Collected sums up a collection.
type Collected struct {
	DryRun       bool    `json:"dry_run"`
	Kept         int     `json:"kept"`
	KeptBytes    uint64  `json:"kept_bytes"`
	Removed      int     `json:"removed"`
	RemovedBytes uint64  `json:"removed_bytes"`
	FreedBytes   uint64  `json:"freed_bytes"` // given back to the file system
	Seconds      float64 `json:"seconds"`
}

// FetchRequest asks to fetch parts of what a ticket or hash names into the store.
type FetchRequest struct {
	What     string `json:"what"`
	Ranges   []Span `json:"ranges,omitempty"`   // of the blob; none is all
	Children []Span `json:"children,omitempty"` // of each child of the sequence
}

// FetchedPart describes what was fetched.
type FetchedPart struct {
	Hash         blobs.Hash `json:"hash"`
	FetchedBytes uint64     `json:"fetched_bytes"`
	Providers    []string   `json:"providers"`
	Seconds      float64    `json:"seconds"`
}

// VerifyRequest names blobs; none means all.
type VerifyRequest struct {
	Hashes []string `json:"hashes"`
	Repair bool     `json:"repair,omitempty"` // drop what is damaged, and fetch it from connected peers
}

// Damage is a damaged part of a blob.
type Damage struct {
	Hash        blobs.Hash `json:"hash"`
	Offset      uint64     `json:"offset"`
	Length      uint64     `json:"length"`
	Cause       string     `json:"cause"`
	Repaired    bool       `json:"repaired,omitempty"`
	RepairError string     `json:"repair_error,omitempty"`
}

// Verified sums up a check.
type Verified struct {
	Blobs    int    `json:"blobs"`
	Bytes    uint64 `json:"bytes"`
	Damaged  int    `json:"damaged"`
	Repaired int    `json:"repaired"`
}

// ExportRequest asks to write a blob or directory to a path that does not exist.
type ExportRequest struct {
	Hash string `json:"hash"`
	Path string `json:"path"` // absolute
}

// Shared is a ticket for content.
type Shared struct {
	Ticket string     `json:"ticket"`
	Hash   blobs.Hash `json:"hash"`
	Size   uint64     `json:"size"`
	Kind   string     `json:"kind"`
}

// GetRequest asks to fetch what a ticket or hash names, and to write it to Path unless that is empty.
type GetRequest struct {
	What string `json:"what"`
	Path string `json:"path"` // absolute; must not exist
}

// Got describes what was fetched.
type Got struct {
	Hash         blobs.Hash `json:"hash"`
	Path         string     `json:"path"`
	Size         uint64     `json:"size"`
	FetchedBytes uint64     `json:"fetched_bytes"`
	Seconds      float64    `json:"seconds"`
	Providers    []string   `json:"providers"`
	Kind         string     `json:"kind"`
}

// NameRequest names a replica, by its name, id or a unique prefix of its id.
type NameRequest struct {
	Name string `json:"name"`
}

// JoinRequest asks to join the replica of a ticket.
type JoinRequest struct {
	Ticket string  `json:"ticket"`
	Name   string  `json:"name,omitempty"`
	Policy *Policy `json:"policy,omitempty"`
}

// Policy says which content of a replica is fetched without being asked for.
type Policy struct {
	Mode     string `json:"mode"` // "everything", "nothing" or "prefixes"
	Prefixes []Key  `json:"prefixes,omitempty"`
	MaxSize  uint64 `json:"max_size,omitempty"` // bytes; 0 is no limit
}

// PolicyRequest asks for a replica's policy or, with one, to change it.
type PolicyRequest struct {
	Name   string  `json:"name"`
	Policy *Policy `json:"policy,omitempty"`
}

// ShareReplicaRequest asks for a ticket.
type ShareReplicaRequest struct {
	Name string             `json:"name"`
	Mode replica.Capability `json:"mode"`
	// Invite, if there, asks for an invite instead of a ticket that anybody may use for ever.
	Invite *InviteRequest `json:"invite,omitempty"`
}

// InviteRequest sets the limits of an invite.
type InviteRequest struct {
	Prefix    Key       `json:"prefix"`              // of what may be written
	Delegable bool      `json:"delegable,omitempty"` // the grant may be passed on
	Expires   time.Time `json:"expires,omitzero"`    // in 7 days if this is not given
	Forever   bool      `json:"forever,omitempty"`   // it does not expire
	Uses      *int      `json:"uses,omitempty"`      // 1 if this is not given, 0 for no limit
}

// ReplicaTicket is a ticket for a replica, or an invite to it.
type ReplicaTicket struct {
	Ticket    string             `json:"ticket"`
	ReplicaID replica.ID         `json:"replica_id"`
	Mode      replica.Capability `json:"mode"`
	Invite    string             `json:"invite,omitempty"` // its id
	Expires   time.Time          `json:"expires,omitzero"` // of an invite
	Uses      int                `json:"uses,omitempty"`   // of an invite
}

// InvitesRequest asks for the invites to one replica, or for all.
type InvitesRequest struct {
	Name string `json:"name,omitempty"`
}

// Invites are those that this node has made, and those that it was given and could not redeem yet.
type Invites struct {
	Issued  []Invite        `json:"issued"`
	Pending []PendingInvite `json:"pending"`
}

// Invite is one that this node has made.
type Invite struct {
	ID        string             `json:"id"`
	ReplicaID replica.ID         `json:"replica_id"`
	Replica   string             `json:"replica,omitempty"` // its name, if it is still here
	Mode      replica.Capability `json:"mode"`
	Prefix    Key                `json:"prefix"`
	Delegable bool               `json:"delegable"`
	Created   time.Time          `json:"created"`
	Expires   time.Time          `json:"expires,omitzero"`
	Uses      int                `json:"uses"`  // 0 for no limit
	State     string             `json:"state"` // "open", "expired", "used" or "revoked"
	Redeemed  []Redemption       `json:"redeemed"`
}

// Redemption tells who has used an invite.
type Redemption struct {
	Author replica.AuthorID `json:"author"`
	Node   string           `json:"node"`
	At     time.Time        `json:"at"`
}

// PendingInvite is one whose node has not been reached yet.
type PendingInvite struct {
	ID      string    `json:"id"`
	From    []string  `json:"from"` // ids of nodes
	Created time.Time `json:"created"`
	Error   string    `json:"error"`             // of the last attempt
	Refused bool      `json:"refused,omitempty"` // it is not tried again
}

// UninviteRequest names an invite by its id, or the first 8 or more digits of it.
type UninviteRequest struct {
	ID string `json:"id"`
}

// Uninvited is the id of an invite that is worthless now, or was given up.
type Uninvited struct {
	ID string `json:"id"`
}

// ReplicaInfo describes a replica at length.
type ReplicaInfo struct {
	ReplicaStatus
	Tombstones     uint64             `json:"tombstones"`
	Fingerprint    string             `json:"fingerprint"`
	Authors        []replica.AuthorID `json:"authors"`
	Peers          []KnownPeer        `json:"peers"`
	PendingContent int                `json:"pending_content"`
	Policy         Policy             `json:"policy"`
	Created        time.Time          `json:"created"`
}

// KnownPeer is a peer that is remembered to hold a replica.
type KnownPeer struct {
	ID        string   `json:"id"`
	Connected bool     `json:"connected"`
	Addrs     []string `json:"addrs"`
}

// Key is an entry's key as text: the key itself if it is printable UTF-8, or "hex:" and its bytes.
type Key []byte

const hexPrefix = "hex:"

// ParseKey reads the text of a key.
func ParseKey(s string) (Key, error) {
	if digits, ok := strings.CutPrefix(s, hexPrefix); ok {
		b, err := hex.DecodeString(digits)
		if err != nil {
			return nil, UsageErrorf("key %q: after hex: must come an even number of hex digits", s)
		}
		return b, nil
	}
	if len(s) > replica.MaxKey {
		return nil, UsageErrorf("%v: it has %d", replica.ErrKeyTooLong, len(s))
	}
	return Key(s), nil
}

func (k Key) String() string {
	s := string(k)
	if !utf8.ValidString(s) || strings.HasPrefix(s, hexPrefix) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return hexPrefix + hex.EncodeToString(k)
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Key) UnmarshalText(b []byte) (err error) {
	*k, err = ParseKey(string(b))
	return err
}

// Entry describes an entry.
type Entry struct {
	Key       Key              `json:"key"`
	Author    replica.AuthorID `json:"author"`
	Hash      blobs.Hash       `json:"hash"`
	Size      uint64           `json:"size"`
	Timestamp uint64           `json:"timestamp"`         // microseconds since 1970
	Content   string           `json:"content,omitempty"` // "complete", "partial" or "missing"
	Deleted   bool             `json:"deleted,omitempty"`
	From      string           `json:"from,omitempty"`    // the peer it came from, in events
	Dropped   bool             `json:"dropped,omitempty"` // in events: a revocation has made it void
	Missed    uint64           `json:"missed,omitempty"`  // of a watch: so many entries came too fast to be told of; all else is empty
}

// SetRequest asks to set a key to a value, or to the content of a file of this machine.
type SetRequest struct {
	Name   string `json:"name"`
	Key    Key    `json:"key"`
	Value  []byte `json:"value,omitempty"`
	File   string `json:"file,omitempty"`   // absolute
	Author string `json:"author,omitempty"` // the default author if empty
}

// KeyRequest names a key of a replica, or with Prefix all keys that begin with it.
type KeyRequest struct {
	Name   string `json:"name"`
	Key    Key    `json:"key"`
	Prefix bool   `json:"prefix,omitempty"`
	Author string `json:"author,omitempty"`
}

// Removed counts keys.
type Removed struct {
	Removed int `json:"removed"`
}

// ListRequest selects entries.
type ListRequest struct {
	Name    string    `json:"name"`
	Prefix  Key       `json:"prefix"`
	Author  string    `json:"author,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	Limit   int       `json:"limit,omitempty"`
	All     bool      `json:"all,omitempty"` // every author's, and deletions
	Reverse bool      `json:"reverse,omitempty"`
	ByTime  bool      `json:"by_time,omitempty"`
}

// ImportItem is one line of an import.
type ImportItem struct {
	Key   Key     `json:"key"`
	Value *string `json:"value,omitempty"`
	File  string  `json:"file,omitempty"` // absolute
}

// Imported sums up an import.
type Imported struct {
	Imported int     `json:"imported"`
	Seconds  float64 `json:"seconds"`
}

// ExportReplicaRequest asks to write the latest values to a directory that does not exist or is empty.
type ExportReplicaRequest struct {
	Name       string `json:"name"`
	Dir        string `json:"dir"` // absolute
	SkipUnsafe bool   `json:"skip_unsafe,omitempty"`
}

// Exported counts files.
type Exported struct {
	Exported int      `json:"exported"`
	Skipped  []string `json:"skipped,omitempty"`
}

// SyncRequest asks for sessions with all peers of a replica, or one.
type SyncRequest struct {
	Name   string `json:"name"`
	Peer   string `json:"peer,omitempty"`
	Prefix Key    `json:"prefix,omitempty"` // only keys that begin with it
}

// CheckRequest asks for a check of a replica.
type CheckRequest struct {
	Name   string `json:"name"`
	Repair bool   `json:"repair"`
}

// Checked is what a check of a replica has found.
type Checked struct {
	ReplicaID   replica.ID `json:"replica_id"`
	Entries     uint64     `json:"entries"`     // with deletions
	Bad         uint64     `json:"bad"`         // entries with a wrong signature or without a grant
	Fingerprint string     `json:"fingerprint"` // computed from the entries
	Faults      []string   `json:"faults"`      // what does not agree with the entries
	Repaired    bool       `json:"repaired"`
}

// Session describes a session.
type Session struct {
	Peer            string  `json:"peer"`
	Rounds          int     `json:"rounds"`
	Messages        int     `json:"messages"`
	BytesSent       uint64  `json:"bytes_sent"`
	BytesReceived   uint64  `json:"bytes_received"`
	EntriesSent     uint64  `json:"entries_sent"`
	EntriesReceived uint64  `json:"entries_received"`
	Milliseconds    float64 `json:"milliseconds"`
	Error           string  `json:"error"`
}

// Synced lists sessions.
type Synced struct {
	Sessions []Session `json:"sessions"`
}

// Author describes an author whose key the node has.
type Author struct {
	Author  replica.AuthorID `json:"author"`
	Default bool             `json:"default"`
}

// AuthorRequest names an author; empty asks for the default.
type AuthorRequest struct {
	Author string `json:"author,omitempty"`
}

// errClosed reports a server that went away in the middle of an answer.
var errClosed = errors.New("the node stopped before it had answered")

// GrantRequest asks to let an author write.
type GrantRequest struct {
	Name      string    `json:"name"`
	Author    string    `json:"author"`
	Prefix    Key       `json:"prefix"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Delegable bool      `json:"delegable,omitempty"`
}

// Grant is what an author may write.
type Grant struct {
	ID          string           `json:"id"`
	Author      replica.AuthorID `json:"author"`
	By          string           `json:"by,omitempty"` // the author who delegated it; nothing for the replica key
	Prefix      Key              `json:"prefix"`
	Issued      time.Time        `json:"issued"`
	NotBefore   time.Time        `json:"not_before,omitzero"`
	NotAfter    time.Time        `json:"not_after,omitzero"`
	Delegable   bool             `json:"delegable"`
	Revoked     bool             `json:"revoked"` // in whole or from a time on
	RevokedFrom time.Time        `json:"revoked_from,omitzero"`
}

// RevokeRequest asks to end what an author may write: everything, or from a time on, which is now unless given.
type RevokeRequest struct {
	Name   string    `json:"name"`
	Author string    `json:"author"`
	From   time.Time `json:"from,omitzero"`
	All    bool      `json:"all,omitempty"`
}

// Revoked tells what a revocation did.
type Revoked struct {
	Author  replica.AuthorID `json:"author"`
	From    time.Time        `json:"from,omitzero"` // nothing for everything
	Dropped uint64           `json:"dropped"`       // entries, on this node
}

// Revocation is one of a replica.
type Revocation struct {
	Author replica.AuthorID `json:"author"`
	By     string           `json:"by,omitempty"` // the author who made it; nothing for the replica key
	Issued time.Time        `json:"issued"`
	From   time.Time        `json:"from,omitzero"` // nothing for everything
}

// Grants are the statements of a replica about who may write.
type Grants struct {
	Grants      []Grant      `json:"grants"`
	Revocations []Revocation `json:"revocations"`
}
