package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const ruled = `{"version": 1, "collections": [
	{"name": "settings", "storagePath": "users/{identity}/settings", "readRoles": ["public"], "writeRoles": ["self"], "encryption": "none", "maxBodyBytes": 65536},
	{"name": "signals", "storagePath": "products/{productId}/signals", "readRoles": ["public"], "writeRoles": ["owner"], "encryption": "none", "maxBodyBytes": 65536}%s],
	"extensions": {"evm": {"chains": {"evm:8453": {"rpc": ["%s"], "contract": "0x5fbdb2315678afecb367f032d93f642f64180aa3"}}}, "rules": {}}}`

// The node that holds the replica's key makes its configuration the rules; another serves by them
// without a configuration, also when they have changed. What somebody writes to the replica past
// both doors, as any command of a node can, is not served.
func TestRulesOfAReplica(t *testing.T) {
	t.Parallel()
	alice, bob := walletOf(t, 1), walletOf(t, 2)
	rpc, _ := rpcOf(t, alice.Key.Address())
	cfg := filepath.Join(t.TempDir(), "collections.json")
	write := func(more string) {
		require.NoError(t, os.WriteFile(cfg, fmt.Appendf(nil, ruled, more, rpc), 0o600))
	}
	write("")
	one, url1 := serveCollectionsWith(t, t.TempDir(), nil, "--prefix", "/v1", "--config", cfg)
	base1 := strings.TrimSuffix(url1, "/v1")
	mine := "/users/" + alice.Key.Address().String() + "/settings"
	status, text := signed(
		t, alice, base1, "POST", "/v1/push"+mine, signedPush(t, alice, `{"theme":"dark"}`, "null"),
	)
	require.Equal(t, http.StatusOK, status, text)

	invite, err := one.run("replica", "share", "collections", "--invite", "--mode", "write", "-q")
	require.NoError(t, err)
	dir := t.TempDir()
	_ = ranWith(
		t, nil, "--dir", dir, "replica", "join", strings.TrimSpace(invite), "--name", "collections",
	)
	asks := []string{"EVM_BASE_RPC=" + rpc} // which is not part of the rules
	two, url2 := serveCollectionsWith(t, dir, asks, "--prefix", "/v1")
	becomes := func(url, path, want string) {
		t.Helper()
		last := ""
		for end := time.Now().Add(30 * time.Second); !strings.Contains(last, want); time.Sleep(
			50 * time.Millisecond,
		) {
			require.True(t, time.Now().Before(end), "%s has %s", url, last)
			res, err := http.Get(url + "/pull" + path)
			require.NoError(t, err)
			b, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			last = string(b)
		}
	}
	becomes(url2, mine, `"theme":"dark"`)

	// The other way round, also by roles of a chain, and past the doors.
	status, text = signed(
		t, alice, strings.TrimSuffix(url2, "/v1"), "POST", "/v1/push/products/7/signals",
		signedPush(t, alice, `{"n":7}`, "null"),
	)
	require.Equal(t, http.StatusOK, status, text)
	becomes(url1, "/products/7/signals", `"n":7`)
	yours := "/users/" + bob.Key.Address().String() + "/settings"
	status, text = signed(
		t, bob, strings.TrimSuffix(url2, "/v1"), "POST", "/v1/push"+yours,
		signedPush(t, bob, `{"theme":"light"}`, "null"),
	)
	require.Equal(t, http.StatusOK, status, text)
	becomes(url1, yours, `"theme":"light"`)
	forged := `{"v":1,"data":{"theme":"evil"},"ts":` + fmt.Sprint(
		time.Now().UnixMilli(),
	) + `,"hash":"","whole":true}`
	_, err = two.run("replica", "set", "collections", "doc"+mine, forged)
	require.NoError(t, err)
	_, err = two.run(
		"replica", "set", "collections", "doc/users/"+walletOf(t, 9).Key.Address().String()+"/settings",
		forged,
	)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		out, err := one.run("replica", "list", "collections", "-q")
		return err == nil && strings.Contains(out, walletOf(t, 9).Key.Address().String())
	}, 30*time.Second, 50*time.Millisecond, "it is in the replica")
	for _, url := range []string{url1, url2} {
		becomes(url, mine, `"theme":"dark"`)
		becomes(url, "/users/"+walletOf(t, 9).Key.Address().String()+"/settings", `"data":{}`)
	}

	// A collection more.
	write(
		`, {"name": "news", "storagePath": "news/{id}", "readRoles": ["public"], "writeRoles": ["user"], "encryption": "none", "maxBodyBytes": 65536}`,
	)
	require.NoError(t, one.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool {
		status, _ := signed(
			t, bob, strings.TrimSuffix(url2, "/v1"), "POST", "/v1/push/news/a",
			signedPush(t, bob, `{"n":1}`, "null"),
		)
		return status == http.StatusOK
	}, 30*time.Second, 200*time.Millisecond)
	becomes(url1, "/news/a", `"n":1`)
	require.NoError(t, two.cmd.Process.Signal(syscall.SIGHUP)) // which finds nothing new
	becomes(url2, "/news/a", `"n":1`)

	// A server with another configuration, and one with the key but another prefix, do not start.
	two.kill()
	other := filepath.Join(t.TempDir(), "collections.json")
	require.NoError(
		t,
		os.WriteFile(other, fmt.Appendf(nil, strings.Replace(ruled, "self", "user", 1), "", rpc), 0o600),
	)
	for _, flags := range [][]string{{"--prefix", "/v1", "--config", other}, {"--prefix", "/v2"}} {
		cmd := exec.Command(
			"skerry",
			append(
				[]string{
					"--dir", dir, "collections", "serve", "-q", "--no-discovery", "--listen", "127.0.0.1:0",
					"--p2p-listen", "/ip4/127.0.0.1/tcp/0",
				},
				flags...,
			)...,
		)
		cmd.Env = append(os.Environ(), asks...)
		out, err := cmd.CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), "rules of the replica")
	}
	out, err := exec.Command(
		"skerry", "--dir", dir, "collections", "serve", "-q", "--no-discovery", "--listen", "127.0.0.1:0",
		"--prefix", "/v1",
	).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "EVM_BASE_RPC", "it has no way to ask the chain")
}

