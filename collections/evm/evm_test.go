package evm

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
)

// vectors are those that other implementations have computed; "strict" is what ours does.
type vectors struct {
	Platform  string   `json:"platform_pubkey_evm"`
	Chains    []string `json:"registered_chains"`
	Keys      []struct{ Name, Private_key string }
	Request   []requestCase `json:"request_auth"`
	Sequences []struct {
		Name  string
		Steps []struct {
			Case     string
			At       int64             `json:"at_ms"`
			Override map[string]string `json:"headers_override"`
			Signer   string
			Nonce    string
			Expect   map[string]any
			Why      string
		}
	}
	Data []struct {
		Data      json.RawMessage
		Stable    string `json:"stable_json"`
		Hash      string `json:"document_hash"`
		Signature string `json:"author_signature_by_alice"`
	} `json:"data_signatures"`
}

type requestCase struct {
	Name, Why string
	Now       int64 `json:"now_ms"`
	Request   struct {
		Method, Path, Query string
		Body                string `json:"body_utf8"`
	}
	Headers           map[string]string
	VerifierCanonical string               `json:"verifier_canonical"`
	SignerCanonical   string               `json:"signer_canonical"`
	Honest            struct{ Hex string } `json:"honest_signature"`
	Expect            struct {
		Strict struct {
			Status   any
			Identity string
			Roles    []string
		}
	}
}

func load(t testing.TB) (v vectors) {
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "evm", "auth.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &v))
	require.NotEmpty(t, v.Request)
	return v
}

func (v *vectors) key(t testing.TB, name string) eth.Key {
	for _, k := range v.Keys {
		if k.Name == name {
			b, err := hex.DecodeString(strings.TrimPrefix(k.Private_key, "0x"))
			require.NoError(t, err)
			key, err := eth.KeyFromSecret([32]byte(b))
			require.NoError(t, err)
			return key
		}
	}
	t.Fatalf("no key of %s", name)
	return eth.Key{}
}

func (v *vectors) verifier(t testing.TB, now *int64) *Verifier {
	nonces, err := access.NewNonces(access.NonceOptions{Skew: Window})
	require.NoError(t, err)
	admin, err := eth.ParseAddress(v.Platform)
	require.NoError(t, err)
	return &Verifier{
		Chains: func(id string) bool { return id == v.Chains[0] }, Admins: []eth.Address{admin},
		Nonces: nonces,
		Clock:  func() time.Time { return time.UnixMilli(*now) },
	}
}

func (c *requestCase) request(family Family, override map[string]string) *Request {
	all := maps.Clone(c.Headers)
	maps.Copy(all, override)
	h := http.Header{}
	for name, text := range all {
		h.Set(string(family)+name, text)
	}
	return &Request{
		Method: c.Request.Method, Path: c.Request.Path, Header: h, Body: func() ([]byte, error) {
			return []byte(c.Request.Body), nil
		},
	}
}

func isDenied(t *testing.T, err error, what string) {
	t.Helper()
	var denied *access.DeniedError
	require.ErrorAs(t, err, &denied, what)
	require.Equal(t, http.StatusUnauthorized, denied.Status, what)
}

func TestVectors(t *testing.T) {
	v := load(t)
	for _, family := range families {
		for _, c := range v.Request {
			now := c.Now
			got, err := v.verifier(t, &now).Verify(t.Context(), c.request(family, nil))
			want := c.Expect.Strict
			if want.Status != "ok" {
				isDenied(t, err, c.Name)
				continue
			}
			require.NoError(t, err, c.Name)
			require.Equal(t, want.Identity, got.Address.String(), c.Name)
			require.Equal(t, want.Roles, got.Roles(), c.Name)
			require.Equal(
				t, c.VerifierCanonical,
				string(
					Canonical(
						c.Request.Method, c.Request.Path, c.Headers["timestamp"], c.Headers["nonce"],
						[]byte(c.Request.Body),
					),
				),
			)
		}
	}
}

// What our signer makes of the vectors' requests is what the others have made.
func TestSignVectors(t *testing.T) {
	v := load(t)
	signed := 0
	for _, c := range v.Request {
		parts := strings.Split(c.SignerCanonical, "\n")
		if len(parts) != 6 || c.SignerCanonical != c.VerifierCanonical {
			continue
		}
		name := "alice"
		if strings.HasPrefix(c.Name, "admin") {
			name = "admin"
		}
		s := &Signer{Key: v.key(t, name), Chain: "evm:8453"}
		h := s.sign(parts[1], parts[2], parts[3], parts[4], []byte(c.Request.Body))
		require.Equal(t, strings.TrimPrefix(c.Honest.Hex, "0x"), h.Get("X-OctoBot-Signature"), c.Name)
		signed++
	}
	require.Greater(t, signed, 20)
	alice := v.key(t, "alice")
	for _, d := range v.Data {
		o, err := value.ParseObject(d.Data, value.MaxDepth)
		require.NoError(t, err)
		require.Equal(t, d.Stable, string(value.AppendCanonical(nil, o)))
		require.Equal(t, d.Hash, value.Hash(o))
		require.Equal(t, strings.TrimPrefix(d.Signature, "0x"), SignData(alice, o))
		require.NoError(t, VerifyData(alice.Address(), o, d.Signature))
		require.ErrorIs(t, VerifyData(v.key(t, "bob").Address(), o, d.Signature), ErrAuthor)
		require.ErrorIs(
			t, VerifyData(alice.Address(), value.NewObject(value.Member{Key: "x"}), d.Signature), ErrAuthor,
		)
		require.ErrorIs(t, VerifyData(alice.Address(), o, "0x00"), ErrAuthor)
	}
}

