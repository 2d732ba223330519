package config

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
)

// EVM says that callers may prove themselves by an EVM wallet (docs/protocol/evm.md), and which
// chains give them roles.
type EVM struct {
	Admins       []eth.Address // who have the role admin
	Chains       []*EVMChain   // in their order; at least one
	SharedNonces bool          // nonces are remembered in the store, for all servers that share it
}

// EVMChain is a chain that a caller may name. Times that are 0 are the default.
type EVMChain struct {
	Number    uint64      // 8453 of evm:8453
	Endpoints []string    // URLs of JSON-RPC servers; none if the chain gives no roles
	Contract  eth.Address // of items and of who may use them

	Owner, NotOwner, Access, NoAccess, Stale time.Duration // for how long answers are remembered
}

// ID returns the name of the chain, as evm:8453.
func (c *EVMChain) ID() string { return chainPrefix + strconv.FormatUint(c.Number, 10) }

// DefaultChain is the chain that requests name unless another is given.
const DefaultChain = "evm:8453"

// chainPrefix is what the name of a chain begins with.
const chainPrefix = "evm:"

func (p *problems) evm(o *value.Object, label string) *EVM {
	if o == nil {
		return nil
	}
	p.unknown(o, label, "admins", "chains", "sharedNonces")
	e := &EVM{SharedNonces: p.flag(o, label, "sharedNonces")}
	admins, _ := p.texts(o, label, "admins")
	for _, s := range admins {
		if a, ok := p.address(s, label+"admins"); ok {
			e.Admins = append(e.Admins, a)
		}
	}
	for name, v := range p.object(o, label, "chains").All() {
		label := label + "chains." + name
		number, err := strconv.ParseUint(strings.TrimPrefix(name, chainPrefix), 10, 64)
		if err != nil || name != chainPrefix+strconv.FormatUint(number, 10) || number == 0 {
			p.add("%s: a chain is called evm: and its number, such as evm:8453", label)
		}
		x, ok := v.(*value.Object)
		if !ok {
			p.add("%s: must be an object, not %s", label, describe(v))
			continue
		}
		e.Chains = append(e.Chains, p.chain(number, x, label+"."))
	}
	if len(e.Chains) == 0 {
		p.add(
			`%schains: is missing: name the chains that callers may use, such as {"evm:8453": {}}`, label,
		)
	}
	return e
}

func (p *problems) chain(number uint64, o *value.Object, label string) *EVMChain {
	p.unknown(
		o, label, "rpc", "contract", "ownerMs", "notOwnerMs", "accessMs", "noAccessMs", "staleMs",
	)
	c := &EVMChain{Number: number}
	c.Endpoints, _ = p.texts(o, label, "rpc")
	for _, s := range c.Endpoints {
		// They may have keys in them, and are not repeated.
		if u, err := url.Parse(s); err != nil || u.Host == "" ||
			!slices.Contains([]string{"http", "https"}, u.Scheme) {
			p.add("%srpc: must be URLs such as https://rpc.example", label)
		}
	}
	switch s := p.text(o, label, "contract"); {
	case s != "":
		c.Contract, _ = p.address(s, label+"contract")
	case len(c.Endpoints) > 0:
		p.add("%scontract: is missing", label)
	}
	if c.Contract != (eth.Address{}) && len(c.Endpoints) == 0 {
		p.warnings = append(
			p.warnings,
			label+"rpc: is missing, without which the contract cannot be asked (the "+
				"environment may name it)",
		)
	}
	for _, x := range []struct {
		key string
		at  *time.Duration
	}{
		{"ownerMs", &c.Owner}, {"notOwnerMs", &c.NotOwner}, {"accessMs", &c.Access},
		{"noAccessMs", &c.NoAccess}, {"staleMs", &c.Stale},
	} {
		if !isInteger(o, x.key) {
			p.add("%s%s: must be a positive integer", label, x.key)
		}
		*x.at = time.Duration(min(integer(o, x.key), maxMS)) * time.Millisecond
	}
	return c
}

// maxMS is the longest time in milliseconds: 100 years.
const maxMS = 100 * 365 * 24 * 3600 * 1000

func (p *problems) address(s, label string) (eth.Address, bool) {
	a, err := eth.ParseAddress(s)
	if err != nil {
		p.add("%s: %v", label, err)
	}
	return a, err == nil
}
