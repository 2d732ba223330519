// Package onnode keeps versions in the replicas of a node.
//
// What belongs here: what binds package versions to a node: its entries and content, the record of
// the device, authors who may write, and looking at what comes from peers. What never belongs here:
// what versions mean (package versions), and what contents mean (whoever stands above).
//
// Start at [Open].
package onnode
