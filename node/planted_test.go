package node_test

import (
	"context"
	"encoding/binary"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/invites"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/node/vaults"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
	"github.com/skerry-sync/skerry/ticket"
	"github.com/skerry-sync/skerry/vault"
)

// sealValue sets a key of an encrypted replica, and returns the entry and its sealed content.
func sealValue(
	t *testing.T, n *node.Node, id replica.ID, key, value string,
) (replica.Entry, []byte) {
	t.Helper()
	ctx := t.Context()
	p, err := n.ReplicaStore().Plain(ctx, id)
	require.NoError(t, err)
	require.True(t, p.Encrypted())
	it, err := n.ReplicaOf(id).Set(ctx, []byte(key), []byte(value))
	require.NoError(t, err)
	content, err := n.Blobs().ReadAll(ctx, it.Entry.Hash, 1<<20)
	require.NoError(t, err)
	return it.Entry, content
}

// A stranger who knows the id of a replica, as each of its hosts does, serves an invite, or writes
// a ticket, that names a read key of his own for it. Whoever holds the replica takes nothing from
// it: what is written is not sealed for the stranger, epochs go on, and a replica that is not
// encrypted stays readable.
func TestAnInviteDoesNotPlantAReadKey(t *testing.T) {
	for _, epoch := range []uint32{1, 2, 4_000_000_000, math.MaxUint32} {
		for _, way := range []string{"invite", "ticket"} {
			node.Bubble(t, func(t *testing.T) {
				ctx := t.Context()
				w := wholeNodes(t, 3)
				victim, friend, evil := w.nodes[0], w.nodes[1], w.nodes[2]
				sealed, err := victim.ReplicaStore().CreateEncrypted(ctx, "diary")
				require.NoError(t, err)
				open, err := victim.ReplicaStore().Create(ctx, "notes")
				require.NoError(t, err)
				author, err := victim.ReplicaStore().DefaultAuthor(ctx)
				require.NoError(t, err)
				secret, err := victim.ReplicaStore().AuthorKey(ctx, author)
				require.NoError(t, err)
				_, err = victim.ReplicaStore().Write(ctx, open.ID, secret, []replica.Change{{Key: []byte("k")}})
				require.NoError(t, err)
				sealValue(t, victim.Node, sealed.ID, "before", "1")
				tk, err := victim.Ticket(ctx, sealed, replica.Read)
				require.NoError(t, err)
				_, err = friend.Join(ctx, tk, "diary")
				require.NoError(t, err)

				planted := replica.EpochKey{Epoch: epoch, Key: seal.ReadKey{6, 6, 6}}
				for _, id := range []replica.ID{sealed.ID, open.ID} {
					evil.handle(inviteProtocol, func(s link.Stream) {
						_, _ = io.ReadFull(s, make([]byte, 130))
						g := invites.Given{
							Replica: id, Name: "holiday-photos", Capability: replica.Read, ReadKey: planted,
						}
						_, _ = s.Write(answerOf(g))
						_ = s.Close()
					})
					for _, n := range []*whole{victim, friend} {
						if _, err := n.ReplicaStore().Get(ctx, id); err != nil {
							continue // a new replica is as much as its ticket says
						}
						var got node.JoinResult
						if way == "invite" {
							tk := &ticket.Invite{Secret: ticket.InviteSecret{1}, Addrs: evil.Addrs()}
							got, err = n.Invites.Join(ctx, tk, "", nil, nil)
						} else {
							tk := &ticket.Doc{
								Capability: replica.Read, Replica: id, ReadKey: planted, Addrs: evil.Addrs(),
							}
							got, err = n.Join(ctx, tk, "")
						}
						if err != nil { // evil holds nothing
							require.ErrorIs(t, err, contacts.ErrNotShared)
						}
						require.Equal(t, id, got.Replica.ID)
					}
				}

				entry, content := sealValue(t, victim.Node, sealed.ID, "secret", "the diary of today")
				_, err = planted.Key.Names(epoch).Open(entry.Key)
				require.ErrorIs(t, err, seal.ErrSealed)
				in, err := planted.Key.Open(strings.NewReader(string(content)), uint64(len(content)))
				require.NoError(t, err)
				_, err = in.ReadAt(make([]byte, 1), 0)
				require.ErrorIs(t, err, seal.ErrSealed)
				theirs, err := friend.ReplicaStore().ReadKey(ctx, sealed.ID)
				require.NoError(t, err)
				require.Equal(t, tk.ReadKey, theirs)
				next, err := victim.Rotate(ctx, sealed.ID)
				require.NoError(t, err)
				require.EqualValues(t, 2, next.Epoch)
				now, err := victim.ReplicaStore().ReadKey(ctx, sealed.ID)
				require.NoError(t, err)
				require.Equal(t, next, now)

				held, err := victim.ReplicaStore().Get(ctx, open.ID)
				require.NoError(t, err)
				require.False(t, held.Encrypted)
				p, err := victim.ReplicaStore().Plain(ctx, open.ID)
				require.NoError(t, err)
				n := 0
				for _, err := range p.Entries(ctx, replica.Query{Tombstones: true}) {
					require.NoError(t, err)
					n++
				}
				require.Equal(t, 1, n)
			})
		}
	}
}

