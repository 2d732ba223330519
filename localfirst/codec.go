package localfirst

import (
	"encoding/json"
	"errors"
	"slices"
	"unicode/utf8"
)

// Codec writes values as bytes and reads them. It must give the same bytes for the same value, on
// all devices. Decode may not keep b.
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

var errNotUTF8 = errors.New("the string is not UTF-8")

// StringCodec writes strings as UTF-8. A string that is not UTF-8 is an error.
func StringCodec() Codec[string] {
	return CodecOf(
		func(s string) ([]byte, error) {
			if !utf8.ValidString(s) {
				return nil, errNotUTF8
			}
			return []byte(s), nil
		},
		func(b []byte) (string, error) {
			if !utf8.Valid(b) {
				return "", errNotUTF8
			}
			return string(b), nil
		},
	)
}

// BytesCodec writes bytes as they are.
func BytesCodec() Codec[[]byte] {
	clone := func(b []byte) ([]byte, error) { return slices.Clone(b), nil }
	return CodecOf(clone, clone)
}

// JSONCodec writes values as JSON, as [json.Marshal] does. Members that T has no field for are lost
// when a value is written: use JSONTextCodec where a newer app may have added some.
func JSONCodec[T any]() Codec[T] {
	return CodecOf(
		func(v T) ([]byte, error) { return json.Marshal(v) },
		func(b []byte) (v T, err error) {
			err = json.Unmarshal(b, &v)
			return v, err
		},
	)
}
