package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
)

const openCollections = `{"version": 1, "collections": [
  {"name": "notes", "storagePath": "notes/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 65536}]}`

// serveCollections starts a server of collections in a process of its own.
func serveCollections(t *testing.T, dir, text string, flags ...string) (p *proc, url string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "collections.json")
	require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
	return serveCollectionsWith(t, dir, nil, append(flags, "--config", config)...)
}

// serveCollectionsWith starts one with more variables in its environment.
func serveCollectionsWith(
	t *testing.T, dir string, env []string, flags ...string,
) (p *proc, url string) {
	t.Helper()
	return serveCollectionsAs(t, dir, "serve", env, flags...)
}

// serveCollectionsAs starts one by another command.
func serveCollectionsAs(
	t *testing.T, dir, command string, env []string, flags ...string,
) (p *proc, url string) {
	t.Helper()
	args := append(
		[]string{
			"--dir", dir, "--json", "collections", command, "-q", "--no-discovery", "--listen",
			"127.0.0.1:0", "--p2p-listen", "/ip4/127.0.0.1/tcp/0",
		},
		flags...,
	)
	p = &proc{t: t, dir: dir, cmd: exec.Command("skerry", args...)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	require.NoError(t, err)
	var first struct{ Collections string }
	require.NoError(t, json.Unmarshal(line, &first))
	require.NotEmpty(t, first.Collections, "%s", line)
	return p, first.Collections
}

// What was acknowledged is there after the process has been killed in the midst of writing.
func TestKilledServerOfCollections(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acknowledged := map[string]string{} // hashes by names
	var mu sync.Mutex
	for round := range 3 {
		p, url := serveCollections(t, dir, openCollections)
		var writers sync.WaitGroup
		for w := range 16 {
			writers.Go(func() {
				for i := 0; ; i++ {
					name := fmt.Sprintf("%d-%d-%d", round, w, i)
					res, err := http.Post(
						url+"/push/notes/"+name, "application/json",
						strings.NewReader(fmt.Sprintf(`{"data":{"n":%d},"baseHash":null}`, i)),
					)
					if err != nil {
						return // the server is gone
					}
					var done struct{ Hash string }
					err = json.NewDecoder(res.Body).Decode(&done)
					_ = res.Body.Close()
					if err != nil || res.StatusCode != http.StatusOK {
						return
					}
					mu.Lock()
					acknowledged[name] = done.Hash
					mu.Unlock()
				}
			})
		}
		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(acknowledged) > 500*(round+1)
		}, 60*time.Second, time.Millisecond)
		p.kill()
		writers.Wait()
	}
	_, url := serveCollections(t, dir, openCollections)
	for name, hash := range acknowledged {
		res, err := http.Get(url + "/pull/notes/" + name)
		require.NoError(t, err)
		var got struct{ Hash string }
		require.NoError(t, json.NewDecoder(res.Body).Decode(&got))
		require.NoError(t, res.Body.Close())
		require.Equal(t, hash, got.Hash, name)
	}
}

// Clients that send headers without end are refused, and those that send them slowly keep nobody
// waiting and are sent away.
func TestHostileHTTP(t *testing.T) {
	t.Parallel()
	_, url := serveCollections(t, t.TempDir(), openCollections)
	host := strings.TrimPrefix(url, "http://")
	for _, flood := range []string{
		"X-Long: " + strings.Repeat("x", 1<<20) + "\r\n", strings.Repeat("X-Many: y\r\n", 1<<16),
	} {
		conn, err := net.Dial("tcp", host)
		require.NoError(t, err)
		go func() {
			_, _ = io.WriteString(conn, "GET /pull/notes/a HTTP/1.1\r\nHost: x\r\n"+flood+"\r\n")
		}() // the server does not read all of it
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, res.StatusCode)
		require.NoError(t, conn.Close())
	}
	var slow []net.Conn
	for range 300 {
		conn, err := net.Dial("tcp", host)
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET /pull/notes/a HTTP/1.1\r\nHo")
		require.NoError(t, err)
		slow = append(slow, conn)
	}
	res, err := http.Get(url + "/health")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode)
	for _, conn := range slow {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(60*time.Second)))
		all := bufio.NewReader(conn)
		res, err := http.ReadResponse(all, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusRequestTimeout, res.StatusCode)
		_, err = io.Copy(io.Discard, all) // until the server closes it
		require.NoError(t, err)
	}
}

