package chain

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/netaddr"
)

// Selectors of the functions that are called: the first four bytes of the Keccak-256 hash of their
// names and types.
var (
	// ownerOf(uint256) returns (address), of ERC-721
	selectorOwnerOf   = [4]byte{0x63, 0x52, 0x21, 0x1e}
	selectorHasAccess = [4]byte{0xc6, 0x53, 0x0e, 0x41} // hasAccess(address,uint256) returns (bool)
)

var (
	// ErrWrongChain reports an endpoint that is of another chain than it should be.
	ErrWrongChain = errors.New("it is of another chain")
	// ErrNoContract reports an address at which there is no contract.
	ErrNoContract = errors.New("there is no contract at that address")
	// ErrAnswer reports what a contract should not have answered.
	ErrAnswer = errors.New("the contract's answer is not what it should be")
	// ErrReverted reports that the contract refuses to tell.
	ErrReverted = errors.New("the contract refuses to tell")
)

// Options says how a chain is asked and what is remembered. What is zero is the default.
type Options struct {
	// URLs of JSON-RPC servers, the preferred one first; none is a chain whose wallets are known and
	// nothing else
	Endpoints []string
	Contract  eth.Address   // of the items
	Within    time.Duration // for one try at one endpoint; 3 s
	Times     Times
	Remember  int          // about how many items, and grants, at most; 65,536 each
	Client    *http.Client // one of its own
	Clock     func() time.Time
	Log       *slog.Logger
}

// Times are for how long answers are remembered.
type Times struct {
	Owner    time.Duration // that somebody owns an item, 365 days: owners are taken not to change
	NotOwner time.Duration // that somebody does not, 30 s
	Access   time.Duration // that somebody may use an item, 60 s
	NoAccess time.Duration // that somebody may not, 30 s
	// for how long after that an answer still serves who only reads, while the chain cannot be asked;
	// 10 min
	Stale time.Duration
}

func (t Times) orDefault() Times {
	return Times{
		cmp.Or(t.Owner, 365*24*time.Hour), cmp.Or(t.NotOwner, 30*time.Second),
		cmp.Or(t.Access, time.Minute), cmp.Or(t.NoAccess, 30*time.Second),
		cmp.Or(t.Stale, 10*time.Minute),
	}
}

// EVM is a chain of Ethereum's kind.
type EVM struct {
	number    uint64
	contract  eth.Address
	endpoints []*endpoint
	now       func() time.Time
	log       *slog.Logger
	cache     *cache
	transport *http.Transport // nil if it is somebody else's
}

// NewEVM returns the chain with a number, 8453 for evm:8453. Nothing is asked yet. Close it when
// nobody uses it any more.
func NewEVM(number uint64, o Options) (*EVM, error) {
	if number == 0 {
		return nil, errors.New("a chain's number is not 0")
	}
	c := &EVM{number: number, contract: o.Contract, now: o.Clock, log: o.Log}
	if c.now == nil {
		c.now = time.Now
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	client := o.Client
	if client == nil {
		c.transport = http.DefaultTransport.(*http.Transport).Clone()
		c.transport.MaxIdleConnsPerHost = maxFlights
		client = &http.Client{Transport: c.transport, CheckRedirect: netaddr.SameServer}
	}
	for _, s := range o.Endpoints {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf(
				"chain %s: an endpoint is not a URL that begins with http:// or https://", c.ID(),
			)
		}
		c.endpoints = append(
			c.endpoints, &endpoint{url: s, client: client, within: cmp.Or(o.Within, 3*time.Second)},
		)
	}
	if len(c.endpoints) > 0 && c.contract == (eth.Address{}) {
		return nil, fmt.Errorf("chain %s: the address of the contract is missing", c.ID())
	}
	c.cache = newCache(cmp.Or(o.Remember, 1<<16), o.Times.orDefault(), c.now, c.ask)
	return c, nil
}

// ID implements Chain.
func (c *EVM) ID() string { return fmt.Sprintf("evm:%d", c.number) }

// Standing implements Chain.
func (c *EVM) Standing(ctx context.Context, a Ask) (Standing, error) {
	s, retry, err := c.cache.standing(ctx, a)
	if err != nil && ctx.Err() == nil {
		err = &UnavailableError{c.ID(), retry, err}
	}
	return s, err
}

// Flush forgets all answers.
func (c *EVM) Flush() { c.cache.flush() }

// Close ends what is being asked, and waits for that.
func (c *EVM) Close() {
	c.cache.close()
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
}

// answers are what a chain says of an item and an address.
type answers struct {
	owner  eth.Address // zero if there is no such item
	access bool
}

