package vault

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/replica"
)

// What is as long or as late as it may be is taken, and what is one more is not.
func TestLimitsOfTheCatalogue(t *testing.T) {
	key := CatalogueKey{7}
	full := Project{
		ID: strings.Repeat("a", MaxProjectID), Replica: replica.ID{1},
		Name:    strings.Repeat("n", MaxProjectName),
		Created: time.Unix(1<<40, 0).UTC(), ReadKey: replica.EpochKey{Epoch: 1, Key: [32]byte{2}},
	}
	first := Project{ID: "a", Replica: replica.ID{1}, Created: time.Unix(0, 0).UTC()}
	for name, p := range map[string]Project{
		"the longest and latest": full, "as old as can be": first,
	} {
		sealed, err := p.Seal(key)
		require.NoError(t, err, name)
		back, err := Open(key, p.Key(), sealed)
		require.NoError(t, err, name)
		require.Equal(t, p, back, name)
	}
	late := full
	late.Created = time.Unix(1<<40+1, 0)
	_, err := parseProject(late.marshal())
	require.ErrorIs(t, err, ErrBadProject)
	_, err = Open(key, append(full.Key(), 'a'), make([]byte, 100))
	require.ErrorIs(t, err, ErrNotCatalogue)

	// A read key has 36 bytes, and its epoch is counted from 1.
	field := func(epoch uint32, keyBytes int) []byte {
		b := protowire.AppendTag(first.marshal(), fieldReadKey, protowire.BytesType)
		value := append(binary.BigEndian.AppendUint32(nil, epoch), make([]byte, keyBytes)...)
		return protowire.AppendBytes(b, value)
	}
	back, err := parseProject(field(1, 32))
	require.NoError(t, err)
	require.Equal(t, replica.EpochKey{Epoch: 1}, back.ReadKey)
	for _, bad := range [][]byte{field(1, 31), field(1, 33), field(0, 32)} {
		_, err := parseProject(bad)
		require.ErrorIs(t, err, ErrBadProject)
	}
}

// The longest entry can be written and read. A shorter one may be nothing but nonce and tag.
func TestLengthsOfSealedEntries(t *testing.T) {
	key := CatalogueKey{7}
	p := NewProject(replica.ID{1}, "n", time.Unix(5, 0))
	const outside = 24 + 16 // nonce and tag
	p.unknown = protowire.AppendTag(nil, 9, protowire.BytesType)
	room := MaxSealed - outside - len(p.marshal()) - 2 // of the length
	p.unknown = protowire.AppendBytes(p.unknown, make([]byte, room))
	sealed, err := p.Seal(key)
	require.NoError(t, err)
	require.Len(t, sealed, MaxSealed)
	back, err := Open(key, p.Key(), sealed)
	require.NoError(t, err)
	require.Equal(t, p, back)
	p.unknown = append(
		p.unknown, protowire.AppendVarint(protowire.AppendTag(nil, 10, protowire.VarintType), 1)...,
	)
	_, err = p.Seal(key)
	require.ErrorIs(t, err, ErrBadProject)

	none, err := sealWith(key, nil, nil)
	require.NoError(t, err)
	require.Len(t, none, outside)
	_, err = Open(key, p.Key(), none)
	require.ErrorIs(t, err, ErrBadProject, "it is opened, and is no project")

	author := replica.AuthorID{1}
	none, err = sealWith(key, nil, HeadKey(author))
	require.NoError(t, err)
	_, err = OpenHead(key, author, none)
	require.ErrorIs(t, err, ErrNotHead, "it is opened, and is no head")
	_, err = OpenHead(key, author, none[:outside-1])
	require.ErrorIs(t, err, ErrSealed)
}

