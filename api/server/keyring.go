package server

import (
	"context"
	"io"
	"net/http"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/vault"
)

// KeyringHandler serves a keyring to the person's own programs, for a process of its own: POST
// /v1/keyring with a call of package vault, answered with the reply.
func KeyringHandler(k vault.Keyring) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/keyring", func(w http.ResponseWriter, r *http.Request) {
		answerCall(w, r, func(ctx context.Context, call []byte) []byte {
			return vault.Serve(ctx, k, call)
		})
	})
	return mux
}

// keyringCall answers a call of an app on this machine to the keyring, in the form of package
// vault: what apps on other devices call over the keyring protocol.
func (s *Server) keyringCall(w http.ResponseWriter, r *http.Request) {
	answerCall(w, r, s.vaults.AnswerApp)
}

// answerCall answers a call of at most vault.MaxCall bytes with the reply of a keyring.
func answerCall(
	w http.ResponseWriter, r *http.Request, reply func(ctx context.Context, call []byte) []byte,
) {
	call, err := io.ReadAll(http.MaxBytesReader(w, r.Body, vault.MaxCall))
	if err != nil {
		fail(w, api.UsageErrorf("call to the keyring: %v", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(reply(r.Context(), call)) // a client that is gone needs no answer
}
