package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/vault"
)

// KeyringHandler serves a keyring to the person's own programs, for a process of its own: POST
// /v1/keyring with a call of package vault, answered with the reply.
func KeyringHandler(k vault.Keyring) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/keyring", func(w http.ResponseWriter, r *http.Request) {
		msg, err := io.ReadAll(http.MaxBytesReader(w, r.Body, vault.MaxCall))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(vault.Serve(r.Context(), k, msg)) // a client that is gone needs no answer
	})
	return mux
}

// DialKeyring returns the keyring that another process serves on a Unix socket. It talks to no
// process of another user, but for root.
func DialKeyring(path string) vault.Keyring {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true, // calls are rare
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return disk.DialUnix(ctx, path, "")
		},
	}}
	return vault.Remote{Call: func(ctx context.Context, msg []byte) ([]byte, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://keyring/v1/keyring", bytes.NewReader(msg))
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(r)
		if errors.Is(err, disk.ErrForeignSocket) {
			return nil, &Error{NotAllowed, fmt.Sprintf("keyring: %v", errors.Unwrap(err))}
		}
		if err != nil {
			return nil, &Error{Unreachable, fmt.Sprintf("the keyring at %s does not answer: is skerry keyring running? (%v)", path, errors.Unwrap(err))}
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, vault.MaxCall+1))
		if err != nil || resp.StatusCode != http.StatusOK {
			return nil, errors.Join(fmt.Errorf("the keyring at %s: %s", path, resp.Status), err)
		}
		return b, nil
	}}
}

// Keyring returns the keyring of the node as an app on this machine reaches it: it answers what is
// for apps, and nothing else.
func (c *Client) Keyring() vault.Keyring {
	return vault.Remote{Call: func(ctx context.Context, msg []byte) ([]byte, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"keyring", bytes.NewReader(msg))
		if err != nil {
			return nil, err
		}
		resp, err := c.http.Do(r)
		if err != nil {
			return nil, talkError(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, vault.MaxCall+1))
		if err != nil || resp.StatusCode != http.StatusOK {
			return nil, errors.Join(fmt.Errorf("talk to the node: %s", resp.Status), err)
		}
		return b, nil
	}}
}
