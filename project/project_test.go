package project

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/replica"
)

var (
	rid   = replica.ID{1, 2, 3}
	now   = time.Unix(1704542400, 0).UTC()
	owner = identity.ID{9}
)

func asset() Asset {
	return Asset{
		ID: "motor-1", Name: "Motor", Author: owner.String(), Content: blake3.Sum256([]byte("x")),
		Size: 1, Format: "model/step", Created: now, Updated: now,
	}
}

func reference() Reference {
	return Reference{
		ID: "r-1", Source: "motor-2", Target: "motor-1", Content: blake3.Sum256([]byte("x")),
		Type: DerivedFrom, Created: now,
	}
}

func later(b []byte) []byte {
	return protowire.AppendString(protowire.AppendTag(b, 99, protowire.BytesType), "later")
}

// The messages' bytes, by hand from the numbers and types of their fields.
func TestGolden(t *testing.T) {
	p := New(rid, "P", owner, now)
	p.Description = "D"
	text := func(n byte, s string) string {
		return hex.EncodeToString(append([]byte{n<<3 | 2, byte(len(s))}, s...))
	}
	at := func(n byte) string { return hex.EncodeToString([]byte{n << 3}) + "c081e5ac06" }
	content := hex.EncodeToString(func() []byte { h := blake3.Sum256([]byte("x")); return h[:] }())
	require.Equal(
		t,
		text(
			1, "01020300000000000000000000000000",
		)+text(2, "P")+text(3, "D")+text(4, owner.String())+at(5)+at(6),
		hex.EncodeToString(p.Marshal()),
	)
	a := asset()
	require.Equal(
		t,
		text(1, "motor-1")+text(2, "Motor")+text(
			3, owner.String(),
		)+"2220"+content+"2801"+text(6, "model/step")+at(7)+at(8),
		hex.EncodeToString(a.Marshal()),
	)
	r := reference()
	require.Equal(
		t, text(1, "r-1")+text(2, "motor-2")+text(3, "motor-1")+"2220"+content+"2803"+at(6),
		hex.EncodeToString(r.Marshal()),
	)
	r.Project = "abc"
	require.Equal(
		t,
		text(1, "r-1")+text(2, "motor-2")+text(3, "abc")+text(4, "motor-1")+"2a20"+content+"3003"+at(7),
		hex.EncodeToString(r.Marshal()),
	)
	require.Equal(
		t, "/project /assets/motor-1 /refs/r-1", string(p.Key())+" "+string(a.Key())+" "+string(r.Key()),
	)
}

// What is read is written again, with fields of later versions.
func TestRoundTrip(t *testing.T) {
	p := New(rid, "P", owner, now)
	p2, err := Parse(later(p.Marshal()))
	require.NoError(t, err)
	require.NoError(t, p2.Check(rid))
	require.Equal(t, later(p.Marshal()), p2.Marshal())
	a := asset()
	a2, err := ParseAsset(later(a.Marshal()))
	require.NoError(t, err)
	require.Equal(t, later(a.Marshal()), a2.Marshal())
	require.False(t, a.Equal(&a2))
	for _, project := range []string{"", "abc"} {
		for _, content := range [][32]byte{{}, {1}} {
			r := reference()
			r.Project, r.Content = project, content
			r2, err := ParseReference(later(r.Marshal()))
			require.NoError(t, err)
			require.NoError(t, r2.Check())
			require.Equal(t, later(r.Marshal()), r2.Marshal())
			r2.unknown = nil
			require.Equal(t, r, r2)
		}
	}
}

