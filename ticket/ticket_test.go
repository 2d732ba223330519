package ticket

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
)

const (
	peerID  = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
	relayed = "12D3KooWRBhwfeP2Y4TCx1SM6s9rUoHhR5STiGwxBhgFRcw3UERE"
)

func addrs(t testing.TB, texts ...string) (out []ma.Multiaddr) {
	for _, s := range texts {
		a, err := ma.NewMultiaddr(s)
		require.NoError(t, err)
		out = append(out, a)
	}
	return out
}

func examples(t testing.TB) map[string]Ticket {
	one := addrs(t, "/ip4/192.0.2.7/tcp/4001/p2p/"+peerID)
	rsa := "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
	three := addrs(t, "/ip4/192.0.2.7/tcp/4001/p2p/"+peerID, "/p2p/"+rsa,
		"/ip4/192.0.2.9/tcp/1/p2p/"+peerID+"/p2p-circuit/p2p/"+relayed)
	two := addrs(
		t, "/ip4/192.0.2.7/tcp/4001/p2p/"+peerID, "/ip6/2001:db8::1/udp/4001/quic-v1/p2p/"+peerID,
	)
	key := replica.SecretKeyFromSeed([32]byte{1})
	return map[string]Ticket{
		"blob":     &Blob{Hash: blobs.HashOf([]byte("hello")), Addrs: one},
		"sequence": &Blob{Hash: blobs.HashOf([]byte("hello")), Sequence: true, Addrs: two},
		"sync":     &Doc{Capability: replica.Sync, Replica: key.Replica(), Addrs: one},
		"read":     &Doc{Capability: replica.Read, Replica: key.Replica(), Addrs: two},
		"write":    &Doc{Capability: replica.Write, Replica: key.Replica(), Secret: key, Addrs: one},
		"read key": &Doc{
			Capability: replica.Read, Replica: key.Replica(),
			ReadKey: replica.EpochKey{Epoch: 3, Key: seal.ReadKey{4, 5}}, Addrs: one,
		},
		"full": &Doc{
			Capability: replica.Write, Replica: key.Replica(), Secret: key,
			ReadKey: replica.EpochKey{Epoch: 1, Key: seal.ReadKey{6}}, Addrs: one,
		},
		"sealed": &Doc{
			Capability: replica.Sync, Replica: key.Replica(),
			Least: replica.EpochID{Number: 3, Commitment: [32]byte{7}}, Addrs: one,
		},
		"three peers": &Blob{Hash: blobs.HashOf([]byte("hello")), Addrs: three},
		"invite":      &Invite{Secret: InviteSecret{2}, Addrs: one},
	}
}

// Golden: tickets that people have written down stay valid.
func TestGolden(t *testing.T) {
	raw, err := os.ReadFile("testdata/tickets.json")
	require.NoError(t, err)
	var golden map[string]string
	require.NoError(t, json.Unmarshal(raw, &golden))
	all := examples(t)
	require.Len(t, golden, len(all))
	for name, tk := range all {
		text, err := tk.Text()
		require.NoError(t, err)
		require.Equal(t, golden[name], text, name)
		for _, form := range []string{
			text, strings.ToUpper(text), " " + text[:20] + "\n  " + text[20:] + "\r\n",
		} {
			back, err := Parse(form)
			require.NoError(t, err)
			require.Equal(t, tk, back)
			require.True(t, Looks(form))
		}
	}
}

