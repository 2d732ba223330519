package config

import (
	"strings"

	"github.com/skerry-sync/skerry/identity/eth"
)

// userIDLength is how many hex digits a user id has.
const userIDLength = 32

// IdentityOf returns the one form of an identity, whoever names it: a path, a configuration or a
// resolver. The address of a wallet has its checksum, and a user id is in lower case; a text of
// another kind, as resolvers of programs may know, is what it is. ok is false for what begins like
// an address and is none.
func IdentityOf(text string) (id string, ok bool) {
	switch {
	case strings.HasPrefix(text, "0x"), strings.HasPrefix(text, "0X"):
		a, err := eth.ParseAddress("0x" + text[2:])
		return a.String(), err == nil
	case len(text) == userIDLength && isHex(text):
		return strings.ToLower(text), true
	}
	return text, true
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdefABCDEF") == "" }

// identities returns identities in their one form.
func (p *problems) identities(texts []string, label string) (all []string) {
	for _, s := range texts {
		id, ok := IdentityOf(s)
		switch {
		case !ok:
			_, err := eth.ParseAddress("0x" + s[2:])
			p.add("%s: %v", label, err)
		case len(s) == 2*userIDLength && isHex(s):
			p.warnings = append(
				p.warnings,
				label+": "+s[:8]+"… looks like a public key, which is no identity: the user id has "+
					"32 hex digits",
			)
		}
		all = append(all, id)
	}
	return all
}