// ask asks one endpoint after the other, in one request each, until one answers.
func (c *EVM) ask(
	ctx context.Context, item Item, who eth.Address,
) (a answers, retry time.Duration, err error) {
	if len(c.endpoints) == 0 {
		return a, maxRest, errors.New(
			"it has no endpoint: name one, and a contract, in the configuration",
		)
	}
	order := slices.Clone(c.endpoints)
	now := c.now()
	slices.SortStableFunc(order, func(x, y *endpoint) int {
		return cmp.Compare(max(0, x.rests(now)), max(0, y.rests(now)))
	})
	var all []error
	for _, e := range order {
		if e.rests(now) > 0 {
			break // as do all that follow
		}
		incidents := e.incidents()
		if a, err = c.askAt(ctx, e, item, who); err == nil {
			e.answered()
			return a, 0, nil
		}
		var contract *contractError
		if errors.As(err, &contract) { // another endpoint would say the same
			e.answered()
			return a, firstRest, err
		}
		if ctx.Err() != nil {
			return a, firstRest, ctx.Err()
		}
		var one *callError
		if errors.As(err, &one) { // another endpoint may know, and this one may know of other items
			e.answered()
		} else {
			e.failed(c.now(), incidents, err)
		}
		err = fmt.Errorf(
			"endpoint %d of %d (%s): %w", slices.Index(c.endpoints, e)+1, len(c.endpoints), hostOf(e.url),
			err,
		)
		c.log.Warn("a chain was not answered for by an endpoint", "chain", c.ID(), "error", err)
		all = append(all, err)
	}
	retry = maxRest
	for _, e := range c.endpoints {
		retry = min(retry, max(firstRest, e.rests(c.now())))
	}
	if len(all) == 0 {
		return a, retry, errors.New(
			"its endpoints have failed a moment ago, and are left alone until they may have recovered",
		)
	}
	return a, retry, errors.Join(all...)
}

// hostOf is what is told of a URL, whose path may be a key.
func hostOf(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "?"
	}
	return u.Host
}

// contractError is an answer of the contract that says nothing, as opposed to an endpoint's
// failure.
type contractError struct{ err error }

func (e *contractError) Error() string { return e.err.Error() }
func (e *contractError) Unwrap() error { return e.err }

// callError is an endpoint's error for one call, such as one about an item of which it cannot tell.
// It says nothing of the endpoint: whoever names such items must not end what others ask it.
type callError struct{ err *rpcError }

func (e *callError) Error() string { return e.err.Error() }
func (e *callError) Unwrap() error { return e.err }

func (c *EVM) askAt(
	ctx context.Context, e *endpoint, item Item, who eth.Address,
) (a answers, err error) {
	calls := []call{
		c.call(selectorOwnerOf, item), c.call(selectorHasAccess, [32]byte(eth.Of(who)), item),
	}
	check := !e.isChecked()
	if check {
		calls = append(calls, call{method: "eth_chainId"})
	}
	replies, err := e.batch(ctx, calls)
	if err != nil {
		return a, err
	}
	if check {
		switch r := replies[2]; {
		case r.err != nil:
			return a, fmt.Errorf("eth_chainId: %w", r.err)
		default:
			if got := new(big.Int).SetBytes(r.result); !got.IsUint64() || got.Uint64() != c.number {
				return a, fmt.Errorf("%w: evm:%s, not %s", ErrWrongChain, got, c.ID())
			}
		}
	}
	if a.owner, err = parseOwner(replies[0]); err != nil {
		return a, fmt.Errorf("ownerOf at %s: %w", c.contract, err)
	}
	if a.access, err = parseAccess(replies[1]); err != nil {
		return a, fmt.Errorf("hasAccess at %s: %w", c.contract, err)
	}
	return a, nil
}

func (c *EVM) call(selector [4]byte, words ...[32]byte) call {
	data := selector[:]
	for _, w := range words {
		data = append(data, w[:]...)
	}
	return call{
		"eth_call",
		[]any{
			map[string]string{"to": c.contract.Lower(), "data": "0x" + hex.EncodeToString(data)}, "latest",
		},
	}
}

// parseOwner returns the zero address if there is no such item, for which ERC-721 has ownerOf
// revert.
func parseOwner(r reply) (a eth.Address, err error) {
	if r.err.reverted() {
		return a, nil
	}
	word, err := wordOf(r)
	if err != nil {
		return a, err
	}
	for _, b := range word[:12] {
		if b != 0 {
			return a, &contractError{fmt.Errorf("%w: no address", ErrAnswer)}
		}
	}
	return eth.Address(word[12:]), nil
}

func parseAccess(r reply) (bool, error) {
	if r.err.reverted() {
		return false, &contractError{fmt.Errorf("%w: %s", ErrReverted, clip(r.err.Message))}
	}
	word, err := wordOf(r)
	if err != nil {
		return false, err
	}
	for _, b := range word[:31] {
		if b != 0 {
			return false, &contractError{fmt.Errorf("%w: neither yes nor no", ErrAnswer)}
		}
	}
	if word[31] > 1 {
		return false, &contractError{fmt.Errorf("%w: neither yes nor no", ErrAnswer)}
	}
	return word[31] == 1, nil
}

func wordOf(r reply) (w [32]byte, err error) {
	switch {
	case r.err != nil && r.err.Code == limitExceeded:
		return w, r.err
	case r.err != nil:
		return w, &callError{r.err}
	case len(r.result) == 0:
		return w, &contractError{ErrNoContract}
	case len(r.result) != 32:
		return w, &contractError{fmt.Errorf("%w: %d bytes, not 32", ErrAnswer, len(r.result))}
	}
	return [32]byte(r.result), nil
}
