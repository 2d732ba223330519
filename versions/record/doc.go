// Package record is the form of a version in bytes: what the value of an entry holds where edits
// must know of each other.
//
// What belongs here: the types of a version, how they are written and read, and the limits of each
// part. What never belongs here: which versions count and how they are merged (package plan), and
// where they are kept (package versions).
//
// Start at [Parse].
//
// The format is in docs/protocol/versions.md.
package record
