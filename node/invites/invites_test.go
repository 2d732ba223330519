package invites

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
	"github.com/skerry-sync/skerry/ticket"
)

// offline opens a node with invites and without a network, whose clock stands at now.
func offline(t testing.TB, now *time.Time) *Service {
	n, err := node.Open(t.Context(), node.Config{
		Dir: t.TempDir(), Now: func() time.Time { return *now },
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	s, err := New(n)
	require.NoError(t, err)
	return s
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ready makes an invite for a replica that n has made.
func ready(t *testing.T, s *Service, v Invite) (replica.Replica, Invite, *ticket.Invite) {
	t.Helper()
	r, err := s.n.CreateReplica(
		t.Context(), fmt.Sprint("r", s.n.Now().UnixNano(), len(v.Prefix)), false,
	)
	require.NoError(t, err)
	made, tk, err := s.Make(t.Context(), r, v)
	require.NoError(t, err)
	return r, made, tk
}

func requireStatus(t *testing.T, want Status, err error) {
	t.Helper()
	var refused *Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, want, refused.Status)
}

// What an invite gives, to whom, and how often.
func TestInvite(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := offline(t, &now)
	ctx := t.Context()
	author := func(i byte) replica.AuthorID { return replica.SecretKeyFromSeed([32]byte{i}).Author() }

	r, made, tk := ready(
		t,
		s,
		Invite{
			Mode:      replica.Write,
			Prefix:    []byte("p/"),
			Delegable: true,
			Uses:      2,
			Expires:   now.Add(time.Hour),
		},
	)
	g, err := s.redeem(ctx, tk.Secret, author(1), "one", nil)
	require.NoError(t, err)
	require.Equal(t, r.ID, g.Replica)
	require.Equal(t, r.Name, g.Name)
	require.Equal(t, replica.Read, g.Capability, "the replica key is not given away")
	require.Len(t, g.Statements, 1)
	grant, err := replica.ParseGrant(g.Statements[0])
	require.NoError(t, err)
	require.NoError(t, grant.Verify())
	require.Equal(t, "p/", string(grant.Prefix))
	require.True(t, grant.Delegable)
	require.Equal(t, author(1), grant.Author)

	again, err := s.redeem(ctx, tk.Secret, author(1), "one", nil)
	require.NoError(t, err)
	require.Equal(t, g, again, "who did not hear the answer may ask again")
	_, err = s.redeem(ctx, tk.Secret, author(2), "two", nil)
	require.NoError(t, err)
	_, err = s.redeem(ctx, tk.Secret, author(3), "three", nil)
	requireStatus(t, UsedUp, err)
	_, err = s.redeem(ctx, ticket.InviteSecret{1}, author(3), "three", nil)
	requireStatus(t, Unknown, err)
	all, err := s.List(ctx)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, UsedUp, all[0].State(s.n.Now()))
	require.Len(t, all[0].Redeemed, 2)
	require.Equal(t, "two", all[0].Redeemed[1].Node)

	require.NoError(t, s.Revoke(ctx, made.ID))
	_, err = s.redeem(ctx, tk.Secret, author(1), "one", nil)
	requireStatus(t, Revoked, err)
	requireStatus(t, Unknown, s.Revoke(ctx, [32]byte{1}))

	_, _, tk = ready(t, s, Invite{Mode: replica.Sync, Expires: now.Add(time.Hour)})
	g, err = s.redeem(ctx, tk.Secret, author(1), "one", nil)
	require.NoError(t, err)
	require.Equal(t, replica.Sync, g.Capability)
	require.Empty(t, g.Statements)
	now = now.Add(time.Hour)
	_, err = s.redeem(ctx, tk.Secret, author(2), "two", nil)
	requireStatus(t, Expired, err)
	_, err = s.redeem(ctx, tk.Secret, author(1), "one", nil)
	require.NoError(t, err, "it was given in time")

	r, _, tk = ready(t, s, Invite{Mode: replica.Read, Uses: 2})
	require.NoError(t, s.n.Leave(ctx, r.ID))
	_, err = s.redeem(ctx, tk.Secret, author(1), "one", nil)
	requireStatus(t, Failed, err)

	now = now.Add(keepInvites)
	all, err = s.List(ctx)
	require.NoError(t, err)
	require.Len(t, all, 1, "those that ended long ago are forgotten")
	require.NoError(t, s.n.Store().View(ctx, func(rd kv.Reader) error {
		count := 0
		for _, err := range rd.Scan(kv.Prefix([]byte(keyInvite)), kv.ScanOptions{KeysOnly: true}) {
			require.NoError(t, err)
			count++
		}
		require.Equal(t, 1, count)
		return nil
	}))
}

// A node offers nothing that it could not give.
func TestInviteNeedsCapability(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := offline(t, &now)
	ctx := t.Context()
	key := replica.NewSecretKey()
	r, err := s.n.Keep(ctx, &ticket.Doc{Replica: key.Replica(), Capability: replica.Sync}, "")
	require.NoError(t, err)
	var denied *replica.NotAllowedError
	_, _, err = s.Make(ctx, r, Invite{Mode: replica.Read})
	require.ErrorAs(t, err, &denied)
	_, _, err = s.Make(ctx, r, Invite{Mode: replica.Write})
	require.ErrorIs(t, err, replica.ErrCannotGrant)
	_, _, err = s.Make(ctx, r, Invite{Mode: replica.Sync, Delegable: true})
	require.Error(t, err)

	author, err := s.n.Authors().New(ctx)
	require.NoError(t, err)
	g := replica.Grant{
		Replica:   r.ID,
		Author:    author,
		NotAfter:  replica.Forever,
		Prefix:    []byte("p/"),
		Delegable: true,
	}
	g.Sign(key)
	_, err = s.n.TakeStatements(ctx, r.ID, [][]byte{g.Bytes()})
	require.NoError(t, err)
	_, _, err = s.Make(ctx, r, Invite{Mode: replica.Write, Prefix: []byte("q/")})
	require.ErrorIs(t, err, replica.ErrCannotGrant)
	_, tk, err := s.Make(ctx, r, Invite{Mode: replica.Write, Prefix: []byte("p/")})
	require.NoError(t, err)
	given, err := s.redeem(ctx, tk.Secret, replica.NewSecretKey().Author(), "one", nil)
	require.NoError(t, err)
	require.Len(t, given.Statements, 2, "with that of the author who lets it write")
}

// However many come at once, an invite is used as often as it says.
func TestInviteRace(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := offline(t, &now)
	r, _, tk := ready(t, s, Invite{Mode: replica.Write, Uses: 3})
	var wg sync.WaitGroup
	var mu sync.Mutex
	taken := 0
	for range 20 {
		wg.Go(func() {
			_, err := s.redeem(t.Context(), tk.Secret, replica.NewSecretKey().Author(), "x", nil)
			var refused *Error
			if err != nil && !errors.As(err, &refused) {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				taken++
			}
		})
	}
	wg.Wait()
	require.Equal(t, 3, taken)
	grants, err := s.n.Replicas().Grants(t.Context(), r.ID)
	require.NoError(t, err)
	require.Len(t, grants, 3)
}

// oneSide is a stream of which the test holds the other end.
type oneSide struct {
	net.Conn
	remote peer.ID
}

func (s oneSide) CloseWrite() error { return nil }
func (s oneSide) Reset() error      { return s.Close() }
func (s oneSide) Remote() peer.ID   { return s.remote }

// Somebody who brings a secret in another's name, or rubbish, is given nothing.
func TestInviteIsBoundToTheAuthor(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := offline(t, &now)
	_, _, tk := ready(t, s, Invite{Mode: replica.Write, Uses: 1})
	author, thief := replica.NewSecretKey(), replica.NewSecretKey()
	proof := author.Sign(redeemProof(tk.Secret, string(s.n.ID()), "joiner"))
	good := appendRedeem(tk.Secret, author.Author(), proof, nil)
	ask := func(msg []byte, remote peer.ID) ([]byte, error) {
		ours, theirs := net.Pipe()
		done := make(chan error, 1)
		go func() {
			err := s.answer(t.Context(), link.Within(oneSide{theirs, remote}, idleTime))
			_ = theirs.Close()
			done <- err
		}()
		go func() {
			_, _ = ours.Write(msg)
			if len(msg) < len(good) {
				_ = ours.Close()
			}
		}()
		answer, _ := io.ReadAll(ours)
		return answer, <-done
	}
	for name, c := range map[string]struct {
		msg    []byte
		remote peer.ID
	}{
		"from another node":  {good, "thief"},
		"for another author": {appendRedeem(tk.Secret, thief.Author(), proof, nil), "joiner"},
		"to another inviter": {appendRedeem(
			tk.Secret, author.Author(), author.Sign(redeemProof(tk.Secret, "other", "joiner")), nil,
		), "joiner"},
		"cut short":          {good[:100], "joiner"},
		"of another version": {append([]byte{9}, good[1:]...), "joiner"},
		"with another's secret": {appendRedeem(
			ticket.InviteSecret{7}, author.Author(), proof, nil,
		), "joiner"},
	} {
		answer, err := ask(c.msg, c.remote)
		require.Error(t, err, name)
		require.Empty(t, answer, name)
	}
	answer, err := ask(good, "joiner")
	require.NoError(t, err)
	given, err := readGiven(bufio.NewReader(bytes.NewReader(answer)))
	require.NoError(t, err)
	require.Len(t, given.Statements, 1)
}

// Golden: the bytes of an invite's way.
func TestInviteGolden(t *testing.T) {
	author := replica.SecretKeyFromSeed([32]byte{1})
	secret := ticket.InviteSecret{2}
	id := inviteID(secret)
	require.Equal(
		t,
		"20ca2505b01b848d1e155d44bf34f78221bae5d923ff65b1fa8352e0093a4323",
		hex.EncodeToString(id[:]),
	)
	require.Equal(
		t,
		"736b657272792072656465656d20310a20ca2505b01b848d1e155d44bf34f78221bae5d923ff65b1fa8352e0093a43230007696e766974657200066a6f696e6572",
		hex.EncodeToString(redeemProof(secret, "inviter", "joiner")),
	)
	msg := appendRedeem(secret, author.Author(), [64]byte{3}, nil)
	require.Len(t, msg, 130)
	require.Equal(t, byte(4), msg[0])
	require.Equal(t, byte(0), msg[129])
	signed := appendRedeem(
		secret,
		author.Author(),
		[64]byte{3},
		&WalletProof{At: 258, Signature: eth.Signature{4}},
	)
	require.Equal(
		t,
		append(append(msg[:129:129], 1, 0, 0, 0, 0, 0, 0, 1, 2, 4), make([]byte, 64)...),
		signed,
	)
	ask := WalletAsk{eth.Address{5}, id, "inviter", "joiner", author.Author()}
	m, err := ask.Message(time.Unix(258, 0))
	require.NoError(t, err)
	require.Equal(
		t,
		"OBJECTS Identity Protocol v1\n"+
			"Action: Skerry Invite\n"+
			"Wallet: 0x0500000000000000000000000000000000000000\n"+
			"Invite: 20ca2505b01b848d1e155d44bf34f78221bae5d923ff65b1fa8352e0093a4323\n"+
			"Inviter: "+peer.ID("inviter").
			String()+
			"\nDevice: "+peer.ID("joiner").
			String()+
			"\nAuthor: "+author.Author().
			String()+
			"\nTimestamp: 258",
		m.Text(),
	)
	g := Given{
		Replica:    replica.ID{4},
		Name:       "r",
		Capability: replica.Read,
		ReadKey:    replica.EpochKey{Epoch: 7, Key: seal.ReadKey{8}},
		Statements: [][]byte{{5, 6}},
	}
	want := append(append([]byte{2, 4}, make([]byte, 31)...), 0, 0, 0, 7, 8)
	want = append(append(want, make([]byte, 31)...), 1, 'r', 1, 2, 5, 6)
	require.Equal(t, want, g.marshal())
	back, err := readGiven(bufio.NewReader(bytes.NewReader(append([]byte{0}, want...))))
	require.NoError(t, err)
	require.Equal(t, g, back)
}

func FuzzGiven(f *testing.F) {
	g := Given{
		Replica:    replica.ID{4},
		Name:       "r",
		Capability: replica.Read,
		Statements: [][]byte{{5, 6}},
	}
	f.Add(append([]byte{0}, g.marshal()...))
	g.ReadKey = replica.EpochKey{Epoch: 1, Key: seal.ReadKey{2}}
	f.Add(append([]byte{0}, g.marshal()...))
	f.Add([]byte{3})
	f.Add(append([]byte{6}, make([]byte, 20)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		in := bufio.NewReaderSize(r, 16)
		g, err := readGiven(in)
		if err != nil {
			return
		}
		read := len(b) - r.Len() - in.Buffered()
		again := append([]byte{0}, g.marshal()...)
		if len(again) == read { // a varint may have been longer than it need be
			require.Equal(t, b[:read], again)
		}
	})
}
