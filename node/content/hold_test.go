package content

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/link"
)

// pipe is one end of a stream between two exchanges.
type pipe struct {
	*io.PipeReader
	*io.PipeWriter
	remote peer.ID
}

// newPipe returns the ends of a stream. What b has written has been read; what a writes waits for b
// while that writes, as in the window of a real one: each could otherwise wait for the other.
func newPipe(a, b peer.ID) (atA, atB link.Stream) {
	toB, passed := io.Pipe()
	took, fromA := io.Pipe()
	toA, fromB := io.Pipe()
	queue := make(chan []byte, 1<<10)
	go func() {
		defer close(queue)
		for {
			buf := make([]byte, 64<<10)
			n, err := took.Read(buf)
			if err != nil {
				return
			}
			queue <- buf[:n]
		}
	}()
	go func() {
		defer passed.Close()
		for b := range queue {
			if _, err := passed.Write(b); err != nil {
				_ = took.CloseWithError(err)
			}
		}
	}()
	return pipe{toA, fromA, b}, pipe{toB, fromB, a}
}

func (p pipe) CloseWrite() error { return p.PipeWriter.Close() }

func (p pipe) Close() error { return p.CloseWrite() }

func (p pipe) Reset() error {
	_ = p.PipeReader.CloseWithError(io.ErrClosedPipe)
	return p.PipeWriter.CloseWithError(io.ErrClosedPipe)
}

func (pipe) SetReadDeadline(time.Time) error  { return nil }
func (pipe) SetWriteDeadline(time.Time) error { return nil }
func (p pipe) Remote() peer.ID                { return p.remote }

// oneServer is a network in which an exchange answers.
type oneServer struct {
	t *testing.T
	x *Exchange
}

func (o oneServer) Peers() []link.Peer { return []link.Peer{{ID: "server"}} }

func (o oneServer) Connected(peer.ID) bool { return true }

func (o oneServer) Connect(context.Context, peer.AddrInfo) error { return nil }

func (o oneServer) Open(context.Context, peer.ID, string) (link.Stream, error) {
	near, far := newPipe("client", "server")
	served := make(chan struct{})
	go func() {
		defer close(served)
		o.x.Serve(context.Background(), far)
	}()
	o.t.Cleanup(func() {
		_ = near.Reset()
		<-served
	})
	return near, nil
}

// trusting is an exchange that blames nobody.
func trusting(t *testing.T) *Exchange {
	x := offline(t)
	x.cfg.Lied = func(peer.ID) bool { return false }
	x.cfg.NoteLie = func(_ peer.ID, cause error) { t.Error(cause) }
	return x
}

func collect(t *testing.T, s *blobs.Store) {
	_, err := s.Collect(t.Context(), blobs.CollectOptions{})
	require.NoError(t, err)
}

func has(t *testing.T, s *blobs.Store, all ...blobs.Hash) {
	t.Helper()
	for _, h := range all {
		ok, err := s.Has(t.Context(), h)
		require.NoError(t, err)
		require.True(t, ok, "%s", h.Short())
	}
}

// family stores a sequence with children of which each part of an answer has some, and is in a
// place of its own in the store.
func family(t *testing.T, s *blobs.Store) (all blobs.Sequence) {
	for i := range 160 {
		size := 16 << 10
		if i%40 == 7 {
			size = blobs.SegmentSize + 5
		}
		info, err := s.ImportBytes(t.Context(), testkit.Random(byte(i), size+i))
		require.NoError(t, err)
		all = append(all, info.Hash)
	}
	info, err := s.ImportBytes(t.Context(), all.Bytes())
	require.NoError(t, err)
	return append(blobs.Sequence{info.Hash}, all...)
}

// What a peer is being sent is not collected meanwhile, nor is what it is going to be sent of a
// sequence.
func TestWhatIsServedIsNotCollected(t *testing.T) {
	x := trusting(t)
	ask := func(q wire.Request) *bufio.Reader {
		s, err := oneServer{t, x}.Open(t.Context(), "server", wire.Protocol)
		require.NoError(t, err)
		msg, err := wire.AppendRequests(nil, false, []wire.Request{q})
		require.NoError(t, err)
		_, err = s.Write(msg)
		require.NoError(t, err)
		r := bufio.NewReaderSize(s, 32<<10)
		head, err := wire.ReadHead(r)
		require.NoError(t, err)
		require.EqualValues(t, wire.StatusHere, head.Status)
		collect(t, x.blobs)
		return r
	}
	data := testkit.Random(1, 3<<20)
	info, err := x.blobs.ImportBytes(t.Context(), data)
	require.NoError(t, err)
	r := ask(wire.Request{Hash: info.Hash, Ranges: blobs.Everything})
	require.NoError(t, blobs.Decode(r, info.Hash, info.Size, blobs.Everything, nowhere{}))

	all := family(t, x.blobs)
	r = ask(wire.Request{
		Hash: all[0], Ranges: blobs.Everything,
		Children: &wire.Children{Count: blobs.MaxChildren, Ranges: blobs.Everything},
	})
	size := uint64(len(all)-1) * blobs.HashSize
	require.NoError(t, blobs.Decode(r, all[0], size, blobs.Everything, nowhere{}))
	count, err := binary.ReadUvarint(r)
	require.NoError(t, err)
	require.EqualValues(t, len(all)-1, count)
	for _, h := range all[1:] {
		head, err := wire.ReadHead(r)
		require.NoError(t, err)
		require.EqualValues(t, wire.StatusHere, head.Status, "a child that was there")
		last := wire.LastGroup(head.Size)
		require.NoError(t, blobs.Decode(r, h, head.Size, last, nowhere{}))
		if len(head.Ranges) > 0 {
			require.NoError(t, blobs.Decode(r, h, head.Size, head.Ranges, nowhere{}))
		}
	}
}

