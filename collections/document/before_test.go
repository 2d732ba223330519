package document_test

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
)

// Whoever reads a log is asked before its elements are parsed, and can end the reading.
func TestBeforeElementsAreParsed(t *testing.T) {
	l := document.Log{Field: "items", ChunkSize: 2}
	d := document.In(store.NewMemory(), newClock().now)
	for i := range 9 {
		_, err := d.Append(t.Context(), "log", object(t, fmt.Sprintf(`{"i":%d}`, i)), nil, nil, l)
		require.NoError(t, err)
	}
	full := errors.New("no room")
	read := map[string]func() error{
		"elements": func() error {
			_, err := d.Elements(t.Context(), "log", 0, nil, l)
			return err
		},
		"news": func() error {
			_, err := d.Since(t.Context(), "log", "", -1, math.MaxInt, l)
			return err
		},
	}
	for name, read := range read {
		asked, bytes := 0, 0
		l.Before = func(n int) error { asked, bytes = asked+1, bytes+n; return nil }
		require.NoError(t, read(), name)
		require.Equal(t, 4, asked, "%s: the chunks before the last one", name)
		require.Greater(t, bytes, 8*len(`{"i":1}`), name)
		l.Before = func(int) error { asked--; return full }
		require.ErrorIs(t, read(), full, name)
		require.Equal(t, 3, asked, "%s goes on", name)
	}
}
