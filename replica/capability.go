package replica

import (
	"fmt"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/replica/ids"
)

// Capability is what a holder may do with a replica. Each includes the ones before it.
type Capability = ids.Capability

// The capabilities, by their bytes in a ticket.
const (
	Sync  = ids.Sync  // take part in reconciliation
	Read  = ids.Read  // understand the content
	Write = ids.Write // change it, and grant others to
)

// ParseCapability reads "sync", "read" or "write".
func ParseCapability(s string) (Capability, error) { return ids.ParseCapability(s) }

// NotAllowedError reports an operation that the capability at hand does not permit.
type NotAllowedError struct {
	Op         string // "set", "share"
	Name       string // of the replica, on this node
	Have, Need Capability
	Author     AuthorID // who lacks a grant; zero if that is not the point
}

func (e *NotAllowedError) Error() string {
	if e.Author != (AuthorID{}) {
		return fmt.Sprintf(
			"%s %s: this node may only %s, and no grant lets author %s write this key now; ask for one "+
				"(skerry replica grant), or for a write ticket",
			e.Op, e.Name, e.Have, e.Author,
		)
	}
	return fmt.Sprintf(
		"%s %s: this node may only %s; ask for a %s ticket (skerry replica share NAME --mode %s)", e.Op,
		e.Name, e.Have, e.Need, e.Need,
	)
}

// Kind implements kind.Of.
func (e *NotAllowedError) Kind() kind.Kind { return kind.NotAllowed }
