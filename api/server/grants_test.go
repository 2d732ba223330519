package server

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/api"
)

// Whatever times somebody signs, grants can be shown.
func TestTimesOfStatementsCanBeShown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := fromMicros(
			rapid.OneOf(
				rapid.Uint64(),
				rapid.SampledFrom([]uint64{0, 1, 1 << 62, math.MaxInt64, math.MaxUint64 - 1, math.MaxUint64}),
			).Draw(t, "micros"),
		)
		b, err := json.Marshal(api.Revocation{From: at, Issued: at})
		require.NoError(t, err)
		var back api.Revocation
		require.NoError(t, json.Unmarshal(b, &back))
		require.True(t, back.From.Equal(at))
	})
	require.True(t, fromMicros(math.MaxUint64).IsZero(), "no limit")
	require.Equal(t, time.UnixMicro(5).UTC(), fromMicros(5))
}