// Every way to be wrong has its own error.
func TestErrors(t *testing.T) {
	for name, tk := range examples(t) {
		good, err := tk.Text()
		require.NoError(t, err)
		for i := range len(good) {
			_, err := Parse(good[:i])
			if i < 4 && !strings.HasPrefix(good[:i], "doc") {
				require.ErrorIs(t, err, ErrNotTicket)
			} else {
				require.ErrorIs(t, err, ErrCutShort, "%s cut to %d", name, i)
			}
		}
		prefix := len("blob")
		if strings.HasPrefix(good, "doc") {
			prefix = len("doc")
		}
		for i := prefix; i < len(good); i++ { // every single wrong character is noticed
			for _, c := range "a7b" {
				if rune(good[i]) == c {
					continue
				}
				_, err := Parse(good[:i] + string(c) + good[i+1:])
				require.Error(t, err, "%s with %q at %d", name, c, i)
			}
			_, err := Parse(good[:i] + "1" + good[i+1:])
			require.ErrorIs(t, err, ErrMistyped)
			require.ErrorContains(t, err, fmt.Sprintf("character %d", i+1))
		}
		_, err = Parse(good + "aaaaaaaa")
		require.ErrorIs(t, err, ErrTooLong)
	}
	for _, s := range []string{
		"", "hello", "blo", "https://example.org", strings.Repeat("x", MaxText+1),
	} {
		_, err := Parse(s)
		require.ErrorIs(t, err, ErrNotTicket)
	}
	_, err := Parse(sealed(prefixBlob, 3, 1, 2, 3))
	require.ErrorIs(t, err, ErrNewer)
	none := append([]byte{1, 0}, make([]byte, 33)...)
	_, err = Parse(sealed(prefixBlob, none...))
	require.ErrorIs(t, err, ErrNoAddresses)
	_, err = (&Blob{}).Text()
	require.ErrorIs(t, err, ErrNoAddresses)
	full, err := examples(t)["read key"].Text()
	require.NoError(t, err)
	raw, err := encoding.DecodeString(strings.TrimPrefix(full, prefixDoc))
	require.NoError(t, err)
	raw = raw[:len(raw)-checksumSize]
	raw[1] = byte(replica.Sync) | kindEpoch
	got, err := Parse(sealed(prefixDoc, raw...))
	require.NoError(t, err)
	require.Zero(t, got.(*Doc).ReadKey, "whoever may only sync is not given one")
	for kind := range byte(8) {
		none := append(
			append([]byte{version, kind | kindEpoch}, make([]byte, 32+epochSize)...),
			raw[headSize+epochSize:]...)
		_, err = Parse(sealed(prefixDoc, none...))
		require.ErrorContains(t, err, "epoch 0", "kind %d", kind)
		_, err = Parse(sealed(prefixBlob, none...))
		require.ErrorContains(t, err, "newer skerry", "content has no epoch")
	}
	raw[1] = kindInvite | kindEpoch
	_, err = Parse(sealed(prefixDoc, raw...))
	require.ErrorContains(t, err, "newer skerry", "an invite has no epoch")
	least := replica.EpochID{Number: 1}
	_, err = (&Doc{Capability: replica.Read, Least: least}).Text()
	require.ErrorContains(t, err, "read key")
	_, err = (&Doc{Capability: replica.Sync, ReadKey: replica.EpochKey{Epoch: 1}}).Text()
	require.Error(t, err)
	anonymous := addrs(t, "/ip4/192.0.2.7/tcp/4001")
	_, err = (&Blob{Addrs: anonymous}).Text()
	require.Error(t, err)

	// Whatever is no form of peers is a mistake, also with a right checksum.
	content := append([]byte{version, 0}, make([]byte, 32)...)
	key := strings.Repeat("k", keySize)
	at := string(anonymous[0].Bytes())
	peers := func(all ...string) string { return string(rune(len(all))) + strings.Join(all, "") }
	of := func(id string, all ...string) string {
		out := string(rune(len(id))) + id + string(rune(len(all)))
		for _, a := range all {
			out += string(rune(len(a))) + a
		}
		return out
	}
	for what, text := range map[string]string{
		"a peer twice":            peers(of(key, at), of(key, at)),
		"a longer form of an id":  peers(of(keyID+key, at)),
		"no id":                   peers(of("", at)),
		"an id that is none":      peers(of("nothing", at)),
		"an empty address":        peers(of(key, at, "")),
		"an address that is none": peers(of(key, "nothing")),
		"too many peers":          peers(slices.Repeat([]string{of(key)}, MaxAddrs+1)...),
		"too many addresses":      peers(of(key, slices.Repeat([]string{at}, MaxAddrs+1)...)),
		"too many of both": peers(
			of(key, slices.Repeat([]string{at}, MaxAddrs)...), of("l"+key[1:]),
		),
		"a number without an end": strings.Repeat("\xff", 10),
	} {
		_, err = Parse(sealed(prefixBlob, append(slices.Clone(content), text...)...))
		require.ErrorIs(t, err, ErrMistyped, what)
	}
	both := peers(of(key, slices.Repeat([]string{at}, MaxAddrs-1)...), of("l"+key[1:]))
	got, err = Parse(sealed(prefixBlob, append(slices.Clone(content), both...)...))
	require.NoError(t, err)
	require.Len(t, got.(*Blob).Addrs, MaxAddrs)
	require.Empty(t, got.Peers()[1].Addrs)

	// A blob's ticket under the other prefix does not pass.
	text, err := examples(t)["blob"].Text()
	require.NoError(t, err)
	_, err = Parse("doc" + strings.TrimPrefix(text, "blob"))
	require.ErrorIs(t, err, ErrMistyped)
	_, err = ParseDoc(text)
	require.ErrorIs(t, err, ErrWrongKind)
	text, err = examples(t)["read"].Text()
	require.NoError(t, err)
	_, err = ParseBlob(text)
	require.ErrorIs(t, err, ErrWrongKind)
}

