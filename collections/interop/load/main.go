// Command load prepares a server of collections for being measured: it writes a thousand documents,
// and files with signed pulls of one that is only for its owner, for signed.lua. Run: load URL FILE
// COUNT [wallet]; with wallet, of wallets.json, they are signed by an EVM wallet, and good for 19
// seconds.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/client"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/pairing"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
)

// threads are those of wrk, each of which has a file of its own.
const threads = 2

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	base, file := os.Args[1], os.Args[2]
	count, err := strconv.Atoi(os.Args[3])
	if err != nil {
		return err
	}
	if len(os.Args) > 4 && os.Args[4] == "wallet" {
		return wallet(base, file, count)
	}
	root, err := pairing.Root("a passphrase for measuring")
	if err != nil {
		return err
	}
	id, err := capcert.UserID(root.Key.Public)
	if err != nil {
		return err
	}
	cert, err := pairing.RootCert(root, time.Now().Unix())
	if err != nil {
		return err
	}
	c := &client.Client{Base: base, Credentials: func() client.Credentials {
		return client.Credentials{Cert: cert, Key: root.Key}
	}}
	data, err := value.ParseObject(
		[]byte(`{"title":"A note","tags":["a","b"],"count":12,"body":"words and words and words"}`),
		value.MaxDepth,
	)
	if err != nil {
		return err
	}
	write := func(path string) error {
		d, err := c.Pull(ctx, path)
		if err == nil {
			_, err = c.Push(ctx, path, data, d.Hash, false)
		}
		return err
	}
	for i := range 1000 {
		if err := write(fmt.Sprintf("notes/seed-%d", i)); err != nil {
			return err
		}
	}
	mine := "users/" + id + "/one"
	if err := write(mine); err != nil {
		return err
	}
	u, err := url.Parse(base)
	if err != nil {
		return err
	}
	for t := range threads {
		var out bytes.Buffer
		for range count / threads {
			nonce := make([]byte, capcert.NonceSize)
			_, _ = rand.Read(nonce) // never fails
			r := capcert.Request{Method: "GET", PathAndQuery: "/pull/" + mine, Host: u.Host}
			s := r.Sign(root.Key, time.Now().UnixMilli(), nonce)
			fmt.Fprintf(
				&out, "GET %s HTTP/1.1\nHost: %s\nAuthorization: %s\n%s: %s\n%s: %d\n%s: %s\n.\n",
				r.PathAndQuery, u.Host, cert.Authorization(), access.HeaderSignature, s.Signature,
				access.HeaderTime, s.Time, access.HeaderNonce, s.Nonce,
			)
		}
		if err := os.WriteFile(fmt.Sprintf("%s.%d", file, t+1), out.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// wallet writes pulls that a wallet has signed, of a document that it has written before.
func wallet(base, file string, count int) error {
	key, err := eth.KeyFromSecret([32]byte{31: 1})
	if err != nil {
		return err
	}
	// as far as the server lets them be, so that there is time to send them
	const ahead = 9 * time.Second
	s := &evm.Signer{Key: key, Chain: "evm:8453", Clock: func() time.Time {
		return time.Now().Add(ahead)
	}}
	u, err := url.Parse(base)
	if err != nil {
		return err
	}
	path := "/users/" + key.Address().String() + "/one"
	data := value.NewObject(value.Member{Key: "title", Value: "A note"})
	body := value.Append(
		nil,
		value.NewObject(
			value.Member{Key: "data", Value: data}, value.Member{Key: "baseHash", Value: ""},
			value.Member{Key: "authorSignature", Value: evm.SignData(key, data)},
		),
	)
	res, err := (&http.Client{Transport: &evm.Transport{Signer: s}}).Post(
		base+"/push"+path, "application/json", bytes.NewReader(body),
	)
	if err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	for t := range threads {
		var out bytes.Buffer
		for range count / threads {
			h, err := s.Sign("GET", "/pull"+path, nil)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, "GET /pull%s HTTP/1.1\nHost: %s\n", path, u.Host)
			for name, v := range h {
				fmt.Fprintf(&out, "%s: %s\n", name, v[0])
			}
			out.WriteString(".\n")
		}
		if err := os.WriteFile(fmt.Sprintf("%s.%d", file, t+1), out.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return nil
}
