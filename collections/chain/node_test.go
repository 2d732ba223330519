package chain

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/identity/eth"
)

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
			word := func(b []byte) string {
				return "0x" + strings.Repeat("00", 32-len(b)) + hex.EncodeToString(b)
			}
			switch {
			case to.To != contract.Lower():
				reply["result"] = "0x"
			case [4]byte(data) == selectorOwnerOf:
				owner, ok := n.owners[Item(data[4:]).String()]
				if !ok {
					reply["error"] = map[string]any{
						"code": 3, "message": "execution reverted", "data": "0x282e5885",
					}
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

func (c *clock) now() time.Time { return time.Unix(0, c.at.Load()) }

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
