package node

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

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
	"github.com/skerry-sync/skerry/ticket"
)

// ready makes an invite for a replica that n has made.
func ready(t *testing.T, n *Node, v Invite) (replica.Replica, Invite, *ticket.Invite) {
	t.Helper()
	r, err := n.Replicas.Create(t.Context(), fmt.Sprint("r", n.cfg.Now().UnixNano(), len(v.Prefix)))
	require.NoError(t, err)
	made, tk, err := n.Invite(t.Context(), r, v)
	require.NoError(t, err)
	return r, made, tk
}

func requireStatus(t *testing.T, want InviteStatus, err error) {
	t.Helper()
	var refused *InviteError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, want, refused.Status)
}

// What an invite gives, to whom, and how often.
func TestInvite(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := offline(t, &now)
	ctx := t.Context()
	author := func(i byte) replica.AuthorID { return replica.SecretKeyFromSeed([32]byte{i}).Author() }

	r, made, tk := ready(t, n, Invite{Mode: replica.Write, Prefix: []byte("p/"), Delegable: true, Uses: 2, Expires: now.Add(time.Hour)})
	g, err := n.redeem(ctx, tk.Secret, author(1), "one", nil)
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

	again, err := n.redeem(ctx, tk.Secret, author(1), "one", nil)
	require.NoError(t, err)
	require.Equal(t, g, again, "who did not hear the answer may ask again")
	_, err = n.redeem(ctx, tk.Secret, author(2), "two", nil)
	require.NoError(t, err)
	_, err = n.redeem(ctx, tk.Secret, author(3), "three", nil)
	requireStatus(t, InviteUsedUp, err)
	_, err = n.redeem(ctx, ticket.InviteSecret{1}, author(3), "three", nil)
	requireStatus(t, InviteUnknown, err)
	all, err := n.Invites(ctx)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, InviteUsedUp, n.InviteState(&all[0]))
	require.Len(t, all[0].Redeemed, 2)
	require.Equal(t, "two", all[0].Redeemed[1].Node)

	require.NoError(t, n.RevokeInvite(ctx, made.ID))
	_, err = n.redeem(ctx, tk.Secret, author(1), "one", nil)
	requireStatus(t, InviteRevoked, err)
	requireStatus(t, InviteUnknown, n.RevokeInvite(ctx, [32]byte{1}))

	_, _, tk = ready(t, n, Invite{Mode: replica.Sync, Expires: now.Add(time.Hour)})
	g, err = n.redeem(ctx, tk.Secret, author(1), "one", nil)
	require.NoError(t, err)
	require.Equal(t, replica.Sync, g.Capability)
	require.Empty(t, g.Statements)
	now = now.Add(time.Hour)
	_, err = n.redeem(ctx, tk.Secret, author(2), "two", nil)
	requireStatus(t, InviteExpired, err)
	_, err = n.redeem(ctx, tk.Secret, author(1), "one", nil)
	require.NoError(t, err, "it was given in time")

	r, _, tk = ready(t, n, Invite{Mode: replica.Read, Uses: 2})
	require.NoError(t, n.Leave(ctx, r.ID))
	_, err = n.redeem(ctx, tk.Secret, author(1), "one", nil)
	requireStatus(t, InviteFailed, err)

	now = now.Add(keepInvites)
	all, err = n.Invites(ctx)
	require.NoError(t, err)
	require.Len(t, all, 1, "those that ended long ago are forgotten")
	require.Equal(t, 1, countKeys(t, n.kv, keyInvite))
}

// A node offers nothing that it could not give.
func TestInviteNeedsCapability(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := offline(t, &now)
	ctx := t.Context()
	key := replica.NewSecretKey()
	r, err := n.Replicas.Join(ctx, replica.Replica{ID: key.Replica(), Capability: replica.Sync})
	require.NoError(t, err)
	var denied *replica.NotAllowedError
	_, _, err = n.Invite(ctx, r, Invite{Mode: replica.Read})
	require.ErrorAs(t, err, &denied)
	_, _, err = n.Invite(ctx, r, Invite{Mode: replica.Write})
	require.ErrorIs(t, err, replica.ErrCannotGrant)
	_, _, err = n.Invite(ctx, r, Invite{Mode: replica.Sync, Delegable: true})
	require.Error(t, err)

	author, err := n.Replicas.NewAuthor(ctx)
	require.NoError(t, err)
	g := replica.Grant{Replica: r.ID, Author: author, NotAfter: replica.Forever, Prefix: []byte("p/"), Delegable: true}
	g.Sign(key)
	_, err = n.Replicas.InsertStatements(ctx, r.ID, []replica.Statement{&g})
	require.NoError(t, err)
	_, _, err = n.Invite(ctx, r, Invite{Mode: replica.Write, Prefix: []byte("q/")})
	require.ErrorIs(t, err, replica.ErrCannotGrant)
	_, tk, err := n.Invite(ctx, r, Invite{Mode: replica.Write, Prefix: []byte("p/")})
	require.NoError(t, err)
	given, err := n.redeem(ctx, tk.Secret, replica.NewSecretKey().Author(), "one", nil)
	require.NoError(t, err)
	require.Len(t, given.Statements, 2, "with that of the author who lets it write")
}

