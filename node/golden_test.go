package node

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// Golden: what is said between nodes never changes its meaning under one version.
func TestWireGolden(t *testing.T) {
	id := replica.ID{1, 2, 3}
	nonceI, nonceR := [32]byte{4}, [32]byte{5}
	key := sessionKey(id, nonceI, nonceR, "initiator", "responder")
	var grants reconcile.Summary
	grants.Add(reconcile.Mark{ID: [32]byte{6}, Element: reconcile.Element{7}})
	digest := grantsDigestOf(id, nonceI, &grants)
	o := &overview{key: overviewKey(nonceI, nonceR, "initiator", "responder"), tokens: [][32]byte{{8}}, prints: [][32]byte{{9}}}
	lookup := lookupOf(id, "responder", 20574)
	proofs := [][32]byte{proofOf(key, "initiator", false), proofOf(key, "responder", false), proofOf(key, "responder", true)}
	all := o.digest()
	for name, got := range map[string][]byte{
		"lookup": lookup[:], "key": key[:], "initiator": proofs[0][:], "responder": proofs[1][:], "same grants": proofs[2][:],
		"grants": digest[:], "overview key": o.key[:], "overview digest": all[:],
	} {
		require.Equal(t, golden[name], hex.EncodeToString(got), name)
	}
	require.Equal(t, golden["topic"], topicOf(id))
	msg := appendItems(appendItems([]byte{gossipVersion}, [][]byte{{1, 2}}), [][]byte{{3}, {4, 5}})
	require.Equal(t, golden["message"], hex.EncodeToString(msg))
	g, e, err := readGossip(msg)
	require.NoError(t, err)
	require.Equal(t, [][]byte{{1, 2}}, g)
	require.Equal(t, [][]byte{{3}, {4, 5}}, e)
}

var golden = map[string]string{
	"grants":          "4b1e92121793ef69",
	"initiator":       "d48b317c0f00900add7937a3b8064c9ce2d1ea77e872fd5db75472f0939339b7",
	"key":             "0338eb9571ce089d67808ff02d599600d3a066aac0f4ae9921948f26b505631b",
	"lookup":          "164dfc66368a7238546ea630b45ee920505d1b14034aba98fe62d3be6541e15d",
	"message":         "0101020102020103020405",
	"overview digest": "eae5b4cbe255e684b346c71a12b378a77e65b2eedc5fa2806595966251dc6069",
	"overview key":    "73dc22a4e4a270d8556859487e65d0cee4cfc7b0a589560c4acc4dbcf489f90e",
	"responder":       "34f9d843be0eeea7fdfc106ce51afc40aa8738c84e28aee5c69bcaafbb929322",
	"same grants":     "c98fffce5591cac1ef850856c473aa97e375e4ba971d1f7558700d9bbfd47c5b",
	"topic":           "/skerry/gossip/1/45a5daf04078354e0de5244b15004a21",
}

func FuzzGossip(f *testing.F) {
	f.Add([]byte{gossipVersion, 1, 2, 1, 2, 1, 1, 3})
	f.Add([]byte{gossipVersion, 0, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		grants, entries, err := readGossip(b)
		if err != nil {
			var protocol *reconcile.ProtocolError
			require.ErrorAs(t, err, &protocol)
			return
		}
		g, e, err := readGossip(appendItems(appendItems([]byte{gossipVersion}, grants), entries))
		require.NoError(t, err)
		require.Equal(t, grants, g)
		require.Equal(t, entries, e)
	})
}
