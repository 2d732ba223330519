// Package diskspace asks how much room a file system has left. It is internal because two storage packages need the same few lines, and nobody
// else does.
package diskspace