func TestSequences(t *testing.T) {
	v := load(t)
	cases := map[string]*requestCase{}
	for i := range v.Request {
		cases[v.Request[i].Name] = &v.Request[i]
	}
	require.NotEmpty(t, v.Sequences)
	for _, s := range v.Sequences {
		now := int64(1742900000000)
		verifier := v.verifier(t, &now)
		for i, step := range s.Steps {
			var r *Request
			if step.Case != "" {
				now = step.At
				r = cases[step.Case].request(OctoBot, step.Override)
			} else {
				signer := &Signer{Key: v.key(t, step.Signer), Chain: "evm:8453"}
				r = &Request{
					Method: "GET", Path: "/v1/pull/x",
					Header: signer.sign("GET", "/v1/pull/x", "1742900000000", step.Nonce, nil),
				}
			}
			_, err := verifier.Verify(t.Context(), r)
			if step.Expect["strict"] == "ok" {
				require.NoError(t, err, "%s, step %d: %s", s.Name, i, step.Why)
			} else {
				isDenied(t, err, s.Name)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	v := load(t)
	now := int64(1742900000000)
	signer := &Signer{Key: v.key(t, "alice"), Chain: "evm:8453", Clock: func() time.Time {
		return time.UnixMilli(now)
	}}
	good := func() http.Header {
		h, err := signer.Sign("GET", "/v1/pull/x", nil)
		require.NoError(t, err)
		return h
	}
	for what, change := range map[string]func(r *Request){
		"nothing":        func(r *Request) { r.Header = http.Header{} },
		"both families":  func(r *Request) { r.Header.Set("X-Starfish-Chain", "evm:8453") },
		"a header twice": func(r *Request) { r.Header.Add("X-OctoBot-Nonce", "other") },
		"an escape":      func(r *Request) { r.Path = "/v1/pull/%78" },
		"an address too long": func(r *Request) {
			r.Header.Set("X-OctoBot-Pubkey", strings.Repeat("0", 257))
		},
		"a signature too long": func(r *Request) {
			r.Header.Set("X-OctoBot-Signature", strings.Repeat("0", 513))
		},
		"a time too long": func(r *Request) {
			r.Header.Set("X-OctoBot-Timestamp", "01742900000000000")
		},
		"other digits":  func(r *Request) { r.Header.Set("X-OctoBot-Timestamp", "١٧٤٢٩٠٠٠٠٠٠٠٠") },
		"an empty time": func(r *Request) { r.Header.Set("X-OctoBot-Timestamp", "") },
		"another chain": func(r *Request) { r.Header.Set("X-OctoBot-Chain", "evm:1") },
	} {
		r := &Request{Method: "GET", Path: "/v1/pull/x", Header: good()}
		change(r)
		_, err := v.verifier(t, &now).Verify(t.Context(), r)
		isDenied(t, err, what)
	}
	_, err := signer.Sign("GET", "/a%2fb", nil)
	require.ErrorIs(t, err, ErrPath)
	away := errors.New("away")
	_, err = v.verifier(t, &now).Verify(
		t.Context(),
		&Request{Method: "POST", Path: "/v1/pull/x", Header: good(), Body: func() ([]byte, error) {
			return nil, away
		}},
	)
	require.ErrorIs(t, err, away)
	require.False(t, Presents(http.Header{"X-Starfish-Nonce": {"n"}, "Authorization": {"Cap x"}}))
	require.True(t, Presents(good()))
	require.False(t, Presents(http.Header{}))
}

// A server behind Require sees the requests of a client with Transport, also those after a
// redirect, with their bodies, and knows who made them.
func TestHTTP(t *testing.T) {
	v := load(t)
	now := time.Now().UnixMilli()
	verifier := v.verifier(t, &now)
	verifier.Clock = nil
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "x=1" {
			http.Redirect(w, r, "/echo", http.StatusTemporaryRedirect)
			return
		}
		c, ok := CallerOf(r.Context())
		require.True(t, ok)
		b, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		_, _ = io.WriteString(w, c.Address.String()+" "+c.Chain+" "+string(b))
	})
	srv := httptest.NewServer(verifier.Require(10, mux))
	defer srv.Close()
	alice := v.key(t, "alice")
	for _, family := range families {
		client := &http.Client{
			Transport: &Transport{
				Signer: &Signer{Key: alice, Chain: "evm:8453", Family: family}, Base: srv.Client().Transport,
			},
		}
		res, err := client.Post(srv.URL+"/echo?x=1", "text/plain", strings.NewReader("body\xff"))
		require.NoError(t, err)
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, alice.Address().String()+" evm:8453 body\xff", string(b))
		res, err = client.Post(srv.URL+"/echo", "text/plain", strings.NewReader("too long a body"))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
	}
	res, err := srv.Client().Post(srv.URL+"/echo", "text/plain", strings.NewReader("body"))
	require.NoError(t, err)
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)
	require.JSONEq(t, `{"error":"Unauthorized"}`, string(b))
	// Bodies whose length is not told are cut off while they are read.
	r, err := http.NewRequest(
		"POST", srv.URL+"/echo",
		io.MultiReader(strings.NewReader("too long"), strings.NewReader("a body")),
	)
	require.NoError(t, err)
	h, err := (&Signer{Key: alice, Chain: "evm:8453"}).Sign("POST", "/echo", []byte("too longa body"))
	require.NoError(t, err)
	r.Header = h
	res, err = srv.Client().Do(r)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
}

