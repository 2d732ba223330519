package chain

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// endpoint is a JSON-RPC server of a chain (JSON-RPC 2.0; Ethereum's execution APIs).
type endpoint struct {
	url    string
	client *http.Client
	within time.Duration // for one try

	mu       sync.Mutex
	checked  bool // it has said that it is of the right chain, and has not failed since
	failures int  // since it last answered
	counted  int  // failures, ever
	rest     time.Time
}

// How long an endpoint that has failed is left alone: twice as long after each failure.
const (
	firstRest = time.Second
	maxRest   = time.Minute
)

// maxReply is how long a reply may be.
const maxReply = 1 << 20

// call is one of a batch.
type call struct {
	method string
	params []any
}

// reply is what came for a call: a result, or an error.
type reply struct {
	result []byte // the bytes of a hexadecimal text
	err    *rpcError
}

// rpcError is an error of a JSON-RPC server.
type rpcError struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data"`
}

const (
	// codeReverted is the code of a call that the contract has refused.
	codeReverted = 3
	// limitExceeded is that of an endpoint which has answered enough for now (EIP-1474).
	limitExceeded = -32005
)

// vmErrors are the codes that some servers give a call that the contract has refused, and other
// failures of a call, too: Nethermind's and OpenEthereum's, and that of all else that goes wrong.
var vmErrors = []int{-32015, -32000}

// reverted reports whether the contract has refused the call.
func (e *rpcError) reverted() bool {
	if e == nil || e.Code == codeReverted {
		return e != nil
	}
	says := strings.ToLower(e.Message + string(e.Data))
	return slices.Contains(vmErrors, e.Code) && strings.Contains(says, "revert")
}

func (e *rpcError) Error() string { return fmt.Sprintf("error %d: %s", e.Code, clip(e.Message)) }

func clip(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "?")
}

// busyError is an endpoint's wish to be left alone.
type busyError struct {
	status string
	after  time.Duration
}

func (e *busyError) Error() string { return "it answers " + e.status }

// batch makes calls in one request. The replies are in the order of the calls.
func (e *endpoint) batch(ctx context.Context, calls []call) (all []reply, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.within)
	defer cancel()
	type request struct {
		Version string `json:"jsonrpc"`
		ID      int    `json:"id"`
		Method  string `json:"method"`
		Params  []any  `json:"params"`
	}
	requests := make([]request, len(calls))
	for i, c := range calls {
		if c.params == nil {
			c.params = []any{}
		}
		requests[i] = request{"2.0", i + 1, c.method, c.params}
	}
	body, err := json.Marshal(requests)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	// is not sent, but lets the client try again if a kept connection is gone
	req.Header["Idempotency-Key"] = nil
	res, err := e.client.Do(req)
	if err != nil {
		return nil, errors.Unwrap(err) // the outer one has the URL, which may have a key in it
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxReply+1))
	if err != nil {
		return nil, fmt.Errorf("its reply breaks off: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return nil, &busyError{res.Status, time.Duration(min(max(0, seconds), 3600)) * time.Second}
	}
	if len(text) > maxReply {
		return nil, fmt.Errorf("its reply is longer than %d bytes", maxReply)
	}
	return parseReplies(text, len(calls))
}

// parseReplies reads the reply to a batch of count calls, whose ids begin with 1: one for each, in
// any order.
func parseReplies(text []byte, count int) ([]reply, error) {
	var got []struct {
		ID     *int            `json:"id"`
		Result json.RawMessage `json:"result"`
		Error  *rpcError       `json:"error"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		var one struct{ Error *rpcError }
		if json.Unmarshal(text, &one) == nil && one.Error != nil {
			return nil, one.Error
		}
		return nil, fmt.Errorf("its reply is not that of JSON-RPC to a batch: %s", clip(string(text)))
	}
	all := make([]reply, count)
	seen := make([]bool, count)
	for _, g := range got {
		if g.ID == nil || *g.ID < 1 || *g.ID > count || seen[*g.ID-1] {
			return nil, errors.New("its replies do not belong to the calls")
		}
		i := *g.ID - 1
		seen[i] = true
		if g.Error != nil {
			all[i].err = g.Error
			continue
		}
		var s string
		if err := json.Unmarshal(g.Result, &s); err != nil || !strings.HasPrefix(s, "0x") {
			return nil, fmt.Errorf("a result is not hexadecimal: %s", clip(string(g.Result)))
		}
		digits := s[2:]
		if len(digits)%2 == 1 { // a quantity
			digits = "0" + digits
		}
		var err error
		if all[i].result, err = hex.DecodeString(digits); err != nil {
			return nil, fmt.Errorf("a result is not hexadecimal: %s", clip(s))
		}
	}
	for i := range seen {
		if !seen[i] {
			return nil, errors.New("its reply lacks that to a call")
		}
	}
	return all, nil
}

// rests returns how long the endpoint is still to be left alone.
func (e *endpoint) rests(now time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rest.Sub(now)
}

func (e *endpoint) isChecked() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.checked
}

func (e *endpoint) answered() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.checked, e.failures, e.rest = true, 0, time.Time{}
}

// incidents returns how many failures have counted. A try passes on to failed what it was when it
// began.
func (e *endpoint) incidents() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counted
}

// failed leaves the endpoint alone for a time, which grows with each failure that counts. Of tries
// at the same time that fail, one does: many callers at once must not make a minute of a moment.
func (e *endpoint) failed(now time.Time, incidents int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.checked = false
	rest := time.Duration(0) // one failure may be an accident
	counts := incidents == e.counted
	if counts && e.failures > 0 {
		rest = min(firstRest<<min(e.failures-1, 10), maxRest)
	}
	var busy *busyError
	if errors.As(err, &busy) {
		rest = max(rest, busy.after)
	}
	if counts {
		e.failures++
		e.counted++
	}
	if until := now.Add(rest); until.After(e.rest) {
		e.rest = until
	}
}