// What a device says of a seed is only written if the others read it.
func TestLimitsOfKeptAt(t *testing.T) {
	key := CatalogueKey{3}
	k := KeptAt{
		Seed: strings.Repeat("s", 128), Addrs: make([]string, 16),
		Replicas: []replica.ID{replica.NewSecretKey().Replica()},
	}
	sealed, err := k.Seal(key)
	require.NoError(t, err)
	k.Addrs[0] = strings.Repeat("a", MaxSealed-len(sealed))
	sealed, err = k.Seal(key)
	require.NoError(t, err)
	require.Len(t, sealed, MaxSealed)
	back, err := OpenKeptAt(key, k.Key(), sealed)
	require.NoError(t, err)
	require.Equal(t, k, back)

	long, many, wide := k, k, k
	long.Seed, long.Addrs = k.Seed+"s", nil
	many.Addrs = make([]string, 17)
	wide.Addrs = []string{k.Addrs[0] + strings.Repeat("a", 64)}
	for name, bad := range map[string]KeptAt{
		"a long id": long, "many addresses": many, "a long address": wide,
	} {
		_, err := bad.Seal(key)
		require.Error(t, err, name)
		b, err := json.Marshal(keptAtPlain{seedsVersion, bad})
		require.NoError(t, err)
		sealed, err := sealWith(key, b, bad.Key())
		require.NoError(t, err)
		_, err = OpenKeptAt(key, bad.Key(), sealed)
		require.Error(t, err, name)
	}
}

// A head is about all entries up to its own time, those of that very microsecond as well.
func TestHeadOfTheSameTime(t *testing.T) {
	ids := [][32]byte{{1}, {2}, {3}}
	h := HeadOf(ids)
	for newest, missing := range map[uint64]bool{9: true, 10: true, 11: false} {
		w := Written{replica.AuthorID{1}, &h, 10, ids[:2], newest}
		require.Equal(t, missing, w.Missing() != "", newest)
	}
}

func TestLimitsOfAsks(t *testing.T) {
	c := newClock()
	l := newLocal(t.TempDir(), c.now)
	_, err := l.Add(t.Context(), NewIdentity{Password: password})
	require.NoError(t, err)
	n := byte(0)
	for name, tc := range map[string]struct {
		edit func(*Ask)
		ok   bool
	}{
		"the shortest challenge":       {func(a *Ask) { a.Challenge = make([]byte, 32) }, true},
		"the longest challenge":        {func(a *Ask) { a.Challenge = make([]byte, 256) }, true},
		"the longest application":      {func(a *Ask) { a.Application = strings.Repeat("a", 253) }, true},
		"the first and last of ASCII":  {func(a *Ask) { a.Application = "!~" }, true},
		"a space in an application":    {func(a *Ask) { a.Application = "a b" }, false},
		"a deletion in an application": {func(a *Ask) { a.Application = "a\x7f" }, false},
		"the longest reason":           {func(a *Ask) { a.Reason = strings.Repeat(" ", 256) }, true},
		"a deletion in a reason":       {func(a *Ask) { a.Reason = "\x7f" }, false},
		"a control in a reason":        {func(a *Ask) { a.Reason = "\x1f" }, false},
		"what comes after a deletion":  {func(a *Ask) { a.Reason = "\u0080" }, true},
	} {
		n++
		a := ask(n)
		tc.edit(&a)
		_, err := l.Ask(t.Context(), App{}, a)
		if tc.ok {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, ErrBadAsk, name)
		}
	}
}

// The person may write the first six characters of a request, and no fewer.
func TestShortNamesOfRequests(t *testing.T) {
	ctx := t.Context()
	l := newLocal(t.TempDir(), newClock().now)
	_, err := l.Add(ctx, NewIdentity{Password: password})
	require.NoError(t, err)
	asked, err := l.Ask(ctx, App{}, ask(1))
	require.NoError(t, err)
	require.ErrorIs(t, l.Deny(ctx, asked.Request[:5]), ErrNoRequest)
	require.NoError(t, l.Deny(ctx, asked.Request[:6]))
}

