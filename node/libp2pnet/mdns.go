package libp2pnet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/zeroconf/v2"
	ma "github.com/multiformats/go-multiaddr"
)

// On the local network, nodes find each other by mDNS, in the form of libp2p: each announces a
// service of the type mdnsName under a random name, whose texts are "dnsaddr=" and an address that
// ends in /p2p/ID.
//
// Anybody on the local network can announce any number of services, as large as a packet, to last
// for 136 years. A zeroconf client keeps all that it has seen for as long as they say, and does
// not look at a name again meanwhile. So this node uses one client only until it has seen
// browseBytes, or for browseTime, and then begins anew. What is announced still is found again.

const (
	mdnsName    = "_skerry._udp"
	mdnsDomain  = "local"
	mdnsAddress = "dnsaddr="
	// mdnsPort stands in the announcements, which must name one. Nobody uses it: the texts have the
	// addresses.
	mdnsPort = 4001

	// browseBytes is about how much one client may keep of what it has seen.
	browseBytes = 2 << 20
	// browseTime is how long one client is used.
	browseTime = 10 * time.Minute
	// browsePause is the least time between the starts of two clients: each asks the network.
	browsePause = time.Second
	// seenBytes is about what a client keeps of a service besides the texts.
	seenBytes = 1 << 10

	// maxFinds is how many peers that mDNS has found are dialled at a time, and as many more that
	// somebody has named; maxFoundAddrs is how many addresses of each are read, and maxFoundDials at
	// how many it is dialled. What is left out is found again.
	maxFinds      = 16
	maxFoundAddrs = 16
	maxFoundDials = 6
	// foundTime bounds one attempt: who is near answers soon.
	foundTime = 3 * time.Second
)

// browse looks for services until ctx ends, as zeroconf.Browse does.
type browse func(ctx context.Context, seen chan<- *zeroconf.ServiceEntry) error

func browseLocal(ctx context.Context, seen chan<- *zeroconf.ServiceEntry) error {
	return zeroconf.Browse(ctx, mdnsName, mdnsDomain, seen)
}

// register announces on the local network where this node is now, until end is called.
func (n *Network) register() (end func(), err error) {
	addrs, err := n.host.Network().InterfaceListenAddresses()
	if err != nil {
		return nil, err
	}
	full, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: n.ID(), Addrs: addrs})
	if err != nil {
		return nil, err
	}
	texts, ips := announcement(full)
	if len(ips) == 0 {
		return nil, errors.New("this node listens at no IP address")
	}
	name := strings.ToLower(rand.Text() + rand.Text())
	server, err := zeroconf.RegisterProxy(
		name, mdnsName, mdnsDomain, mdnsPort, name, ips, texts, nil)
	if err != nil {
		return nil, err
	}
	return server.Shutdown, nil
}

// announce has register announce a node until ctx ends. What keeps that from beginning may be over
// soon, such as that no network is up: it tries again after mdnsAgain, and says so the first time.
func announce(ctx context.Context, register func() (end func(), err error), log *slog.Logger) {
	for failed := false; ctx.Err() == nil; failed = true {
		end, err := register()
		if err == nil {
			<-ctx.Done()
			end()
			return
		}
		if !failed {
			log.Warn("this node is not announced on the local network", "error", err)
		}
		select {
		case <-time.After(mdnsAgain):
		case <-ctx.Done():
		}
	}
}

// mdnsAgain is after what time what could not be begun on the local network is tried again.
const mdnsAgain = time.Minute

// announcement returns the texts that announce addresses, and one IP address of each version.
func announcement(addrs []ma.Multiaddr) (texts, ips []string) {
	versions := map[bool]bool{}
	for _, m := range addrs {
		a, ok := addrOf(m)
		if !ok || isRelayed(m) {
			continue
		}
		texts = append(texts, mdnsAddress+m.String())
		if !versions[a.Is4()] {
			versions[a.Is4()] = true
			ips = append(ips, a.String())
		}
	}
	return texts, ips
}

// lookAround tells found about each peer that look sees, until ctx ends, and goes on when look
// ends. If look cannot begin, it tries again after mdnsAgain, and says so the first time.
func lookAround(
	ctx context.Context, look browse, pause time.Duration, found func(peer.AddrInfo),
	log *slog.Logger,
) {
	for failed := false; ; {
		wait := time.NewTimer(pause)
		err := lookOnce(ctx, look, found)
		if ctx.Err() != nil {
			wait.Stop()
			return
		}
		if err != nil {
			if !failed {
				log.Warn("no discovery on the local network", "error", err)
			}
			wait.Reset(mdnsAgain)
		}
		failed = err != nil
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
	}
}

// lookOnce uses one client until it has seen enough.
func lookOnce(ctx context.Context, look browse, found func(peer.AddrInfo)) error {
	ctx, cancel := context.WithTimeout(ctx, browseTime)
	defer cancel()
	seen, ended := make(chan *zeroconf.ServiceEntry), make(chan error, 1)
	go func() { ended <- look(ctx, seen) }()
	for left := browseBytes; ; {
		select {
		case e, ok := <-seen:
			if !ok {
				return <-ended
			}
			if left <= 0 {
				continue // it ends when it has handed over what it was about to
			}
			if p, err := announcedPeer(e); err == nil {
				found(p)
			}
			if left -= keptBytes(e); left <= 0 {
				cancel()
			}
		case err := <-ended: // before it has begun, it does not close the channel
			return err
		}
	}
}

// keptBytes is about how much a client keeps of a service that it has seen.
func keptBytes(e *zeroconf.ServiceEntry) int {
	n := seenBytes + 3*len(e.Instance) + len(e.HostName) + 64*(len(e.AddrIPv4)+len(e.AddrIPv6))
	for _, t := range e.Text {
		n += 16 + len(t)
	}
	return n
}

// announcedPeer returns the peer that a service announces. Each announces one.
func announcedPeer(e *zeroconf.ServiceEntry) (p peer.AddrInfo, err error) {
	var addrs []ma.Multiaddr
	for _, t := range e.Text {
		text, ok := strings.CutPrefix(t, mdnsAddress)
		if !ok || len(addrs) == maxFoundAddrs {
			continue
		}
		m, err := ma.NewMultiaddr(text)
		if err != nil {
			return p, fmt.Errorf("service %q on the local network: %w", e.Instance, err)
		}
		addrs = append(addrs, m)
	}
	infos, err := peer.AddrInfosFromP2pAddrs(addrs...)
	if err == nil && len(infos) != 1 {
		err = fmt.Errorf("it names %d peers, expected one", len(infos))
	}
	if err != nil {
		return p, fmt.Errorf("service %q on the local network: %w", e.Instance, err)
	}
	return infos[0], nil
}
