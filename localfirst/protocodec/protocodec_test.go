package protocodec_test

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/apipb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/skerry-sync/skerry/localfirst/protocodec"
)

// What is written must stay as it is: other devices compare it.
func TestGolden(t *testing.T) {
	c := protocodec.Of[*structpb.Struct]()
	m, err := structpb.NewStruct(map[string]any{"b": true, "a": "x", "c": nil, "": 1.5})
	require.NoError(t, err)
	for range 20 { // maps come in any order
		b, err := c.Encode(m)
		require.NoError(t, err)
		require.Equal(t, "0a0d0a00120911000000000000f83f"+"0a080a016112031a0178"+
			"0a070a016212022001"+"0a070a016312020800", hex.EncodeToString(b))
		back, err := c.Decode(b)
		require.NoError(t, err)
		require.True(t, proto.Equal(m, back))
	}
	b, err := c.Encode(&structpb.Struct{})
	require.NoError(t, err)
	back, err := c.Decode(b)
	require.NoError(t, err)
	require.True(t, proto.Equal(&structpb.Struct{}, back))
}

// An older app that changes a message keeps what a newer one has put in it.
func TestUnknownFieldsAreKept(t *testing.T) {
	c := protocodec.Of[*apipb.Method]()
	newer := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "old")
	newer = protowire.AppendString(protowire.AppendTag(newer, 500, protowire.BytesType), "unknown")
	m, err := c.Decode(newer)
	require.NoError(t, err)
	same, err := c.Encode(m)
	require.NoError(t, err)
	require.Equal(t, newer, same)
	m.Name = "new"
	b, err := c.Encode(m)
	require.NoError(t, err)
	require.Contains(t, string(b), "new")
	require.Contains(t, string(b), "unknown")
}

func TestRefused(t *testing.T) {
	_, err := protocodec.Of[*structpb.Struct]().Encode(nil)
	require.ErrorContains(t, err, "nil")
	_, err = protocodec.Of[*structpb.Struct]().Decode([]byte{0xff})
	require.Error(t, err)
	// NamePart has required fields.
	part := protocodec.Of[*descriptorpb.UninterpretedOption_NamePart]()
	_, err = part.Encode(&descriptorpb.UninterpretedOption_NamePart{})
	require.ErrorContains(t, err, "required")
	_, err = part.Decode(nil)
	require.ErrorContains(t, err, "required")
	require.Panics(t, func() { protocodec.Of[proto.Message]() })
}

func FuzzDecode(f *testing.F) {
	c := protocodec.Of[*structpb.Struct]()
	f.Add([]byte("\x0a\x08\x0a\x01a\x12\x03\x1a\x01x"))
	f.Add([]byte{0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := c.Decode(b)
		if err != nil {
			return
		}
		once, err := c.Encode(m)
		require.NoError(t, err)
		m, err = c.Decode(once)
		require.NoError(t, err)
		again, err := c.Encode(m)
		require.NoError(t, err)
		require.Equal(t, once, again)
	})
}
