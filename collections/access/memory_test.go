package access

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// headerOf returns the header of a certificate, signed by k, with a scope and further members.
func headerOf(t *testing.T, k capcert.Key, scope, more string) string {
	id, err := capcert.UserID(k.Public)
	require.NoError(t, err)
	o, err := value.ParseObject(fmt.Appendf(nil, `{"kind": "device", "iss": %q, "issUserId": %q,
		"sub": %q, "subKem": "00", "nbf": 1, "exp": 2, "nonce": "AAAAAAAAAAAAAAAAAAAAAA==",
		"scope": %s%s}`, k.Public, id, k.Public, scope, more), value.MaxDepth)
	require.NoError(t, err)
	c, err := capcert.Parse(o)
	require.NoError(t, err)
	o.Set("sig", k.Sign(c.SigningInput()))
	header := c.Authorization()
	require.LessOrEqual(t, len(header), capcert.MaxAuthorization)
	return header
}

func keyNumbered(t *testing.T, i int) capcert.Key {
	k, err := capcert.NewKey(fmt.Appendf(nil, "%032d", i))
	require.NoError(t, err)
	return k
}

// A certificate that is remembered takes no more than it counts for, whatever is in it.
func TestMemoryOfCertificates(t *testing.T) {
	testkit.OneGoroutine(t)
	const n = 200
	none := `{"ops": [], "collections": []}`
	list := func(element string) string {
		return strings.TrimSuffix(strings.Repeat(element+",", 5200/(len(element)+1)), ",")
	}
	for name, of := range map[string]func(k capcert.Key) string{
		"members that mean nothing": func(k capcert.Key) string {
			return headerOf(t, k, none, `, "x": [`+list("{}")+`]`)
		},
		"collections": func(k capcert.Key) string {
			return headerOf(t, k, `{"ops": [], "collections": [`+list(`""`)+`]}`, "")
		},
		"paths": func(k capcert.Key) string {
			return headerOf(t, k, `{"ops": [], "collections": [], "paths": [`+list(`"ab"`)+`]}`, "")
		},
	} {
		c := &Caps{}
		headers := make([]string, n)
		for i := range headers {
			headers[i] = of(keyNumbered(t, i))
		}
		heap := func() uint64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := heap()
		for _, h := range headers {
			_, err := c.cert(h)
			require.NoError(t, err)
		}
		// Keys that are kept ready for verification, and what else the process has, are beside it.
		require.Less(t, heap(), before+uint64(c.memory)+2<<20, name)
		require.Len(t, c.known, n)
		runtime.KeepAlive(headers)
	}
}

// Roles are as many as a scope names different operations and collections, not as often as it does.
func TestScopesThatRepeat(t *testing.T) {
	k := keyNumbered(t, 0)
	c := &Caps{}
	cert, err := c.cert(headerOf(t, k, `{"ops": ["read"`+strings.Repeat(`,"list"`, 300)+
		`], "collections": ["a"`+strings.Repeat(`,"b"`, 700)+`]}`, ""))
	require.NoError(t, err)
	who, err := authOf(cert, k.Public)
	require.NoError(t, err)
	require.Equal(t, []string{
		"cap:read:a", "cap:read:b", "cap:list:a", "cap:list:b", "device:root",
	}, who.Roles)
	for role, gives := range map[string]bool{
		"cap:read:a": true, "cap:list:b": true, "cap:write:a": false, "cap:read:c": false,
		"cap:read": false, "cap:": false, "a": false, "delegated:" + cert.IssuerID + ":a": true,
		"delegated:other:a": false,
	} {
		require.Equal(t, gives, who.Scope.Gives(role), role)
	}
}