type slowNonces struct{}

func (slowNonces) Use(ctx context.Context, _, _ string, _, _ int64) error {
	<-ctx.Done()
	return ctx.Err()
}

// A server that cannot find out in time whether a nonce was used lets nobody in, and says that it
// is its own trouble.
func TestSlowNonces(t *testing.T) {
	v := load(t)
	now := time.Now().UnixMilli()
	verifier := v.verifier(t, &now)
	verifier.Nonces = slowNonces{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h, err := (&Signer{Key: v.key(t, "alice"), Chain: "evm:8453"}).Sign("GET", "/x", nil)
	require.NoError(t, err)
	r := httptest.NewRequest("GET", "/x", nil).WithContext(ctx)
	r.Header = h
	w := httptest.NewRecorder()
	verifier.Require(10, http.NotFoundHandler()).ServeHTTP(w, r)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.JSONEq(t, `{"error":"Unauthorized"}`, w.Body.String())
}

// Whatever the headers are, nobody gets in without a signature, and nothing panics.
func FuzzVerify(f *testing.F) {
	v := load(f)
	for _, c := range v.Request {
		f.Add(
			c.Headers["pubkey"], c.Headers["signature"], c.Headers["timestamp"], c.Headers["nonce"],
			c.Headers["chain"], c.Request.Method, c.Request.Path, []byte(c.Request.Body),
		)
	}
	good := map[string]bool{}
	for _, c := range v.Request {
		if c.Expect.Strict.Status == "ok" {
			good[c.VerifierCanonical] = true
		}
	}
	f.Fuzz(func(t *testing.T, address, signature, at, nonce, chain, method, path string, body []byte) {
		now := int64(1742900000000)
		c := requestCase{
			Headers: map[string]string{
				"pubkey": address, "signature": signature, "timestamp": at, "nonce": nonce, "chain": chain,
			},
		}
		c.Request.Method, c.Request.Path, c.Request.Body = method, path, string(body)
		_, err := v.verifier(t, &now).Verify(t.Context(), c.request(OctoBot, nil))
		if err == nil && !good[string(Canonical(method, path, at, nonce, body))] {
			t.Fatal("let in without a signature")
		}
		var denied *access.DeniedError
		if err != nil && !errors.As(err, &denied) {
			t.Fatal(err)
		}
	})
}

// BenchmarkVerify is what a signed request costs beside one that is not: of a caller who comes
// again, and of ones who have not been seen before.
func BenchmarkVerify(b *testing.B) {
	b.Run("known", func(b *testing.B) { benchmarkVerify(b, 1) })
	b.Run("new", func(b *testing.B) { benchmarkVerify(b, 1000) })
}

func benchmarkVerify(b *testing.B, wallets int) {
	v := load(b)
	now := int64(1742900000000)
	verifier := v.verifier(b, &now)
	body := []byte(strings.Repeat("x", 300))
	var all []http.Header
	for i := range 1000 {
		key, err := eth.KeyFromSecret([32]byte{30: byte(i % wallets / 100), 31: byte(i%wallets%100 + 1)})
		require.NoError(b, err)
		h, err := (&Signer{
			Key: key, Chain: "evm:8453", Clock: verifier.Clock,
		}).Sign("POST", "/v1/push/users/x", body)
		require.NoError(b, err)
		all = append(all, h)
	}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		if n%len(all) == 0 {
			verifier.Nonces, _ = access.NewNonces(access.NonceOptions{Skew: Window})
			if wallets > 1 {
				verifier = &Verifier{Chains: verifier.Chains, Nonces: verifier.Nonces, Clock: verifier.Clock}
			}
		}
		if _, err := verifier.Verify(
			b.Context(), &Request{"POST", "/v1/push/users/x", all[n%len(all)], func() ([]byte, error) {
				return body, nil
			}},
		); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
