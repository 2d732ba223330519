package chain

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/identity/eth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type abiVectors struct {
	ABI struct {
		Selectors map[string]string
		Calls     []struct {
			Function string
			Args     []string
			Calldata string
		}
		Results []struct {
			Function, Returned string
			Decoded            any
		}
		Items []struct {
			ID string
			OK any
		} `json:"item_ids"`
	}
}

func vectors(t testing.TB) (v abiVectors) {
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "evm", "auth.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &v))
	require.NotEmpty(t, v.ABI.Calls)
	return v
}

func address(t testing.TB, s string) eth.Address {
	a, err := eth.ParseAddress(s)
	require.NoError(t, err)
	return a
}

func TestVectors(t *testing.T) {
	v := vectors(t).ABI
	require.Equal(t, v.Selectors["ownerOf(uint256)"], "0x"+hex.EncodeToString(selectorOwnerOf[:]))
	require.Equal(t, v.Selectors["hasAccess(address,uint256)"], "0x"+hex.EncodeToString(selectorHasAccess[:]))
	c := &EVM{}
	for _, x := range v.Calls {
		item, err := ParseItem(x.Args[len(x.Args)-1])
		require.NoError(t, err)
		made := c.call(selectorOwnerOf, item)
		if x.Function == "hasAccess" {
			made = c.call(selectorHasAccess, [32]byte(eth.Of(address(t, x.Args[0]))), item)
		}
		require.Equal(t, x.Calldata, made.params[0].(map[string]string)["data"])
	}
	for _, x := range v.Results {
		b, err := hex.DecodeString(strings.TrimPrefix(x.Returned, "0x"))
		require.NoError(t, err)
		var got any
		if x.Function == "hasAccess" {
			got, err = parseAccess(reply{result: b})
		} else {
			var a eth.Address
			a, err = parseOwner(reply{result: b})
			got = a.String()
		}
		if s, ok := x.Decoded.(string); ok && strings.HasPrefix(s, "error") {
			var contract *contractError
			require.ErrorAs(t, err, &contract, x.Returned)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, x.Decoded, got)
	}
	for _, x := range v.Items {
		item, err := ParseItem(x.ID)
		if x.OK != true {
			require.ErrorIs(t, err, ErrItem, x.ID)
			continue
		}
		require.NoError(t, err, x.ID)
		require.Equal(t, x.ID, item.String())
	}
}

// node is a JSON-RPC server whose contract and faults a test sets.
type node struct {
	*httptest.Server
	mu      sync.Mutex
	number  uint64
	owners  map[string]eth.Address // by items
	members map[string]bool        // by items and addresses
	fault   func(w http.ResponseWriter, r *http.Request, replies []map[string]any) (done bool)
	asked   atomic.Int64
}

var contract = eth.Address{19: 0xc0}

func newNode(t *testing.T, number uint64) *node {
	n := &node{number: number, owners: map[string]eth.Address{}, members: map[string]bool{}}
	n.Server = httptest.NewServer(http.HandlerFunc(n.serve))
	t.Cleanup(n.Close)
	return n
}

func (n *node) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *node) serve(w http.ResponseWriter, r *http.Request) {
	n.asked.Add(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	var batch []struct {
		ID     int
		Method string
		Params []json.RawMessage
	}
	if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var replies []map[string]any
	for _, c := range batch {
		reply := map[string]any{"jsonrpc": "2.0", "id": c.ID}
		if c.Method == "eth_chainId" {
			reply["result"] = fmt.Sprintf("0x%x", n.number)
		} else {
			var to struct{ To, Data string }
			_ = json.Unmarshal(c.Params[0], &to)
			data, _ := hex.DecodeString(strings.TrimPrefix(to.Data, "0x"))
			word := func(b []byte) string { return "0x" + strings.Repeat("00", 32-len(b)) + hex.EncodeToString(b) }
			switch {
			case to.To != contract.Lower():
				reply["result"] = "0x"
			case [4]byte(data) == selectorOwnerOf:
				owner, ok := n.owners[Item(data[4:]).String()]
				if !ok {
					reply["error"] = map[string]any{"code": 3, "message": "execution reverted", "data": "0x282e5885"}
				} else {
					reply["result"] = word(owner[:])
				}
			default:
				is := byte(0)
				if n.members[Item(data[36:]).String()+" "+eth.Address(data[16:36]).String()] {
					is = 1
				}
				reply["result"] = word([]byte{is})
			}
		}
		replies = append(replies, reply)
	}
	if n.fault != nil && n.fault(w, r, replies) {
		return
	}
	_ = json.NewEncoder(w).Encode(replies)
}

// clock is a clock that a test sets.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Now().UnixNano())
	return c
}
func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

