// Package plan decides what becomes of the versions of one item: which are heads, what the item
// shows, which version is to be written, and what only a person can decide.
//
// What belongs here: pure functions of versions, which give the same on every device. What never
// belongs here: where versions are kept and when they are looked at (package versions), their bytes
// (package record), and how two contents are merged, which is handed in.
//
// Start at [Make]. The rules are in docs/protocol/versions.md.
package plan
