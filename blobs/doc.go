// Package blobs keeps content: bytes named by their BLAKE3 hash, with the hash tree above them, so that any range can be
// sent to a stranger and checked by a stranger.
//
// What belongs here: hashes, byte ranges, the tree and its stream ([Encode], [Decode]), the store of whole and partial blobs
// ([Store]), and sequences. What never belongs here: peers, tickets, entries, or why somebody wants a blob. Directories are
// built on top, in the sub-package directory.
//
// A blob is divided into chunk groups of 16 KiB, the last one shorter. The hash tree is BLAKE3's own above the groups, so
// the blob's name is its plain BLAKE3 hash. 32 groups make a segment, the unit of storage; the record layout is described in
// store.go, the stream in stream.go and docs/protocol/blobs.md.
package blobs
