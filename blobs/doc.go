// Package blobs keeps content: bytes named by their BLAKE3 hash, with the hash tree above them, so
// that any range can be sent to a stranger and checked by a stranger.
//
// What belongs here: hashes, byte ranges, the tree and its stream ([Encoder], [Decode]), the store
// of whole and partial blobs ([Store]), sequences, pins and the collection of what nothing keeps.
// What never belongs here: peers, tickets, entries, or why somebody wants a blob. Below lies
// package files, which keeps the bytes on disk; on top stand chunked, for large content in
// content-defined chunks, and directory.
//
// A blob is divided into chunk groups of 16 KiB, the last one shorter. The hash tree is BLAKE3's
// own above the groups, so the blob's name is its plain BLAKE3 hash. 32 groups make a segment, the
// unit of receiving and of the records above a large blob; the layout of the records is described
// in record.go, the stream in stream.go and docs/protocol/blobs.md.
package blobs
