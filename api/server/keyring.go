package server

import (
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

// keyringCall answers a call of an app on this machine to the keyring, in the form of package
// vault: what apps on other devices call over the keyring protocol.
func (s *Server) keyringCall(w http.ResponseWriter, r *http.Request) {
	msg, err := io.ReadAll(http.MaxBytesReader(w, r.Body, vault.MaxCall))
	if err != nil {
		fail(w, api.UsageErrorf("call to the keyring: %v", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(s.vaults.AnswerApp(r.Context(), msg)) // a client that is gone needs no answer
}
