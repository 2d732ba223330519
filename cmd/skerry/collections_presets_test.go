package main

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/s3"
)

const platformCollections = `{"version": 1, "collections": [
	{"name": "affiliates", "storagePath": "platform/affiliates", "readRoles": ["admin"], "writeRoles": ["admin"], "encryption": "none", "maxBodyBytes": 65536},
	{"name": "settings", "storagePath": "users/{identity}/settings", "readRoles": ["self"], "writeRoles": ["self"], "encryption": "none", "maxBodyBytes": 65536}],
	"extensions": {"evm": {"chains": {"evm:8453": {}}}}}`

// A replica in a process of its own keeps what it may in step with the primary, signed by a wallet,
// also after the primary was away.
func TestReplicaOfAPrimary(t *testing.T) {
	t.Parallel()
	cfg := filepath.Join(t.TempDir(), "collections.json")
	require.NoError(t, os.WriteFile(cfg, []byte(platformCollections), 0o600))
	alice := walletOf(t, 1)
	secret := filepath.Join(t.TempDir(), "wallet")
	require.NoError(t, os.WriteFile(secret, fmt.Appendf(nil, "0x%x\n", alice.Key.Secret()), 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	at := l.Addr().String()
	require.NoError(t, l.Close())
	dir := t.TempDir()
	start := func() *proc {
		p, _ := serveCollectionsWith(
			t, dir, []string{"PLATFORM_PUBKEY_EVM=" + alice.Key.Address().String()}, "--config", cfg,
			"--prefix", "/v1", "--listen", at,
		)
		return p
	}
	first := start()
	local := t.TempDir()
	p, url := serveCollectionsAs(
		t, local, "replica", []string{"REPLICA_SYNC_INTERVAL_MS=200", "SYNC_SERVER_URL=http://" + at},
		"--config", cfg, "--wallet", secret,
	)
	require.True(t, strings.HasSuffix(url, "/v1"))
	base := strings.TrimSuffix(url, "/v1")
	const path = "/platform/affiliates"
	status, text := signed(
		t, alice, base, "POST", "/v1/push"+path, signedPush(t, alice, `{"n":1}`, "null"),
	)
	require.Equal(t, http.StatusOK, status, text)
	becomes := func(base, want string) {
		t.Helper()
		require.Eventually(t, func() bool {
			_, text := signed(t, alice, base, "GET", "/v1/pull"+path, "")
			return strings.Contains(text, want)
		}, 20*time.Second, 50*time.Millisecond)
	}
	becomes("http://"+at, `{"n":1}`)
	status, _ = signed(t, walletOf(t, 2), base, "GET", "/v1/pull"+path, "")
	require.Equal(t, http.StatusForbidden, status)
	first.kill()
	_, text = signed(t, alice, base, "GET", "/v1/pull"+path, "")
	require.Contains(t, text, `{"n":1}`)
	hash := text[strings.Index(text, `"hash":"`)+8:][:64]
	status, text = signed(
		t, alice, base, "POST", "/v1/push"+path, signedPush(t, alice, `{"n":2}`, `"`+hash+`"`),
	)
	require.Equal(t, http.StatusOK, status, text)
	start()
	becomes("http://"+at, `{"n":2}`)
	p.kill()
	require.True(t, holds(t, filepath.Join(local, "collections", "documents"), `{"n":2}`))
}

func TestStoreFromEnvironment(t *testing.T) {
	env := map[string]string{
		"S3_ENDPOINT": "s3.example", "S3_BUCKET": "docs", "S3_REGION": "eu", "S3_ACCESS_KEY": "id",
	}
	get := func(name string) string { return env[name] }
	var f storeFlags
	require.ErrorContains(
		t, f.fromEnvironment(get), "required environment variable missing: S3_SECRET_KEY",
	)
	env["S3_SECRET_KEY"] = "secret"
	require.NoError(t, f.fromEnvironment(get))
	require.Equal(t, "s3:https://s3.example/docs", f.Name)
	require.Equal(t, "eu", f.Region)
	env["S3_ENDPOINT"] = "http://127.0.0.1:9000/"
	require.NoError(t, f.fromEnvironment(get))
	require.Equal(t, "s3:http://127.0.0.1:9000/docs", f.Name)
}

// What is replicable, and how.
func TestReplicaConfig(t *testing.T) {
	c, err := config.Parse([]byte(platformCollections))
	require.NoError(t, err)
	own, local, err := c.Replica(
		config.Primary{URL: "https://sync.example/v1/", Mode: config.Bidirectional, Every: time.Second},
	)
	require.NoError(t, err)
	require.Len(t, own.Remotes, 1)
	require.Len(t, local, 1)
	require.Empty(t, c.Remotes)
	require.Equal(t, &config.Remote{
		Collection: c.Collections[0], URL: "https://sync.example/v1",
		PullPath: "/pull/platform/affiliates", PushPath: "/push/platform/affiliates",
		Headers: map[string]string{},
		Mode:    config.Bidirectional, Every: time.Second, OnPull: true,
	}, own.Remotes[0])
	own, _, err = c.Replica(config.Primary{URL: "https://sync.example", Mode: config.PullOnly})
	require.NoError(t, err)
	require.Equal(t, "https://sync.example/v1", own.Remotes[0].URL)
	require.Empty(t, own.Remotes[0].PushPath)
	for _, bad := range []config.Primary{
		{URL: "sync.example", Mode: config.PullOnly}, {URL: "https://sync.example", Mode: "both"},
		{URL: "https://x.example?y", Mode: config.PullOnly},
	} {
		_, _, err = c.Replica(bad)
		require.Error(t, err)
	}
}

// octoBots is a document as OctoBot's server has stored it for the wallet 1, with the secret
// "secret": {"v":1,"data":{"from":"octobot"},"timestamps":{"from":1742900000000},"hash":"…"}.
const octoBots = "BwcHBwcHBwcHBwcH64i+ux+JaInjj92O1+UvYwA5+2yUe4TUdo+gmGsHxnZH2xm4D0cDYsB4GFh4OUfbw3+UrIuZW06GzrzVwmplzI0bN8z1+KTPyab2w2UDyAVhlK/ESlSEejJpo4lvyUjzUlIxmO+5qlnNMU1Bz9NIdudslm5PWH3wY4xV1CmC0SiWNmKSjZgS4b5SmjLhVpVljFFahH/clNfCQgIJjIRd"

// Two primaries share a bucket: what one has encrypted and stored the other serves, and a request
// that one has let in the other does not. SKERRY_TEST_S3 is the URL of the bucket, for which the
// environment has the keys; .ci/services starts one.
func TestPrimariesOfABucket(t *testing.T) {
	at := os.Getenv("SKERRY_TEST_S3")
	if at == "" {
		t.Skip("SKERRY_TEST_S3 names no S3 service; .ci/services runs one")
	}
	endpoint, bucket := at[:strings.LastIndexByte(at, '/')], at[strings.LastIndexByte(at, '/')+1:]
	cfg := filepath.Join(t.TempDir(), "collections.json")
	text := strings.Replace(
		string(config.DefaultText), `"evm": {`, `"evm": {"sharedNonces": true, `, 1,
	)
	require.NoError(t, os.WriteFile(cfg, []byte(text), 0o600))
	env := []string{
		"S3_ENDPOINT=" + endpoint, "S3_BUCKET=" + bucket, "S3_REGION=us-east-1",
		"S3_ACCESS_KEY=" + os.Getenv("AWS_ACCESS_KEY_ID"),
		"S3_SECRET_KEY=" + os.Getenv("AWS_SECRET_ACCESS_KEY"), "ENCRYPTION_SECRET=secret",
	}
	_, one := serveCollectionsAs(t, t.TempDir(), "primary", env, "--config", cfg)
	_, two := serveCollectionsAs(t, t.TempDir(), "primary", env, "--config", cfg)
	one, two = strings.TrimSuffix(one, "/v1"), strings.TrimSuffix(two, "/v1")
	alice := walletOf(t, byte(time.Now().UnixNano()%200+5))
	mine := "/users/" + alice.Key.Address().String()
	// What OctoBot's server has stored in the bucket is served on.
	old, err := s3.Open(t.Context(), at, s3.Options{PlainNames: true})
	require.NoError(t, err)
	sealed, err := base64.StdEncoding.DecodeString(octoBots)
	require.NoError(t, err)
	require.NotEmpty(t, sealed)
	require.NoError(
		t,
		old.Put(
			t.Context(), "users/"+walletOf(t, 1).Key.Address().String()+"/accounts",
			&store.Object{Body: []byte(octoBots), Type: "application/json"}, store.Whatever,
		),
	)
	require.NoError(t, old.Close())
	_, text = signed(
		t, walletOf(t, 1), one, "GET", "/v1/pull/users/"+walletOf(t, 1).Key.Address().String(), "",
	)
	require.Contains(t, text, `"accounts":{"data":{"from":"octobot"}`)

	base := "null"
	if _, text := signed(
		t, alice, one, "GET", "/v1/pull"+mine, "",
	); strings.Contains(text, `"data":{"n":1},"hash":"`) { // of a test before
		base = text[strings.Index(text, `"data":{"n":1},"hash":`)+22:][:66]
	}
	status, text := signed(
		t, alice, one, "POST", "/v1/push"+mine+"/bots", signedPush(t, alice, `{"n":1}`, base),
	)
	require.Equal(t, http.StatusOK, status, text)
	_, text = signed(t, alice, two, "GET", "/v1/pull"+mine, "")
	require.Contains(t, text, `"data":{"n":1}`)

	h, err := alice.Sign("GET", "/v1/pull"+mine, nil)
	require.NoError(t, err)
	for i, url := range []string{one, two, one} {
		r, err := http.NewRequest(http.MethodGet, url+"/v1/pull"+mine, nil)
		require.NoError(t, err)
		r.Header = h
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(
			t, []int{http.StatusOK, http.StatusUnauthorized, http.StatusUnauthorized}[i], res.StatusCode,
		)
	}
}