var (
	alice = eth.Address{19: 0xa1}
	bob   = eth.Address{19: 0xb0}
	carol = eth.Address{19: 0xca}
)

func item(t testing.TB, s string) Item {
	i, err := ParseItem(s)
	require.NoError(t, err)
	return i
}

func open(t *testing.T, c *clock, o Options, urls ...string) *EVM {
	o.Endpoints, o.Contract, o.Clock = urls, contract, c.now
	e, err := NewEVM(8453, o)
	require.NoError(t, err)
	t.Cleanup(e.Close)
	return e
}

// Answers are what the contract says, asked for in one request, and remembered for their times.
func TestStanding(t *testing.T) {
	n, at := newNode(t, 8453), newClock()
	n.owners["42"] = alice
	n.members["42 "+bob.String()] = true
	c := open(t, at, Options{}, n.URL)
	check := func(who eth.Address, want Standing, requests int64) {
		t.Helper()
		before := n.asked.Load()
		got, err := c.Standing(t.Context(), Ask{Item: item(t, "42"), Who: who})
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, requests, n.asked.Load()-before)
	}
	check(alice, Standing{true, true}, 1)
	check(alice, Standing{true, true}, 0)
	check(bob, Standing{false, true}, 1)
	check(bob, Standing{false, true}, 0)
	check(carol, Standing{}, 1)
	check(carol, Standing{}, 0)
	check(eth.Address{}, Standing{}, 1)

	// Nobody becomes a member, or stops being one, for longer than the time of the answer.
	n.set(func() { n.members = map[string]bool{"42 " + carol.String(): true} })
	at.advance(29 * time.Second)
	check(carol, Standing{}, 0)
	check(bob, Standing{false, true}, 0)
	at.advance(2 * time.Second)
	check(carol, Standing{false, true}, 1)
	at.advance(28 * time.Second)
	check(bob, Standing{false, true}, 0) // 59 s after the answer
	at.advance(2 * time.Second)
	check(bob, Standing{}, 1)

	// Owners are taken not to change, for a year, unless somebody else's question shows that they have.
	at.advance(300 * 24 * time.Hour)
	check(alice, Standing{true, true}, 0)
	n.set(func() { n.owners["42"] = bob })
	check(alice, Standing{true, true}, 0)
	c.Flush()
	check(alice, Standing{}, 1)
	check(bob, Standing{true, true}, 0) // as the last answer has told

	// What is not there may be there a moment later.
	missing := Ask{Item: item(t, "43"), Who: alice}
	got, err := c.Standing(t.Context(), missing)
	require.NoError(t, err)
	require.Equal(t, Standing{}, got)
	n.set(func() { n.owners["43"] = alice })
	at.advance(31 * time.Second)
	got, err = c.Standing(t.Context(), missing)
	require.NoError(t, err)
	require.Equal(t, Standing{true, true}, got)
}

