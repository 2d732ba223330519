package link

import "github.com/skerry-sync/skerry/node/admission"

// guest is a stream that a peer has opened. What is written to it counts as held until the peer has
// taken it.
type guest struct {
	Stream
	visit *admission.Visit
}

// NewGuest returns a guest whose visit counts what it holds.
func NewGuest(s Stream, v *admission.Visit) Stream { return &guest{s, v} }

func (g *guest) Write(b []byte) (int, error) {
	if err := g.visit.Take(len(b)); err != nil {
		return 0, err
	}
	defer g.visit.Give(len(b))
	return g.Stream.Write(b)
}

// Uncounted returns the stream below a guest, for a writer that counts by itself what it holds.
func Uncounted(s Stream) Stream {
	if g, ok := s.(*guest); ok {
		return g.Stream
	}
	return s
}

// VisitOf returns what counts the memory of a stream: nil, which counts nothing, if this node has
// opened it.
func VisitOf(s Stream) *admission.Visit {
	switch s := s.(type) {
	case *guest:
		return s.visit
	case Patient:
		return VisitOf(s.Stream)
	case *Patient:
		return VisitOf(s.Stream)
	}
	return nil
}

// Located is a Stream that knows from where its peer is connected.
type Located interface {
	// Origin names the IP network of the peer, or of the relay between, in a form of the
	// implementation's choice; "" if it is not known.
	Origin() string
	// Relayed reports whether a relay is between.
	Relayed() bool
}

// Origin implements Located.
func (g *guest) Origin() string { return OriginOf(g.Stream) }

// Relayed implements Located.
func (g *guest) Relayed() bool { return isRelayed(g.Stream) }

// Origin implements Located.
func (p Patient) Origin() string { return OriginOf(p.Stream) }

// Relayed implements Located.
func (p Patient) Relayed() bool { return isRelayed(p.Stream) }

// isRelayed reports whether a relay is between this node and the peer of a stream.
func isRelayed(s Stream) bool {
	l, ok := s.(Located)
	return ok && l.Relayed()
}

// OriginOf returns the IP network of the peer of a stream, as Located does, or "".
func OriginOf(s Stream) string {
	if l, ok := s.(Located); ok {
		return l.Origin()
	}
	return ""
}
