package session

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/node/names"
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
	digest := statementsDigestOf(id, nonceI, grants.Hash())
	o := &overview{key: overviewKey(nonceI, nonceR, "initiator", "responder"),
		tokens: [][32]byte{{8}}, prints: [][32]byte{{9}}}
	lookup := names.Lookup(id, "responder", 20574)
	proofs := [][32]byte{proofOf(key, "initiator", false), proofOf(key, "responder", false),
		proofOf(key, "responder", true)}
	all := o.digest()
	held := heldKey(id, nonceI, nonceR, "initiator", "responder")
	asked := appendAsked(nil, &replica.Entry{
		Replica: id, Author: replica.AuthorID{10}, Key: []byte("key"), Timestamp: 11, Size: 12,
		Hash: [32]byte{13},
	})
	for name, got := range map[string][]byte{
		"lookup": lookup[:], "key": key[:], "initiator": proofs[0][:], "responder": proofs[1][:],
		"same statements": proofs[2][:], "held key": held[:], "asked": asked,
		"statements": digest[:], "overview key": o.key[:], "overview digest": all[:],
	} {
		require.Equal(t, golden[name], hex.EncodeToString(got), name)
	}
	require.Equal(t, golden["topic"], names.Topic(id))
	msg := SealGossip(id, bundle.Append(bundle.Append(nil, [][]byte{{1, 2}}), [][]byte{{3}, {4, 5}}))
	require.Equal(t, golden["message"], hex.EncodeToString(msg))
	g, e, err := readGossip(id, msg)
	require.NoError(t, err)
	require.Equal(t, [][]byte{{1, 2}}, g)
	require.Equal(t, [][]byte{{3}, {4, 5}}, e)
}

var golden = map[string]string{
	"asked": "f078f1b3691e88337ad8f3e862a841750a000000000000000000000000000000" +
		"000000000000000000000000000000006b6579",
	"held key":   "be43c4e9e37c2be28a8eb921e06dc62d8ca4ddb9e081234a7a54086905d5df56",
	"statements": "2439fd6db9d35cad",
	"initiator":  "bd77f4c3ab61a195d4266f3c8c1c28dd818c349176b5a6efe4ea7b23bd15b1a3",
	"key":        "e2da7868bea56057fbf4efcfa1fbd8abb76012e48a1a9c465435f850b03b356b",
	"lookup":     "164dfc66368a7238546ea630b45ee920505d1b14034aba98fe62d3be6541e15d",
	"message": "037308ea2e0e422f64ffff36e20a0f0bb33449d42fe5869757" +
		"965d85361bdf3f3279aab701699284a2f726e14015ae95ce6e5b",
	"overview digest": "eae5b4cbe255e684b346c71a12b378a77e65b2eedc5fa2806595966251dc6069",
	"overview key":    "73dc22a4e4a270d8556859487e65d0cee4cfc7b0a589560c4acc4dbcf489f90e",
	"responder":       "ae3d354c8f1d295c8ac7a8de2ef78d35f99f65428a80c2f8bf453470de83eef6",
	"same statements": "6ff6289901166897b16b25cf45d28bfd7df6912b4017ee621890aeabcd44daaf",
	"topic":           "/skerry/gossip/3/75179d2ef8d49d904d9ad47d6fa16fa5",
}

func FuzzGossip(f *testing.F) {
	f.Add([]byte{1, 2, 1, 2, 1, 1, 3})
	f.Add([]byte{0, 0, 9})
	id := replica.ID{1}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, err := readGossip(id, b)
		var protocol *reconcile.ProtocolError
		require.ErrorAs(t, err, &protocol, "it is not sealed")
		grants, entries, err := readGossip(id, SealGossip(id, b))
		if err != nil {
			require.ErrorAs(t, err, &protocol)
			return
		}
		msg := SealGossip(id, bundle.Append(bundle.Append(nil, grants), entries))
		g, e, err := readGossip(id, msg)
		require.NoError(t, err)
		require.Equal(t, grants, g)
		require.Equal(t, entries, e)
		_, _, err = readGossip(replica.ID{2}, msg)
		require.ErrorAs(t, err, &protocol, "whoever does not know the replica's id")
	})
}

// Whoever listens to a topic without knowing the replica's id does not learn it from what is said
// there, nor what that is.
func TestGossipNamesNoReplica(t *testing.T) {
	author := replica.NewSecretKey()
	e := replica.Entry{
		Replica: author.Replica(), Key: []byte("a telling key"), Timestamp: 1, Size: 1,
		Hash: [32]byte{7},
	}
	e.Sign(author)
	raw, err := e.AppendBinary(nil)
	require.NoError(t, err)
	plain := bundle.Append(bundle.Append(nil, nil), [][]byte{raw})
	require.Contains(t, string(plain), string(e.Replica[:]))
	msg := string(SealGossip(e.Replica, plain))
	for _, secret := range []string{string(e.Replica[:]), string(e.Author[:]), string(e.Key)} {
		require.NotContains(t, msg, secret)
	}
	require.NotContains(t, names.Topic(e.Replica), hex.EncodeToString(e.Replica[:4]))
}
