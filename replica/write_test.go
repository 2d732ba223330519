package replica

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Who writes to an encrypted replica as if it were none is refused, and nothing of it is stored.
func TestNothingIsWrittenInPlain(t *testing.T) {
	s := newStore(t, newClock())
	r, err := s.CreateEncrypted(bg, "letters")
	require.NoError(t, err)
	_, err = s.Write(bg, r.ID, testKey(1), []Change{change("diary/2026", "v")})
	require.ErrorIs(t, err, ErrEncrypted)
	counts, err := s.Counts(bg, r.ID)
	require.NoError(t, err)
	require.Zero(t, counts.Entries)
	plainWrite(t, s, r.ID, testKey(1), "diary/2026", "v")
}