// A question for one child of a sequence, while a collection runs, keeps that child, and does not
// cost a look at the others.
func TestAQuestionForOneChildIsOfThatChild(t *testing.T) {
	x := trusting(t)
	all := family(t, x.blobs)
	_, err := x.blobs.Collect(t.Context(), blobs.CollectOptions{
		Keep: func(context.Context, *blobs.Marks) error { // the marks have been made
			s, err := oneServer{t, x}.Open(t.Context(), "server", wire.Protocol)
			require.NoError(t, err)
			msg, err := wire.AppendRequests(nil, false, []wire.Request{{
				Hash:     all[0],
				Children: &wire.Children{First: 3, Count: 1, Ranges: blobs.Everything},
			}})
			require.NoError(t, err)
			_, err = s.Write(msg)
			require.NoError(t, err)
			require.NoError(t, s.CloseWrite())
			_, err = io.Copy(io.Discard, s)
			return err
		},
	})
	require.NoError(t, err)
	has(t, x.blobs, all[0], all[4])
	left, err := x.blobs.Totals(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, left.Count)
}

type nowhere struct{}

func (nowhere) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// What a fetch has brought, or has found to be there, is not collected before the fetch ends,
// whichever kind it is. What Get brings into a store that holds stays as long as that does, and can
// be written to a file then.
func TestWhatIsFetchedIsNotCollected(t *testing.T) {
	server := trusting(t)
	all := family(t, server.blobs)
	from := []peer.AddrInfo{{ID: "server"}}
	for name, fetch := range map[string]func(x *Exchange, came func(int)) error{
		"get": func(x *Exchange, came func(int)) error {
			_, err := x.Get(t.Context(), x.blobs, all[0], Sequence, from, func(GetProgress) { came(0) })
			return err
		},
		"fetch": func(x *Exchange, came func(int)) error {
			var wants []Want
			for _, h := range all {
				wants = append(wants, Want{Hash: h})
			}
			_, err := x.Fetch(t.Context(), wants, from, came)
			return err
		},
		"fetch of parts": func(x *Exchange, came func(int)) error {
			_, err := x.FetchPart(t.Context(), all[0], blobs.Everything, blobs.Everything, from,
				func(GetProgress) { came(0) })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := trusting(t)
			x.GoOnline(oneServer{t, server})
			for _, i := range []int{3, 20} { // found to be there
				b, err := server.blobs.ReadAll(t.Context(), all[i], 1<<20)
				require.NoError(t, err)
				_, err = x.blobs.ImportBytes(t.Context(), b)
				require.NoError(t, err)
			}
			pieces := 0
			require.NoError(t, fetch(x, func(int) {
				if pieces++; pieces%40 == 30 {
					collect(t, x.blobs)
				}
			}))
			require.Greater(t, pieces, 80)
			has(t, x.blobs, all...)
			collect(t, x.blobs)
			left, err := x.blobs.Totals(t.Context())
			require.NoError(t, err)
			require.Zero(t, left.Count, "nothing keeps it now")
		})
	}

	x := trusting(t)
	x.GoOnline(oneServer{t, server})
	held, release := x.blobs.Hold()
	defer release()
	c, err := x.Get(t.Context(), held, all[0], Sequence, from, nil)
	require.NoError(t, err)
	collect(t, x.blobs)
	has(t, x.blobs, all...)
	require.NoError(t, c.Export(t.Context(), held, filepath.Join(t.TempDir(), "out"), nil))
}

// What a session has read, or is going to read of a sequence, is not collected before the session
// ends.
func TestWhatASessionReadsIsNotCollected(t *testing.T) {
	server := trusting(t)
	data := testkit.Random(3, 2<<20)
	info, err := server.blobs.ImportBytes(t.Context(), data)
	require.NoError(t, err)
	x := trusting(t)
	x.GoOnline(oneServer{t, server})
	s := x.NewSession(t.Context(), []peer.AddrInfo{{ID: "server"}})
	r, err := s.Open(info.Hash)
	require.NoError(t, err)
	half := make([]byte, len(data)/2)
	_, err = io.ReadFull(r, half)
	require.NoError(t, err)
	collect(t, x.blobs)
	first, err := x.blobs.Present(t.Context(), info.Hash)
	require.NoError(t, err)
	require.NotEmpty(t, first)
	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, append(half, rest...)))
	_, err = s.Close()
	require.NoError(t, err)
	has(t, x.blobs, info.Hash)
	collect(t, x.blobs)
	_, err = x.blobs.Stat(t.Context(), info.Hash)
	require.ErrorIs(t, err, blobs.ErrNotFound)
}
