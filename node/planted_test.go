package node

import (
	"context"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
	"github.com/skerry-sync/skerry/ticket"
	"github.com/skerry-sync/skerry/vault"
)

// simNodes returns a world of nodes that trust their clocks, and nothing else.
func simNodes(t *testing.T, count int) *simWorld {
	w := &simWorld{simNet: newSimNet(1), t: t}
	for range count {
		n := &simNode{dir: t.TempDir(), disk: vfs.NewCrashableMem()}
		w.open(n)
		w.nodes = append(w.nodes, n)
	}
	t.Cleanup(func() {
		for _, n := range w.nodes {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return w
}

// sealValue sets a key of an encrypted replica, and returns the entry and its sealed content.
func sealValue(t *testing.T, n *Node, id replica.ID, key, value string) (replica.Entry, []byte) {
	t.Helper()
	ctx := t.Context()
	p, err := n.Replicas.Plain(ctx, id)
	require.NoError(t, err)
	require.True(t, p.Encrypted())
	it, err := n.ReplicaOf(id).Set(ctx, []byte(key), []byte(value))
	require.NoError(t, err)
	content, err := n.Blobs.ReadAll(ctx, it.Entry.Hash, 1<<20)
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
			bubble(t, func(t *testing.T) {
				ctx := t.Context()
				w := simNodes(t, 3)
				victim, friend, evil := w.nodes[0], w.nodes[1], w.nodes[2]
				sealed, err := victim.Replicas.CreateEncrypted(ctx, "diary")
				require.NoError(t, err)
				open, err := victim.Replicas.Create(ctx, "notes")
				require.NoError(t, err)
				author, err := victim.Replicas.DefaultAuthor(ctx)
				require.NoError(t, err)
				secret, err := victim.Replicas.AuthorKey(ctx, author)
				require.NoError(t, err)
				_, err = victim.Replicas.Write(ctx, open.ID, secret, []replica.Change{{Key: []byte("k")}})
				require.NoError(t, err)
				sealValue(t, victim.Node, sealed.ID, "before", "1")
				tk, err := victim.Ticket(ctx, sealed, replica.Read)
				require.NoError(t, err)
				_, err = friend.Join(ctx, tk, "diary")
				require.NoError(t, err)

				planted := replica.EpochKey{Epoch: epoch, Key: seal.ReadKey{6, 6, 6}}
				for _, id := range []replica.ID{sealed.ID, open.ID} {
					evil.end.Handle(inviteProtocol, func(s link.Stream) {
						_, _ = io.ReadFull(s, make([]byte, 130))
						g := Given{Replica: id, Name: "holiday-photos", Capability: replica.Read, ReadKey: planted}
						_, _ = s.Write(append([]byte{byte(InviteTaken)}, g.marshal()...))
						_ = s.Close()
					})
					for _, n := range []*simNode{victim, friend} {
						if _, err := n.Replicas.Get(ctx, id); err != nil {
							continue // a new replica is as much as its ticket says
						}
						var got JoinResult
						if way == "invite" {
							tk := &ticket.Invite{Secret: ticket.InviteSecret{1}, Addrs: evil.Addrs()}
							got, err = n.JoinInvite(ctx, tk, "", nil, nil)
						} else {
							tk := &ticket.Doc{Capability: replica.Read, Replica: id, ReadKey: planted, Addrs: evil.Addrs()}
							got, err = n.JoinWith(ctx, tk, "", nil)
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
				theirs, err := friend.Replicas.ReadKey(ctx, sealed.ID)
				require.NoError(t, err)
				require.Equal(t, tk.ReadKey, theirs)
				next, err := victim.Rotate(ctx, sealed.ID)
				require.NoError(t, err)
				require.EqualValues(t, 2, next.Epoch)
				now, err := victim.Replicas.ReadKey(ctx, sealed.ID)
				require.NoError(t, err)
				require.Equal(t, next, now)

				held, err := victim.Replicas.Get(ctx, open.ID)
				require.NoError(t, err)
				require.False(t, held.Encrypted)
				p, err := victim.Replicas.Plain(ctx, open.ID)
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
	bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := simNodes(t, 3)
		owner, joiner, evil := w.nodes[0], w.nodes[1], w.nodes[2]
		r, err := owner.Replicas.CreateEncrypted(ctx, "r")
		require.NoError(t, err)
		author, err := joiner.Replicas.DefaultAuthor(ctx)
		require.NoError(t, err)
		g, err := owner.Grant(ctx, r.ID, author, replica.Permission{})
		require.NoError(t, err)
		planted := replica.EpochKey{Epoch: 9, Key: seal.ReadKey{6}}
		evil.end.Handle(inviteProtocol, func(s link.Stream) {
			_, _ = io.ReadFull(s, make([]byte, 130))
			x := Given{Replica: r.ID, Name: "r", Capability: replica.Read, ReadKey: planted, Statements: [][]byte{g.Bytes()}}
			_, _ = s.Write(append([]byte{byte(InviteTaken)}, x.marshal()...))
			_ = s.Close()
		})
		only := &Policy{Prefixes: [][]byte{[]byte("k/")}}
		joined, err := joiner.JoinInvite(ctx, &ticket.Invite{Secret: ticket.InviteSecret{1}, Addrs: evil.Addrs()}, "", only, nil)
		require.ErrorIs(t, err, contacts.ErrNotShared)
		require.Equal(t, r.ID, joined.Replica.ID)
		require.NoError(t, joiner.Replicas.MayWrite(ctx, r.ID, author, []byte("k")))
		p, err := joiner.Replicas.Plain(ctx, r.ID)
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
		p, err = joiner.Replicas.Plain(ctx, r.ID)
		require.NoError(t, err)
		want, err := p.SealPrefix([]byte("k/"))
		require.NoError(t, err)
		require.Equal(t, want, joiner.Policy(r.ID).Sealed, "what is fetched goes by the right key, too")
	})
}

// An invite brings the signed epochs with the key, so that whoever takes it may write at once.
func TestAnInviteProvesItsReadKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := simNodes(t, 2)
		owner, joiner := w.nodes[0], w.nodes[1]
		r, err := owner.Replicas.CreateEncrypted(ctx, "r")
		require.NoError(t, err)
		for range 3 {
			_, err = owner.Rotate(ctx, r.ID)
			require.NoError(t, err)
		}
		sealValue(t, owner.Node, r.ID, "theirs", "1")
		_, tk, err := owner.Invite(ctx, r, Invite{Mode: replica.Write, Uses: 1})
		require.NoError(t, err)
		owner.end.Handle(syncProtocol, func(s link.Stream) { _ = s.Reset() })
		_, err = joiner.JoinInvite(ctx, &ticket.Invite{Secret: tk.Secret, Addrs: owner.Addrs()}, "", nil, nil)
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
	bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := simNodes(t, 3)
		victim, evil, friend := w.nodes[0], w.nodes[1], w.nodes[2]
		person := func(n *simNode) (vault.Identity, Vault) {
			who, err := n.Keyring().Add(ctx, vault.NewIdentity{Password: "p"})
			require.NoError(t, err)
			keys, err := n.Keyring().Keys(ctx, who.ID, "p")
			require.NoError(t, err)
			v, err := n.OpenOwnVault(ctx, who, keys, nil)
			require.NoError(t, err)
			return who, v
		}
		_, own := person(victim)
		_, theirs := person(friend)
		mallory, _ := person(evil)
		at := func(n *simNode) *peer.AddrInfo { return &peer.AddrInfo{ID: n.ID()} }
		approve := func(asked vault.Asked) {
			require.NoError(t, friend.Keyring().Approve(ctx, asked.Code, identity.ID{}, "p"))
		}
		_, err := victim.AskForVault(ctx, VaultAsked{At: at(friend), Application: "example.org", Asked: approve})
		require.NoError(t, err)
		diary, err := victim.Replicas.CreateEncrypted(ctx, "diary")
		require.NoError(t, err)
		notes, err := victim.Replicas.Create(ctx, "notes")
		require.NoError(t, err)
		vaults, err := victim.Vaults(ctx)
		require.NoError(t, err)
		require.Len(t, vaults, 2)

		for _, id := range []replica.ID{diary.ID, notes.ID, own.Replica.ID, theirs.Replica.ID} {
			before, err := victim.Replicas.Get(ctx, id)
			require.NoError(t, err)
			k := evilKeyring{evil.Keyring(), mallory.ID, &ticket.Doc{
				Capability: replica.Read, Replica: id, ReadKey: replica.EpochKey{Epoch: 99, Key: seal.ReadKey{6}}, Addrs: evil.Addrs(),
			}}
			evil.end.Handle(keyringProtocol, func(s link.Stream) {
				if msg, err := readMessage(s, maxKeyringCall, nil); err == nil {
					_ = writeMessage(s, vault.ServeApp(ctx, k, vault.App{Peer: s.Remote().String()}, msg))
				}
				_ = s.Close()
			})
			_, err = victim.AskForVault(ctx, VaultAsked{At: at(evil), Application: "example.org"})
			require.ErrorIs(t, err, vault.ErrForeignAnswer)
			after, err := victim.Replicas.Get(ctx, id)
			require.NoError(t, err)
			require.Equal(t, before, after)
			now, err := victim.Vaults(ctx)
			require.NoError(t, err)
			require.Equal(t, vaults, now, "no vault is another's, or opened with another key")
		}
		sealValue(t, victim.Node, diary.ID, "k", "v")
		time.Sleep(time.Hour) // the victim's vault lists what it holds
		for _, r := range []replica.Replica{diary, notes} {
			listed, err := victim.inVault(ctx, &own, r.ID)
			require.NoError(t, err)
			require.True(t, listed)
		}
	})
}

// What an encrypted replica's device notes for the others in the vault has its key; what has none
// yet is noted when that has come.
func TestTheVaultListsNoReplicaWithoutItsKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := t.Context()
		w := simNodes(t, 2)
		device, friend := w.nodes[0], w.nodes[1]
		who, err := device.Keyring().Add(ctx, vault.NewIdentity{Password: "p"})
		require.NoError(t, err)
		keys, err := device.Keyring().Keys(ctx, who.ID, "p")
		require.NoError(t, err)
		v, err := device.OpenOwnVault(ctx, who, keys, nil)
		require.NoError(t, err)
		r, err := friend.Replicas.CreateEncrypted(ctx, "r")
		require.NoError(t, err)
		tk, err := friend.Ticket(ctx, r, replica.Read)
		require.NoError(t, err)
		joined, err := device.Replicas.Join(ctx, replica.Replica{ID: r.ID, Capability: replica.Read}, tk.ReadKey)
		require.NoError(t, err)
		_, err = device.AddToVault(ctx, &v, joined, "")
		require.ErrorIs(t, err, replica.ErrNoReadKey)
		require.NoError(t, device.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: friend.ID()}}))
		_, err = device.SyncNow(ctx, r.ID, friend.ID(), nil)
		require.NoError(t, err)
		pr, err := device.AddToVault(ctx, &v, joined, "")
		require.NoError(t, err)
		require.Equal(t, r.ID, pr.Replica)
		c, err := device.Catalogue(ctx, &v)
		require.NoError(t, err)
		require.Len(t, c.Projects, 1)
		require.Equal(t, tk.ReadKey, c.Projects[0].ReadKey)
	})
}
