package identity

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// What an identity asks of a seed.
const (
	SeedRegister   = "register"   // keep a replica
	SeedUnregister = "unregister" // end that
	SeedStatus     = "status"     // tell what the seed keeps for the identity
)

// SeedAsk is what an identity asks of one seed. Its message names the request, the seed and all
// that the request is about, so a signature is worth nothing at another seed, for another request,
// or with another ticket. (OBJECTS' Register Backup names none of these.)
type SeedAsk struct {
	Request string `json:"request"` // SeedRegister, SeedUnregister or SeedStatus
	Seed    string `json:"seed"`    // the seed's node id
	Replica string `json:"replica,omitempty"`
	// Ticket is the BLAKE3 hash of the ticket's text, 64 hex digits. Only SeedRegister has one.
	Ticket string `json:"ticket,omitempty"`
	// Device is the node id of the device that may ask later whether the registration stands, or
	// empty for none. Only SeedRegister may have one.
	Device string `json:"device,omitempty"`
}

// maxSeedWord is the length in bytes of the longest node or replica id that a SeedAsk may have.
const maxSeedWord = 128

// check returns what is wrong with the request: every field that its kind needs is there, no other
// is, and none could be mistaken for several lines.
func (a SeedAsk) check() error {
	word := func(name, s string, must, may bool) error {
		switch {
		case s == "" && must:
			return fmt.Errorf("a request to a seed without its %s", name)
		case s != "" && !may:
			return fmt.Errorf("a %s request to a seed with a %s", a.Request, name)
		case len(s) > maxSeedWord || strings.ContainsFunc(s, func(r rune) bool {
			return r <= ' ' ||
				r > '~'
		}):
			return fmt.Errorf("bad %s in a request to a seed", name)
		}
		return nil
	}
	register := a.Request == SeedRegister
	about := register || a.Request == SeedUnregister
	if !about && a.Request != SeedStatus {
		return fmt.Errorf("unknown request to a seed %.32q", a.Request)
	}
	err := errors.Join(word("node id", a.Seed, true, true), word("replica", a.Replica, about, about),
		word("ticket", a.Ticket, register, register), word("device", a.Device, false, register))
	if err == nil && register {
		if b, bad := hex.DecodeString(a.Ticket); bad != nil || len(b) != 32 ||
			strings.ToLower(a.Ticket) != a.Ticket {
			return errors.New("the ticket's hash in a request to a seed is not 64 hex digits")
		}
	}
	return err
}

// Message returns what the identity signs, or an error if the request is not complete. Its action
// is Skerry's own, and none of those of OBJECTS.
func (a SeedAsk) Message(id ID, at time.Time) (Message, error) {
	if err := a.check(); err != nil {
		return Message{}, err
	}
	fields := [][2]string{{"Request", a.Request}, {"Identity", id.String()}, {"Seed", a.Seed}}
	if a.Replica != "" {
		fields = append(fields, [2]string{"Replica", a.Replica})
	}
	if a.Request == SeedRegister {
		device := a.Device
		if device == "" {
			device = "none"
		}
		fields = append(fields, [2]string{"Ticket", a.Ticket}, [2]string{"Device", device})
	}
	return newMessage("Skerry Seed", at, fields...), nil
}