const walletCollections = `{"version": 1, "collections": [
  {"name": "settings", "storagePath": "users/{identity}/settings", "readRoles": ["self", "admin"], "writeRoles": ["self"], "encryption": "none", "maxBodyBytes": 65536},
  {"name": "signals", "storagePath": "products/{productId}/signals", "readRoles": ["member"], "writeRoles": ["owner"], "encryption": "none", "maxBodyBytes": 65536}],
  "extensions": {"evm": {"admins": ["%s"], "chains": {"evm:8453": {"rpc": ["%s"], "contract": "0x5fbdb2315678afecb367f032d93f642f64180aa3"}}}}}`

// rpcOf is a chain of which the first address is the owner of all items, and nobody else may use
// them.
func rpcOf(t *testing.T, owner eth.Address) (url string, away *atomic.Bool) {
	away = &atomic.Bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var calls []struct {
			ID     int
			Method string
			Params []any
		}
		if err := json.NewDecoder(r.Body).Decode(&calls); err != nil || away.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		var replies []map[string]any
		for _, c := range calls {
			result := "0x2105" // 8453
			if c.Method == "eth_call" {
				result = "0x" + strings.Repeat("0", 64)
				if strings.HasPrefix(c.Params[0].(map[string]any)["data"].(string), "0x6352211e") { // ownerOf
					result = "0x" + strings.Repeat("0", 24) + strings.TrimPrefix(owner.Lower(), "0x")
				}
			}
			replies = append(replies, map[string]any{"jsonrpc": "2.0", "id": c.ID, "result": result})
		}
		_ = json.NewEncoder(w).Encode(replies)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, away
}

// signedPush is the body of a push that its author has signed.
func signedPush(t *testing.T, who *evm.Signer, data, base string) string {
	o, err := value.ParseObject([]byte(data), value.MaxDepth)
	require.NoError(t, err)
	return fmt.Sprintf(
		`{"data":%s,"baseHash":%s,"authorSignature":"%s"}`, data, base, evm.SignData(who.Key, o),
	)
}

func TestFromEnvironment(t *testing.T) {
	one, two := eth.Address{19: 1}, eth.Address{19: 2}
	cfg := &config.EVM{
		Admins: []eth.Address{one},
		Chains: []*config.EVMChain{{Number: 1}, {Number: 8453, Access: time.Second}},
	}
	get := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	got, err := fromEnvironment(cfg, get())
	require.NoError(t, err)
	require.Equal(t, cfg, got)
	got, err = fromEnvironment(
		cfg, get(envAdmin, two.Lower(), envRPC, "https://rpc.example", envContract, two.Lower()),
	)
	require.NoError(t, err)
	require.Equal(t, []eth.Address{one, two}, got.Admins)
	require.Equal(
		t,
		&config.EVMChain{
			Number: 8453, Access: time.Second, Endpoints: []string{"https://rpc.example"}, Contract: two,
		},
		got.Chains[1],
	)
	require.Empty(t, cfg.Chains[1].Endpoints, "the configuration stays as it is")
	given := &config.EVM{Chains: got.Chains}
	again, err := fromEnvironment(
		given, get(envRPC, "https://other.example", envContract, one.Lower()),
	)
	require.NoError(t, err)
	require.Equal(t, given, again, "what the configuration says counts")
	for _, wrong := range [][]string{
		{envAdmin, "bob"}, {envRPC, "https://rpc.example"}, {envContract, one.Lower()},
		{envRPC, "https://rpc.example", envContract, "0x1"},
	} {
		_, err = fromEnvironment(cfg, get(wrong...))
		require.ErrorContains(t, err, wrong[0][:4])
	}
}

