package place

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/collections/chain"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/rules"
	"github.com/skerry-sync/skerry/collections/service"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/collections/wallet"
	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

var quiet = slog.New(slog.DiscardHandler)

func TestSpec(t *testing.T) {
	k := service.Keep{Log: quiet}
	for _, name := range []string{"", "replica:", "directory:", "s3:", "memory:x", "disk:/"} {
		s := &Spec{Name: name}
		require.False(t, s.InReplica())
		_, err := s.Place().Open(t.Context(), k)
		require.Equal(t, kind.Usage, kind.Of(err), name)
	}
	for _, name := range []string{"memory", "directory:" + filepath.Join(t.TempDir(), "d")} {
		kept, err := (&Spec{Name: name}).Place().Open(t.Context(), k)
		require.NoError(t, err)
		require.NoError(t, kept.Put(t.Context(), "a", &store.Object{Body: []byte("{}")},
			store.Whatever))
		require.NoError(t, kept.Close())
	}
}

const ruled = `{"version": 1, "collections": [
	{"name": "settings", "storagePath": "users/{identity}/settings", "readRoles": ["public"],
	 "writeRoles": ["self"], "encryption": "none", "maxBodyBytes": 65536}%s],
	"extensions": {"evm": {"chains": {"evm:8453": {}}}%s}}`

func configOf(t *testing.T, more, extension string) *config.Config {
	t.Helper()
	c, err := config.Parse(fmt.Appendf(nil, ruled, more, extension))
	require.NoError(t, err)
	return c
}

