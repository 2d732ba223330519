// Package merge combines two contents that were changed apart from each other. [Text] works line by
// line and [JSON] member by member. [Counters], [Set] and [Map] are for values that should never
// conflict. [Carry] writes a JSON value anew and keeps what its writer does not know.
//
// What belongs here: pure functions of contents. What never belongs here: versions, heads and who
// wrote them (package versions), stores, clocks, and what a file or an item of an app is.
//
// Each function that merges is a [Func] and keeps these rules:
//
//   - The same inputs give the same bytes on every device. The comparison of lines is part of the
//     protocol for that reason, and is written out here (see threeWay) and not taken from a library
//     whose next version may compare in another way.
//   - Equal inputs give that input, and a side that equals the base gives the other side, byte for
//     byte, whatever the content is.
//   - Exchanging local and remote changes nothing. [Map] and [Options] with ByID or PreferLocal are
//     the exceptions: there local is the later side, as it is on all devices.
//   - What one side added is in the result, or there is a [*Conflict]. The result never has markers
//     of conflicts, nor a line or a member that no input has.
//   - Time and memory grow with the inputs (n log n at most). Inputs over [MaxSize] or [MaxParts]
//     are a conflict.
//
// Start at [Func].
package merge

import (
	"bytes"
	"fmt"
)

const (
	// MaxSize is how many bytes each content to be merged may have.
	MaxSize = 8 << 20
	// MaxParts is how many lines or JSON values each content may have.
	MaxParts = 1 << 18
	// MaxDepth is how deeply arrays and objects may be nested in JSON.
	MaxDepth = 256
)

// A Func merges local and remote, which both come from base. A nil base says that there never was
// one; an empty base is a content. The result may share memory with an input. The only error is a
// *Conflict: the contents are to be left as they are, side by side.
type Func func(base, local, remote []byte) (merged []byte, err error)

// A Reason says why contents were not merged.
type Reason string

// Reasons, as a person reads them.
const (
	BothChanged Reason = "both sides changed it, in different ways"
	NotText     Reason = "it is not text in UTF-8, or in UTF-16 with a byte order mark"
	NotJSON     Reason = "it is not JSON with distinct members"
	NotCounter  Reason = "it is not a counter"
	NotSet      Reason = "it is not a JSON array"
	NotMap      Reason = "it is not a JSON object"
	Encodings   Reason = "the sides have different encodings"
	LineEnds    Reason = "both sides changed the line ends, in different ways"
	Broken      Reason = "the result would not be valid JSON or XML, as the sides are"
	TooLarge    Reason = "it is too large to be merged"
)

// A Conflict reports contents that a person or the layer above has to settle.
type Conflict struct {
	Reason Reason
	// At is the first place that is in conflict: lines of the base ("line 7", "lines 3 to 5", or
	// "after line 7" if both sides inserted there), or a JSON pointer (RFC 6901). It is empty if the
	// reason is about all of the content.
	At string
}

func (c *Conflict) Error() string {
	if c.At == "" {
		return fmt.Sprintf("cannot merge: %s", c.Reason)
	}
	return fmt.Sprintf("cannot merge: %s: %s", c.At, c.Reason)
}

func conflict(why Reason) error { return &Conflict{Reason: why} }

// settled returns the result if one input is it as a whole, whatever the contents are.
func settled(base, local, remote []byte) (merged []byte, ok bool) {
	switch {
	case bytes.Equal(local, remote):
		return local, true
	case base == nil:
		return nil, false
	case bytes.Equal(local, base):
		return remote, true
	case bytes.Equal(remote, base):
		return local, true
	}
	return nil, false
}

// tooLarge says if a content has more bytes than are merged.
func tooLarge(contents ...[]byte) bool {
	for _, c := range contents {
		if len(c) > MaxSize {
			return true
		}
	}
	return false
}