func TestChecks(t *testing.T) {
	for name, edit := range map[string]func(*Project){
		"another replica":    func(p *Project) { p.ID = IDOf(replica.ID{5}) },
		"no name":            func(p *Project) { p.Name = "" },
		"a long name":        func(p *Project) { p.Name = strings.Repeat("a", MaxName+1) },
		"no UTF-8":           func(p *Project) { p.Description = "\xff" },
		"no owner":           func(p *Project) { p.Owner = "" },
		"a bad owner":        func(p *Project) { p.Owner = "obj_0" },
		"no time":            func(p *Project) { p.Created = time.Time{} },
		"from the future":    func(p *Project) { p.Updated = p.Created.Add(-time.Second) },
		"a long description": func(p *Project) { p.Description = strings.Repeat("a", MaxText+1) },
	} {
		p := New(rid, "P", owner, now)
		require.NoError(t, p.Check(rid))
		edit(&p)
		require.ErrorIs(t, p.Check(rid), ErrInvalid, name)
	}
	for name, edit := range map[string]func(*Asset){
		"no id":              func(a *Asset) { a.ID = "" },
		"a path":             func(a *Asset) { a.ID = "a/b" },
		"a long id":          func(a *Asset) { a.ID = strings.Repeat("a", 65) },
		"an umlaut":          func(a *Asset) { a.ID = "ä" },
		"no name":            func(a *Asset) { a.Name = "" },
		"no author":          func(a *Asset) { a.Author = "somebody" },
		"no content":         func(a *Asset) { a.Content = [32]byte{} },
		"empty, of 1 byte":   func(a *Asset) { a.Content = emptyHash },
		"0 bytes, not empty": func(a *Asset) { a.Size = 0 },
		"no time":            func(a *Asset) { a.Created = time.Time{} },
	} {
		a := asset()
		require.NoError(t, a.Check())
		edit(&a)
		require.ErrorIs(t, a.Check(), ErrInvalid, name)
	}
	for name, edit := range map[string]func(*Reference){
		"no type":     func(r *Reference) { r.Type = 0 },
		"a new type":  func(r *Reference) { r.Type = 5 },
		"no id":       func(r *Reference) { r.ID = "" },
		"no source":   func(r *Reference) { r.Source = "" },
		"no target":   func(r *Reference) { r.Target = "" },
		"bad project": func(r *Reference) { r.Project = "a b" },
		"no time":     func(r *Reference) { r.Created = time.Time{} },
	} {
		r := reference()
		require.NoError(t, r.Check())
		edit(&r)
		require.ErrorIs(t, r.Check(), ErrInvalid, name)
	}
	for _, kind := range []ReferenceType{Contains, DependsOn, DerivedFrom, References} {
		back, err := ParseReferenceType(kind.String())
		require.NoError(t, err)
		require.Equal(t, kind, back)
	}
	_, err := ParseReferenceType("is")
	require.Error(t, err)
}

func TestMalformed(t *testing.T) {
	for name, b := range map[string][]byte{
		"cut short":    asset0()[:10],
		"another type": protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1),
		"no UTF-8": protowire.AppendString(
			protowire.AppendTag(nil, 1, protowire.BytesType), "\xff",
		),
		"a short hash": protowire.AppendBytes(
			protowire.AppendTag(nil, 4, protowire.BytesType), make([]byte, 31),
		),
		"far in the future": protowire.AppendVarint(
			protowire.AppendTag(nil, 7, protowire.VarintType), 1<<50,
		),
		"huge": later(bytes.Repeat([]byte{0x98, 0x06, 1}, MaxEncoded/3)),
	} {
		_, err := ParseAsset(b)
		require.ErrorIs(t, err, ErrMalformed, name)
	}
}

func asset0() []byte { a := asset(); return a.Marshal() }

func TestSignedAssets(t *testing.T) {
	for _, kind := range []identity.Kind{identity.Wallet, identity.Passkey} {
		key, err := identity.NewKey(kind)
		require.NoError(t, err)
		nonce := identity.NewNonce()
		a := asset()
		_, err = Sign(a, key, nonce)
		require.ErrorIs(t, err, ErrInvalid, "somebody else's asset")
		a.Author = identity.IDOf(key.Public(), nonce).String()
		s, err := Sign(a, key, nonce)
		require.NoError(t, err)
		require.NoError(t, s.Verify())
		back, err := ParseSignedAsset(later(s.Marshal()))
		require.NoError(t, err)
		require.NoError(t, back.Verify())
		require.Equal(t, later(s.Marshal()), back.Marshal())
		require.Equal(t, "/signatures/motor-1", string(s.Key()))
		for name, edit := range map[string]func(*SignedAsset){
			"content": func(s *SignedAsset) { s.Asset.Content[0] ^= 1 },
			"author":  func(s *SignedAsset) { s.Asset.Author = owner.String() },
			"time":    func(s *SignedAsset) { s.Asset.Created = s.Asset.Created.Add(-time.Second) },
			"nonce":   func(s *SignedAsset) { s.Nonce[0] ^= 1 },
		} {
			changed := s
			edit(&changed)
			require.ErrorIs(t, changed.Verify(), identity.ErrBadSignature, name)
		}
		changed := s
		changed.Asset.Name = ""
		require.ErrorIs(t, changed.Verify(), ErrInvalid)
	}
}

func FuzzMessages(f *testing.F) {
	r := reference()
	f.Add(asset0())
	f.Add(r.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := ParseAsset(b); err == nil {
			_, err := ParseAsset(a.Marshal())
			require.NoError(t, err)
		}
		if p, err := Parse(b); err == nil {
			_, err := Parse(p.Marshal())
			require.NoError(t, err)
		}
		if r, err := ParseReference(b); err == nil && r.Check() == nil {
			again, err := ParseReference(r.Marshal())
			require.NoError(t, err)
			require.Equal(t, r, again)
		}
		if s, err := ParseSignedAsset(b); err == nil {
			require.Error(t, s.Verify())
		}
	})
}