// Callers who prove themselves by a wallet have documents under their address, whatever its
// spelling, and the roles that a chain tells of; a request is let in once, also by a server that
// was killed and started again.
func TestWallets(t *testing.T) {
	t.Parallel()
	wallet := func(b byte) *evm.Signer {
		k, err := eth.KeyFromSecret([32]byte{31: b})
		require.NoError(t, err)
		return &evm.Signer{Key: k, Chain: "evm:8453"}
	}
	alice, bob, admin := wallet(1), wallet(2), wallet(3)
	rpc, away := rpcOf(t, alice.Key.Address())
	text := fmt.Sprintf(walletCollections, admin.Key.Address(), rpc)
	dir := t.TempDir()
	p, url := serveCollections(t, dir, text, "--prefix", "/v1")
	send := func(h http.Header, method, path, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequest(method, strings.TrimSuffix(url, "/v1")+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header = h.Clone()
		r.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode, string(b)
	}
	ask := func(who *evm.Signer, method, path, body string) (int, string) {
		t.Helper()
		h, err := who.Sign(method, path, []byte(body))
		require.NoError(t, err)
		return send(h, method, path, body)
	}
	status := func(want int, who *evm.Signer, method, path, body string) {
		t.Helper()
		got, text := ask(who, method, path, body)
		require.Equal(t, want, got, text)
	}
	doc := func(who *evm.Signer) string { return signedPush(t, who, `{"theme":"dark"}`, "null") }
	mine := "/users/" + alice.Key.Address().Lower() + "/settings"
	got, text := ask(alice, "POST", "/v1/push"+mine, `{"data":{"theme":"dark"},"baseHash":null}`)
	require.Equal(t, http.StatusBadRequest, got)
	require.JSONEq(t, `{"error":"Missing required author signature"}`, text)
	got, text = ask(alice, "POST", "/v1/push"+mine, doc(bob))
	require.Equal(t, http.StatusBadRequest, got)
	require.JSONEq(t, `{"error":"Invalid author signature"}`, text)
	status(http.StatusOK, alice, "POST", "/v1/push"+mine, doc(alice))
	status(http.StatusForbidden, bob, "POST", "/v1/push"+mine, doc(bob))
	status(http.StatusForbidden, bob, "GET", "/v1/pull"+mine, "")
	_, text = ask(admin, "GET", "/v1/pull/users/"+alice.Key.Address().String()+"/settings", "")
	require.Contains(t, text, `"theme":"dark"`)
	require.Contains(t, text, `"authorPubkey":"`+alice.Key.Address().String()+`"`)
	status(http.StatusBadRequest, alice, "GET", "/v1/pull/users/0x12/settings", "")
	got, text = send(http.Header{}, "GET", "/v1/pull"+mine, "")
	require.Equal(t, http.StatusUnauthorized, got)
	require.JSONEq(t, `{"error":"Unauthorized"}`, text)

	status(http.StatusOK, alice, "POST", "/v1/push/products/42/signals", doc(alice))
	status(http.StatusForbidden, bob, "POST", "/v1/push/products/42/signals", doc(bob))
	status(http.StatusForbidden, alice, "POST", "/v1/push/products/x/signals", doc(alice))
	away.Store(true)
	status(http.StatusOK, alice, "GET", "/v1/pull/products/42/signals", "")
	got, text = ask(bob, "GET", "/v1/pull/products/43/signals", "")
	require.Equal(t, http.StatusServiceUnavailable, got)
	require.JSONEq(t, `{"error":"Chain unavailable"}`, text)

	h, err := alice.Sign("GET", "/v1/pull"+mine, nil)
	require.NoError(t, err)
	for range 2 {
		got, _ = send(h, "GET", "/v1/pull"+mine, "")
		p.kill()
		p, url = serveCollections(
			t, dir, fmt.Sprintf(walletCollections, admin.Key.Address(), rpc), "--prefix", "/v1",
		)
	}
	require.Equal(t, http.StatusUnauthorized, got, "the second time")
	status(http.StatusOK, alice, "GET", "/v1/pull"+mine, "")
}
