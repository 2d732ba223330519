package seed

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/skerry-sync/skerry/identity"
)

// Handler serves the seed over HTTP:
//
//	POST   /v1/replicas                  a Request; 201 and an Answer
//	DELETE /v1/replicas/{replica_id}     a Request without a ticket; 200 and an Answer
//	GET    /v1/identities/{id}/backups   200 and {"backups":[Answer…]}
//	GET    /v1/identities/{id}/quota     200 and a Quota
//	GET    /v1/health                    200 as long as the process serves
//	GET    /v1/ready                     200 when the store answers, else 503
//
// A GET about an identity is signed, unless the seed lets anybody read: the header Authorization is
// "Skerry " and the base64url of a Read. Errors are {"error":{"code","message"}}.
func (s *Seed) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/replicas", func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, r, "register", http.StatusCreated, func() (any, error) {
			req, err := body(w, r)
			if err != nil {
				return nil, err
			}
			return s.register(r.Context(), req, source{counted: askerOf(r, s.ProxyHops)})
		})
	})
	mux.HandleFunc("DELETE /v1/replicas/{replica}", func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, r, "unregister", http.StatusOK, func() (any, error) {
			req, err := body(w, r)
			if err != nil {
				return nil, err
			}
			if !strings.EqualFold(req.Replica, r.PathValue("replica")) {
				return nil, failed(
					InvalidRequest, errors.New("the request is about another replica than its path"),
				)
			}
			return s.Unregister(r.Context(), req)
		})
	})
	mux.HandleFunc(
		"GET /v1/identities/{identity}/backups", func(w http.ResponseWriter, r *http.Request) {
			s.answer(w, r, "backups", http.StatusOK, func() (any, error) {
				req, err := read(r)
				if err != nil {
					return nil, err
				}
				all, err := s.Backups(r.Context(), req)
				return map[string]any{"backups": all}, err
			})
		},
	)
	mux.HandleFunc(
		"GET /v1/identities/{identity}/quota", func(w http.ResponseWriter, r *http.Request) {
			s.answer(w, r, "quota", http.StatusOK, func() (any, error) {
				req, err := read(r)
				if err != nil {
					return nil, err
				}
				return s.Quota(r.Context(), req)
			})
		},
	)
	mux.HandleFunc("GET /v1/health", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok", "node_id": s.n.ID().String()})
	})
	mux.HandleFunc("GET /v1/ready", func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.n.Authors().All(r.Context()); err != nil {
			writeJSON(w, http.StatusServiceUnavailable, map[string]*Error{"error": failed(Internal, err)})
			return
		}
		writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(
			w, http.StatusNotFound,
			map[string]*Error{"error": {NotFound, "there is no " + r.Method + " " + r.URL.Path}},
		)
	})
	return mux
}

func body(w http.ResponseWriter, r *http.Request) (*Request, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequest))
	if err != nil {
		return nil, failed(InvalidRequest, err)
	}
	return parse[Request](b)
}

// read returns the Read of a GET: that of the header, for the identity of the path.
func read(r *http.Request) (*Read, error) {
	id, err := identity.ParseID(r.PathValue("identity"))
	if err != nil {
		return nil, failed(InvalidRequest, err)
	}
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Skerry ")
	if !ok {
		return &Read{Identity: id}, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil, failed(InvalidSignature, err)
	}
	req, err := parse[Read](b)
	if err == nil && req.Identity != id {
		err = failed(InvalidSignature, errors.New("the signature is by another identity"))
	}
	return req, err
}

// answer does what a request asks for, unless there are too many of them.
func (s *Seed) answer(
	w http.ResponseWriter, r *http.Request, op string, status int, fn func() (any, error),
) {
	var v any
	err := s.askers.may(askerOf(r, s.ProxyHops), s.now())
	if err == nil {
		v, err = fn()
	}
	s.counts.add(op, err)
	if err != nil {
		e := asError(err)
		writeJSON(w, statuses[e.Code], map[string]*Error{"error": e})
		return
	}
	writeJSON(w, status, v)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that is gone needs no answer
}
