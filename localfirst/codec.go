package localfirst

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Codec writes values as bytes and reads them. It must give the same bytes for the same value, on
// all devices.
type Codec[T any] interface {
	Encode(value T) ([]byte, error)
	Decode(b []byte) (T, error)
}

// CodecOf returns a codec of two functions.
func CodecOf[T any](encode func(T) ([]byte, error), decode func([]byte) (T, error)) Codec[T] {
	return codec[T]{encode, decode}
}

type codec[T any] struct {
	encode func(T) ([]byte, error)
	decode func([]byte) (T, error)
}

// Encode implements Codec.
func (c codec[T]) Encode(v T) ([]byte, error) { return c.encode(v) }

// Decode implements Codec.
func (c codec[T]) Decode(b []byte) (T, error) { return c.decode(b) }

// StringCodec writes strings as UTF-8.
func StringCodec() Codec[string] {
	valid := func(ok bool) error {
		if !ok {
			return fmt.Errorf("a string that is not UTF-8")
		}
		return nil
	}
	return CodecOf(
		func(s string) ([]byte, error) { return []byte(s), valid(utf8.ValidString(s)) },
		func(b []byte) (string, error) { return string(b), valid(utf8.Valid(b)) },
	)
}

// BytesCodec writes bytes as they are.
func BytesCodec() Codec[[]byte] {
	clone := func(b []byte) ([]byte, error) { return slices.Clone(b), nil }
	return CodecOf(clone, clone)
}

// JSONCodec writes values as JSON. Members that T has no field for are lost when a value is
// written: use JSONText where a newer app may have added some.
func JSONCodec[T any]() Codec[T] {
	return CodecOf(
		func(v T) ([]byte, error) { return json.Marshal(v) },
		func(b []byte) (v T, err error) {
			d := json.NewDecoder(bytes.NewReader(b))
			if err = d.Decode(&v); err == nil && d.More() {
				err = fmt.Errorf("something follows the JSON value")
			}
			return v, err
		},
	)
}
