package localfirst

import (
	"encoding/json"
	"fmt"

	"github.com/skerry-sync/skerry/versions/merge"
)

// JSONText is a value as JSON, of which the app understands what T has fields for. An app that
// keeps its values so, in a column or a file, loses nothing that a newer app has added: Set changes
// what T has and leaves the rest as it stands.
//
//	type note struct {
//		Title string `json:"title"`
//	}
//	text := localfirst.JSONText[note](`{"title":"Trip","color":"red"}`)
//	text, err := text.Set(note{Title: "Trip to Oslo"}) // {"title":"Trip to Oslo","color":"red"}
type JSONText[T any] string

// NewJSONText returns a value as JSON.
func NewJSONText[T any](v T) (JSONText[T], error) {
	b, err := json.Marshal(v)
	return JSONText[T](b), err
}

// Get returns what the app understands of the value.
func (t JSONText[T]) Get() (v T, err error) {
	err = json.Unmarshal([]byte(t), &v)
	return v, err
}

// Set returns the text with v in it: see [merge.Carry]. Items of arrays belong together if they
// look the same to T, or by their places; use SetByID where they have ids.
func (t JSONText[T]) Set(v T) (JSONText[T], error) { return t.SetByID(v, "") }

// SetByID is Set where items of arrays are told apart by a member, such as "id".
func (t JSONText[T]) SetByID(v T, id string) (JSONText[T], error) {
	was, err := t.Get()
	if err != nil {
		return t, fmt.Errorf("the value as it stands: %w", err)
	}
	known, err := json.Marshal(was)
	if err != nil {
		return t, err
	}
	now, err := json.Marshal(v)
	if err != nil {
		return t, err
	}
	text, err := merge.Carry([]byte(t), known, now, id)
	if err != nil {
		return t, err
	}
	return JSONText[T](text), nil
}

// JSONTextCodec writes JSON as it stands. What T cannot be read from is an error.
func JSONTextCodec[T any]() Codec[JSONText[T]] {
	check := func(t JSONText[T]) error {
		_, err := t.Get()
		return err
	}
	return CodecOf(
		func(t JSONText[T]) ([]byte, error) { return []byte(t), check(t) },
		func(b []byte) (JSONText[T], error) { return JSONText[T](b), check(JSONText[T](b)) },
	)
}
