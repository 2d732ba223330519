// Package replica keeps replicas: signed, multi-author sets of entries that name blobs, and the
// keys that may change and read them.
//
// What belongs here: entries, authors, grants and capabilities; the rules by which an entry is
// accepted; who is given which read key of an encrypted replica; storage, queries and
// subscriptions; and the view of a replica that package reconcile needs. What never belongs here:
// content of blobs, peers, sessions and tickets.
//
// Start at [Store], and at [Plain] for the entries under the keys that people gave them. An entry's
// bytes are described in entry.go, those of statements in grant.go, revocation.go and epoch.go, the
// records in records.go; docs/protocol/replica.md has all of it for other implementations.
package replica
