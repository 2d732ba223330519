// Package doctor tells a person how a node is, in words, and what can be done about what is not
// well.
//
// What belongs here: what is looked at and how it is told. What never belongs here: what a node
// counts (node.Stats), mending (package repair, and verification of a replica), and anything that
// changes a node.
package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/doctor/report"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// clockOff is by how much a clock may be off without a word. Beyond replica.MaxAhead, others refuse
// what this node writes, or it what they write.
const clockOff = 30 * time.Second

// Network tells how a node is on the network: where it listens, whether others reach it and by what
// way, and whether its clock is right.
func Network(ctx context.Context, n *node.Node) ([]report.Finding, error) {
	if n == nil || !n.Online() {
		return nil, link.ErrOffline
	}
	s, peers := n.Situation(), n.Peers()
	out := []report.Finding{
		diagnoseAddresses(n.AllAddrs()), diagnosePeers(peers), diagnoseReach(&s), diagnoseNAT(&s),
		diagnoseRelay(&s), diagnoseTable(&s, peers),
	}
	ahead, answered := n.ClockOffset(ctx)
	clock := diagnoseClock(ahead, answered)
	if j := n.JudgeClock(); j.Wrong() && !n.TrustsClock() {
		clock = report.Finding{About: "clock", Health: report.Bad,
			Text: j.String() + ": no versions are written",
			Advice: "have the system set its clock by the network (NTP); if it is right, start the node " +
				"with --trust-clock"}
	}
	out = append(out, clock)
	if at := n.Twin(); at != nil {
		out = append(out, report.Finding{About: "node key", Health: report.Bad,
			Text: "another node runs with the same key at " + at.String() +
				": a data directory was copied",
			Advice: "stop one of them, run skerry store renew-key there, and start it again"})
	}
	return out, ctx.Err()
}

// Claims tells of each replica that has entries which give a wrong size for their content, and
// whose they are.
func Claims(ctx context.Context, n *node.Node) (out []report.Finding, err error) {
	for r, err := range n.Replicas().All(ctx) {
		if err != nil {
			return out, err
		}
		by := map[replica.AuthorID]int{}
		err := n.RefutedClaims(ctx, r.ID, func(c wanted.RefutedClaim) error {
			by[c.Author]++
			return nil
		})
		if err != nil {
			return out, err
		}
		for author, count := range by {
			out = append(out, report.Finding{
				About: "replica " + r.Name, Health: report.Warn,
				Text: fmt.Sprintf("author %s gives a wrong size in %d entries, whose content is not fetched",
					author, count),
				Advice: "skerry replica info names them; ask the author to write them again, " +
					"or revoke the author's grant",
			})
		}
	}
	return out, nil
}

// Times tells of each replica with entries that peers refuse, since their times are ahead.
func Times(ctx context.Context, n *node.Node) (out []report.Finding, err error) {
	for r, err := range n.Replicas().All(ctx) {
		if err != nil {
			return out, err
		}
		const enough = 1000
		count := 0
		for _, err := range n.Replicas().Ahead(ctx, r.ID) {
			if err != nil {
				return out, err
			}
			if count++; count == enough {
				break
			}
		}
		if count == 0 {
			continue
		}
		more := ""
		if count == enough {
			more = " or more"
		}
		out = append(out, report.Finding{About: "replica " + r.Name, Health: report.Bad,
			Text: fmt.Sprintf("%d entries%s have times more than %s ahead of this clock: peers refuse them",
				count, more, replica.MaxAhead),
			Advice: "if this clock is right now, skerry replica verify --repair " + r.Name +
				" signs them anew"})
	}
	return out, nil
}

func texts[T fmt.Stringer](all []T) string {
	var out []string
	for _, x := range all {
		out = append(out, x.String())
	}
	return strings.Join(out, ", ")
}

func diagnoseAddresses(all []ma.Multiaddr) report.Finding {
	f := report.Finding{About: "addresses", Health: report.Good}
	var direct []ma.Multiaddr
	for _, m := range all {
		if bare, _ := peer.SplitAddr(m); bare != nil {
			direct = append(direct, bare)
		}
	}
	if len(direct) == 0 {
		f.Health, f.Text = report.Bad, "the node listens nowhere"
		f.Advice = "let it listen with --listen, or leave that out for all interfaces"
		return f
	}
	f.Text = texts(direct)
	return f
}

func diagnosePeers(peers []link.Peer) report.Finding {
	f := report.Finding{About: "peers", Health: report.Good}
	relayed := 0
	for _, p := range peers {
		if !p.Direct {
			relayed++
		}
	}
	switch {
	case len(peers) == 0:
		f.Health, f.Text = report.Warn, "nobody is connected"
		f.Advice = "start the other device, or paste a ticket; whether others could " +
			"connect cannot be told without any"
	case relayed > 0:
		f.Health, f.Text = report.Warn, fmt.Sprintf(
			"%d connected, of these %d through a relay only", len(peers), relayed,
		)
		f.Advice = "what goes through a relay is slower and of limited amount; see nat"
	default:
		f.Text = fmt.Sprintf("%d connected, all directly", len(peers))
	}
	return f
}

