package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/identity/eth"
)

func walletOf(t *testing.T, b byte) *evm.Signer {
	k, err := eth.KeyFromSecret([32]byte{31: b})
	require.NoError(t, err)
	return &evm.Signer{Key: k, Chain: "evm:8453"}
}

// signed sends a request that a wallet has signed.
func signed(
	t *testing.T, who *evm.Signer, base, method, path, body string,
) (status int, text string) {
	t.Helper()
	h, err := who.Sign(method, path, []byte(body))
	require.NoError(t, err)
	r, err := http.NewRequest(method, base+path, strings.NewReader(body))
	require.NoError(t, err)
	r.Header = h
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res.StatusCode, string(b)
}

// holds reports whether a file below a directory holds a text.
func holds(t *testing.T, dir, text string) (is bool) {
	require.NoError(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(name)
		is = is || bytes.Contains(b, []byte(text))
		return err
	}))
	return is
}

// Without a configuration there is the default set, whose documents are encrypted by a secret of
// the environment. Another secret takes its place while the server goes on, and a migration writes
// anew what the old one has encrypted.
func TestDefaultCollections(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	alice, bob := walletOf(t, 1), walletOf(t, 2)
	mine := "/users/" + alice.Key.Address().String()
	p, url := serveCollectionsWith(t, dir, []string{"ENCRYPTION_SECRET=first"})
	status, text := signed(
		t, alice, url, "POST", "/push"+mine+"/bots",
		signedPush(t, alice, `{"strategy":"buyverylow"}`, "null"),
	)
	require.Equal(t, http.StatusOK, status, text)
	status, _ = signed(t, bob, url, "POST", "/push"+mine+"/errors/1", signedPush(t, bob, `{}`, "null"))
	require.Equal(t, http.StatusForbidden, status)
	reads := func(url string) {
		t.Helper()
		status, text := signed(t, alice, url, "GET", "/pull"+mine, "")
		require.Equal(t, http.StatusOK, status, text)
		require.Contains(t, text, "buyverylow")
		status, text = signed(t, bob, url, "GET", "/pull"+mine, "")
		require.Equal(t, http.StatusOK, status)
		require.NotContains(t, text, "buyverylow")
	}
	reads(url)
	p.kill()
	require.False(t, holds(t, dir, "buyverylow"))
	require.True(t, holds(t, dir, mine[1:]+"/bots"), "paths are in clear")

	second := []string{"ENCRYPTION_SECRET=second"}
	former := filepath.Join(t.TempDir(), "former")
	require.NoError(t, os.WriteFile(former, []byte("zeroth\nfirst\n"), 0o600))
	both := append(second, "ENCRYPTION_SECRET_FORMER_FILE="+former)
	p, url = serveCollectionsWith(t, dir, both)
	reads(url)
	cfg := filepath.Join(t.TempDir(), "collections.json")
	require.NoError(t, os.WriteFile(cfg, ranWith(t, nil, "collections", "default"), 0o600))
	migrate := exec.Command(
		"skerry", "--dir", dir, "--json", "collections", "migrate", "--config", cfg,
	)
	migrate.Env = append(os.Environ(), both...)
	require.Error(t, migrate.Run(), "a server is using the store")
	p.kill()
	var done struct{ Documents, Encrypted, Rewritten int }
	require.NoError(
		t,
		json.Unmarshal(
			ranWith(t, both, "--dir", dir, "--json", "collections", "migrate", "--config", cfg), &done,
		),
	)
	require.Equal(t, 1, done.Rewritten, "%+v", done)
	p, url = serveCollectionsWith(t, dir, second)
	reads(url)
	p.kill()
	_, url = serveCollectionsWith(t, dir, []string{"ENCRYPTION_SECRET=first"})
	status, _ = signed(t, alice, url, "GET", "/pull"+mine, "")
	require.Equal(t, http.StatusInternalServerError, status)
}

// ranWith runs a command with more variables in its environment to its end.
func ranWith(t *testing.T, env []string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("skerry", args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	stderr := ""
	if e, ok := err.(*exec.ExitError); ok {
		stderr = string(e.Stderr)
	}
	require.NoError(t, err, fmt.Sprintf("%s\n%s", args, stderr))
	return out
}

func TestSecretsFrom(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("from file\n"), 0o600))
	env := map[string]string{}
	get := func(name string) string { return env[name] }
	s, err := secretsFrom(get)
	require.NoError(t, err)
	require.Empty(t, s.Identity)
	admin := walletOf(t, 3).Key.Address()
	env["ENCRYPTION_SECRET_FILE"], env["PLATFORM_ENCRYPTION_SECRET"], env["PLATFORM_ENCRYPTION_SECRET_FORMER"], env["PLATFORM_PUBKEY_EVM"] = file, "new", "old\n\nolder\n", admin.Lower()
	s, err = secretsFrom(get)
	require.NoError(t, err)
	require.Equal(t, []string{"from file"}, s.Identity)
	require.Equal(t, []string{"new", "old", "older"}, s.Server)
	require.Equal(t, admin.String(), s.Salts[0])
	env["ENCRYPTION_SECRET"] = "both"
	_, err = secretsFrom(get)
	require.ErrorContains(t, err, "ENCRYPTION_SECRET")
	delete(env, "ENCRYPTION_SECRET")
	env["ENCRYPTION_SECRET_FILE"] = file + ".none"
	_, err = secretsFrom(get)
	require.ErrorIs(t, err, fs.ErrNotExist)
	delete(env, "ENCRYPTION_SECRET_FILE")
	env["PLATFORM_PUBKEY_EVM"] = "bob"
	_, err = secretsFrom(get)
	require.ErrorContains(t, err, "PLATFORM_PUBKEY_EVM")
}
