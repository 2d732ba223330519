package identity

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/identity/eth"
)

// InviteAsk is what the holder of a wallet signs to use an invite that is for this wallet alone.
// Its message names all that the signature is good for: this invite, taken at the node that made
// it, from this device, for this author. Its action is Skerry's own, so that nothing that somebody
// signs to show who they are (Authenticate) is ever one.
type InviteAsk struct {
	Wallet  string `json:"wallet"`  // EVM address, lower case
	Invite  string `json:"invite"`  // the invite's id, 64 hex digits
	Inviter string `json:"inviter"` // node id of who made the invite
	Device  string `json:"device"`  // node id of who takes it
	Author  string `json:"author"`  // id of the author who is let in
}

// maxInviteWord is the length in bytes of the longest id that an InviteAsk may have.
const maxInviteWord = 128

// Message returns what the wallet signs, or an error if a field is missing, or could be read as
// several lines.
func (a InviteAsk) Message(at time.Time) (Message, error) {
	fields := [][2]string{{"Wallet", a.Wallet}, {"Invite", a.Invite}, {"Inviter", a.Inviter},
		{"Device", a.Device}, {"Author", a.Author}}
	for _, f := range fields {
		odd := func(r rune) bool { return r <= ' ' || r > '~' }
		if f[1] == "" || len(f[1]) > maxInviteWord || strings.ContainsFunc(f[1], odd) {
			return Message{}, fmt.Errorf("to sign for an invite: bad %s %.40q", strings.ToLower(f[0]), f[1])
		}
	}
	if w, err := eth.ParseAddress(a.Wallet); err != nil || w.Lower() != a.Wallet ||
		w == (eth.Address{}) {
		return Message{}, fmt.Errorf("to sign for an invite: bad wallet %.40q", a.Wallet)
	}
	if b, err := hex.DecodeString(a.Invite); err != nil || len(b) != 32 ||
		strings.ToLower(a.Invite) != a.Invite {
		return Message{}, fmt.Errorf("to sign for an invite: bad invite %.40q", a.Invite)
	}
	return newMessage("Skerry Invite", at, fields...), nil
}

// ErrReserved reports the name of an application that is kept for Skerry itself.
var ErrReserved = errors.New(
	`names like "skerry-…" are kept for Skerry itself: an application is named by its domain`,
)

// CheckApplication returns ErrReserved for the name of an application that Skerry itself has used,
// or may use, to sign for purposes of its own. Whatever case, dashes, spaces or other signs such a
// name has, it is reserved; one with a dot inside is a domain, and none. The bare name "skerry" is
// that of the command line, which asks for a vault as an application does.
func CheckApplication(name string) error {
	if name == "skerry" {
		return nil
	}
	word := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 0xff01 && r <= 0xff5e: // the wide forms of ASCII
			return foldWide(r)
		}
		return -1
	}, name)
	domain := strings.Contains(strings.Trim(name, ". \t"), ".")
	if strings.HasPrefix(word, "skerry") && !domain {
		return ErrReserved
	}
	return nil
}

// foldWide returns the small letter or digit of which r is the wide form, or -1.
func foldWide(r rune) rune {
	r -= 0xff01 - '!'
	switch {
	case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
		return r
	case r >= 'A' && r <= 'Z':
		return r + 'a' - 'A'
	}
	return -1
}
