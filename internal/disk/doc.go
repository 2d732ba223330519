// Package disk does with the file system what Go has no portable call for: it asks how much room is
// left, makes names or data durable, opens files of a person without being blocked or led astray,
// and creates files and directories that replace nothing.
//
// It is internal because several packages need the same few lines, and nobody else does. It never
// decides what is stored where.
package disk
