package identity

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each request to a seed has a text of its own, which names all that the request is about.
func TestSeedAskTexts(t *testing.T) {
	id, hash := ID{1}, strings.Repeat("ab", 32)
	for want, a := range map[string]SeedAsk{
		"Request: register\nIdentity: " + id.String() + "\nSeed: 12D3s\nReplica: abc\nTicket: " + hash +
			"\nDevice: 12D3d": {SeedRegister, "12D3s", "abc", hash, "12D3d"},
		"Request: register\nIdentity: " + id.String() + "\nSeed: 12D3s\nReplica: abc\nTicket: " + hash +
			"\nDevice: none": {SeedRegister, "12D3s", "abc", hash, ""},
		"Request: unregister\nIdentity: " + id.String() + "\nSeed: 12D3s\nReplica: abc": {SeedUnregister, "12D3s", "abc", "", ""},
		"Request: status\nIdentity: " + id.String() + "\nSeed: 12D3s":                   {SeedStatus, "12D3s", "", "", ""},
	} {
		m, err := a.Message(id, at)
		require.NoError(t, err)
		require.Equal(
			t, "OBJECTS Identity Protocol v1\nAction: Skerry Seed\n"+want+"\nTimestamp: 1742900000",
			m.Text(),
		)
	}
}

// What lacks a field, has one too many, or could be read as several lines is not signed.
func TestSeedAskRefuses(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	for name, a := range map[string]SeedAsk{
		"nothing":                           {},
		"an unknown request":                {"renew", "12D3s", "abc", "", ""},
		"a registration without a seed":     {SeedRegister, "", "abc", hash, ""},
		"a registration without a replica":  {SeedRegister, "12D3s", "", hash, ""},
		"a registration without a ticket":   {SeedRegister, "12D3s", "abc", "", ""},
		"a ticket that is no hash":          {SeedRegister, "12D3s", "abc", "ab", ""},
		"a second way to write the hash":    {SeedRegister, "12D3s", "abc", strings.ToUpper(hash), ""},
		"an end without a seed":             {SeedUnregister, "", "abc", "", ""},
		"an end with a ticket":              {SeedUnregister, "12D3s", "abc", hash, ""},
		"an end with a device":              {SeedUnregister, "12D3s", "abc", "", "12D3d"},
		"a status with a replica":           {SeedStatus, "12D3s", "abc", "", ""},
		"a seed with a line break":          {SeedStatus, "12D3s\nReplica: abc", "", "", ""},
		"a replica with a line break":       {SeedUnregister, "12D3s", "abc\nTicket: " + hash, "", ""},
		"a device with a carriage return":   {SeedRegister, "12D3s", "abc", hash, "12D3d\r"},
		"a replica longer than any id":      {SeedUnregister, "12D3s", strings.Repeat("a", 129), "", ""},
		"a name of a seed that is no ASCII": {SeedStatus, "12D3é", "", "", ""},
	} {
		_, err := a.Message(ID{1}, at)
		require.Error(t, err, name)
	}
}
