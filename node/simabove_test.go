package node

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/simnet"
)

// Bubble runs f in a bubble with a clock of its own.
func Bubble(t *testing.T, f func(t *testing.T)) { bubble(t, f) }

// Sim is a few nodes that trust their clocks, in a simulated network, for tests of what stands
// above a node.
type Sim struct{ w *simWorld }

// NewSim starts so many nodes, each of which is given to opened before it goes online. They are
// closed after the test.
func NewSim(t *testing.T, count int, opened func(i int, n *Node)) *Sim {
	s := &Sim{&simWorld{Net: simnet.New(1), t: t}}
	for i := range count {
		n := &simNode{dir: t.TempDir(), disk: vfs.NewCrashableMem()}
		n.opened = func(n *Node) { opened(i, n) }
		s.w.open(n)
		s.w.nodes = append(s.w.nodes, n)
	}
	t.Cleanup(func() {
		for _, n := range s.w.nodes {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

// Node returns the node with a number.
func (s *Sim) Node(i int) *Node { return s.w.nodes[i].Node }

// Handle has a node answer a protocol otherwise.
func (s *Sim) Handle(i int, protocol string, fn func(link.Stream)) {
	s.w.nodes[i].end.Handle(protocol, fn)
}

// Reopen ends a node, and starts it again.
func (s *Sim) Reopen(i int) {
	if err := s.w.nodes[i].Close(); err != nil {
		s.w.t.Error(err)
	}
	s.w.open(s.w.nodes[i])
}

// Cut keeps two nodes from reaching each other; Heal ends that.
func (s *Sim) Cut(i, j int) {
	s.w.Net.Cut(s.Node(i).ID(), s.Node(j).ID(), true)
}

// Heal lets all nodes reach each other.
func (s *Sim) Heal() {
	s.w.Net.Heal()
}
