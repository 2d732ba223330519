package chain

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whatever an endpoint answers that is no answer is an error, which is remembered for a second, and
// said so to whom the answer matters.
func TestFaults(t *testing.T) {
	always := func(
		f func(w http.ResponseWriter),
	) func(http.ResponseWriter, *http.Request, []map[string]any) bool {
		return func(w http.ResponseWriter, _ *http.Request, _ []map[string]any) bool { f(w); return true }
	}
	change := func(
		f func(replies []map[string]any) any,
	) func(http.ResponseWriter, *http.Request, []map[string]any) bool {
		return func(w http.ResponseWriter, _ *http.Request, replies []map[string]any) bool {
			_ = json.NewEncoder(w).Encode(f(replies))
			return true
		}
	}
	for what, x := range map[string]struct {
		fault func(http.ResponseWriter, *http.Request, []map[string]any) bool
		is    error
		says  string
	}{
		"a web page": {always(func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, "<html>Gateway</html>")
		}), nil, "<html>Gateway</html>"},
		"too many requests": {always(func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(429)
		}), nil, "429"},
		"trouble": {always(func(w http.ResponseWriter) { w.WriteHeader(500) }), nil, "500"},
		"nothing": {always(func(w http.ResponseWriter) {}), nil, "not that of JSON-RPC"},
		"too much": {always(func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, "["+strings.Repeat(" ", maxReply))
		}), nil, "longer than"},
		"one error for all": {always(func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, `{"error":{"code":-32005,"message":"limit exceeded"}}`)
		}), nil, "limit exceeded"},
		"a wrong id": {change(func(r []map[string]any) any {
			r[0]["id"] = 9
			return r
		}), nil, "do not belong"},
		"no id": {change(func(r []map[string]any) any {
			delete(r[0], "id")
			return r
		}), nil, "do not belong"},
		"an answer twice": {change(func(r []map[string]any) any {
			return append(r, r[0])
		}), nil, "do not belong"},
		"an answer less": {change(func(r []map[string]any) any { return r[1:] }), nil, "lacks"},
		"a short result": {change(func(r []map[string]any) any {
			r[0]["result"] = "0x01"
			return r
		}), ErrAnswer, "1 bytes"},
		"a number": {change(func(r []map[string]any) any {
			r[0]["result"] = 1
			return r
		}), nil, "not hexadecimal"},
		"no digits": {change(func(r []map[string]any) any {
			r[0]["result"] = "0xzz"
			return r
		}), nil, "not hexadecimal"},
		"no contract": {change(func(r []map[string]any) any {
			r[0]["result"] = "0x"
			return r
		}), ErrNoContract, ""},
		"neither yes nor no": {change(func(r []map[string]any) any {
			r[1]["result"] = "0x" + strings.Repeat("00", 31) + "02"
			return r
		}), ErrAnswer, ""},
		"much more than a yes": {change(func(r []map[string]any) any {
			r[1]["result"] = "0x01" + strings.Repeat("00", 31)
			return r
		}), ErrAnswer, ""},
		"an error of a call": {change(func(r []map[string]any) any {
			delete(r[0], "result")
			r[0]["error"] = map[string]any{"code": -32000, "message": "header not found"}
			return r
		}), nil, "header not found"},
		"access that is refused": {change(func(r []map[string]any) any {
			delete(r[1], "result")
			r[1]["error"] = map[string]any{"code": 3, "message": "reads disabled"}
			return r
		}), ErrReverted, "reads disabled"},
		"another chain": {change(func(r []map[string]any) any {
			r[2]["result"] = "0x1"
			return r
		}), ErrWrongChain, "evm:1, not evm:8453"},
		"a chain without number": {change(func(r []map[string]any) any {
			delete(r[2], "result")
			r[2]["error"] = map[string]any{"code": -1, "message": "no"}
			return r
		}), nil, "eth_chainId"},
	} {
		t.Run(what, func(t *testing.T) {
			n, at := newNode(t, 8453), newClock()
			n.owners["1"] = alice
			n.fault = x.fault
			c := open(t, at, Options{}, n.URL)
			a := Ask{Item: item(t, "1"), Who: alice}
			_, err := c.Standing(t.Context(), a)
			var down *UnavailableError
			require.ErrorAs(t, err, &down)
			require.Equal(t, "evm:8453", down.Chain)
			require.Positive(t, down.RetryAfter)
			require.ErrorContains(t, err, x.says)
			if x.is != nil {
				require.ErrorIs(t, err, x.is)
			}
			asked := n.asked.Load()
			_, err = c.Standing(t.Context(), a)
			require.ErrorAs(t, err, &down)
			require.Equal(t, asked, n.asked.Load(), "not again within a second")
			n.set(func() { n.fault = nil })
			at.advance(2 * time.Minute)
			s, err := c.Standing(t.Context(), a)
			require.NoError(t, err)
			require.Equal(t, Standing{true, true}, s, "an error is no answer")
		})
	}
}

// Whoever names an item of which an endpoint cannot tell keeps nobody else from asking it.
func TestErrorOfOneItem(t *testing.T) {
	for _, code := range []int{-32015, -32000, -32603} {
		n, at := newNode(t, 8453), newClock()
		n.owners["1"] = alice
		n.fault = func(w http.ResponseWriter, _ *http.Request, replies []map[string]any) bool {
			if _, failed := replies[0]["error"]; failed { // there is no such item
				replies[0]["error"] = map[string]any{"code": code, "message": "VM execution error."}
			}
			_ = json.NewEncoder(w).Encode(replies)
			return true
		}
		c := open(t, at, Options{}, n.URL)
		for i := range 5 {
			_, err := c.Standing(t.Context(), Ask{Item: item(t, fmt.Sprint(1000+i)), Who: bob})
			var down *UnavailableError
			require.ErrorAs(t, err, &down)
			require.Equal(t, firstRest, down.RetryAfter)
			require.ErrorContains(t, err, "VM execution error")
		}
		s, err := c.Standing(t.Context(), Ask{Item: item(t, "1"), Who: alice})
		require.NoError(t, err, code)
		require.Equal(t, Standing{true, true}, s)
	}
}

