package evm

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/netaddr"
)

// A header of the greatest length is looked at, one that is longer is not; what is said tells
// which.
func TestLongestHeaders(t *testing.T) {
	v := load(t)
	now := int64(1742900000000)
	signer := &Signer{Key: v.key(t, "alice"), Chain: "evm:8453", Clock: func() time.Time {
		return time.UnixMilli(now)
	}}
	for name, most := range map[string]int{
		headerAddress: maxAddress, headerSignature: maxSignature, headerNonce: maxNonce,
	} {
		for _, more := range []int{0, 1} {
			h, err := signer.Sign("GET", "/x", nil)
			require.NoError(t, err)
			h.Set(string(OctoBot)+name, strings.Repeat("0", most+more))
			_, err = v.verifier(t, &now).Verify(t.Context(), &Request{Method: "GET", Path: "/x", Header: h})
			isDenied(t, err, name)
			require.Equal(t, more == 1, strings.Contains(err.Error(), "is longer than"), "%s: %v", name, err)
		}
	}
	h, err := signer.Sign("GET", "/x", nil)
	require.NoError(t, err)
	h.Set(string(OctoBot)+headerTime, strings.Repeat("9", maxTime))
	_, err = v.verifier(t, &now).Verify(t.Context(), &Request{Method: "GET", Path: "/x", Header: h})
	isDenied(t, err, "time")
	require.NotContains(t, err.Error(), "digits")
}

func TestTimeOf(t *testing.T) {
	for _, f := range families {
		require.Equal(t, "7", TimeOf(http.Header{http.CanonicalHeaderKey(string(f) + headerTime): {"7"}}))
	}
	require.Empty(t, TimeOf(http.Header{}))
	require.Empty(t, Only(http.Header{"X-Other": {"1"}}), "and nothing stands there without values")
}

func TestReadKey(t *testing.T) {
	v := load(t)
	dir := t.TempDir()
	read := func(text string) error {
		name := filepath.Join(dir, "key")
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		k, err := ReadKey(name)
		if err == nil {
			require.Equal(t, v.key(t, "alice").Address(), k.Address())
		}
		return err
	}
	secret := ""
	for _, k := range v.Keys {
		if k.Name == "alice" {
			secret = strings.TrimPrefix(k.Private_key, "0x")
		}
	}
	require.NoError(t, read(secret))
	require.NoError(t, read(" 0x"+secret+"\n"))
	for _, bad := range []string{"", "0x", secret[2:], secret + "00", "z" + secret[1:]} {
		require.ErrorContains(t, read(bad), "64 hex digits", bad)
	}
	require.Error(t, read(strings.Repeat("0", 64)), "zero is no key")
	_, err := ReadKey(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = ReadKey(dir)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "64 hex digits", "a directory cannot be read")
}

// A client follows so many redirects, and only to where it went in the first place.
func TestRedirects(t *testing.T) {
	v := load(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) {
		left, err := strconv.Atoi(r.URL.Query().Get("left"))
		require.NoError(t, err)
		if left > 0 {
			http.Redirect(w, r, "/here?left="+strconv.Itoa(left-1), http.StatusTemporaryRedirect)
		}
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	other := httptest.NewServer(mux)
	defer other.Close()
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+"/away", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/scheme", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(
			w, r, strings.Replace(srv.URL, "http:", "https:", 1)+"/scheme", http.StatusTemporaryRedirect,
		)
	})
	client := NewClient(&Signer{Key: v.key(t, "alice"), Chain: "evm:8453"}, nil)
	get := func(path string) error {
		res, err := client.Get(srv.URL + path)
		if err != nil {
			return err
		}
		return res.Body.Close()
	}
	require.NoError(t, get("/here?left="+strconv.Itoa(10-1)))
	require.ErrorContains(t, get("/here?left=10"), "10 redirects")
	require.ErrorIs(t, get("/away"), netaddr.ErrRedirect)
	require.ErrorIs(t, get("/scheme"), netaddr.ErrRedirect)
}

// A server that is asked has no other request signed than that, which it could make at another
// server: a signature is for none in particular.
func TestRedirectsHaveNothingSigned(t *testing.T) {
	v := load(t)
	var asked []string
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
	})
	mux.HandleFunc("/mine", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/secret", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("POST /push", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/push", http.StatusSeeOther) // which is followed by GET
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, srv.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer away.Close()
	signer := &Signer{Key: v.key(t, "alice"), Chain: "evm:8453"}
	for _, client := range []*http.Client{
		NewClient(signer, nil), {Transport: &Transport{Signer: signer}},
	} {
		send := func(method, url string) error {
			r, err := http.NewRequest(method, url, strings.NewReader("x"))
			require.NoError(t, err)
			res, err := client.Do(r)
			if err != nil {
				return err
			}
			return res.Body.Close()
		}
		require.ErrorIs(t, send("GET", srv.URL+"/mine"), ErrRedirect)
		require.ErrorIs(t, send("POST", srv.URL+"/push"), ErrRedirect)
		require.Error(t, send("GET", away.URL+"/away"))
	}
	require.Empty(t, asked)
}

// brokenBody fails when it is read, or only when it is closed.
type brokenBody struct {
	read, closed error
}

func (b *brokenBody) Read([]byte) (int, error) {
	if b.read != nil {
		return 0, b.read
	}
	return 0, io.EOF
}

func (b *brokenBody) Close() error { return b.closed }

// What cannot be read is not signed.
func TestBrokenBody(t *testing.T) {
	v := load(t)
	transport := &Transport{Signer: &Signer{Key: v.key(t, "alice"), Chain: "evm:8453"}}
	one, two := errors.New("one"), errors.New("two")
	for _, x := range []struct {
		body brokenBody
		want error
	}{{brokenBody{one, nil}, one}, {brokenBody{one, two}, one}, {brokenBody{nil, two}, two}} {
		r, err := http.NewRequest("POST", "http://127.0.0.1:1/x", &x.body)
		require.NoError(t, err)
		res, err := transport.RoundTrip(r)
		require.Nil(t, res)
		require.ErrorIs(t, err, x.want)
		require.ErrorContains(t, err, "request to sign")
	}
}

// A body of just the greatest length is let in.
func TestLongestBody(t *testing.T) {
	v := load(t)
	now := time.Now().UnixMilli()
	verifier := v.verifier(t, &now)
	verifier.Clock = nil
	srv := httptest.NewServer(
		verifier.Require(10, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})),
	)
	defer srv.Close()
	client := NewClient(&Signer{Key: v.key(t, "alice"), Chain: "evm:8453"}, srv.Client())
	for size, want := range map[int]int{10: http.StatusOK, 11: http.StatusRequestEntityTooLarge} {
		res, err := client.Post(srv.URL, "text/plain", strings.NewReader(strings.Repeat("x", size)))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, want, res.StatusCode)
	}
}
