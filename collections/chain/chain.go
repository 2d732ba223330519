// Package chain finds out from block chains who owns an item and who may use it.
//
// What belongs here: the chains that a server knows, how one of Ethereum's kind is asked, what is
// remembered of its answers and for how long, and the roles that follow. What never belongs here:
// how a caller proves who it is (package evm), and which roles a collection asks for.
//
// Start at Registry and EVM. The calls and rules stand in docs/protocol/evm.md, "Roles from
// chains".
package chain

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/fault"
)

var (
	// ErrUnknown reports a chain that is not registered.
	ErrUnknown = errors.New("the chain is not known")
	// ErrItem reports text that is not the number of an item.
	ErrItem = errors.New(
		"not the number of an item: expected decimal digits, below 2^256, without zeros before them",
	)
)

// UnavailableError says that a chain could not be asked, so that nothing is known.
type UnavailableError struct {
	Chain      string
	RetryAfter time.Duration // when it is worth asking again
	Err        error
}

func (e *UnavailableError) Error() string { return fmt.Sprintf("chain %s: %v", e.Chain, e.Err) }

// Unwrap returns why.
func (e *UnavailableError) Unwrap() error { return e.Err }

// Item is the number of an item (an ERC-721 token id), big-endian.
type Item [32]byte

// ParseItem reads the decimal form, which has one spelling, or returns ErrItem.
func ParseItem(s string) (item Item, err error) {
	if s == "" || len(s) > 78 || len(s) > 1 && s[0] == '0' || strings.Trim(s, "0123456789") != "" {
		return item, ErrItem
	}
	n, ok := new(big.Int).SetString(s, 10)
	if !ok || n.BitLen() > 256 {
		return item, ErrItem
	}
	n.FillBytes(item[:])
	return item, nil
}

func (i Item) String() string { return new(big.Int).SetBytes(i[:]).String() }

// Standing is what an address is to an item.
type Standing struct {
	Owner  bool
	Member bool // may use it, by a grant or as the owner
}

// Ask says what for a standing is asked.
type Ask struct {
	Item Item
	Who  eth.Address
	// a standing that may be out of date, as the chain cannot be asked now, is not good enough
	Write bool
	// Source is where the request comes from for which is asked, as access.Source names it; "" has no
	// share of its own.
	Source string
}

// Chain is a block chain with items.
type Chain interface {
	// ID is as evm:8453.
	ID() string
	// Standing returns an *UnavailableError if the chain cannot be asked.
	Standing(ctx context.Context, a Ask) (Standing, error)
}

// Registry holds the chains that a server knows.
type Registry struct {
	mu    sync.RWMutex
	byID  map[string]int
	chain []Chain
}

// Register adds a chain, in the place of the one that had its id.
func (r *Registry) Register(c Chain) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i, ok := r.byID[c.ID()]; ok {
		r.chain[i] = c
		return
	}
	if r.byID == nil {
		r.byID = map[string]int{}
	}
	r.byID[c.ID()] = len(r.chain)
	r.chain = append(r.chain, c)
}

// Get returns a chain, or an error that is ErrUnknown.
func (r *Registry) Get(id string) (Chain, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if i, ok := r.byID[id]; ok {
		return r.chain[i], nil
	}
	return nil, fmt.Errorf("%w: %s", ErrUnknown, id)
}

// Has reports whether a chain is registered.
func (r *Registry) Has(id string) bool {
	_, err := r.Get(id)
	return err == nil
}

// All returns the chains in the order of their registration.
func (r *Registry) All() []Chain {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return append([]Chain(nil), r.chain...)
}

// Standing returns what an address is to an item on any of the chains: being its owner on one is
// not lost to another. If some cannot be asked and the others do not make it the owner, the error
// is an *UnavailableError, beside what is known.
func (r *Registry) Standing(ctx context.Context, a Ask) (all Standing, err error) {
	chains := r.All()
	standings, errs := make([]Standing, len(chains)), make([]error, len(chains))
	var wg sync.WaitGroup
	for i, c := range chains {
		if i == len(chains)-1 { // the last, usually the only one, without a goroutine
			standings[i], errs[i] = c.Standing(ctx, a)
			break
		}
		wg.Go(func() {
			errs[i] = fault.Call(func() (err error) {
				standings[i], err = c.Standing(ctx, a)
				return err
			})
		})
	}
	wg.Wait()
	for i, s := range standings {
		all.Owner, all.Member = all.Owner || s.Owner, all.Member || s.Member || s.Owner
		if errs[i] != nil && err == nil {
			err = errs[i]
		}
	}
	if all.Owner {
		return all, nil
	}
	return all, err
}
