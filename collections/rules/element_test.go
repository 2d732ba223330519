package rules_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/replica"
)

// An element whose caller has named no time stands where its own time is, and nowhere else:
// otherwise an author could have it as often, and as early or late, as it likes.
func TestElementsStandAtTheirTime(t *testing.T) {
	x := newTown(t)
	status, answer := x.founder.send(alice, "POST", "/v1/push/events/e", config.JSON,
		`{"data":{"i":1},"authorSignature":"`+evm.SignData(alice.Key, object(t, `{"i":1}`))+`"}`)
	require.Equal(t, http.StatusOK, status, answer)
	require.NoError(t, x.founder.store.Settle(t.Context()))
	var kept []byte
	var own int64
	q := replica.Query{Prefix: []byte("log/events/e\x00")}
	for e, err := range x.founder.n.Replicas().Entries(t.Context(), x.founder.r.ID, q) {
		require.NoError(t, err)
		kept = x.founder.content(&e)
		own, err = strconv.ParseInt(string(e.Key[len(q.Prefix):]), 10, 64)
		require.NoError(t, err)
	}
	for _, at := range []int64{0, 5, 1700000000000, own - 3_600_000, own - 1, own + 1} {
		x.evil.forge(fmt.Sprintf("log/events/e\x00%016d", at), kept)
	}
	x.tell()
	_, answer = x.honest.send(nil, "GET", "/v1/pull/events/e?full=1", "", "")
	require.Equal(t, 1, strings.Count(answer, `"i":1`), answer)
	_, answer = x.honest.send(nil, "GET", "/v1/pull/events/e?cursor=", "", "")
	require.Equal(t, 1, strings.Count(answer, `"i":1`), answer)
}
