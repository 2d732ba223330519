package place

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/replica"
)

// A configuration that no node could apply does not become the rules of a replica, after which no
// node would serve it.
func TestRulesAreAppliedBeforeTheyAreSigned(t *testing.T) {
	secret := replica.NewSecretKey()
	r := replica.Replica{ID: secret.Replica(), Secret: secret}
	author := replica.NewSecretKey()
	for pattern, want := range map[string]string{`^a+$`: "", `^(?!a)`: "lookaround", `[`: "flag u"} {
		cfg, err := config.Parse(fmt.Appendf(nil, `{"version": 1, "collections": [{"name": "c",
			"storagePath": "c/{id}", "readRoles": ["public"], "writeRoles": ["public"],
			"maxBodyBytes": 1000, "objectSchema": {"properties": {"a": {"pattern": %q}}}}],
			"extensions": {"rules": {}}}`, pattern))
		require.NoError(t, err)
		made, err := rulesOf(cfg, &r, author, nil, "")
		if want == "" {
			require.NoError(t, err)
			require.EqualValues(t, 1, made.Serial)
			continue
		}
		require.ErrorContains(t, err, want)
	}
}
