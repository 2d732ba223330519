package seed

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/internal/netaddr"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/seed/report"
)

// Protocol carries the same requests over a stream, for devices that know a seed as a peer. One
// stream carries one request and its answer:
//
//	device  length u32 big-endian, at most 65,536; {"op":"register"|"unregister"|"backups"|"quota"|"standing", "request":Request, Read or Stand}
//	seed    length u32 big-endian, at most 1,048,576; {"answer":…} or {"error":{"code","message"}}
const Protocol = "/skerry/seed/2"

const (
	maxAnswer = 1 << 20
	// maxServes is how many requests are worked on at a time. No place is held while a peer is
	// waited for.
	maxServes = 64
)

type call struct {
	Op      string          `json:"op"`
	Request json.RawMessage `json:"request"`
}

type reply struct {
	Answer json.RawMessage `json:"answer,omitempty"`
	Error  *Error          `json:"error,omitempty"`
}

// Serve answers Protocol at the seed's node, as long as ctx lives. It must be called before the
// node goes online.
func (s *Seed) Serve(ctx context.Context) {
	slots := make(chan struct{}, maxServes)
	s.n.Serve(Protocol, func(st link.Stream) {
		if err := s.serve(ctx, sourceOf(st), st, slots); err != nil {
			s.log.Debug("serving a request to the seed", "peer", st.Remote(), "error", err)
			_ = st.Reset()
			return
		}
		_ = st.Close()
	})
}

// source is who a request comes from.
type source struct {
	device string // the peer's id, which the connection proves
	// counted names who the request is counted for: the network that the peer is connected from,
	// since anybody can make peer ids, or the peer if that is not known.
	counted string
	relayed bool // the network is that of a relay
}

// relays stands for all relays where a registration's network is noted: who is behind one cannot be
// known, and there are many of them.
const relays = "relay"

// registers names the network for which a registration is counted: none if it is known to whoever
// runs the seed, such as that of a proxy on this machine, behind which there are many people.
func (s source) registers() string {
	if s.relayed {
		return relays
	}
	if p, err := netip.ParsePrefix(s.counted); err == nil && !netaddr.Public(p.Addr()) {
		return ""
	}
	return s.counted
}

func sourceOf(st link.Stream) source {
	a := source{device: st.Remote().String(), counted: st.Remote().String()}
	if l, ok := st.(link.Located); ok && l.Origin() != "" {
		a.counted, a.relayed = l.Origin(), l.Relayed()
	}
	return a
}

// serve reads a whole request, waits for a place to work at it, and gives the place back before it
// writes the answer.
func (s *Seed) serve(ctx context.Context, who source, st io.ReadWriter, slots chan struct{}) error {
	b, err := readFrame(st, MaxRequest)
	if err != nil {
		return err
	}
	var r reply
	v, err := s.inPlace(ctx, slots, func() (any, error) { return s.asked(ctx, who, b) })
	if err == nil {
		r.Answer, err = json.Marshal(v)
	}
	if err != nil {
		r = reply{Error: asError(err)}
	}
	if b, err = json.Marshal(&r); err != nil {
		return err
	}
	return writeFrame(st, b)
}

// placeTime is how long a request waits for a place.
const placeTime = 20 * time.Second