// An endpoint that cannot tell of an item is asked no more about it than once, and the next one is.
func TestAnotherEndpointKnows(t *testing.T) {
	first, second, at := newNode(t, 8453), newNode(t, 8453), newClock()
	second.owners["1"] = alice
	first.fault = func(w http.ResponseWriter, _ *http.Request, replies []map[string]any) bool {
		delete(replies[0], "result")
		replies[0]["error"] = map[string]any{"code": -32603, "message": "Internal error"}
		_ = json.NewEncoder(w).Encode(replies)
		return true
	}
	c := open(t, at, Options{}, first.URL, second.URL)
	s, err := c.Standing(t.Context(), Ask{Item: item(t, "1"), Who: alice})
	require.NoError(t, err)
	require.Equal(t, Standing{true, true}, s)
	require.EqualValues(t, 1, first.asked.Load())
	require.EqualValues(t, 1, second.asked.Load())
}

// A contract's refusal has several codes.
func TestReverted(t *testing.T) {
	for _, e := range []rpcError{
		{Code: 3},
		{Code: -32015, Message: "VM execution error.", Data: json.RawMessage(`"Reverted 0x282e5885"`)},
		{Code: -32000, Message: "execution reverted"},
	} {
		require.True(t, e.reverted(), "%v", e)
	}
	for _, e := range []*rpcError{
		nil, {Code: -32015, Message: "VM execution error."}, {Code: -32000, Message: "header not found"},
		{Code: -32005, Message: "reverted"},
	} {
		require.False(t, e.reverted(), "%v", e)
	}
}

// When one endpoint fails the next is asked; one that has failed is left alone for some time; and
// one of another chain never counts.
func TestFailOver(t *testing.T) {
	first, second, other, at := newNode(t, 8453), newNode(t, 8453), newNode(t, 1), newClock()
	for _, n := range []*node{first, second} {
		n.owners["1"] = alice
	}
	other.owners["1"] = bob
	c := open(
		t, at, Options{Within: 2 * time.Second, Times: Times{Owner: time.Second}}, other.URL,
		first.URL, second.URL,
	)
	ask := func() {
		t.Helper()
		s, err := c.Standing(t.Context(), Ask{Item: item(t, "1"), Who: alice})
		require.NoError(t, err)
		require.Equal(t, Standing{true, true}, s)
		at.advance(2 * time.Second)
	}
	ask()
	require.EqualValues(t, 1, other.asked.Load())
	first.set(func() {
		first.fault = func(w http.ResponseWriter, r *http.Request, _ []map[string]any) bool {
			<-r.Context().Done()
			return true
		} // says nothing
	})
	ask()
	require.EqualValues(t, 1, second.asked.Load())
	first.set(func() { first.fault = nil })
	for range 3 {
		ask()
	}
	require.Less(t, other.asked.Load(), int64(5), "it is left alone for longer and longer")

	// All are away, then one is back.
	away := func(w http.ResponseWriter, _ *http.Request, _ []map[string]any) bool {
		w.WriteHeader(502)
		return true
	}
	for _, n := range []*node{first, second} {
		n.set(func() { n.fault = away })
	}
	_, err := c.Standing(t.Context(), Ask{Item: item(t, "1"), Who: alice, Write: true})
	var down *UnavailableError
	require.ErrorAs(t, err, &down)
	require.ErrorIs(t, err, ErrWrongChain)
	require.ErrorContains(t, err, "502")
	s, err := c.Standing(t.Context(), Ask{Item: item(t, "1"), Who: alice})
	require.NoError(t, err, "who only reads is served with what was known")
	require.Equal(t, Standing{true, true}, s)
	at.advance(time.Hour)
	_, err = c.Standing(t.Context(), Ask{Item: item(t, "1"), Who: alice})
	require.ErrorAs(t, err, &down, "but not for ever")
	second.set(func() { second.fault = nil })
	at.advance(time.Hour)
	ask()
}

// Questions at the same time that an endpoint does not answer, as it is asked too much at once, are
// one failure: whoever asks much for a moment keeps nobody from being answered after it.
func TestManyFailAtOnce(t *testing.T) {
	good := newNode(t, 8453)
	good.owners["1"] = alice
	var came atomic.Int64
	all := make(chan struct{})
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n := came.Add(1); {
		case n > maxFlights:
			good.serve(w, r)
			return
		case n == maxFlights:
			close(all)
		}
		<-all
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer busy.Close()
	at := newClock()
	c := open(t, at, Options{Within: time.Minute}, busy.URL)
	var wg sync.WaitGroup
	for i := range maxFlights {
		wg.Go(func() {
			_, err := c.Standing(t.Context(), Ask{Item: Item{30: 1, 31: byte(i)}, Who: bob})
			require.Error(t, err)
		})
	}
	wg.Wait()
	s, err := c.Standing(t.Context(), Ask{Item: item(t, "1"), Who: alice, Write: true})
	require.NoError(t, err)
	require.True(t, s.Owner)
}