// Whatever an endpoint answers that is no answer is an error, which is remembered for a second, and said so to whom the answer matters.
func TestFaults(t *testing.T) {
	always := func(f func(w http.ResponseWriter)) func(http.ResponseWriter, *http.Request, []map[string]any) bool {
		return func(w http.ResponseWriter, _ *http.Request, _ []map[string]any) bool { f(w); return true }
	}
	change := func(f func(replies []map[string]any) any) func(http.ResponseWriter, *http.Request, []map[string]any) bool {
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
		"a web page":        {always(func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>Gateway</html>") }), nil, "<html>Gateway</html>"},
		"too many requests": {always(func(w http.ResponseWriter) { w.Header().Set("Retry-After", "30"); w.WriteHeader(429) }), nil, "429"},
		"trouble":           {always(func(w http.ResponseWriter) { w.WriteHeader(500) }), nil, "500"},
		"nothing":           {always(func(w http.ResponseWriter) {}), nil, "not that of JSON-RPC"},
		"too much":          {always(func(w http.ResponseWriter) { _, _ = io.WriteString(w, "["+strings.Repeat(" ", maxReply)) }), nil, "longer than"},
		"one error for all": {always(func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, `{"error":{"code":-32005,"message":"limit exceeded"}}`)
		}), nil, "limit exceeded"},
		"a wrong id":           {change(func(r []map[string]any) any { r[0]["id"] = 9; return r }), nil, "do not belong"},
		"no id":                {change(func(r []map[string]any) any { delete(r[0], "id"); return r }), nil, "do not belong"},
		"an answer twice":      {change(func(r []map[string]any) any { return append(r, r[0]) }), nil, "do not belong"},
		"an answer less":       {change(func(r []map[string]any) any { return r[1:] }), nil, "lacks"},
		"a short result":       {change(func(r []map[string]any) any { r[0]["result"] = "0x01"; return r }), ErrAnswer, "1 bytes"},
		"a number":             {change(func(r []map[string]any) any { r[0]["result"] = 1; return r }), nil, "not hexadecimal"},
		"no digits":            {change(func(r []map[string]any) any { r[0]["result"] = "0xzz"; return r }), nil, "not hexadecimal"},
		"no contract":          {change(func(r []map[string]any) any { r[0]["result"] = "0x"; return r }), ErrNoContract, ""},
		"neither yes nor no":   {change(func(r []map[string]any) any { r[1]["result"] = "0x" + strings.Repeat("00", 31) + "02"; return r }), ErrAnswer, ""},
		"much more than a yes": {change(func(r []map[string]any) any { r[1]["result"] = "0x01" + strings.Repeat("00", 31); return r }), ErrAnswer, ""},
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
		"another chain": {change(func(r []map[string]any) any { r[2]["result"] = "0x1"; return r }), ErrWrongChain, "evm:1, not evm:8453"},
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

// That somebody may use an item is remembered for its own time, also where nobody asks about its
// owner.
func TestAccessIsRemembered(t *testing.T) {
	n, at := newNode(t, 8453), newClock()
	n.owners["42"] = alice
	n.members["42 "+bob.String()] = true
	c := open(t, at, Options{}, n.URL)
	for _, x := range []struct {
		after    time.Duration
		requests int64
	}{{0, 1}, {59 * time.Second, 1}, {time.Second, 2}} {
		at.advance(x.after)
		s, err := c.Standing(t.Context(), Ask{Item: item(t, "42"), Who: bob})
		require.NoError(t, err)
		require.Equal(t, Standing{false, true}, s)
		require.Equal(t, x.requests, n.asked.Load())
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
		{Code: 3}, {Code: -32015, Message: "VM execution error.", Data: json.RawMessage(`"Reverted 0x282e5885"`)},
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

// When one endpoint fails the next is asked; one that has failed is left alone for some time; and one of another chain never counts.
func TestFailOver(t *testing.T) {
	first, second, other, at := newNode(t, 8453), newNode(t, 8453), newNode(t, 1), newClock()
	for _, n := range []*node{first, second} {
		n.owners["1"] = alice
	}
	other.owners["1"] = bob
	c := open(t, at, Options{Within: 2 * time.Second, Times: Times{Owner: time.Second}}, other.URL, first.URL, second.URL)
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
	away := func(w http.ResponseWriter, _ *http.Request, _ []map[string]any) bool { w.WriteHeader(502); return true }
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

// Many who want to know the same at the same time ask once; one who goes away takes the answer from nobody.
func TestOneQuestion(t *testing.T) {
	n, at := newNode(t, 8453), newClock()
	n.owners["1"] = alice
	release := make(chan struct{})
	n.fault = func(http.ResponseWriter, *http.Request, []map[string]any) bool { <-release; return false }
	c := open(t, at, Options{Within: 30 * time.Second}, n.URL)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := c.Standing(ctx, Ask{Item: item(t, "1"), Who: alice})
		require.ErrorIs(t, err, context.Canceled)
	})
	require.Eventually(t, func() bool { return n.asked.Load() == 1 }, 10*time.Second, time.Millisecond)
	for range 50 {
		wg.Go(func() {
			s, err := c.Standing(t.Context(), Ask{Item: item(t, "1"), Who: alice})
			require.NoError(t, err)
			require.Equal(t, Standing{true, true}, s)
		})
	}
	cancel()
	time.Sleep(10 * time.Millisecond)
	close(release)
	wg.Wait()
	require.EqualValues(t, 1, n.asked.Load())
}

// What is remembered is bounded, whatever is asked for.
func TestBounded(t *testing.T) {
	n, at := newNode(t, 8453), newClock()
	c := open(t, at, Options{Remember: 10}, n.URL)
	for i := range 100 {
		_, err := c.Standing(t.Context(), Ask{Item: item(t, fmt.Sprint(i)), Who: alice})
		require.NoError(t, err)
	}
	require.Equal(t, 10, c.cache.owners.Len())
	require.Equal(t, 10, c.cache.grants.Len())
	require.Empty(t, c.cache.asking)
}

// However many ask for different things, no more than so many questions are asked at once.
func TestFewQuestionsAtOnce(t *testing.T) {
	var now, most atomic.Int64
	c := newCache(10, Times{}.orDefault(), time.Now, func(context.Context, Item, eth.Address) (answers, time.Duration, error) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(time.Millisecond)
		now.Add(-1)
		return answers{}, 0, nil
	})
	defer c.close()
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			_, _, err := c.standing(t.Context(), Ask{Item: Item{31: byte(i), 30: byte(i >> 8)}, Who: alice})
			require.NoError(t, err)
		})
	}
	wg.Wait()
	require.LessOrEqual(t, most.Load(), int64(maxFlights))
}

