// Package disk asks the file system for what Go has no portable word for: how much room is left, and that names, or data alone, be durable. It is internal because two storage packages need the same few lines, and nobody
// else does.
package disk
