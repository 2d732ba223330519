package replica

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Golden: the record of a replica.
func TestReplicaRecordGolden(t *testing.T) {
	key := testKey(1)
	seed := key.Seed()
	created := time.UnixMicro(1 << 50)
	for want, r := range map[string]Replica{
		"01" + "00" + "02" + "0004000000000000" + "00000007" + hex.EncodeToString([]byte("notes")): {
			Capability: Read, Name: "notes",
		},
		"01" + "03" + "03" + "0004000000000000" + "00000007" + "00000009" + strings.Repeat("05", 32) +
			hex.EncodeToString(seed[:]): {
			Capability: Write, Secret: key, Encrypted: true,
			Least: EpochID{9, [32]byte([]byte(strings.Repeat("\x05", 32)))},
		},
	} {
		r.ID, r.Created, r.number = key.Replica(), created, 7
		require.Equal(t, want, hex.EncodeToString(r.marshal()))
		b, err := hex.DecodeString(want)
		require.NoError(t, err)
		got, err := parseReplica(r.ID, b)
		require.NoError(t, err)
		require.Equal(t, r, got)
		for _, bad := range [][]byte{
			append([]byte{1, flagLeast}, make([]byte, 13+36)...), b[:14],
			append([]byte{2}, b[1:]...), append([]byte{1, 4}, b[2:]...),
		} {
			_, err := parseReplica(r.ID, bad)
			require.ErrorIs(t, err, errBadRecord)
		}
	}
}

func FuzzParseReplica(f *testing.F) {
	key := testKey(1)
	for _, r := range []Replica{
		{Capability: Read, Name: "notes"}, {Capability: Write, Secret: key, Least: EpochID{Number: 1}},
	} {
		f.Add(r.marshal())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseReplica(key.Replica(), b)
		if err != nil {
			return
		}
		again, err := parseReplica(r.ID, r.marshal())
		require.NoError(t, err)
		require.Equal(t, r, again)
		require.Equal(t, b, r.marshal(), "one replica has one record")
	})
}
