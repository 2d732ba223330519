package collections

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// unique is the keyword uniqueItems, in the place of the library's: that compares items with the
// same hash pair by pair, and strangers can make as many of them as they like.
type unique struct{}

// Validate implements jsonschema.SchemaExt.
func (unique) Validate(ctx *jsonschema.ValidatorContext, v any) {
	items, _ := v.([]any)
	at := make(map[string]int, len(items))
	var b []byte
	for i, item := range items {
		b = appendForm(b[:0], item)
		if first, there := at[string(b)]; there {
			ctx.AddError(&kind.UniqueItems{Duplicates: [2]int{first, i}})
			return
		}
		at[string(b)] = i
	}
}

// appendForm appends what is the same of equal values, and differs of others.
func appendForm(b []byte, v any) []byte {
	switch v := v.(type) {
	case bool:
		if v {
			return append(b, 't')
		}
		return append(b, 'f')
	case float64: // -0 is 0
		return binary.BigEndian.AppendUint64(append(b, 'n'), math.Float64bits(v+0))
	case string:
		return append(binary.AppendUvarint(append(b, 's'), uint64(len(v))), v...)
	case []any:
		b = binary.AppendUvarint(append(b, 'a'), uint64(len(v)))
		for _, x := range v {
			b = appendForm(b, x)
		}
		return b
	case map[string]any:
		b = binary.AppendUvarint(append(b, 'o'), uint64(len(v)))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			b = appendForm(appendForm(b, k), v[k])
		}
		return b
	}
	return append(b, '0') // null
}

// replaceUnique replaces the keyword in a schema and all that it refers to.
func replaceUnique(s *jsonschema.Schema) {
	for s := range reachable(s) {
		if s.UniqueItems {
			s.UniqueItems = false
			s.Extensions = append(s.Extensions, unique{})
		}
	}
}
