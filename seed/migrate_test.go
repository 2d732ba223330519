package seed

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// A seed that an earlier version has run goes on: everything is charged anew.
func TestOldChargesAreMigrated(t *testing.T) {
	s := newStore(t)
	reg := NewRegistry(Limits{Bytes: 1 << 20, Replicas: 3, Grace: time.Hour}, nil)
	id, rep := identity.ID{1}, replica.ID{1}
	_, err := reg.Register(bg, s, id, rep, "", "", time.Now())
	require.NoError(t, err)
	require.NoError(t, reg.Charged(bg, s, rep))
	e := replica.Entry{Replica: rep, Key: []byte("k"), Hash: blobs.Hash{1}, Size: 1000}
	size := binary.BigEndian.AppendUint64(nil, e.Size)
	require.NoError(t, s.Batch(bg, func(w kv.Writer) error { // as version 8d3bf13 has them
		require.NoError(t, w.Set(key(keyCharged, id[:], rep[:], place(&e)), append(e.Hash[:], size...)))
		require.NoError(t, w.Set(key(keyContent, id[:], e.Hash[:]), append([]byte{0, 0, 0, 1}, size...)))
		return w.Set(key(keyUsage, id[:]), binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, e.Size), 1))
	}))
	for range 2 {
		require.NoError(t, reg.Migrate(bg, s))
	}
	require.NoError(t, s.View(bg, func(rd kv.Reader) error {
		u, err := usageOf(rd, id)
		require.NoError(t, err)
		require.Equal(t, Usage{0, 1}, u)
		has, err := rd.Has(key(keyCharging, rep[:]))
		require.True(t, has, "it is to be charged anew")
		return err
	}))
	require.NoError(t, s.Update(bg, func(tx kv.Txn) error {
		ok, err := reg.Put(tx, &e)
		require.True(t, ok)
		return err
	}))
	require.NoError(t, reg.Migrate(bg, s), "it is of this version now")
	require.NoError(t, s.View(bg, func(rd kv.Reader) error {
		u, err := usageOf(rd, id)
		require.Equal(t, Usage{recordCost(&e) + contentCost(e.Size), 1}, u)
		return err
	}))
}
