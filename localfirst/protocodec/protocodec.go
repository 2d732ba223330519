// Package protocodec has a codec of package localfirst for protobuf messages.
//
// What belongs here: how messages are written and read. What never belongs here: anything else that
// the engine does; it stands apart so that only apps which use protobuf link it.
//
// Start at [Of].
package protocodec

import (
	"errors"
	"reflect"

	"google.golang.org/protobuf/proto"

	"github.com/skerry-sync/skerry/localfirst"
)

var errNil = errors.New("the message is nil")

// Of returns a codec of messages of a generated type: Of[*pb.Note](). It writes fields in the order
// of their numbers and maps in the order of their keys, so that one version of the library writes
// the same message in one way. Fields that the type does not know are kept and written behind the
// others. A nil message, and one that lacks required fields, is an error.
//
// It panics if M is no generated type.
func Of[M proto.Message]() localfirst.Codec[M] {
	var none M
	if t := reflect.TypeFor[M](); t.Kind() != reflect.Pointer {
		panic("protocodec: " + t.String() + " is no generated type of messages")
	}
	typ := none.ProtoReflect().Type()
	write := proto.MarshalOptions{Deterministic: true}
	return localfirst.CodecOf(
		func(m M) ([]byte, error) {
			if !m.ProtoReflect().IsValid() {
				return nil, errNil
			}
			return write.Marshal(m)
		},
		func(b []byte) (M, error) {
			m := typ.New().Interface().(M)
			err := proto.Unmarshal(b, m)
			return m, err
		},
	)
}