// Whoever joins for the first time with a stranger's ticket or invite, to a replica that others
// hold, writes nothing that is sealed with the stranger's key, whatever the stranger shows of the
// statements; after a session with somebody who holds the replica, its own key is the one to use.
func TestANewJoinerDoesNotSealWithAPlantedKey(t *testing.T) {
	node.Bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := wholeNodes(t, 3)
		owner, joiner, evil := w.nodes[0], w.nodes[1], w.nodes[2]
		r, err := owner.ReplicaStore().CreateEncrypted(ctx, "r")
		require.NoError(t, err)
		author, err := joiner.ReplicaStore().DefaultAuthor(ctx)
		require.NoError(t, err)
		g, err := owner.Grant(ctx, r.ID, author, replica.Permission{})
		require.NoError(t, err)
		planted := replica.EpochKey{Epoch: 9, Key: seal.ReadKey{6}}
		evil.handle(inviteProtocol, func(s link.Stream) {
			_, _ = io.ReadFull(s, make([]byte, 130))
			x := invites.Given{
				Replica: r.ID, Name: "r", Capability: replica.Read, ReadKey: planted,
				Statements: [][]byte{g.Bytes()},
			}
			_, _ = s.Write(answerOf(x))
			_ = s.Close()
		})
		only := &wanted.Policy{Prefixes: [][]byte{[]byte("k/")}}
		joined, err := joiner.Invites.Join(
			ctx, &ticket.Invite{Secret: ticket.InviteSecret{1}, Addrs: evil.Addrs()}, "", only, nil,
		)
		require.ErrorIs(t, err, contacts.ErrNotShared)
		require.Equal(t, r.ID, joined.Replica.ID)
		require.NoError(t, joiner.ReplicaStore().MayWrite(ctx, r.ID, author, []byte("k")))
		p, err := joiner.ReplicaStore().Plain(ctx, r.ID)
		require.NoError(t, err)
		require.True(t, p.Encrypted(), "nothing is written in plain either")
		_, err = p.Sealing()
		require.ErrorIs(t, err, replica.ErrNoReadKey)
		_, err = joiner.Ticket(ctx, joined.Replica, replica.Read)
		require.ErrorIs(t, err, replica.ErrNoReadKey, "it is not passed on")

		require.NoError(t, joiner.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: owner.ID()}}))
		_, err = joiner.SyncNow(ctx, r.ID, owner.ID(), nil)
		require.NoError(t, err)
		entry, _ := sealValue(t, joiner.Node, r.ID, "k", "v")
		_, err = planted.Key.Names(planted.Epoch).Open(entry.Key)
		require.ErrorIs(t, err, seal.ErrSealed)
		p, err = joiner.ReplicaStore().Plain(ctx, r.ID)
		require.NoError(t, err)
		want, err := p.SealPrefix([]byte("k/"))
		require.NoError(t, err)
		require.Equal(t, want, joiner.Policy(r.ID).Sealed, "what is fetched goes by the right key, too")
	})
}

