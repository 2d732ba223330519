package identity

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A keystore that somebody else has made may ask for no more than 256 MiB and a few seconds of
// work. What it asks for is checked before anything is derived.
func TestWorkOfKeystores(t *testing.T) {
	key, err := NewKey(Wallet)
	require.NoError(t, err)
	s := Secret{Key: key, Nonce: key.Nonce()}
	file, err := s.Seal("a password")
	require.NoError(t, err)
	argon := func(time, memory, threads int) error {
		var f map[string]any
		require.NoError(t, json.Unmarshal(file, &f))
		kdf := f["kdf"].(map[string]any)
		kdf["time"], kdf["memory"], kdf["threads"] = time, memory, threads
		b, err := json.Marshal(f)
		require.NoError(t, err)
		_, err = parseKeystore(b)
		return err
	}
	for _, ok := range [][3]int{
		{3, 64 << 10, 4}, {1, 256 << 10, 4}, {12, 256 << 10, 16}, {48, 64 << 10, 1}, {64, 19 << 10, 1},
	} {
		require.NoError(t, argon(ok[0], ok[1], ok[2]), ok)
	}
	for _, bad := range [][3]int{
		{64, 1 << 20, 1}, {1, 256<<10 + 1, 1}, {13, 256 << 10, 1}, {64, 64 << 10, 4}, {65, 8, 1},
		{1, 8, 17}, {0, 64, 1}, {1, 7, 1},
	} {
		require.ErrorIs(t, argon(bad[0], bad[1], bad[2]), ErrBadKeystore, bad)
	}
	ethereum := func(old, params string) error {
		text := ethExamples[old]
		from := strings.Index(text, `"kdfparams":`)
		to := from + strings.Index(text[from:], "}") + 1
		_, err := parseKeystore([]byte(text[:from] + `"kdfparams":` + params + text[to:]))
		return err
	}
	for params, ok := range map[string]bool{
		`{"dklen":32,"n":262144,"p":1,"r":8,"salt":"ab"}`:  true, // as wallets write it
		`{"dklen":32,"n":262144,"p":4,"r":8,"salt":"ab"}`:  true,
		`{"dklen":32,"n":262144,"p":5,"r":8,"salt":"ab"}`:  false,
		`{"dklen":32,"n":524288,"p":1,"r":8,"salt":"ab"}`:  false,
		`{"dklen":32,"n":2,"p":1024,"r":1024,"salt":"ab"}`: true,
		`{"dklen":32,"n":8192,"p":2,"r":1024,"salt":"ab"}`: false,
	} {
		if err := ethereum("scrypt", params); ok {
			require.NoError(t, err, params)
		} else {
			require.ErrorIs(t, err, ErrBadKeystore, params)
		}
	}
	require.NoError(t, ethereum("pbkdf2", `{"c":4000000,"dklen":32,"prf":"hmac-sha256","salt":"ab"}`))
	require.ErrorIs(
		t, ethereum("pbkdf2", `{"c":4000001,"dklen":32,"prf":"hmac-sha256","salt":"ab"}`), ErrBadKeystore,
	)
}