// However many come at once, an invite is used as often as it says.
func TestInviteRace(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := offline(t, &now)
	r, _, tk := ready(t, n, Invite{Mode: replica.Write, Uses: 3})
	var wg sync.WaitGroup
	var mu sync.Mutex
	taken := 0
	for range 20 {
		wg.Go(func() {
			_, err := n.redeem(t.Context(), tk.Secret, replica.NewSecretKey().Author(), "x", nil)
			var refused *InviteError
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
	grants, err := n.Replicas.Grants(t.Context(), r.ID)
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
	n := offline(t, &now)
	_, _, tk := ready(t, n, Invite{Mode: replica.Write, Uses: 1})
	author, thief := replica.NewSecretKey(), replica.NewSecretKey()
	proof := author.Sign(redeemProof(tk.Secret, string(n.id), "joiner"))
	good := appendRedeem(tk.Secret, author.Author(), proof, nil)
	ask := func(msg []byte, remote peer.ID) ([]byte, error) {
		ours, theirs := net.Pipe()
		done := make(chan error, 1)
		go func() {
			err := n.answerInvite(t.Context(), oneSide{theirs, remote})
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
		"from another node":     {good, "thief"},
		"for another author":    {appendRedeem(tk.Secret, thief.Author(), proof, nil), "joiner"},
		"to another inviter":    {appendRedeem(tk.Secret, author.Author(), author.Sign(redeemProof(tk.Secret, "other", "joiner")), nil), "joiner"},
		"cut short":             {good[:100], "joiner"},
		"of another version":    {append([]byte{9}, good[1:]...), "joiner"},
		"with another's secret": {appendRedeem(ticket.InviteSecret{7}, author.Author(), proof, nil), "joiner"},
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

// An invite whose node is away is kept, over a restart, and taken when the node is back; one that
// is refused then is not asked for again.
func TestPendingInvite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := &simWorld{simNet: newSimNet(1), t: t}
		for range 2 {
			n := &simNode{dir: t.TempDir(), disk: vfs.NewCrashableMem()}
			w.open(n)
			w.nodes = append(w.nodes, n)
		}
		a, b := w.nodes[0], w.nodes[1]
		r, err := a.Replicas.Create(ctx, "r")
		require.NoError(t, err)
		var tickets []*ticket.Invite
		for _, expires := range []time.Time{{}, a.cfg.Now().Add(time.Minute)} {
			_, tk, err := a.Invite(ctx, r, Invite{Mode: replica.Write, Uses: 1, Expires: expires})
			require.NoError(t, err)
			tk.Addrs = a.Addrs()
			tickets = append(tickets, tk)
		}
		w.mu.Lock()
		w.cut[pairOf(a.ID(), b.ID())] = true
		w.mu.Unlock()
		for _, tk := range tickets {
			_, err = b.JoinInvite(ctx, tk, "mine", nil, nil)
			var pending *PendingInviteError
			require.ErrorAs(t, err, &pending)
		}
		time.Sleep(time.Hour)
		require.NoError(t, b.Close())
		w.open(b)
		time.Sleep(time.Hour)
		all, err := b.PendingInvites(ctx)
		require.NoError(t, err)
		require.Len(t, all, 2)
		w.mu.Lock()
		clear(w.cut)
		w.mu.Unlock()
		time.Sleep(2 * lastInviteTry)
		all, err = b.PendingInvites(ctx)
		require.NoError(t, err)
		require.Len(t, all, 1)
		for id, p := range all {
			require.True(t, p.Refused)
			require.Contains(t, p.Error, "expired")
			require.Equal(t, []string{a.ID().String()}, p.Inviters())
			require.NoError(t, b.DropPendingInvite(ctx, id))
			requireStatus(t, InviteUnknown, b.DropPendingInvite(ctx, id))
		}
		got, err := b.Replicas.Resolve(ctx, "mine")
		require.NoError(t, err)
		require.Equal(t, r.ID, got.ID)
		author, err := b.Replicas.DefaultAuthor(ctx)
		require.NoError(t, err)
		key, err := b.Replicas.AuthorKey(ctx, author)
		require.NoError(t, err)
		_, err = b.Replicas.Write(ctx, r.ID, key, []replica.Change{{Key: []byte("k")}})
		require.NoError(t, err)
		_, err = a.JoinInvite(ctx, tickets[0], "", nil, nil)
		require.ErrorIs(t, err, ErrOwnInvite)
		for _, n := range w.nodes {
			require.NoError(t, n.Close())
		}
	})
}

// Golden: the bytes of an invite's way.
func TestInviteGolden(t *testing.T) {
	author := replica.SecretKeyFromSeed([32]byte{1})
	secret := ticket.InviteSecret{2}
	id := inviteID(secret)
	require.Equal(t, "20ca2505b01b848d1e155d44bf34f78221bae5d923ff65b1fa8352e0093a4323", hex.EncodeToString(id[:]))
	require.Equal(t, "736b657272792072656465656d20310a20ca2505b01b848d1e155d44bf34f78221bae5d923ff65b1fa8352e0093a43230007696e766974657200066a6f696e6572", hex.EncodeToString(redeemProof(secret, "inviter", "joiner")))
	msg := appendRedeem(secret, author.Author(), [64]byte{3}, nil)
	require.Len(t, msg, 130)
	require.Equal(t, byte(4), msg[0])
	require.Equal(t, byte(0), msg[129])
	signed := appendRedeem(secret, author.Author(), [64]byte{3}, &WalletProof{At: 258, Signature: eth.Signature{4}})
	require.Equal(t, append(append(msg[:129:129], 1, 0, 0, 0, 0, 0, 0, 1, 2, 4), make([]byte, 64)...), signed)
	ask := WalletAsk{eth.Address{5}, id, "inviter", "joiner", author.Author()}
	m, err := ask.Message(time.Unix(258, 0))
	require.NoError(t, err)
	require.Equal(t, "OBJECTS Identity Protocol v1\nAction: Skerry Invite\nWallet: 0x0500000000000000000000000000000000000000\nInvite: 20ca2505b01b848d1e155d44bf34f78221bae5d923ff65b1fa8352e0093a4323\n"+
		"Inviter: "+peer.ID("inviter").String()+"\nDevice: "+peer.ID("joiner").String()+"\nAuthor: "+author.Author().String()+"\nTimestamp: 258", m.Text())
	g := Given{Replica: replica.ID{4}, Name: "r", Capability: replica.Read, ReadKey: replica.EpochKey{Epoch: 7, Key: seal.ReadKey{8}}, Statements: [][]byte{{5, 6}}}
	want := append(append([]byte{2, 4}, make([]byte, 31)...), 0, 0, 0, 7, 8)
	want = append(append(want, make([]byte, 31)...), 1, 'r', 1, 2, 5, 6)
	require.Equal(t, want, g.marshal())
	back, err := readGiven(bufio.NewReader(bytes.NewReader(append([]byte{0}, want...))))
	require.NoError(t, err)
	require.Equal(t, g, back)
}

func FuzzGiven(f *testing.F) {
	g := Given{Replica: replica.ID{4}, Name: "r", Capability: replica.Read, Statements: [][]byte{{5, 6}}}
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
		if again := append([]byte{0}, g.marshal()...); len(again) == read { // a varint may have been longer than it need be
			require.Equal(t, b[:read], again)
		}
	})
}

// However many statements there are, a receiver gets no more than it takes.
func TestFewEnough(t *testing.T) {
	require.Len(t, fewEnough(make([][]byte, maxPush+5)), maxPush)
	large := make([][]byte, 40)
	for i := range large {
		large[i] = make([]byte, maxPushItem)
	}
	some := fewEnough(large)
	require.Len(t, some, maxPushBytes/maxPushItem)
	back, err := readItems(bufio.NewReader(bytes.NewReader(appendItems(nil, some))), nil)
	require.NoError(t, err)
	require.Len(t, back, len(some))
	require.Len(t, fewEnough(large[:2]), 2)
}

// An invite for the holder of a wallet lets in whoever has signed with it for this author, at this
// node and not long ago.
func TestInviteForAWallet(t *testing.T) {
	key := func(b byte) eth.Key {
		k, err := eth.KeyFromSecret([32]byte{31: b})
		require.NoError(t, err)
		return k
	}
	alice, bob := key(1), key(2)
	sign := func(k eth.Key, at time.Time) ProveWallet {
		return func(a WalletAsk) (w WalletProof, err error) {
			m, err := a.Message(at)
			return WalletProof{At: at.Unix(), Signature: k.Sign(eth.TextDigest([]byte(m.Text())))}, err
		}
	}
	bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := &simWorld{simNet: newSimNet(1), t: t}
		for range 2 {
			n := &simNode{dir: t.TempDir(), disk: vfs.NewCrashableMem()}
			w.open(n)
			w.nodes = append(w.nodes, n)
		}
		a, b := w.nodes[0], w.nodes[1]
		r, err := a.Replicas.Create(ctx, "r")
		require.NoError(t, err)
		v, tk, err := a.Invite(ctx, r, Invite{Mode: replica.Write, Prefix: []byte("notes/"), Uses: 1, Wallet: alice.Address()})
		require.NoError(t, err)
		tk.Addrs = a.Addrs()
		now := a.cfg.Now()
		other := func(x WalletAsk) (WalletProof, error) {
			x.Invite[0]++
			return sign(alice, now)(x)
		}
		for name, prove := range map[string]ProveWallet{
			"nobody": nil, "another wallet": sign(bob, now), "long ago": sign(alice, now.Add(-walletBehind-time.Minute)), "in the future": sign(alice, now.Add(walletAhead+time.Minute)), "something else": other,
		} {
			_, err = b.JoinInvite(ctx, tk, "mine", nil, prove)
			var refused *InviteError
			require.ErrorAs(t, err, &refused, name)
			require.Equal(t, InviteWallet, refused.Status, name)
			require.Equal(t, alice.Address(), refused.Wallet)
		}
		failed := errors.New("locked")
		_, err = b.JoinInvite(ctx, tk, "mine", nil, func(WalletAsk) (WalletProof, error) { return WalletProof{}, failed })
		require.ErrorIs(t, err, failed)
		pending, err := b.PendingInvites(ctx)
		require.NoError(t, err)
		require.Empty(t, pending)
		all, err := a.Invites(ctx)
		require.NoError(t, err)
		require.Empty(t, all[0].Redeemed)
		require.Equal(t, alice.Address(), all[0].Wallet)
		require.Equal(t, v.ID, all[0].ID)

		_, err = b.JoinInvite(ctx, tk, "mine", nil, sign(alice, now))
		require.NoError(t, err)
		author, err := b.Replicas.DefaultAuthor(ctx)
		require.NoError(t, err)
		require.NoError(t, b.Replicas.MayWrite(ctx, r.ID, author, []byte("notes/a")))
		var no *replica.NotAllowedError
		require.ErrorAs(t, b.Replicas.MayWrite(ctx, r.ID, author, []byte("else")), &no)

		// What was signed for one author, or node, is of no use to another.
		ask := WalletAsk{alice.Address(), inviteID(tk.Secret), a.id, b.id, author}
		proof, err := sign(alice, now)(ask)
		require.NoError(t, err)
		require.NoError(t, a.checkWallet(&v, tk.Secret, author, b.id.String(), &proof))
		for _, err := range []error{a.checkWallet(&v, tk.Secret, replica.AuthorID{1}, b.id.String(), &proof), a.checkWallet(&v, tk.Secret, author, a.id.String(), &proof),
			a.checkWallet(&v, ticket.InviteSecret{}, author, b.id.String(), &proof), b.checkWallet(&v, tk.Secret, author, b.id.String(), &proof), a.checkWallet(&v, tk.Secret, author, "x", &proof)} {
			requireStatus(t, InviteWallet, err)
		}
		for _, n := range w.nodes {
			require.NoError(t, n.Close())
		}
	})
}

// Whoever takes an invite once more, and names the replica, has it by that name.
func TestAnInviteTakenAgainBringsItsName(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := simNodes(t, 2)
		owner, joiner := w.nodes[0], w.nodes[1]
		r, err := owner.Replicas.Create(ctx, "theirs")
		require.NoError(t, err)
		_, tk, err := owner.Invite(ctx, r, Invite{Mode: replica.Write, Uses: 1})
		require.NoError(t, err)
		invite := &ticket.Invite{Secret: tk.Secret, Addrs: owner.Addrs()}
		joined, err := joiner.JoinInvite(ctx, invite, "", nil, nil)
		require.NoError(t, err)
		require.Equal(t, "theirs", joined.Replica.Name)
		joined, err = joiner.JoinInvite(ctx, invite, "mine", nil, nil)
		require.NoError(t, err)
		require.Equal(t, "mine", joined.Replica.Name)
		joined, err = joiner.JoinInvite(ctx, invite, "", nil, nil)
		require.NoError(t, err)
		require.Equal(t, "mine", joined.Replica.Name, "without a name, it keeps its own")
		found, err := joiner.Replicas.Resolve(ctx, "mine")
		require.NoError(t, err)
		require.Equal(t, r.ID, found.ID)
	})
}
