package capcert_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/value"
)

func load(t testing.TB, name string, v any) {
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "starfish", name))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, v))
}

type person struct{ EdPriv, EdPub, KemPriv, KemPub, UserID string }

func (p person) key(t testing.TB) capcert.Key {
	k, err := capcert.ParseKey(p.EdPriv)
	require.NoError(t, err)
	require.Equal(t, p.EdPub, k.Public)
	return k
}

func (p person) subject() capcert.Subject { return capcert.Subject{Key: p.EdPub, KEM: p.KemPub} }

type certVectors struct {
	People struct{ Owner, Device, Bob, Carol person }
	Certs  []struct {
		Name, Input, Authorization string
		Cap                        json.RawMessage
	}
	Bad []struct {
		Name, Reason string
		Cap          json.RawMessage
		Now          int64
	}
	Globs []struct {
		Glob, Target string
		Matches      bool
	}
	Scopes []struct {
		Path    string
		Paths   []string
		Matches bool
	}
	Revocations struct {
		List  json.RawMessage
		Input string
	}
}

func parse(t testing.TB, text []byte) any {
	v, err := value.Parse(text, value.MaxDepth)
	require.NoError(t, err)
	return v
}

func code(err error) string {
	var r *capcert.RefusedError
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

// check is what a server checks of a certificate.
func check(v any, now int64) error {
	c, err := capcert.Parse(v)
	if err == nil {
		err = c.CheckTime(now)
	}
	if err == nil {
		err = c.CheckSignature()
	}
	if err == nil {
		err = c.CheckKind()
	}
	return err
}

func TestCertVectors(t *testing.T) {
	var v certVectors
	load(t, "capcert.json", &v)
	owner := v.People.Owner.key(t)
	terms := func(ttl int64) capcert.Terms {
		return capcert.Terms{
			NotBefore: 1_700_000_000, Expires: 1_700_000_000 + ttl,
			Nonce: []byte{7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22},
		}
	}
	minted := map[string]func() (*capcert.Cert, error){
		"rootCap": func() (*capcert.Cert, error) {
			return capcert.MintDevice(
				owner, v.People.Owner.subject(), capcert.RootScope(), terms(capcert.DefaultTTL),
			)
		},
		"deviceCap": func() (*capcert.Cert, error) {
			return capcert.MintDevice(
				owner, v.People.Device.subject(),
				capcert.Scope{
					Ops: []string{"read"}, Collections: []string{"notes"},
					Paths: []string{"notes/**", "!notes/_keyring"},
				},
				terms(3600),
			)
		},
		"memberCap": func() (*capcert.Cert, error) {
			return capcert.MintMember(
				owner, v.People.Bob.subject(), "team", capcert.WriterScope("team"), terms(capcert.DefaultTTL),
			)
		},
		"readerCap": func() (*capcert.Cert, error) {
			return capcert.MintMember(
				owner, v.People.Bob.subject(), "team", capcert.ReaderScope("team"), terms(capcert.DefaultTTL),
			)
		},
		"openCap": func() (*capcert.Cert, error) {
			return capcert.MintAudience(owner, "posts", capcert.ReaderScope("posts"), nil, terms(60))
		},
		"closedCap": func() (*capcert.Cert, error) {
			return capcert.MintAudience(
				owner, "posts", capcert.WriterScope("posts"),
				[]string{v.People.Bob.EdPub, v.People.Carol.EdPub}, terms(capcert.DefaultTTL),
			)
		},
	}
	require.Len(t, v.Certs, len(minted))
	for _, x := range v.Certs {
		c, err := capcert.ParseAuthorization(x.Authorization)
		require.NoError(t, err, x.Name)
		require.Equal(t, x.Input, string(c.SigningInput()), x.Name)
		require.NoError(t, c.CheckSignature(), x.Name)
		require.NoError(t, c.CheckKind(), x.Name)
		require.Equal(t, x.Authorization, c.Authorization(), x.Name)
		require.Equal(t, x.Name == "rootCap", c.IsRoot())
		ours, err := minted[x.Name]()
		require.NoError(t, err, x.Name)
		require.Equal(t, x.Authorization, ours.Authorization(), x.Name)
		id, err := capcert.UserID(c.Issuer)
		require.NoError(t, err)
		require.Equal(t, v.People.Owner.UserID, id)
	}
	for _, x := range v.Bad {
		require.Equal(t, x.Reason, code(check(parse(t, x.Cap), x.Now)), x.Name)
	}
	for _, x := range v.Globs {
		require.Equal(t, x.Matches, capcert.MatchGlob(x.Glob, x.Target), "%q %q", x.Glob, x.Target)
	}
	for _, x := range v.Scopes {
		require.Equal(t, x.Matches, capcert.MatchPath(x.Path, x.Paths), "%q %q", x.Path, x.Paths)
	}

	list := parse(t, v.Revocations.List)
	l, err := capcert.ParseRevocations(list)
	require.NoError(t, err)
	require.Equal(t, v.Revocations.Input, string(l.SigningInput()))
	ours, err := capcert.SignRevocations(owner, l.Generation, l.Certs, l.Subjects)
	require.NoError(t, err)
	require.Equal(t, value.AppendCanonical(nil, list), value.AppendCanonical(nil, ours.Object()))
	list.(*value.Object).Set("generation", 4.0)
	_, err = capcert.ParseRevocations(list)
	require.ErrorIs(t, err, capcert.ErrRevocations)
}

func TestMintRefuses(t *testing.T) {
	var v certVectors
	load(t, "capcert.json", &v)
	owner := v.People.Owner.key(t)
	terms := capcert.Terms{NotBefore: 1, Expires: 2, Nonce: make([]byte, capcert.NonceSize)}
	_, err := capcert.MintMember(
		owner, v.People.Owner.subject(), "team", capcert.WriterScope("team"), terms,
	)
	require.Equal(t, "member-self", code(err))
	_, err = capcert.MintMember(owner, v.People.Bob.subject(), "*", capcert.ReaderScope("team"), terms)
	require.Equal(t, "member-wildcard-collections", code(err))
	_, err = capcert.MintAudience(owner, "team", capcert.RootScope(), nil, terms)
	require.Equal(t, "audience-members-not-denied", code(err))
	terms.Nonce = terms.Nonce[1:]
	_, err = capcert.MintDevice(owner, v.People.Device.subject(), capcert.RootScope(), terms)
	require.Equal(t, "malformed-shape", code(err))
	require.NotContains(t, owner.String()+owner.GoString(), v.People.Owner.EdPriv)
}

func TestRequestVectors(t *testing.T) {
	var v struct {
		EdPub, EdPriv string
		Requests      []struct {
			Method, PathAndQuery, Body, Host, Input, Sig, Nonce string
			Ts                                                  int64
		}
		Authors []struct {
			Kind, Key, Input, AuthorPubkey, AuthorSignature string
			Data                                            json.RawMessage
		}
		AppendHash []struct {
			N    float64
			Last json.RawMessage
			Hash string
		}
	}
	load(t, "requests.json", &v)
	k, err := capcert.ParseKey(v.EdPriv)
	require.NoError(t, err)
	for _, x := range v.Requests {
		r := capcert.Request{
			Method: x.Method, PathAndQuery: x.PathAndQuery, Body: []byte(x.Body), Host: x.Host,
		}
		require.Equal(t, x.Input, string(r.SigningInput(x.Ts, x.Nonce)))
		nonce, err := base64.StdEncoding.DecodeString(x.Nonce)
		require.NoError(t, err)
		s := r.Sign(k, x.Ts, nonce)
		require.Equal(t, capcert.RequestSignature{Signature: x.Sig, Time: x.Ts, Nonce: x.Nonce}, s)
		require.True(t, r.Verify(&s, v.EdPub))
		for _, spoil := range []func(r *capcert.Request, s *capcert.RequestSignature){
			func(r *capcert.Request, _ *capcert.RequestSignature) { r.Host += "x" },
			func(r *capcert.Request, _ *capcert.RequestSignature) { r.Method = "PUT" },
			func(r *capcert.Request, _ *capcert.RequestSignature) { r.PathAndQuery += "/" },
			func(r *capcert.Request, _ *capcert.RequestSignature) {
				r.Body = append(slices.Clone(r.Body), ' ')
			},
			func(_ *capcert.Request, s *capcert.RequestSignature) { s.Time++ },
			func(_ *capcert.Request, s *capcert.RequestSignature) { s.Nonce = "A" + s.Nonce[1:] },
			func(_ *capcert.Request, s *capcert.RequestSignature) { s.Signature = "A" + s.Signature[1:] },
			func(_ *capcert.Request, s *capcert.RequestSignature) { s.Signature = "" },
		} {
			r, s := r, s
			spoil(&r, &s)
			require.False(t, r.Verify(&s, v.EdPub))
		}
		require.False(t, r.Verify(&s, v.EdPub[2:]))
	}
	domains := map[string]string{"append": capcert.AppendDomain, "document": capcert.DocumentDomain}
	for _, x := range v.Authors {
		data := parse(t, x.Data)
		require.Equal(t, x.AuthorSignature, capcert.SignAuthor(domains[x.Kind], x.Key, data, k))
		require.True(t, strings.HasPrefix(x.Input, domains[x.Kind]))
		for kind, domain := range domains {
			require.Equal(
				t, kind == x.Kind, capcert.VerifyAuthor(domain, x.Key, data, x.AuthorPubkey, x.AuthorSignature),
			)
			require.False(
				t, capcert.VerifyAuthor(domain, x.Key+"/", data, x.AuthorPubkey, x.AuthorSignature),
			)
		}
	}
	for _, x := range v.AppendHash {
		require.Equal(
			t, x.Hash,
			value.Hash(
				value.NewObject(
					value.Member{Key: "n", Value: x.N}, value.Member{Key: "last", Value: parse(t, x.Last)},
				),
			),
		)
	}
}

// Whatever a header holds, it is refused or a certificate that survives being presented again.
func FuzzParseAuthorization(f *testing.F) {
	var v certVectors
	load(f, "capcert.json", &v)
	for _, x := range v.Certs {
		f.Add(x.Authorization)
	}
	for _, x := range v.Bad {
		f.Add("Cap " + base64.StdEncoding.EncodeToString(x.Cap))
	}
	f.Fuzz(func(t *testing.T, header string) {
		c, err := capcert.ParseAuthorization(header)
		if err != nil {
			require.True(t, errors.Is(err, capcert.ErrNoCert) || code(err) != "", "%v", err)
			return
		}
		again, err := capcert.Parse(parse(t, value.Append(nil, c.Object())))
		require.NoError(t, err)
		require.Equal(t, c.SigningInput(), again.SigningInput())
		require.Equal(t, c.CheckSignature(), again.CheckSignature())
		require.Equal(t, c.CheckKind(), again.CheckKind())
	})
}

// A glob covers what the regular expression matches that it stands for, and so all that it matches.
func FuzzMatchGlob(f *testing.F) {
	for _, x := range [][2]string{
		{"a/**/b*", "a/x/y/bc"}, {"**/*b", "a/x/yb"}, {"**/*a*/c", "x/ya/z/qaq/c"}, {"***", "0"},
		{"*/**", "a/"}, {"*", "0"},
	} {
		f.Add(x[0], x[1])
	}
	f.Fuzz(func(t *testing.T, glob, target string) {
		var re strings.Builder
		for g := 0; g < len(glob); g++ {
			switch {
			case strings.HasPrefix(glob[g:], "**"):
				re.WriteString("[^!]*")
				g++
			case glob[g] == '*':
				re.WriteString("[^/!]*")
			default:
				fmt.Fprintf(&re, "%02x,", glob[g])
			}
		}
		// Bytes are written in hex, as regular expressions are about characters; "/" stays what a star
		// must not take.
		var text strings.Builder
		for i := range len(target) {
			if target[i] == '/' {
				text.WriteString("/")
			} else {
				fmt.Fprintf(&text, "%02x,", target[i])
			}
		}
		expression := strings.ReplaceAll(
			strings.NewReplacer(
				"[^!]*", "([0-9a-f]{2},|/)*", "[^/!]*", "([0-9a-f]{2},)*",
			).Replace(re.String()),
			"2f,", "/",
		)
		want := regexp.MustCompile("^(?:" + expression + ")$").MatchString(text.String())
		require.Equal(t, want, capcert.Covers(glob, target), "%q %q", glob, target)
		require.False(t, capcert.MatchGlob(glob, target) && !want, "%q %q", glob, target)
		capcert.MatchPath(target, []string{glob, "!" + glob})
	})
}

func BenchmarkVerifyRequest(b *testing.B) {
	k, err := capcert.NewKey(make([]byte, 32))
	require.NoError(b, err)
	r := capcert.Request{Method: "GET", PathAndQuery: "/pull/notes/a", Host: "127.0.0.1"}
	s := r.Sign(k, 1_700_000_000_000, make([]byte, 16))
	for b.Loop() {
		if !r.Verify(&s, k.Public) {
			b.Fatal("refused")
		}
	}
}