// An invite brings the signed epochs with the key, so that whoever takes it may write at once.
func TestAnInviteProvesItsReadKey(t *testing.T) {
	node.Bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := wholeNodes(t, 2)
		owner, joiner := w.nodes[0], w.nodes[1]
		r, err := owner.ReplicaStore().CreateEncrypted(ctx, "r")
		require.NoError(t, err)
		for range 3 {
			_, err = owner.Rotate(ctx, r.ID)
			require.NoError(t, err)
		}
		sealValue(t, owner.Node, r.ID, "theirs", "1")
		_, tk, err := owner.Invites.Make(ctx, r, invites.Invite{Mode: replica.Write, Uses: 1})
		require.NoError(t, err)
		owner.handle(session.Protocol, func(s link.Stream) { _ = s.Reset() })
		_, err = joiner.Invites.Join(
			ctx, &ticket.Invite{Secret: tk.Secret, Addrs: owner.Addrs()}, "", nil, nil,
		)
		require.Error(t, err, "no session")
		entry, _ := sealValue(t, joiner.Node, r.ID, "k", "v")
		n, err := seal.EpochOf(entry.Key)
		require.NoError(t, err)
		require.EqualValues(t, 4, n)
	})
}

// evilKeyring is that of a person who answers everybody, with a ticket to somebody else's replica.
type evilKeyring struct {
	vault.Keyring
	me     identity.ID
	ticket *ticket.Doc
}

func (k evilKeyring) Ask(ctx context.Context, app vault.App, a vault.Ask) (vault.Asked, error) {
	asked, err := k.Keyring.Ask(ctx, app, a)
	if err == nil {
		err = k.Approve(ctx, asked.Request, k.me, "p")
	}
	return asked, err
}

func (k evilKeyring) Access(context.Context, vault.App, string) (a vault.Access, err error) {
	a.Replica, a.ReadKey = k.ticket.Replica, k.ticket.ReadKey
	a.Ticket, err = k.ticket.Text()
	return a, err
}

func (evilKeyring) CatalogueKey(context.Context, vault.App, string) (vault.CatalogueKey, error) {
	return vault.CatalogueKey{6}, nil
}

