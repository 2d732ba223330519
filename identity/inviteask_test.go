package identity

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is signed for an invite names all that it is good for, and lacks nothing.
func TestInviteAsk(t *testing.T) {
	good := InviteAsk{
		"0x" + strings.Repeat("ab", 20), strings.Repeat("cd", 32), "12D3i", "12D3d", "author",
	}
	m, err := good.Message(at)
	require.NoError(t, err)
	require.Equal(
		t,
		"OBJECTS Identity Protocol v1\nAction: Skerry Invite\nWallet: "+good.Wallet+"\nInvite: "+
			good.Invite+
			"\nInviter: 12D3i\nDevice: 12D3d\nAuthor: author\nTimestamp: 1742900000", m.Text(),
	)
	for name, edit := range map[string]func(*InviteAsk){
		"no wallet":             func(a *InviteAsk) { a.Wallet = "" },
		"the wallet of nobody":  func(a *InviteAsk) { a.Wallet = "0x" + strings.Repeat("0", 40) },
		"a wallet in capitals":  func(a *InviteAsk) { a.Wallet = "0x" + strings.Repeat("AB", 20) },
		"no invite":             func(a *InviteAsk) { a.Invite = "" },
		"half an invite":        func(a *InviteAsk) { a.Invite = a.Invite[:32] },
		"an invite in capitals": func(a *InviteAsk) { a.Invite = strings.ToUpper(a.Invite) },
		"no inviter":            func(a *InviteAsk) { a.Inviter = "" },
		"no device":             func(a *InviteAsk) { a.Device = "" },
		"no author":             func(a *InviteAsk) { a.Author = "" },
		"an inviter of lines":   func(a *InviteAsk) { a.Inviter = "x\nDevice: y" },
		"a device of lines":     func(a *InviteAsk) { a.Device = "x\rAuthor: y" },
		"an author with spaces": func(a *InviteAsk) { a.Author = "x y" },
		"an endless author":     func(a *InviteAsk) { a.Author = strings.Repeat("a", 129) },
	} {
		a := good
		edit(&a)
		_, err := a.Message(at)
		require.Error(t, err, name)
	}
}

// Names that Skerry signs under are no application's, however they are written; domains are.
func TestCheckApplication(t *testing.T) {
	for _, name := range []string{
		"skerry-invite", "Skerry-Seed", "SKERRY", "skerry-seed.", " skerry-seed", "\tskerry",
		"skerry\u2011seed", "\uff33kerry-seed", "skerry\uff10",
	} {
		require.ErrorIs(t, CheckApplication(name), ErrReserved, "%q", name)
	}
	for _, name := range []string{
		"skerry", "skerry.example.org", "example.org", "seed-skerry", "a", "\uff01skerr",
	} {
		require.NoError(t, CheckApplication(name), name)
	}
}
