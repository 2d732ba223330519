// Package localfirst keeps the values that an app has in a store of its own the same on all of a
// person's devices, and on those of others with whom the person shares.
//
// The app reads and writes its store. A pass of the engine compares the store with what it last
// saw there, publishes what has changed as versions (package versions), and applies what other
// devices have written: merged by a function of the app where both have changed, or kept as a
// conflict that a person resolves. There is no server: a namespace is an encrypted replica.
//
// What belongs here: namespaces, collections of typed values, the pass, conflicts, and the
// interfaces to the app's store, to the engine's own and to the node. What never belongs here:
// which version stands (package versions), a node (package localfirst/embedded has one in the
// process), and a database.
//
// Start at [Open]. The guarantees are in docs/localfirst.md.
package localfirst
