package openapi

import (
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/value"
)

// wallets says, wherever a certificate proves who a caller is, that the signature of a wallet does,
// too (docs/protocol/evm.md).
func wallets(doc *value.Object) {
	of := func(o *value.Object, key string) *value.Object {
		v, _ := o.Get(key)
		inner, _ := v.(*value.Object)
		return inner
	}
	schemes := of(of(doc, "components"), "securitySchemes")
	all := &value.Object{}
	for _, h := range evm.OctoBot.Headers() {
		schemes.Set(
			"wallet"+h.Name, obj("type", "apiKey", "in", "header", "name", h.Header, "description", h.What),
		)
		all.Set("wallet"+h.Name, value.Array{})
	}
	for _, item := range of(doc, "paths").All() {
		for _, operation := range item.(*value.Object).All() {
			o := operation.(*value.Object)
			if v, there := o.Get("security"); there {
				o.Set("security", append(append(value.Array{}, v.(value.Array)...), all))
			}
		}
	}
}