func diagnoseReach(s *link.Situation) report.Finding {
	f := report.Finding{About: "reachability", Health: report.Good}
	switch {
	case len(s.Reachable) > 0:
		f.Text = "others reach this node at " + texts(s.Reachable)
	case len(s.Unreachable) > 0:
		f.Health, f.Text = report.Warn, "others cannot reach this node at "+texts(s.Unreachable)
		f.Advice = "let the router pass the node's port on, or give the node a " +
			"relay with --use-relay"
		if len(s.Relayed) > 0 {
			f.Health, f.Advice = report.Good, "they reach it through a relay"
		}
	case len(s.Seen) > 0 || len(s.Untested) > 0:
		f.Health, f.Text = report.Warn, "nobody has tested yet whether others reach this node"
		f.Advice = "peers that all can reach test it, such as a seed; that takes " +
			"some minutes if only one is connected"
		if len(s.Relayed) > 0 {
			f.Health = report.Good
		}
	default:
		f.Text = "this node has no public address that is known to it: it is reached in " +
			"its local network"
		f.Advice = "connect to a seed or a relay, and others will say how they see it"
	}
	return f
}

func diagnoseNAT(s *link.Situation) report.Finding {
	f := report.Finding{About: "nat", Health: report.Good}
	switch s.NAT {
	case link.NATNone:
		f.Text = "no router translates addresses"
	case link.NATSome:
		f.Text = "a router translates addresses; of what kind, a single peer that sees " +
			"this node cannot tell"
		f.Advice = "direct connections through it are tried in any case"
	case link.NATIndependent:
		f.Text = "a router translates addresses independently of the endpoint: " +
			"direct connections to others behind routers can be made"
	case link.NATDependent:
		f.Health = report.Warn
		f.Text = "a router translates addresses for each endpoint differently: direct " +
			"connections can only be made to peers that all can reach"
		f.Advice = "let the router pass the node's port on; else what you share " +
			"with others behind routers goes through a relay or a seed"
	default:
		f.Text = "not known: no peer has been called by QUIC"
		f.Advice = "connect to a seed or a relay that listens at a udp address"
	}
	return f
}

func diagnoseRelay(s *link.Situation) report.Finding {
	f := report.Finding{About: "relay", Health: report.Good}
	switch {
	case len(s.Relayed) > 0:
		f.Text = "others reach this node through " + texts(s.Relayed)
	case len(s.Relays) > 0:
		f.Health, f.Text = report.Bad, "no place at "+texts(s.Relays)
		f.Advice = "is the relay up, started with --relay, and its address right? " +
			"It may also be full"
	case s.RelayFor:
		f.Text = "this node relays for others"
	default:
		f.Text = "none is used"
		if len(s.Reachable) == 0 && len(s.Unreachable) > 0 {
			f.Health, f.Advice = report.Warn, "give the node one with --use-relay, since others "+
				"cannot reach it"
		}
	}
	return f
}

func diagnoseTable(s *link.Situation, peers []link.Peer) report.Finding {
	f := report.Finding{About: "hash table", Health: report.Good}
	met := 0
	for _, b := range s.Bootstrap {
		for _, p := range peers {
			if p.ID == b {
				met++
			}
		}
	}
	switch {
	case s.Table == "" || s.Table == "off":
		f.Text = "not used"
	case s.TableSize == 0:
		f.Health, f.Text = report.Warn, "no node of it is known"
		f.Advice = "name one with --bootstrap, such as your seed; peers are then " +
			"found whose addresses have changed"
		if len(s.Bootstrap) > 0 {
			f.Advice = fmt.Sprintf(
				"none of the %d nodes of --bootstrap serves it; are they up, and are their addresses right?",
				len(s.Bootstrap),
			)
		}
	default:
		f.Text = fmt.Sprintf("nodes of it that are known: %d", s.TableSize)
		if s.Serves {
			f.Text += ", and this node is one"
		}
		if len(s.Bootstrap) > 0 {
			f.Text += fmt.Sprintf("; %d of %d to begin with are connected", met, len(s.Bootstrap))
		}
	}
	return f
}

func diagnoseClock(ahead time.Duration, answered int) report.Finding {
	f := report.Finding{About: "clock", Health: report.Good}
	by, where := ahead.Round(time.Second), "behind"
	if ahead < 0 {
		by, where = -by, "ahead"
	}
	switch {
	case answered == 0:
		f.Health, f.Text = report.Warn, "no peer has told the time"
	case by <= clockOff:
		f.Text = fmt.Sprintf("agrees with %d peers", answered)
	default:
		f.Health, f.Text = report.Warn, fmt.Sprintf("%s %s that of %d peers", by, where, answered)
		f.Advice = "have the system set its clock by the network (NTP)"
		if by > replica.MaxAhead {
			f.Health, f.Text = report.Bad, f.Text+"; more than "+replica.MaxAhead.String()+
				", so entries are refused until the time comes"
		}
	}
	return f
}
