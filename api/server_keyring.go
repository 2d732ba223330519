package api

import (
	"io"
	"net/http"

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
