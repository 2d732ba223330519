package libp2pnet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	mh "github.com/multiformats/go-multihash"

	"github.com/skerry-sync/skerry/node/link"
)

// The distributed hash table is Kademlia as libp2p has it, under a prefix of its own, with provider
// records and nothing else. Nodes that others can reach keep the table; all others ask them.

// kadPrefix makes the protocol /skerry/kad/1.0.0.
const kadPrefix protocol.ID = "/skerry"

// Mode is the part that a node takes in the table.
type Mode string

// Auto serves if others can reach this node.
const (
	Off    Mode = "off"
	Auto   Mode = "auto"
	Server Mode = "server"
	Client Mode = "client"
)

// ParseMode reads a mode.
func ParseMode(text string) (Mode, error) {
	m := Mode(text)
	if !slices.Contains([]Mode{Off, Auto, Server, Client}, m) {
		return m, fmt.Errorf("must be off, auto, server or client, not %q", text)
	}
	return m, nil
}

const (
	// tableWait bounds one announcement, lookup or search.
	tableWait = 30 * time.Second
	// locateWait bounds the search for a peer that is not where it was.
	locateWait = 5 * time.Second
	// Nodes to begin with that are all gone are tried again ever later; as long as some are there, the
	// others now and then.
	firstMeet = time.Second
	lastMeet  = time.Minute
	meetAgain = 15 * time.Second
	// meetWait is how long a node that has just started waits for the first of those that it is to
	// know from the start.
	meetWait = 5 * time.Second
	// maxFound is how many that claim to hold something a lookup returns.
	maxFound = 64
)

func (n *Network) startTable() error {
	if n.cfg.DHT == "" || n.cfg.DHT == Off {
		return nil
	}
	mode := map[Mode]dht.ModeOpt{
		Auto: dht.ModeAuto, Server: dht.ModeServer, Client: dht.ModeClient,
	}[n.cfg.DHT]
	if n.cfg.Relay && n.cfg.DHT == Auto {
		mode = dht.ModeServer
	}
	n.claims = newClaims(n.host, time.Now)
	table, err := dht.New(
		n.ctx, kadHost{n.host, n}, dht.ProtocolPrefix(kadPrefix), dht.Mode(mode), dht.DisableValues(),
		dht.ProviderStore(n.claims), dht.BootstrapPeers(n.cfg.Bootstrap...),
		dht.AddressFilter(func(all []ma.Multiaddr) []ma.Multiaddr {
			return fewShort(worthTelling(n.host, all))
		}),
	)
	if err != nil {
		return fmt.Errorf("distributed hash table: %w", err)
	}
	n.table = table
	return nil
}

// worthTelling leaves out addresses that mean nothing elsewhere, unless this node has no others
// itself, as in a network of its own.
func worthTelling(h host.Host, all []ma.Multiaddr) []ma.Multiaddr {
	if !slices.ContainsFunc(h.Addrs(), isPublic) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(m ma.Multiaddr) bool { return !isPublic(m) })
}

// fewShort returns as many addresses as are told of a peer, so that an answer stays as long as
// whoever asks takes it, whatever addresses peers say that they have.
func fewShort(all []ma.Multiaddr) []ma.Multiaddr {
	all = slices.DeleteFunc(slices.Clone(all), func(m ma.Multiaddr) bool {
		return len(m.Bytes()) > maxClaimAddr
	})
	return all[:min(len(all), maxToldAddrs)]
}

// bootstrap meets those that are to be known from the start. That none of them can be reached is
// told, and they are tried again.
func (n *Network) bootstrap() {
	if len(n.cfg.Bootstrap) == 0 {
		return
	}
	n.do(func() {
		wait := firstMeet
		for {
			var failed []string
			for _, p := range n.cfg.Bootstrap {
				if err := n.Connect(n.ctx, p); err != nil && n.ctx.Err() == nil {
					failed = append(failed, err.Error())
				}
			}
			if len(failed) < len(n.cfg.Bootstrap) {
				wait = meetAgain
			} else if wait = min(max(2*wait, firstMeet), lastMeet); n.ctx.Err() == nil {
				n.cfg.Log.Warn(
					"none of the nodes to begin with can be reached; trying again", "in", wait, "errors",
					strings.Join(failed, "; "),
				)
			}
			select {
			case <-n.ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	})
}

func keyOf(key [32]byte) (cid.Cid, error) {
	h, err := mh.Encode(key[:], mh.BLAKE3)
	if err != nil {
		return cid.Undef, err
	}
	return cid.NewCidV1(cid.Raw, h), nil
}

// ready reports whether anybody can be asked.
func (n *Network) ready(ctx context.Context) error {
	if n.table == nil {
		return link.ErrNoTable
	}
	for len(n.cfg.Bootstrap) > 0 && n.table.RoutingTable().Size() == 0 &&
		time.Since(n.started) < meetWait {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	if n.table.RoutingTable().Size() == 0 {
		return fmt.Errorf("%w: no node of it is known yet", link.ErrNoTable)
	}
	return nil
}

// Announce implements link.Network.
func (n *Network) Announce(ctx context.Context, key [32]byte) error {
	if err := n.ready(ctx); err != nil {
		return err
	}
	c, err := keyOf(key)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, tableWait)
	defer cancel()
	return n.table.Provide(ctx, c, true)
}

// Find implements link.Network.
func (n *Network) Find(ctx context.Context, key [32]byte) (found []peer.AddrInfo, err error) {
	if err := n.ready(ctx); err != nil {
		return nil, err
	}
	c, err := keyOf(key)
	if err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, tableWait)
	defer cancel()
	at := map[peer.ID]int{}
	for p := range n.table.FindProvidersAsync(asking, c, maxFound) {
		if p.ID == n.ID() {
			n.LookForTwin(p.Addrs)
			continue
		}
		i, again := at[p.ID] // with addresses, after it came without
		if !again {
			i = len(found)
			at[p.ID], found = i, append(found, peer.AddrInfo{ID: p.ID})
		}
		addrs := worthTelling(n.host, p.Addrs)
		found[i].Addrs = addrs[:min(len(addrs), maxClaimAddrs)]
	}
	return found, ctx.Err()
}

// locate asks where a peer is now, and returns addresses that are new.
func (n *Network) locate(ctx context.Context, p peer.AddrInfo) []ma.Multiaddr {
	if n.table == nil || n.table.RoutingTable().Size() == 0 {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, locateWait)
	defer cancel()
	info, err := n.table.FindPeer(asking, p.ID)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(worthTelling(n.host, info.Addrs), func(m ma.Multiaddr) bool {
		return slices.ContainsFunc(p.Addrs, m.Equal)
	})
}

// TableSize returns how many nodes of the hash table are known, and whether this one serves in it.
func (n *Network) TableSize() (known int, serves bool) {
	if n.table == nil {
		return 0, false
	}
	// Mode says only what was asked for.
	serves = slices.Contains(n.host.Mux().Protocols(), kadPrefix+"/kad/1.0.0")
	return n.table.RoutingTable().Size(), serves
}
