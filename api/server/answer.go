package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/api"
)

// maxRequest bounds the JSON of a request; values of more than this travel as files or imports.
const maxRequest = 64 << 20

// answer writes the lines of one answer. It may be used from several goroutines.
type answer struct {
	mu   sync.Mutex
	w    http.ResponseWriter
	last time.Time // of the last progress
}

const progressEvery = 100 * time.Millisecond

func (a *answer) write(l api.Line) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.writeLocked(l)
}

func (a *answer) writeLocked(l api.Line) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = a.w.Write(append(b, '\n'))
	return err
}

// progress sends p unless it follows too soon on the last. A nil answer takes none.
func (a *answer) progress(p api.Progress) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := time.Now(); now.Sub(a.last) >= progressEvery {
		a.last = now
		_ = a.writeLocked(api.Line{Progress: &p}) // a client that is gone ends the request's context
		a.flush()
	}
}

// warn tells a person something, although the operation goes on. A nil answer takes nothing.
func (a *answer) warn(format string, args ...any) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.writeLocked(api.Line{Warning: fmt.Sprintf(format, args...)}) // likewise
	a.flush()
}

func (a *answer) flush() { _ = http.NewResponseController(a.w).Flush() } // likewise

func (a *answer) item(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.write(api.Line{Item: b})
}

// finish sends the end of the answer.
func (a *answer) finish(result any, err error) {
	l := api.Line{}
	if err == nil {
		l.Result, err = json.Marshal(result)
	}
	if err != nil {
		l = api.Line{Error: api.AsError(err)}
	}
	_ = a.write(l) // likewise
}

// handle adds an operation.
func handle[Req, Res any](
	s *Server, name string, fn func(context.Context, Req, *answer) (Res, error),
) {
	s.mux.HandleFunc("POST /v1/"+name, func(w http.ResponseWriter, r *http.Request) {
		a := begin(w)
		var req Req
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err == nil && len(bytes.TrimSpace(body)) > 0 {
			err = decodeStrict(body, &req)
		}
		if err != nil {
			var known *api.Error
			if !errors.As(err, &known) {
				err = api.UsageErrorf("request %s: %v", name, jsonProblem(err, "what docs/api.md says"))
			}
			a.finish(nil, err)
			return
		}
		defer s.caught(name, a)
		res, err := fn(r.Context(), req, a)
		a.finish(res, err)
	})
}

func begin(w http.ResponseWriter) *answer {
	// Progress may be told before all of the body has been read. Where this is not to be had, progress
	// comes late.
	_ = http.NewResponseController(w).EnableFullDuplex()
	w.Header().Set("Content-Type", "application/x-ndjson")
	return &answer{w: w}
}

// fail answers a request for bytes that cannot be had: a status that is not 200, and the error as
// JSON.
func fail(w http.ResponseWriter, err error) {
	e := api.AsError(err)
	w.Header().Set("Content-Type", "application/json")
	status, ok := map[api.Kind]int{
		api.Usage: 400, api.NotFound: 404, api.NotAllowed: 403, api.Unreachable: 504, api.Unsigned: 403,
	}[e.Kind]
	if !ok {
		status = 500
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(e) // a client that is gone needs no answer
}
