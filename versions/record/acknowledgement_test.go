package record

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// An acknowledgement is read as it was written, and nothing else is.
func TestAcknowledgement(t *testing.T) {
	a := Acknowledgement{
		Incarnation: Incarnation{1}, Name: "läptop",
		Seen: Vector{
			{Device{AuthorTag{2}, Incarnation{3}}, 300}, {Device{AuthorTag{2}, Incarnation{4}}, 1},
		},
	}
	b, err := a.Append(nil)
	require.NoError(t, err)
	zeros := strings.Repeat("00", 15)
	const want = "736b65727279206465766963652031" + "0a" + "0100000000000000" + "07" +
		"6cc3a470746f70" + "02"
	require.Equal(t, want+"02"+zeros+"0300000000000000"+"ac02"+"02"+zeros+"0400000000000000"+"01",
		hex.EncodeToString(b))
	got, err := ParseAcknowledgement(b)
	require.NoError(t, err)
	require.Equal(t, a, got)
	for i := range b {
		_, err := ParseAcknowledgement(b[:i])
		require.ErrorIs(t, err, ErrMalformed, i)
	}
	for name, b := range map[string][]byte{
		"more":          append(bytes.Clone(b), 0),
		"another magic": bytes.Replace(b, []byte("device 1"), []byte("device 2"), 1),
		"no UTF-8":      bytes.Replace(b, []byte("ä"), []byte{0xff, 0xfe}, 1),
		"counter 0":     append(bytes.Clone(b[:len(b)-1]), 0),
		"twice":         bytes.Replace(b, []byte{2, 0, 4}[1:], []byte{0, 3}, 1),
	} {
		_, err := ParseAcknowledgement(b)
		require.ErrorIs(t, err, ErrMalformed, name)
	}
	for name, change := range map[string]func(a *Acknowledgement){
		"a long name":   func(a *Acknowledgement) { a.Name = strings.Repeat("x", MaxName+1) },
		"not in order":  func(a *Acknowledgement) { a.Seen = Vector{a.Seen[1], a.Seen[0]} },
		"a large count": func(a *Acknowledgement) { a.Seen[0].Counter = MaxCounter + 1 },
		"many devices":  func(a *Acknowledgement) { a.Seen = make(Vector, MaxDevices+1) },
	} {
		wrong := Acknowledgement{Seen: append(Vector{}, a.Seen...)}
		change(&wrong)
		_, err := wrong.Append(nil)
		require.ErrorIs(t, err, ErrMalformed, name)
	}
}

func FuzzParseAcknowledgement(f *testing.F) {
	b, _ := (&Acknowledgement{Name: "x", Seen: Vector{{Device{}, 1}}}).Append(nil)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAcknowledgement(b)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		again, err := a.Append(nil)
		require.NoError(t, err)
		require.Equal(t, b, again, "it has one form")
	})
}