// A keyring elsewhere that gives a replica of this node, or a vault that it has open, out as its
// own vault changes nothing of either.
func TestAHostileKeyringNamesWhatIsHeld(t *testing.T) {
	testkit.SeenElsewhere(t)
	node.Bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := wholeNodes(t, 3)
		victim, evil, friend := w.nodes[0], w.nodes[1], w.nodes[2]
		person := func(n *whole) (vault.Identity, vaults.Vault) {
			who, err := n.Vaults.Keyring().Add(ctx, vault.NewIdentity{Password: "p"})
			require.NoError(t, err)
			keys, err := n.Vaults.Keyring().Keys(ctx, who.ID, "p")
			require.NoError(t, err)
			v, err := n.Vaults.OpenOwn(ctx, who, keys, nil)
			require.NoError(t, err)
			return who, v
		}
		_, own := person(victim)
		_, theirs := person(friend)
		mallory, _ := person(evil)
		at := func(n *whole) *peer.AddrInfo { return &peer.AddrInfo{ID: n.ID()} }
		approve := func(asked vault.Asked) {
			require.NoError(t, friend.Vaults.Keyring().Approve(ctx, asked.Code, identity.ID{}, "p"))
		}
		_, err := victim.Vaults.Ask(
			ctx, vaults.Request{At: at(friend), Application: "example.org", Asked: approve},
		)
		require.NoError(t, err)
		diary, err := victim.ReplicaStore().CreateEncrypted(ctx, "diary")
		require.NoError(t, err)
		notes, err := victim.ReplicaStore().Create(ctx, "notes")
		require.NoError(t, err)
		open, err := victim.Vaults.All(ctx)
		require.NoError(t, err)
		require.Len(t, open, 2)

		for _, id := range []replica.ID{diary.ID, notes.ID, own.Replica.ID, theirs.Replica.ID} {
			before, err := victim.ReplicaStore().Get(ctx, id)
			require.NoError(t, err)
			k := evilKeyring{evil.Vaults.Keyring(), mallory.ID, &ticket.Doc{
				Capability: replica.Read, Replica: id,
				ReadKey: replica.EpochKey{Epoch: 99, Key: seal.ReadKey{6}}, Addrs: evil.Addrs(),
			}}
			evil.handle(keyringProtocol, func(s link.Stream) {
				var size [4]byte
				_, _ = io.ReadFull(s, size[:])
				msg := make([]byte, binary.BigEndian.Uint32(size[:]))
				_, _ = io.ReadFull(s, msg)
				reply := vault.ServeApp(ctx, k, vault.App{Peer: s.Remote().String()}, msg,
					func(err error) { t.Error(err) })
				_, _ = s.Write(binary.BigEndian.AppendUint32(nil, uint32(len(reply))))
				_, _ = s.Write(reply)
				_ = s.Close()
			})
			_, err = victim.Vaults.Ask(ctx, vaults.Request{At: at(evil), Application: "example.org"})
			require.ErrorIs(t, err, vault.ErrForeignAnswer)
			after, err := victim.ReplicaStore().Get(ctx, id)
			require.NoError(t, err)
			require.Equal(t, before, after)
			now, err := victim.Vaults.All(ctx)
			require.NoError(t, err)
			require.Equal(t, open, now, "no vault is another's, or opened with another key")
		}
		sealValue(t, victim.Node, diary.ID, "k", "v")
		time.Sleep(time.Hour) // the victim's vault lists what it holds
		c, err := victim.Vaults.Catalogue(ctx, &own)
		require.NoError(t, err)
		var listed []replica.ID
		for _, p := range c.Projects {
			listed = append(listed, p.Replica)
		}
		require.ElementsMatch(t, []replica.ID{diary.ID, notes.ID}, listed)
	})
}

// What an encrypted replica's device notes for the others in the vault has its key; what has none
// yet is noted when that has come.
func TestTheVaultListsNoReplicaWithoutItsKey(t *testing.T) {
	node.Bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := wholeNodes(t, 2)
		device, friend := w.nodes[0], w.nodes[1]
		who, err := device.Vaults.Keyring().Add(ctx, vault.NewIdentity{Password: "p"})
		require.NoError(t, err)
		keys, err := device.Vaults.Keyring().Keys(ctx, who.ID, "p")
		require.NoError(t, err)
		v, err := device.Vaults.OpenOwn(ctx, who, keys, nil)
		require.NoError(t, err)
		r, err := friend.ReplicaStore().CreateEncrypted(ctx, "r")
		require.NoError(t, err)
		tk, err := friend.Ticket(ctx, r, replica.Read)
		require.NoError(t, err)
		joined, err := device.ReplicaStore().Join(
			ctx, replica.Replica{ID: r.ID, Capability: replica.Read}, tk.ReadKey,
		)
		require.NoError(t, err)
		_, err = device.Vaults.Add(ctx, &v, joined, "")
		require.ErrorIs(t, err, replica.ErrNoReadKey)
		require.NoError(t, device.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: friend.ID()}}))
		_, err = device.SyncNow(ctx, r.ID, friend.ID(), nil)
		require.NoError(t, err)
		pr, err := device.Vaults.Add(ctx, &v, joined, "")
		require.NoError(t, err)
		require.Equal(t, r.ID, pr.Replica)
		c, err := device.Vaults.Catalogue(ctx, &v)
		require.NoError(t, err)
		require.Len(t, c.Projects, 1)
		require.Equal(t, tk.ReadKey, c.Projects[0].ReadKey)
	})
}