// inPlace does some work at one of a number of places.
func (s *Seed) inPlace(
	ctx context.Context, slots chan struct{}, work func() (any, error),
) (any, error) {
	late := time.NewTimer(placeTime)
	defer late.Stop()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
		return work()
	case <-late.C:
		return nil, failed(RateLimited, errors.New("too many requests at a time: try again"))
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// asked answers one request, unless there are too many of them.
func (s *Seed) asked(ctx context.Context, who source, b []byte) (v any, err error) {
	op := "unknown"
	defer func() { s.counts.add(op, err) }()
	if err := s.askers.may(who.counted, s.now()); err != nil {
		return nil, err
	}
	c, err := parse[call](b)
	if err != nil {
		return nil, err
	}
	if slices.Contains([]string{"register", "unregister", "backups", "quota", "standing"}, c.Op) {
		op = c.Op
	}
	switch c.Op {
	case "standing":
		req, err := parse[Stand](c.Request)
		if err != nil {
			return nil, err
		}
		return s.Standing(ctx, who.device, req)
	case "register", "unregister":
		req, err := parse[Request](c.Request)
		if err != nil {
			return nil, err
		}
		if c.Op == "register" {
			return s.register(ctx, req, who)
		}
		return s.Unregister(ctx, req)
	case "backups", "quota":
		req, err := parse[Read](c.Request)
		if err != nil {
			return nil, err
		}
		if c.Op == "quota" {
			return s.Quota(ctx, req)
		}
		return s.Backups(ctx, req)
	}
	return nil, failed(InvalidRequest, fmt.Errorf("unknown operation %.32q", c.Op))
}

func readFrame(r io.Reader, most uint32) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > most {
		return nil, fmt.Errorf("a message of %d bytes, at most %d", size, most)
	}
	b := make([]byte, size)
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeFrame(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

// Client asks a seed from a device's node.
type Client struct {
	Node *node.Node
	At   peer.AddrInfo
}

func (c Client) do(ctx context.Context, op string, req, answer any) error {
	raw, err := json.Marshal(req)
	if err != nil {
		return err
	}
	msg, err := json.Marshal(call{op, raw})
	if err != nil {
		return err
	}
	st, err := c.Node.Open(ctx, c.At, Protocol)
	if err != nil {
		return fmt.Errorf("ask the seed: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	err = writeFrame(st, msg)
	var b []byte
	if err == nil {
		b, err = readFrame(st, maxAnswer)
	}
	var reset *network.StreamError
	if errors.As(err, &reset) && reset.ErrorCode == network.StreamProtocolNegotiationFailed {
		return errors.Join(
			fmt.Errorf(
				"the node %s is no seed: it does not speak %s. Is it run with skerry seed serve, and of "+
					"this version?",
				c.At.ID, Protocol,
			), st.Reset(),
		)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("ask the seed at %s: %w", c.At.ID, err), st.Reset())
	}
	_ = st.Close() // it has said all
	var r reply
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("ask the seed at %s: malformed answer: %w", c.At.ID, err)
	}
	if r.Error != nil {
		return r.Error
	}
	return json.Unmarshal(r.Answer, answer)
}

// about asks a seed for something about one replica. An answer about another one is refused: the
// seed may have taken the request for something else.
func (c Client) about(ctx context.Context, op string, req *Request) (a report.Answer, err error) {
	if err = c.do(ctx, op, req, &a); err != nil {
		return a, err
	}
	if a.ReplicaID != req.Replica {
		return report.Answer{}, fmt.Errorf(
			"ask the seed at %s: it was asked about replica %s and answers about %.64q", c.At.ID,
			req.Replica, a.ReplicaID,
		)
	}
	return a, nil
}

// Register asks to register a replica. The error is an *Error if the seed refuses.
func (c Client) Register(ctx context.Context, req *Request) (a report.Answer, err error) {
	return c.about(ctx, "register", req)
}

// Unregister asks to end a registration. The error is an *Error if the seed refuses.
func (c Client) Unregister(ctx context.Context, req *Request) (a report.Answer, err error) {
	return c.about(ctx, "unregister", req)
}

// Backups asks for all registrations of an identity. The error is an *Error if the seed refuses.
func (c Client) Backups(ctx context.Context, req *Read) (all []report.Answer, err error) {
	err = c.do(ctx, "backups", req, &all)
	return all, err
}

// Quota asks for what an identity uses and may use. The error is an *Error if the seed refuses.
func (c Client) Quota(ctx context.Context, req *Read) (q report.Quota, err error) {
	err = c.do(ctx, "quota", req, &q)
	return q, err
}
