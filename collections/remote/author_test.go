package remote_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/pairing"
	"github.com/skerry-sync/skerry/collections/remote"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
)

func walletOf(t *testing.T, b byte) eth.Key {
	k, err := eth.KeyFromSecret([32]byte{31: b})
	require.NoError(t, err)
	return k
}

// walletFile is more of a server whose requests are those of a wallet.
func walletFile(t *testing.T, b byte) string {
	file := filepath.Join(t.TempDir(), "wallet")
	secret := [32]byte{31: b}
	require.NoError(t, os.WriteFile(file, []byte(hex.EncodeToString(secret[:])), 0o600))
	return fmt.Sprintf(`, "walletFile": %q`, file)
}

// wallets lets in whoever signs with a wallet.
func wallets(t *testing.T) access.Resolver {
	nonces, err := access.NewNonces(access.NonceOptions{Skew: evm.Window})
	require.NoError(t, err)
	return &evm.Verifier{Chains: func(id string) bool { return id == "evm:8453" }, Nonces: nonces}
}

// signed is the body of a first push of data, with the proof that a key has written it.
func signed(t *testing.T, data string, key capcert.Key) string {
	return fmt.Sprintf(
		`{"data":%s,"baseHash":null,"authorPubkey":%q,"authorSignature":%q}`, data, key.Public,
		capcert.SignAuthor(capcert.DocumentDomain, "posts/featured", parse(t, data), key),
	)
}

// What a server with a wallet hands on bears the wallet's signature, and no other's proof.
func TestAuthorOfPushThroughByWallet(t *testing.T) {
	other, err := pairing.NewDevice()
	require.NoError(t, err)
	const data = `{"__proto__":{"x":1},"n":1}`
	for name, config := range map[string]string{
		"all": fmt.Sprintf(posts, "user", ""), "fields": fmt.Sprintf(priced, "user", ""),
	} {
		for _, body := range []string{
			`{"data":` + data + `,"baseHash":null}`, signed(t, data, other.Key),
			`{"data":` + data + `,"baseHash":null,"authorSignature":"00"}`,
		} {
			primary := serveFor(t, config, wallets(t))
			var s *server
			more := walletFile(t, 1)
			if name == "all" {
				s = of(t, primary, "push_through", more)
			} else {
				s = throughTo(t, primary, more)
			}
			status, answer := s.do(http.MethodPost, body)
			require.Equal(t, http.StatusOK, status, "%s: %s: %s", name, body, answer)
			d, err := primary.docs.Get(t.Context(), "posts/featured")
			require.NoError(t, err)
			require.Equal(t, `{"n":1}`, string(value.Append(nil, d.Data)))
			require.Equal(t, walletOf(t, 1).Address().String(), d.Author.Key)
			require.NoError(t, evm.VerifyData(walletOf(t, 1).Address(), d.Data, d.Author.Signature))
		}
	}
	primary := serveFor(t, fmt.Sprintf(posts, "user", ""), wallets(t))
	s := of(t, primary, "push_through", walletFile(t, 1))
	for body, reason := range map[string]string{
		`[]`: "Body must be a JSON object", `{"data":3}`: "Missing or invalid data",
	} {
		status, answer := s.do(http.MethodPost, body)
		require.Equal(t, http.StatusBadRequest, status)
		require.Contains(t, answer, reason)
	}
}

// Of what a server with a passphrase hands on, the proof stays only if it is of the same identity:
// the other server takes none but of who has signed the request.
func TestAuthorOfPushThroughByPassphrase(t *testing.T) {
	who, err := pairing.Root("correct horse battery staple")
	require.NoError(t, err)
	other, err := pairing.NewDevice()
	require.NoError(t, err)
	for _, key := range []capcert.Key{who.Key, other.Key} {
		primary := serve(t, "cap:write:*", "")
		s := of(t, primary, "push_through", root(t))
		status, answer := s.do(http.MethodPost, signed(t, `{"n":1}`, key))
		require.Equal(t, http.StatusOK, status, answer)
		d, err := primary.docs.Get(t.Context(), "posts/featured")
		require.NoError(t, err)
		if key.Public == who.Key.Public {
			require.Equal(t, key.Public, d.Author.Key)
		} else {
			require.Nil(t, d.Author)
		}
	}
}