// An app that asks for one identity is answered by that one, whoever else is there.
func TestTheIdentityThatIsWanted(t *testing.T) {
	ctx := t.Context()
	l := newLocal(t.TempDir(), newClock().now)
	var ids []identity.ID
	for range 2 {
		i, err := l.Add(ctx, NewIdentity{Password: password})
		require.NoError(t, err)
		ids = append(ids, i.ID)
	}
	for n, id := range []identity.ID{{}, ids[0]} { // left out, or named
		a := ask(byte(n))
		a.Identity = ids[0]
		asked, err := l.Ask(ctx, App{}, a)
		require.NoError(t, err)
		err = l.Approve(ctx, asked.Code, ids[1], password)
		require.ErrorIs(t, err, ErrNoIdentity)
		require.ErrorContains(t, err, "the app asks for "+ids[0].String())
		require.NoError(t, l.Approve(ctx, asked.Code, id, password))
		got, err := l.Wait(ctx, App{}, asked.Request)
		require.NoError(t, err)
		require.Equal(t, ids[0], got.Identity)
		require.NoError(t, (&Challenge{Ask: a}).Check(&got, l.now()))
	}
}

func TestSessionsAreBounded(t *testing.T) {
	ctx := t.Context()
	c := newClock()
	l := newLocal(t.TempDir(), c.now)
	me, err := l.Add(ctx, NewIdentity{Password: password})
	require.NoError(t, err)
	n := 0
	approved := func() error {
		a := ask(1)
		n++
		a.Challenge = fmt.Appendf(nil, "%032d", n)
		asked, err := l.Ask(ctx, App{}, a)
		require.NoError(t, err)
		err = l.Approve(ctx, asked.Request, me.ID, password)
		if err != nil {
			require.NoError(t, l.Deny(ctx, asked.Request))
		}
		return err
	}
	for range maxSessions {
		require.NoError(t, approved())
	}
	require.ErrorIs(t, approved(), ErrTooManyRequests)
	c.t = c.t.Add(sessionLasts + time.Second)
	require.NoError(t, approved(), "the others have ended")
}

// replying is a keyring that exports one text.
type replying struct {
	Keyring
	text string
}

func (r replying) Export(context.Context, identity.ID, string, Form) (string, error) {
	return r.text, nil
}

// A call and a reply may have MaxCall bytes, and not one more.
func TestLongestCalls(t *testing.T) {
	ctx := t.Context()
	var calls [][]byte
	k := replying{}
	remote := Remote{func(ctx context.Context, msg []byte) ([]byte, error) {
		calls = append(calls, msg)
		return Serve(ctx, k, msg), nil
	}}
	_, err := remote.Export(ctx, identity.ID{}, "", "x")
	require.NoError(t, err)
	most := MaxCall - len(calls[0]) - len(`,"password":""`)
	_, err = remote.Export(ctx, identity.ID{}, strings.Repeat("p", most), "x")
	require.NoError(t, err)
	require.Len(t, calls[1], MaxCall)
	_, err = remote.Export(ctx, identity.ID{}, strings.Repeat("p", most+1), "x")
	require.ErrorIs(t, err, ErrBadAsk)
	require.Len(t, calls, 2, "it is not even sent")
	require.NotContains(t, string(Serve(ctx, k, calls[1])), "error")
	require.Contains(t, string(Serve(ctx, k, append(calls[1], ' '))), `"error":"bad_ask"`)

	k.text = strings.Repeat("t", MaxCall-len(`{"text":""}`))
	require.Len(t, Serve(ctx, k, calls[0]), MaxCall)
	text, err := remote.Export(ctx, identity.ID{}, "", "x")
	require.NoError(t, err)
	require.Equal(t, k.text, text)
	k.text += "t"
	_, err = remote.Export(ctx, identity.ID{}, "", "x")
	require.ErrorContains(t, err, "cannot be written")
	remote.Call = func(context.Context, []byte) ([]byte, error) {
		return append([]byte(`{"text":""}`), bytes.Repeat([]byte{' '}, MaxCall)...), nil
	}
	_, err = remote.Export(ctx, identity.ID{}, "", "x")
	require.ErrorContains(t, err, "a reply of")
}