// inNode is the place in a replica of a node that holds its key.
func inNode(t *testing.T, prefix string) *Replica {
	t.Helper()
	n, err := node.Open(t.Context(), node.Config{Dir: t.TempDir(), Log: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	s := &Spec{Name: "replica:docs"}
	require.True(t, s.InReplica())
	chains := &chain.Registry{}
	p, err := s.Replica(t.Context(), n, service.Site{Prefix: prefix, Chains: chains, Log: quiet})
	require.NoError(t, err)
	return p
}

// The node that holds the replica's key makes rules of a configuration that asks for them, and
// others only once it says something else.
func TestWhichRulesCount(t *testing.T) {
	p, ctx := inNode(t, "/v1"), t.Context()
	now, err := p.Current(ctx, configOf(t, "", ""))
	require.NoError(t, err)
	require.Nil(t, now)
	require.Nil(t, p.InForce())
	asks := configOf(t, "", `, "rules": {}`)
	now, err = p.Current(ctx, asks)
	require.NoError(t, err)
	require.EqualValues(t, 1, now.SerialNumber())
	require.Equal(t, "/v1", now.PathPrefix())
	require.Nil(t, p.InForce(), "until they are applied")
	require.NoError(t, p.Apply(now))
	newer, err := p.Newer(ctx)
	require.NoError(t, err)
	require.Nil(t, newer)
	now, err = p.Current(ctx, asks)
	require.NoError(t, err)
	require.EqualValues(t, 1, now.SerialNumber())

	_, err = p.Current(ctx, configOf(t, `, {"name": "news", "storagePath": "news/{id}",
		"readRoles": ["public"], "writeRoles": ["self"], "maxBodyBytes": 100}`, `, "rules": {}`))
	require.NoError(t, err)
	newer, err = p.Newer(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 2, newer.SerialNumber())
	require.NoError(t, p.Apply(newer))
	require.NoError(t, p.Apply(now), "which is over")
	require.EqualValues(t, 2, p.InForce().SerialNumber())

	p.r.Secret = replica.SecretKey{}
	now, err = p.Current(ctx, asks)
	require.NoError(t, err)
	require.EqualValues(t, 2, now.SerialNumber(), "a node without the key makes none")
}

// withhold brings an entry of an author where rules belong, whose content nobody gives.
func withhold(t *testing.T, p *Replica, as replica.SecretKey) {
	t.Helper()
	author := as.Author()
	e := replica.Entry{
		Replica: p.r.ID, Key: []byte(rules.Key), Hash: blobs.HashOf(author[:]), Size: 1000,
		Timestamp: uint64(time.Now().UnixMicro()),
	}
	e.Sign(as)
	_, err := p.n.TakeEntries(t.Context(), p.r.ID, []replica.Entry{e}, replica.Origin{})
	require.NoError(t, err)
}

// An author whose content nobody gives keeps no server from starting, whether it makes rules or
// finds none. What the replica's key has written is waited for.
func TestRulesThatNobodyGives(t *testing.T) {
	p, ctx := inNode(t, "/v1"), t.Context()
	p.wait = 0
	id, err := p.n.Authors().New(ctx)
	require.NoError(t, err)
	evil, err := p.n.Authors().Key(ctx, id)
	require.NoError(t, err)
	require.NoError(t, replicas.WriteEntry(ctx, p.n, p.r.ID, evil, rules.Key, []byte("granted")))
	withhold(t, p, evil)
	now, err := p.Current(ctx, configOf(t, "", ""))
	require.NoError(t, err)
	require.Nil(t, now)

	asks, key := configOf(t, "", `, "rules": {}`), p.r.Secret
	p.r.Secret = replica.SecretKey{}
	_, err = p.Current(ctx, asks)
	require.ErrorContains(t, err, "has no rules yet")
	p.r.Secret = key
	now, err = p.Current(ctx, asks)
	require.NoError(t, err)
	require.EqualValues(t, 1, now.SerialNumber())

	withhold(t, p, key)
	p.r.Secret = replica.SecretKey{}
	_, err = p.Current(ctx, configOf(t, "", ""))
	require.ErrorContains(t, err, "are not here yet")
}

// Rules that another author has written before are written by the replica's key.
func TestRulesAreOfTheReplicasKey(t *testing.T) {
	p, ctx := inNode(t, "/v1"), t.Context()
	asks := configOf(t, "", `, "rules": {}`)
	want, err := rulesOf(asks, &p.r, p.author, nil, p.prefix)
	require.NoError(t, err)
	require.NoError(t, replicas.WriteEntry(ctx, p.n, p.r.ID, p.author, rules.Key, want.Bytes()))
	for range 2 {
		now, err := p.Current(ctx, asks)
		require.NoError(t, err)
		require.EqualValues(t, 1, now.SerialNumber())
		all, err := replicas.ReadEntry(ctx, p.n, p.r.ID, rules.Key)
		require.NoError(t, err)
		require.ElementsMatch(t, []replicas.Written{
			{Author: p.author.Author(), Body: want.Bytes()},
			{Author: replica.AuthorID(p.r.ID), Body: want.Bytes()},
		}, all)
	}
}

// An app's replica that lies in a replica of a node applies the rules of that.
func TestWalletUnderRules(t *testing.T) {
	p, ctx := inNode(t, "/v1"), t.Context()
	key, err := eth.KeyFromSecret([32]byte{31: 1})
	require.NoError(t, err)
	hc := &http.Client{Transport: &http.Transport{}}
	defer hc.CloseIdleConnections()
	c, err := wallet.Open(ctx, wallet.Options{
		Key: key, Server: "http://127.0.0.1:1", HTTP: hc,
		Replica: &wallet.Replica{
			Config: configOf(t, "", `, "rules": {}`), Log: quiet,
			Place: func(context.Context, service.Site) (service.Place, error) { return p, nil },
			Mode:  config.PullOnly, Every: time.Hour,
		},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	require.NotNil(t, p.InForce())
	c.Retries = -1
	path := func(who eth.Address) string { return "users/" + who.String() + "/settings" }
	o := value.NewObject(value.Member{Key: "n", Value: 1.0})
	_, err = c.Push(ctx, path(c.Address), o, "", false)
	require.NoError(t, err)
	got, err := c.Pull(ctx, path(c.Address))
	require.NoError(t, err)
	require.Equal(t, `{"n":1}`, string(value.Append(nil, got.Data)))

	// What was written past the door, by a node with the right to write, is not served.
	forged := fmt.Sprintf(`{"v":1,"data":{"n":2},"ts":%d,"hash":"","whole":true}`,
		time.Now().UnixMilli())
	other := eth.Address{19: 9}
	_, err = p.n.ReplicaOf(p.r.ID).Set(ctx, []byte("doc/"+path(other)), []byte(forged))
	require.NoError(t, err)
	got, err = c.Pull(ctx, path(other))
	require.NoError(t, err)
	require.Equal(t, `{}`, string(value.Append(nil, got.Data)))
}
