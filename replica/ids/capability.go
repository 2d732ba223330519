package ids

import "fmt"

// Capability is what a holder may do with a replica. Each includes the ones before it.
type Capability byte

// The capabilities, by their bytes in a ticket.
const (
	Sync  Capability = 1 // take part in reconciliation
	Read  Capability = 2 // understand the content
	Write Capability = 3 // change it, and grant others to
)

var capabilityNames = map[Capability]string{Sync: "sync", Read: "read", Write: "write"}

func (c Capability) String() string {
	if s, ok := capabilityNames[c]; ok {
		return s
	}
	return fmt.Sprintf("capability %d", byte(c))
}

// ParseCapability reads "sync", "read" or "write".
func ParseCapability(s string) (Capability, error) {
	for c, name := range capabilityNames {
		if name == s {
			return c, nil
		}
	}
	return 0, fmt.Errorf("unknown capability %q: use sync, read or write", s)
}

// MarshalText implements encoding.TextMarshaler.
func (c Capability) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Capability) UnmarshalText(b []byte) (err error) {
	*c, err = ParseCapability(string(b))
	return err
}