// A write ticket is a secret and does not show it unasked.
func TestSecretIsHidden(t *testing.T) {
	tk := examples(t)["write"]
	seed := tk.(*Doc).Secret.Seed()
	for _, s := range []string{
		tk.String(), fmt.Sprintf("%v %+v", tk, tk), fmt.Sprintf("%v", *tk.(*Doc)),
	} {
		require.NotContains(t, s, hex.EncodeToString(seed[:4]))
		require.NotContains(t, s, encoding.EncodeToString(seed[:])[:8])
	}
}

func TestPeersAreGrouped(t *testing.T) {
	peers := examples(t)["read"].Peers()
	require.Len(t, peers, 1)
	require.Len(t, peers[0].Addrs, 2)
	require.Equal(t, peerID, peers[0].ID.String())
}

func TestLooks(t *testing.T) {
	require.False(t, Looks(strings.Repeat("b10b", 16)), "a hash")
	require.False(t, Looks("documents"), "a name")
	require.False(t, Looks("blobfish"))
}

func FuzzParse(f *testing.F) {
	for _, tk := range examples(f) {
		s, err := tk.Text()
		require.NoError(f, err)
		f.Add(s)
	}
	f.Add("blob")
	f.Add("docaeaq")
	for _, s := range longer(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tk, err := Parse(s)
		if err != nil {
			return
		}
		text, err := tk.Text()
		require.NoError(t, err)
		require.Equal(t, strings.ToLower(strings.Join(strings.Fields(s), "")), text, "two texts")
		back, err := Parse(text)
		require.NoError(t, err)
		require.Equal(t, tk, back)
	})
}

// So is a read key.
func TestReadKeyIsHidden(t *testing.T) {
	tk := examples(t)["read key"].(*Doc)
	tk.ReadKey.Key = seal.ReadKey{0xab, 0xcd, 0xef}
	for _, s := range []string{tk.String(), fmt.Sprintf("%v %+v %#v %x", tk, *tk, *tk, *tk)} {
		require.NotContains(t, strings.ToLower(s), "cdef")
		require.NotContains(t, s, "171 205 239")
	}
}

// An invite is a secret, too.
func TestInviteHidesItsSecret(t *testing.T) {
	tk := examples(t)["invite"].(*Invite)
	tk.Secret = InviteSecret{0xab, 0xcd, 0xef}
	for _, s := range []string{tk.String(), fmt.Sprintf("%v %+v %#v %x", tk, *tk, *tk, *tk)} {
		require.NotContains(t, strings.ToLower(s), "cdef")
		require.NotContains(t, s, "171 205 239")
	}
}

// A ticket on which letters follow is told from one whose end is missing.
func TestTicketWithLettersTooMany(t *testing.T) {
	for name, tk := range examples(t) {
		text, err := tk.Text()
		require.NoError(t, err)
		for _, more := range []string{
			"a", "m", "ab", "abc", "abcd", "abcde", "abcdefgh", "abcdefghijklmnop",
		} {
			_, err := Parse(text + more)
			require.ErrorIs(t, err, ErrTooLong, "%s with %s", name, more)
		}
		_, err = Parse(text[:len(text)-1])
		require.ErrorIs(t, err, ErrCutShort, name)
	}
}

// A ticket for a replica that anybody could sign for is refused.
func TestTicketForAWeakReplica(t *testing.T) {
	text, err := (&Doc{
		Capability: replica.Read, Addrs: addrs(t, "/ip4/192.0.2.7/tcp/4001/p2p/"+peerID),
	}).Text()
	require.NoError(t, err)
	_, err = Parse(text)
	require.ErrorIs(t, err, replica.ErrWeakKey)
}
