package api

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// No message shows a secret of a request, and none shows all of a long value.
func TestNoMessageShowsASecret(t *testing.T) {
	const secret = "hunter2\xe9"
	words := secret
	for _, req := range []any{
		AddIdentityRequest{Password: secret}, AddIdentityRequest{Mnemonic: &words},
		AddIdentityRequest{KeystorePassword: secret}, ExportIdentityRequest{Password: secret},
		&OpenVaultRequest{Password: secret}, DecideRequest{Password: secret},
		ImportAuthorRequest{Secret: secret}, JoinRequest{Wallet: &JoinWallet{Password: secret}},
		SeedRequest{Password: secret},
	} {
		err := checkStrings(reflect.ValueOf(req))
		require.ErrorContains(t, err, "is not UTF-8", "%T", req)
		require.NotContains(t, err.Error(), "hunter", "%T", req)
		require.Equal(t, 2, ExitCode(err))
	}
	// A ticket may stand where a name or a hash can.
	ticket := "docaebqcaaaaaaaaaaaaaaaaaa" + strings.Repeat("q", 100) + "\xff"
	for _, req := range []any{JoinRequest{Ticket: ticket}, GetRequest{What: ticket}} {
		err := checkStrings(reflect.ValueOf(req))
		require.ErrorContains(t, err, "is not UTF-8", "%T", req)
		require.NotContains(t, err.Error(), "qq", "%T", req)
	}
	err := checkStrings(reflect.ValueOf(NameRequest{Name: strings.Repeat("n", 5000) + "\xff"}))
	require.ErrorContains(t, err, "is not UTF-8")
	require.Less(t, len(err.Error()), 300)
}
