package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/identity/eth"
)

// realChain is a chain of a test's own, asked by standard JSON-RPC alone: one whose first account
// is unlocked and has funds.
type realChain struct {
	t    *testing.T
	url  string
	from string
}

func (c *realChain) call(method string, params ...any) (result json.RawMessage, err error) {
	body, err := json.Marshal(
		map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
	)
	require.NoError(c.t, err)
	res, err := http.Post(c.url, "application/json", bytes.NewReader(body))
	require.NoError(c.t, err)
	defer res.Body.Close()
	var reply struct {
		Result json.RawMessage
		Error  *struct{ Message string }
	}
	require.NoError(c.t, json.NewDecoder(res.Body).Decode(&reply))
	if reply.Error != nil {
		return nil, errors.New(reply.Error.Message)
	}
	return reply.Result, nil
}

func (c *realChain) text(method string, params ...any) (s string) {
	result, err := c.call(method, params...)
	require.NoError(c.t, err, method)
	require.NoError(c.t, json.Unmarshal(result, &s), method)
	return s
}

// send makes a transaction and returns the contract that it has made, if it is one of those.
func (c *realChain) send(to, data string) (contract string) {
	tx := map[string]string{"from": c.from, "gas": "0x1e8480", "data": data}
	if to != "" {
		tx["to"] = to
	}
	hash := c.text("eth_sendTransaction", tx)
	var receipt struct{ Status, ContractAddress string }
	require.Eventually(c.t, func() bool {
		result, err := c.call("eth_getTransactionReceipt", hash)
		require.NoError(c.t, err)
		return json.Unmarshal(result, &receipt) == nil && receipt.Status != ""
	}, 30*time.Second, 20*time.Millisecond)
	require.Equal(c.t, "0x1", receipt.Status)
	return receipt.ContractAddress
}

func word(a eth.Address) string {
	return strings.Repeat("0", 24) + strings.TrimPrefix(a.Lower(), "0x")
}
func number(n int64) string { return fmt.Sprintf("%064x", n) }

// Roles follow what a real contract on a real chain says, within the times for which answers are
// remembered. SKERRY_TEST_EVM is the chain's URL.
func TestRolesOfARealChain(t *testing.T) {
	url := os.Getenv("SKERRY_TEST_EVM")
	if url == "" {
		t.Skip("SKERRY_TEST_EVM is not set; .ci/chain starts a chain and sets it")
	}
	c := &realChain{t: t, url: url}
	accounts, err := c.call("eth_accounts")
	require.NoError(t, err)
	var all []string
	require.NoError(t, json.Unmarshal(accounts, &all))
	require.NotEmpty(t, all)
	c.from = all[0]
	id := c.text("eth_chainId")
	var chain int64
	_, err = fmt.Sscanf(id, "0x%x", &chain)
	require.NoError(t, err)
	code, err := os.ReadFile(filepath.Join("..", "..", "testdata", "evm", "ProductAccess.bin"))
	require.NoError(t, err)
	contract := c.send("", "0x"+strings.TrimSpace(string(code)))

	wallet := func(b byte) *evm.Signer {
		k, err := eth.KeyFromSecret([32]byte{30: 1, 31: b})
		require.NoError(t, err)
		return &evm.Signer{Key: k, Chain: fmt.Sprintf("evm:%d", chain)}
	}
	alice, bob := wallet(1), wallet(2)
	serve := func(number int64, contract string) (url string) {
		_, url = serveCollections(t, t.TempDir(), fmt.Sprintf(`{"version": 1, "collections": [
			{"name": "signals", "storagePath": "products/{productId}/signals", "readRoles": ["member"], "writeRoles": ["owner"], "encryption": "none", "maxBodyBytes": 65536}],
			"extensions": {"evm": {"chains": {"evm:%d": {"rpc": ["%s"], "contract": "%s", "ownerMs": 200, "notOwnerMs": 200, "accessMs": 200, "noAccessMs": 200, "staleMs": 1}}}}}`,
			number, c.url, contract))
		return url
	}
	at := serve(chain, contract)
	ask := func(base string, who *evm.Signer, method, path, body string) (int, string) {
		h, err := who.Sign(method, path, []byte(body))
		require.NoError(t, err)
		r, err := http.NewRequest(method, base+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header = h
		r.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(b)
	}
	n := 0
	write := func(who *evm.Signer) int {
		n++
		status, _ := ask(
			at, who, "POST", "/push/products/42/signals",
			signedPush(t, who, fmt.Sprintf(`{"n":%d}`, n), `""`),
		)
		return status
	}
	read := func(who *evm.Signer) int {
		status, _ := ask(at, who, "GET", "/pull/products/42/signals", "")
		return status
	}
	// becomes waits for what is remembered to end.
	becomes := func(what func(*evm.Signer) int, who *evm.Signer, want int) {
		t.Helper()
		last := 0
		require.Eventually(t, func() bool {
			last = what(who)
			return last == want
		}, 20*time.Second, 20*time.Millisecond, "%d", last)
	}
	mayWrite := func(who *evm.Signer) int { // also a conflict is of somebody who may
		if s := write(who); s != http.StatusConflict {
			return s
		}
		return http.StatusOK
	}

	require.Equal(t, http.StatusForbidden, write(alice), "nobody owns what is not there")
	c.send(contract, "0x40c10f19"+word(alice.Key.Address())+number(42)) // mint
	becomes(mayWrite, alice, http.StatusOK)
	require.Equal(t, http.StatusOK, read(alice))
	require.Equal(t, http.StatusForbidden, read(bob))

	// grantAccess, without end
	c.send(contract, "0x66dde644"+word(bob.Key.Address())+number(42)+number(0))
	becomes(read, bob, http.StatusOK)
	require.Equal(t, http.StatusForbidden, write(bob))
	c.send(contract, "0xa99d8379"+word(bob.Key.Address())+number(42)) // revokeAccess
	becomes(read, bob, http.StatusForbidden)

	c.send(contract, "0x67c65e99"+word(bob.Key.Address())+number(42)) // transferItem
	becomes(mayWrite, bob, http.StatusOK)
	becomes(write, alice, http.StatusForbidden)

	c.send(contract, "0x9d04d4c9"+number(1)) // setReadsDisabled: the contract refuses to tell
	becomes(write, bob, http.StatusServiceUnavailable)
	c.send(contract, "0x9d04d4c9"+number(0))
	becomes(mayWrite, bob, http.StatusOK)

	// A chain that is another than it should be, or has no contract there, gives no roles, and says
	// so.
	alice.Chain = "evm:99999"
	status, text := ask(serve(99999, contract), alice, "GET", "/pull/products/42/signals", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.JSONEq(t, `{"error":"Chain unavailable"}`, text)
	status, _ = ask(
		serve(chain, "0x00000000000000000000000000000000000000ff"), bob, "GET",
		"/pull/products/42/signals", "",
	)
	require.Equal(t, http.StatusServiceUnavailable, status)
}
