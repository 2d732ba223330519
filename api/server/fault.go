package server

import (
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/skerry-sync/skerry/api"
)

// guarded returns a handler that answers with an error in one sentence when h panics, or cuts the
// answer off if a part of it has been sent already.
func guarded(h http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := &sentWriter{ResponseWriter: w}
		defer func() {
			fault := recover()
			if fault == nil {
				return
			}
			if err, ok := fault.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(http.ErrAbortHandler) // a handler's way to break off
			}
			log.Error("a fault in skerry itself ended a request", "path", r.URL.Path, "fault", fault,
				"stack", string(debug.Stack()))
			if sent.any {
				panic(http.ErrAbortHandler) // so that what was sent is not taken for whole
			}
			fail(w, &api.Error{Kind: api.Failed, Message: "a fault in skerry itself ended " + r.URL.Path +
				"; the log has a report"})
		}()
		h.ServeHTTP(sent, r)
	})
}

// sentWriter notes whether an answer has begun.
type sentWriter struct {
	http.ResponseWriter
	any bool
}

// Unwrap is for http.ResponseController.
func (w *sentWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *sentWriter) WriteHeader(status int) {
	w.any = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *sentWriter) Write(b []byte) (int, error) {
	w.any = true
	return w.ResponseWriter.Write(b)
}

// caught ends an operation that panics with an error in one sentence; the log has what helps to
// find the fault.
func (s *Server) caught(name string, a *answer) {
	r := recover()
	if r == nil {
		return
	}
	s.node.Log().Error("a fault in skerry itself ended an operation", "operation", name, "fault", r,
		"stack", string(debug.Stack()))
	a.finish(nil, &api.Error{Kind: api.Failed, Message: "a fault in skerry itself ended " + name +
		"; the node goes on, and its log has a report"})
}
