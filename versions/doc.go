// Package versions keeps edits that know of each other in a replica: each value of an entry is a
// version, which says what it supersedes, so that no edit is lost in silence, and all devices show
// the same.
//
// What belongs here: reading and writing the versions of a replica as one device; what a device
// must notice of itself: that it was copied, or is an old copy; batches and history. What never
// belongs here: what contents mean (whoever stands above says how they are merged), which version
// stands (package plan), and bytes of records (package record).
//
// Start at [Open]. The rules are in docs/protocol/versions.md.
package versions