// A node that serves a replica already when it gets rules applies them from then on.
func TestRulesThatComeLater(t *testing.T) {
	t.Parallel()
	rpc, _ := rpcOf(t, walletOf(t, 1).Key.Address())
	text := fmt.Sprintf(ruled, "", rpc)
	with, without := filepath.Join(t.TempDir(), "with.json"), filepath.Join(
		t.TempDir(), "without.json",
	)
	require.NoError(t, os.WriteFile(with, []byte(text), 0o600))
	require.NoError(
		t, os.WriteFile(without, []byte(strings.Replace(text, `, "rules": {}`, "", 1)), 0o600),
	)
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	at := fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", l.Addr().(*net.TCPAddr).Port) // where it is found again
	require.NoError(t, l.Close())
	one, _ := serveCollectionsWith(t, dir, nil, "--config", without, "--p2p-listen", at)
	invite, err := one.run("replica", "share", "collections", "--invite", "--mode", "write", "-q")
	require.NoError(t, err)
	other := t.TempDir()
	_ = ranWith(
		t, nil, "--dir", other, "replica", "join", strings.TrimSpace(invite), "--name", "collections",
	)
	two, url := serveCollectionsWith(t, other, nil, "--config", without)
	data := `{"theme":"evil"}`
	path := "users/" + walletOf(t, 9).Key.Address().String() + "/settings"
	_, err = two.run(
		"replica", "set", "collections", "doc/"+path,
		`{"v":1,"data":`+data+`,"ts":`+fmt.Sprint(time.Now().UnixMilli())+`,"hash":"x","whole":true}`,
	)
	require.NoError(t, err)
	has := func() string {
		res, err := http.Get(url + "/pull/" + path)
		require.NoError(t, err)
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return string(b)
	}
	require.Contains(t, has(), data)
	one.kill()
	serveCollectionsWith(t, dir, nil, "--config", with, "--p2p-listen", at)
	require.Eventually(t, func() bool {
		return strings.Contains(has(), `"data":{}`)
	}, 60*time.Second, 200*time.Millisecond)
}
