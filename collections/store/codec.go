package store

import (
	"context"
	"errors"
	"fmt"
)

// ErrUndecoded reports an object that is there, and that its codec cannot decode.
var ErrUndecoded = errors.New("what is stored cannot be decoded")

// Codec is what stands between the body of a document and the bytes that are kept of it; of files
// it leaves the bytes as they are. Its methods may be called by several goroutines at once.
type Codec interface {
	// Encode returns what is to be kept under a key.
	Encode(key string, body []byte) ([]byte, error)
	// Decode returns the body of which Encode has made what is kept under a key.
	Decode(key string, kept []byte) ([]byte, error)
}

// Coded returns a store that keeps in another what a codec makes of bodies. Its Get may return
// ErrUndecoded. Stores that keep logs by themselves, or several versions of an object, are given
// the codec instead.
func Coded(s Store, c Codec) Store { return &coded{s, c} }

// Encodes reports whether a store has a Codec.
func Encodes(s Store) bool {
	e, ok := s.(interface{ Encodes() bool })
	return ok && e.Encodes()
}

// Encodes implements Encodes.
func (s *coded) Encodes() bool { return s.codec != nil }

type coded struct {
	Store
	codec Codec
}

func (s *coded) Get(ctx context.Context, key string) (*Object, error) {
	o, err := s.Store.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	// What the store keeps in memory is decoded once.
	d := o.Memo(func() any {
		body, err := s.codec.Decode(key, o.Body)
		return &decoded{&Object{Body: body, Type: o.Type, Tag: o.Tag}, err}
	}).(*decoded)
	if d.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUndecoded, d.err)
	}
	return d.object, nil
}

// decoded is what has become of an object.
type decoded struct {
	object *Object
	err    error
}

func (s *coded) Put(ctx context.Context, key string, o *Object, if_ Condition) error {
	kept, err := s.codec.Encode(key, o.Body)
	if err != nil {
		return err
	}
	return s.Store.Put(ctx, key, &Object{Body: kept, Type: o.Type, Proof: o.Proof}, if_)
}
