package document_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/value"
)

// Versions with the same data and time merge to the same bytes in whichever order they come.
func TestTiedVersionsMergeAlike(t *testing.T) {
	data := &value.Object{}
	data.Set("a", "b")
	by := func(key, signature string) *document.Author {
		return &document.Author{Key: key, Signature: signature}
	}
	for name, pair := range map[string][2]*document.Document{
		"signed twice by one author": {document.New(
			data, 5, by("aa", "1"), false,
		), document.New(data, 5, by("aa", "2"), false)},
		"signed by two": {document.New(
			data, 5, by("aa", "1"), false,
		), document.New(data, 5, by("bb", "1"), false)},
		"signed or not, replaced as whole": {document.New(
			data, 5, by("aa", "1"), true,
		), document.New(data, 5, nil, true)},
		"signed twice, replaced as a whole": {document.New(
			data, 5, by("aa", "1"), true,
		), document.New(data, 5, by("aa", "2"), true)},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair[0], pair[1]
			require.Equal(
				t, document.Merge([]*document.Document{a, b}).Bytes(),
				document.Merge([]*document.Document{b, a}).Bytes(),
			)
		})
	}
}
