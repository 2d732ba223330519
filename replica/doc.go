// Package replica keeps replicas: signed, multi-author sets of entries that name blobs, and the keys that may change them.
//
// What belongs here: entries, authors, grants and capabilities; the rules by which an entry is accepted; storage, queries and
// subscriptions; and the view of a replica that package reconcile needs. What never belongs here: content of blobs, peers,
// sessions and tickets.
//
// Start at [Store]. An entry's bytes are described in entry.go, a grant's in grant.go, the records in store.go; docs/protocol/replica.md has
// all of it for other implementations.
package replica
