package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
)

func TestDefault(t *testing.T) {
	c := config.Default()
	require.Empty(t, c.Warnings)
	require.Len(t, c.Collections, 3)
	require.Equal(t, "users/{identity}/accounts", c.Collections[1].KeyTemplate())
	require.Equal(t, config.Identity, c.Collections[1].Encryption)
	require.Equal(t, config.Delegated, c.Collections[2].Encryption)
	require.Equal(t, []string{"self", "admin"}, c.Collections[2].ReadRoles)
	require.EqualValues(t, 8453, c.EVM.Chains[0].Number)
}

// What cannot be told apart, or has no key, is refused.
func TestEncryptionAtRest(t *testing.T) {
	for text, want := range map[string]string{
		`{"name": "a", "storagePath": "a", "readRoles": ["user"], "writeRoles": ["user"], "encryption": "identity", "maxBodyBytes": 1}`:                                                                                                                         `needs {identity} in storagePath`,
		`{"name": "a", "storagePath": "{identity}", "readRoles": ["public"], "writeRoles": ["self"], "encryption": "identity", "maxBodyBytes": 1}`:                                                                                                              `does not go with the role "public"`,
		`{"name": "a", "storagePath": "a", "readRoles": ["user"], "writeRoles": ["user"], "encryption": "server", "allowedMimeTypes": ["image/*"], "maxBodyBytes": 1}`:                                                                                          "files are not encrypted",
		`{"name": "a", "storagePath": "x/{a}", "readRoles": ["user"], "writeRoles": ["user"], "encryption": "server", "maxBodyBytes": 1}, {"name": "b", "storagePath": "{b}", "bundle": "u", "readRoles": ["user"], "writeRoles": ["user"], "maxBodyBytes": 1}`: "can belong to both",
	} {
		_, err := config.Parse([]byte(`{"version": 1, "collections": [` + text + `]}`))
		require.ErrorContains(t, err, want)
	}
	for _, text := range []string{
		`{"name": "a", "storagePath": "x/{a}", "readRoles": ["user"], "writeRoles": ["user"], "encryption": "server", "maxBodyBytes": 1}, {"name": "b", "storagePath": "{b}/{c}/{d}", "readRoles": ["user"], "writeRoles": ["user"], "maxBodyBytes": 1}`,
		`{"name": "a", "storagePath": "x/{a}", "readRoles": ["user"], "writeRoles": ["user"], "encryption": "none", "maxBodyBytes": 1}, {"name": "b", "storagePath": "{b}/{c}", "readRoles": ["user"], "writeRoles": ["user"], "encryption": "delegated", "maxBodyBytes": 1}`,
		`{"name": "a", "storagePath": "x", "readRoles": ["user"], "writeRoles": ["user"], "encryption": "none", "clientEncrypted": true, "maxBodyBytes": 1}`,
	} {
		_, err := config.Parse([]byte(`{"version": 1, "collections": [` + text + `]}`))
		require.NoError(t, err)
	}
}
