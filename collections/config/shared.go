package config

import (
	"slices"

	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
)

// Rules asks that the documents of a replica prove who has written them, and that all nodes which
// serve them go by the same configuration (docs/protocol/rules.md).
type Rules struct {
	// ids of authors of the replica that write what no caller has signed, and are believed what chains
	// have said
	Servers []string
	Hosts   []string // of servers that callers' certificates may have signed requests for; none is all
}

func (p *problems) rulesOf(o *value.Object, label string) *Rules {
	if o == nil {
		return nil
	}
	p.unknown(o, label, "servers", "hosts")
	r := &Rules{}
	r.Servers, _ = p.texts(o, label, "servers")
	r.Hosts, _ = p.texts(o, label, "hosts")
	return r
}

// Own returns the templates of the keys of what a server writes by itself: lists, and documents
// that another server has, too.
func (c *Config) Own() (all []string) {
	for _, p := range c.Projections {
		all = append(all, p.Target)
	}
	for _, r := range c.Remotes {
		if r.Collection != nil {
			all = append(all, r.Collection.KeyTemplate())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// localExtensions are those that each server has for itself.
var localExtensions = []string{"queue", "projections", "remotes", "rules"}

// Shared returns the part of the configuration by which servers of the same documents let callers
// write, with the administrators as they are now.
func (c *Config) Shared() *value.Object {
	o := c.object.Clone()
	o.Delete("$schema")
	all := value.Array{}
	list, _ := o.Get("collections")
	for _, v := range asArray(list) {
		col, _ := v.(*value.Object)
		if col != nil {
			col = col.Clone()
			col.Delete("remote")
		}
		all = append(all, col)
	}
	if list != nil {
		o.Set("collections", all)
	}
	v, _ := o.Get(Extensions)
	x, _ := v.(*value.Object)
	if x == nil {
		return o
	}
	x = x.Clone()
	for _, name := range localExtensions {
		x.Delete(name)
	}
	if c.EVM != nil {
		x.Set("evm", c.EVM.shared(x))
	}
	o.Set(Extensions, x)
	return o
}

func asArray(v any) value.Array {
	a, _ := v.(value.Array)
	return a
}

// shared returns the part of the member evm of x that servers have in common.
func (e *EVM) shared(x *value.Object) *value.Object {
	v, _ := x.Get("evm")
	o, _ := v.(*value.Object)
	o = o.Clone()
	o.Delete("sharedNonces")
	o.Delete("admins")
	admins := slices.Clone(e.Admins)
	slices.SortFunc(admins, func(a, b eth.Address) int { return slices.Compare(a[:], b[:]) })
	if admins = slices.Compact(admins); len(admins) > 0 {
		list := value.Array{}
		for _, a := range admins {
			list = append(list, a.String())
		}
		o.Set("admins", list)
	}
	chains := &value.Object{}
	for _, c := range e.Chains {
		one := &value.Object{}
		if c.Contract != (eth.Address{}) {
			one.Set("contract", c.Contract.String())
		}
		chains.Set(c.ID(), one)
	}
	o.Set("chains", chains)
	return o
}
