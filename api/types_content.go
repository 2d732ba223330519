package api

import "github.com/skerry-sync/skerry/blobs/hash"

// AddRequest asks to import files and directories of this machine.
type AddRequest struct {
	Paths           []string `json:"paths"` // absolute
	SkipUnsafeLinks bool     `json:"skip_unsafe_links,omitempty"`
	// name to pin it under; empty is the path, with a number if that is taken
	Pin string `json:"pin,omitempty"`
	// the next blob/gc removes it, unless something else keeps it
	NoPin   bool `json:"no_pin,omitempty"`
	NoCopy  bool `json:"no_copy,omitempty"` // leave the files where they are
	Chunked bool `json:"chunked,omitempty"` // cut single files in chunks, too
	Whole   bool `json:"whole,omitempty"`   // cut no file in chunks
}

// Added describes what was imported.
type Added struct {
	Path    string    `json:"path"`
	Hash    hash.Hash `json:"hash"`
	Size    uint64    `json:"size"`
	Kind    string    `json:"kind"` // "blob" or "directory"
	Chunked bool      `json:"chunked"`
	Files   int       `json:"files,omitempty"`
	Skipped []string  `json:"skipped,omitempty"`
	Pin     string    `json:"pin,omitempty"`
}

// BlobInfo describes a blob.
type BlobInfo struct {
	Hash     hash.Hash `json:"hash"`
	Size     uint64    `json:"size"`
	Complete bool      `json:"complete"`
	Present  uint64    `json:"present"`
	Pins     []string  `json:"pins"`
}

// HashRequest names a blob, by its hash or the first 8 or more digits of it.
type HashRequest struct {
	Hash string `json:"hash"`
}

// BlobStat describes a blob at length.
type BlobStat struct {
	BlobInfo
	Kind string `json:"kind"` // "blob", "directory", "chunked" or "sequence"
	// of the blob, or of all files of a directory or chunks of a file, if that is known
	Content  uint64 `json:"content_bytes"`
	Children int    `json:"children,omitempty"` // of a sequence
	Missing  int    `json:"missing,omitempty"`  // children that are not here whole
	// the file it lies in, if it was added without a copy
	Reference string     `json:"reference,omitempty"`
	Changed   string     `json:"changed,omitempty"` // why that file is no longer what was added
	Ranges    []Span     `json:"ranges"`            // bytes that are here
	Providers []Provider `json:"providers"`         // connected peers that say they have some of it
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
	Name     string    `json:"name"`
	Hash     hash.Hash `json:"hash"`
	Sequence bool      `json:"sequence"` // the children are kept, too
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
	DryRun       bool   `json:"dry_run"`
	Kept         int    `json:"kept"`
	KeptBytes    uint64 `json:"kept_bytes"`
	Removed      int    `json:"removed"`
	RemovedBytes uint64 `json:"removed_bytes"`
	FreedBytes   uint64 `json:"freed_bytes"` // given back to the file system
	// Postponed says that more could have been given back, had there been room to write it anew.
	Postponed bool    `json:"postponed,omitempty"`
	Seconds   float64 `json:"seconds"`
}

// FetchRequest asks to fetch parts of what a ticket or hash names into the store.
type FetchRequest struct {
	What     string `json:"what"`
	Ranges   []Span `json:"ranges,omitempty"`   // of the blob; none is all
	Children []Span `json:"children,omitempty"` // of each child of the sequence
}

// FetchedPart describes what was fetched.
type FetchedPart struct {
	Hash         hash.Hash `json:"hash"`
	FetchedBytes uint64    `json:"fetched_bytes"`
	Providers    []string  `json:"providers"`
	Seconds      float64   `json:"seconds"`
}

// VerifyRequest names blobs, which are verified with what they list; none means all.
type VerifyRequest struct {
	Hashes []string `json:"hashes"`
	Repair bool     `json:"repair,omitempty"` // fetch what is damaged from connected peers
}

// Damage is a damaged part of a blob.
type Damage struct {
	Hash        hash.Hash `json:"hash"`
	Offset      uint64    `json:"offset"`
	Length      uint64    `json:"length"`
	Cause       string    `json:"cause"`
	Repaired    bool      `json:"repaired,omitempty"`
	RepairError string    `json:"repair_error,omitempty"`
	// it could not be looked at; nothing is known of it
	Unread bool `json:"unread,omitempty"`
}

// Verified sums up a check.
type Verified struct {
	Blobs    int    `json:"blobs"`
	Bytes    uint64 `json:"bytes"`
	Damaged  int    `json:"damaged"`
	Repaired int    `json:"repaired"`
	Unread   int    `json:"unread,omitempty"` // blobs that could not be looked at
	// Missing counts what the named directories and sequences list and what is not here.
	Missing int `json:"missing,omitempty"`
}

// ExportRequest asks to write a blob or directory to a path that does not exist.
type ExportRequest struct {
	Hash string `json:"hash"`
	Path string `json:"path"` // absolute
}

// Shared is a ticket for content.
type Shared struct {
	Ticket string    `json:"ticket"`
	Hash   hash.Hash `json:"hash"`
	Size   uint64    `json:"size"`
	Kind   string    `json:"kind"`
	// Skipped are the paths that were left out of a directory.
	Skipped []string `json:"skipped,omitempty"`
}

// GetRequest asks to fetch what a ticket or hash names, and to write it to Path unless that is
// empty.
type GetRequest struct {
	What string `json:"what"`
	Path string `json:"path"` // absolute; must not exist
}

// Got describes what was fetched.
type Got struct {
	Hash         hash.Hash `json:"hash"`
	Path         string    `json:"path"`
	Size         uint64    `json:"size"`
	FetchedBytes uint64    `json:"fetched_bytes"`
	Seconds      float64   `json:"seconds"`
	Providers    []string  `json:"providers"`
	Kind         string    `json:"kind"`
}