type fixed struct {
	id  string
	s   Standing
	err error
}

func (f fixed) ID() string                                      { return f.id }
func (f fixed) Standing(context.Context, Ask) (Standing, error) { return f.s, f.err }

// Being the owner on one chain is not lost to another, and what cannot be found out is said only if it matters.
func TestRegistryAndRoles(t *testing.T) {
	away := errors.New("away")
	down := &UnavailableError{"evm:3", time.Minute, away}
	var r Registry
	_, err := r.Get("evm:1")
	require.ErrorIs(t, err, ErrUnknown)
	r.Register(fixed{"evm:1", Standing{false, true}, nil})
	r.Register(fixed{"evm:2", Standing{}, nil})
	r.Register(fixed{"evm:3", Standing{}, down})
	require.True(t, r.Has("evm:2"))
	roles := func(id string, params map[string]string) ([]string, error) {
		return r.Enricher()(t.Context(), &access.Auth{Identity: id}, params)
	}
	product := map[string]string{ItemParam: "42"}
	got, err := roles(alice.String(), product)
	var unavailable *access.UnavailableError
	require.ErrorAs(t, err, &unavailable)
	require.ErrorIs(t, err, away)
	require.Equal(t, time.Minute, unavailable.RetryAfter)
	require.Equal(t, []string{"member"}, got)
	r.Register(fixed{"evm:2", Standing{true, true}, nil}) // in the place of the former
	require.Len(t, r.All(), 3)
	got, err = roles(alice.Lower(), product)
	require.NoError(t, err)
	require.Equal(t, []string{"owner", "member"}, got)
	for _, x := range []struct {
		id     string
		params map[string]string
	}{{alice.String(), nil}, {alice.String(), map[string]string{ItemParam: "product-1"}}, {"0123456789abcdef", product}, {"", product}} {
		got, err = roles(x.id, x.params)
		require.NoError(t, err)
		require.Empty(t, got)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{Endpoints: []string{"ftp://x"}, Contract: contract}, {Endpoints: []string{"http://"}, Contract: contract}, {Endpoints: []string{"http://x"}}} {
		_, err := NewEVM(1, o)
		require.Error(t, err)
	}
	_, err := NewEVM(0, Options{})
	require.Error(t, err)
	c, err := NewEVM(1, Options{})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Standing(t.Context(), Ask{Who: alice})
	require.ErrorContains(t, err, "it has no endpoint")
}

// Whatever comes for a batch, it is read as one reply for each call or refused.
func FuzzParseReplies(f *testing.F) {
	f.Add([]byte(`[{"id":1,"result":"0x01"},{"id":2,"error":{"code":3,"message":"x","data":"0x"}}]`), 2)
	f.Add([]byte(`{"error":{"code":-32600,"message":"x"}}`), 1)
	f.Fuzz(func(t *testing.T, b []byte, count int) {
		count = max(0, min(count, 10))
		all, err := parseReplies(b, count)
		if err == nil && len(all) != count {
			t.Fatal("not one for each")
		}
	})
}