// Where nobody is presented, and with no more than a header, the caller's own proof is handed on.
func TestAuthorOfPushThroughByNobody(t *testing.T) {
	other, err := pairing.NewDevice()
	require.NoError(t, err)
	for _, more := range []string{"", `, "headers": {"X-Api-Key": "secret"}`} {
		primary := serve(t, "public", "")
		s := of(t, primary, "push_through", more)
		status, answer := s.do(http.MethodPost, signed(t, `{"n":1}`, other.Key))
		require.Equal(t, http.StatusOK, status, answer)
		d, err := primary.docs.Get(t.Context(), "posts/featured")
		require.NoError(t, err)
		require.Equal(t, other.Key.Public, d.Author.Key)
	}
}

// The headers of the configuration, which may have keys, go with this server's own requests, and
// not with those that a caller has signed.
func TestHeadersOfPushThrough(t *testing.T) {
	var pushed atomic.Pointer[http.Header]
	primary := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			h := r.Header.Clone()
			pushed.Store(&h)
		}
		_, _ = io.WriteString(w, `{"data":{},"hash":"","timestamp":1}`)
	}))
	t.Cleanup(primary.Close)
	s := serveFor(t, fmt.Sprintf(posts, "user", fmt.Sprintf(`, "extensions": {"remotes": {"posts": {
		"url": %q, "pullPath": "/pull/posts/featured", "pushPath": "/push/posts/featured",
		"writeMode": "push_through", "headers": {"X-Api-Key": "secret", "X-OctoBot-Chain": "evm:1"}}}}`,
		primary.URL+"/v1")), wallets(t))
	body := []byte(`{"data":{"n":1},"baseHash":null}`)
	hc := evm.NewClient(&evm.Signer{Key: walletOf(t, 2), Chain: "evm:8453"}, s.Client())
	push := func(path string) http.Header {
		pushed.Store(nil)
		resp, err := hc.Post(s.URL+path, "application/json", bytes.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.NotNil(t, pushed.Load())
		return *pushed.Load()
	}
	h := push("/v1/push/posts/featured")
	require.Empty(t, h.Values("X-Api-Key"))
	require.Equal(t, []string{"evm:8453"}, h.Values("X-OctoBot-Chain"))
	require.Equal(t, walletOf(t, 2).Address().String(), h.Get("X-OctoBot-Pubkey"))

	// A path that is another one there cannot be the caller's: it is this server's request.
	c := *s.config
	r := *c.Remotes[0]
	r.PushPath = "/push/elsewhere"
	c.Remotes[0] = &r
	require.NoError(t, s.manager.Set(&c))
	h = push("/v1/push/posts/featured")
	require.Equal(t, "secret", h.Get("X-Api-Key"))
	require.Empty(t, h.Values("X-OctoBot-Pubkey"))
}

// What comes of merging bears nobody's proof, whatever hash the other server says that it has.
func TestAuthorOfWhatIsMerged(t *testing.T) {
	theirs, ours := parse(t, `{"theirs":1}`), parse(t, `{"ours":1}`)
	author := walletOf(t, 3)
	merged := remote.Merge(nil, ours, theirs)
	var answer atomic.Pointer[string]
	says := func(hash string) {
		text := fmt.Sprintf(
			`{"data":%s,"hash":%q,"authorPubkey":%q,"authorSignature":%q}`, value.Append(nil, theirs),
			hash, author.Address(), evm.SignData(author, theirs),
		)
		answer.Store(&text)
	}
	says("")
	hostile := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, *answer.Load())
			return
		}
		_, _ = io.WriteString(w, `{"hash":"x","timestamp":1}`)
	}))
	t.Cleanup(hostile.Close)
	s := beside(t, hostile.URL, "bidirectional")
	_, err := s.docs.Push(t.Context(), "posts/featured", ours, nil, nil, false)
	require.NoError(t, err)
	says(value.Hash(merged))
	require.NoError(t, s.syncError())
	d, err := s.docs.Get(t.Context(), "posts/featured")
	require.NoError(t, err)
	require.Equal(t, value.Hash(merged), d.Hash)
	require.Nil(t, d.Author)

	// Of what is wholly the other server's, the proof is kept.
	theirs = parse(t, `{"ours":2,"theirs":2}`)
	says(value.Hash(theirs))
	require.NoError(t, s.syncError())
	d, err = s.docs.Get(t.Context(), "posts/featured")
	require.NoError(t, err)
	require.Equal(t, value.Hash(theirs), d.Hash)
	require.Equal(t, author.Address().String(), d.Author.Key)
}
