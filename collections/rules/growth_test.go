package rules_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/rules"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/internal/cost"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/replica"
)

// Reading rules, and what proves itself by them, does twice the work for twice the bytes, counted
// in what it allocates.
func TestWorkGrowsWithTheRules(t *testing.T) {
	testkit.OneGoroutine(t)
	key := replica.NewSecretKey()
	signed := func(r rules.Rules, cfg string) []byte {
		var err error
		r.Config, err = config.Parse([]byte(cfg))
		require.NoError(t, err)
		return rules.Sign(r, key).Bytes()
	}
	const one = `{"name": "a", "storagePath": "a/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 9}`
	plain := `{"version": 1, "collections": [` + one + `]}`
	names := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprint("name", i))
		}
		return all
	}
	numbers := func(n int) string { // whose order once cost the square of their number
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"%d":0`, n-i)
		}
		return "{" + b.String()[1:] + "}"
	}
	g := rules.NewGuard(rules.Options{Log: slog.New(slog.DiscardHandler)})
	c, err := config.Parse([]byte(plain))
	require.NoError(t, err)
	require.NoError(t, g.Set(rules.Sign(rules.Rules{Serial: 1, Config: c}, key)))
	author := key.Author()
	parse := func(b []byte) func() {
		return func() { _, _ = rules.Parse(b, key.Replica()) }
	}
	at := int64(0)
	check := func(kept string) func() {
		return func() {
			at++ // which makes it another one
			_, _ = g.Check(
				t.Context(),
				&replicas.Version{Key: "a/x", Kept: []byte(kept), Time: at, Author: author},
			)
		}
	}
	const n = 2000
	for name, work := range map[string]func(n int) func(){
		"hosts": func(n int) func() { return parse(signed(rules.Rules{Hosts: names(n)}, plain)) },
		"own":   func(n int) func() { return parse(signed(rules.Rules{Own: names(n)}, plain)) },
		"servers": func(n int) func() {
			return parse(signed(rules.Rules{Servers: make([]replica.AuthorID, n)}, plain))
		},
		"collections": func(n int) func() {
			all := make([]string, n/10)
			for i := range all {
				all[i] = strings.ReplaceAll(one, `"a`, fmt.Sprint(`"a`, i))
			}
			return parse(
				signed(rules.Rules{}, `{"version": 1, "collections": [`+strings.Join(all, ",")+`]}`),
			)
		},
		"members of anybody's": func(n int) func() { return parse([]byte(numbers(n))) },
		"no signature": func(n int) func() {
			return parse([]byte(`{"replica":"` + key.Replica().String() + `","x":` + numbers(n) + `}`))
		},
		"many rules": func(n int) func() {
			b := signed(rules.Rules{}, plain)
			all := make([][]byte, n/20)
			for i := range all {
				all[i] = b
			}
			return func() {
				_, err := rules.Newest(all, key.Replica())
				require.NoError(t, err)
			}
		},
		"a document": func(n int) func() { return check(`{"v":1,"ts":1,"data":` + numbers(n) + `}`) },
		"a proof": func(n int) func() {
			return check(`{"v":1,"ts":1,"data":{},"proof":` + numbers(n) + `}`)
		},
		"headers of a proof": func(n int) func() {
			return check(
				`{"v":1,"ts":1,"data":{},"proof":{"target":"/push/a/x","media":"application/json","headers":` +
					strings.ReplaceAll(numbers(n), ":0", `:"0"`) + `,"before":"{\"data\":","after":"}"}}`,
			)
		},
	} {
		once, twice := cost.Bytes(work(n)), cost.Bytes(work(2*n))
		require.LessOrEqual(t, twice, 3*once+1<<18, "%s: %d, then %d bytes", name, once, twice)
	}
}
