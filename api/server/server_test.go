package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry"
	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T) (*api.Client, *skerry.Node) {
	n, err := skerry.Open(t.Context(), node.Config{Dir: t.TempDir()}, nil)
	require.NoError(t, err)
	c, stop := Local(New(n, "test"))
	t.Cleanup(func() { require.NoError(t, errors.Join(stop(), n.Close())) })
	return c, n
}

// post sends a body as it stands to an operation, and returns the last line of the answer.
func post(t *testing.T, s *Server, op, contentType, body string) (last api.Line) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/"+op,
		strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code)
	for dec := json.NewDecoder(w.Body); dec.More(); {
		last = api.Line{}
		require.NoError(t, dec.Decode(&last))
	}
	return last
}

func TestErrorKinds(t *testing.T) {
	for want, errs := range map[api.Kind][]error{
		api.Failed: {errors.New("x"), fs.ErrExist},
		api.Usage: {
			ticket.ErrMistyped, ticket.ErrNoAddresses, blobs.ErrAmbiguous, replica.ErrKeyTooLong,
			api.UsageErrorf("x"),
		},
		api.NotFound: {blobs.ErrNotFound, replica.ErrNotFound, &fs.PathError{
			Err: fs.ErrNotExist,
		}, &content.MissingError{
			Hashes: []blobs.Hash{{}}, Count: 1,
		}},
		api.Verification: {&blobs.CorruptError{}, &content.SizeError{}, replica.ErrBadSignature},
		api.NotAllowed:   {&replica.NotAllowedError{}, fs.ErrPermission},
		api.Unreachable:  {&link.UnreachableError{}, context.DeadlineExceeded, contacts.ErrNotShared},
	} {
		for _, err := range errs {
			require.Equal(t, want, api.AsError(fmt.Errorf("while trying: %w", err)).Kind, "%v", err)
		}
	}
	// A blob that could not be had, since the one provider lied and the other did not answer: the lie
	// is what to report.
	both := &content.MissingError{
		Hashes: []blobs.Hash{{}}, Count: 1,
		Causes: []error{&link.UnreachableError{}, &blobs.CorruptError{}},
	}
	require.Equal(t, 4, api.ExitCode(both))
	require.Equal(
		t, 6,
		api.ExitCode(
			&content.MissingError{
				Hashes: []blobs.Hash{{}}, Count: 1, Causes: []error{&link.UnreachableError{}},
			},
		),
	)
	require.Zero(t, api.ExitCode(nil))
	require.Equal(
		t, "context: x", api.AsError(fmt.Errorf("context: %w", api.UsageErrorf("x"))).Message,
		"context is kept",
	)
}

func TestErrorsCrossTheAPI(t *testing.T) {
	c, n := open(t)
	ctx := t.Context()
	kind := func(err error) api.Kind {
		var e *api.Error
		require.ErrorAs(t, err, &e)
		return e.Kind
	}
	_, err := c.ReplicaInfo(ctx, api.NameRequest{Name: "nothing"})
	require.Equal(t, api.NotFound, kind(err))
	l := post(t, New(n, "test"), "replica/info", "application/json", `{"name":"x","bogus":1}`)
	require.Equal(t, api.Usage, l.Error.Kind)
	require.ErrorContains(t, l.Error, "bogus")
	err = c.ReadBlob(ctx, blobs.EmptyHash.String(), 0, -1, false, io.Discard)
	require.Equal(t, api.NotFound, kind(err))
	err = c.ReadValue(ctx, "nothing", api.Key("k"), io.Discard)
	require.Equal(t, api.NotFound, kind(err))
	_, err = c.Get(ctx, api.GetRequest{What: blobs.EmptyHash.String(), Path: "relative"})
	require.Equal(t, api.Usage, kind(err))
	_, err = c.ReplicaNew(ctx, api.NewReplicaRequest{Name: "x"})
	require.NoError(t, err)
	_, err = c.ReplicaSet(ctx, api.SetRequest{Name: "x", Key: make(api.Key, replica.MaxKey+1)})
	require.Equal(t, api.Usage, kind(err))
}

// Content that is missing is told as an error, not as a short body; a body that breaks off is not
// taken for whole.
func TestReadPartialBlob(t *testing.T) {
	c, n := open(t)
	ctx := t.Context()
	other, err := node.Open(ctx, node.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	defer other.Close()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	info, err := other.Blobs().ImportBytes(ctx, data)
	require.NoError(t, err)
	move(t, other.Blobs(), n.Blobs(), info, blobs.Ranges{{Start: info.Size - 1, End: info.Size}})
	var out bytes.Buffer
	var e *api.Error
	require.ErrorAs(t, c.ReadBlob(ctx, info.Hash.String(), 0, -1, false, &out), &e)
	require.Contains(t, e.Message, "incomplete")
	require.NoError(t, c.ReadBlob(ctx, info.Hash.String(), int64(info.Size)-5, -1, false, &out))
	require.Equal(t, "bcdef", out.String())

	move(t, other.Blobs(), n.Blobs(), info, blobs.Ranges{{Start: 0, End: 600_000}})
	require.ErrorIs(t, c.ReadBlob(ctx, info.Hash.String(), 0, -1, false, io.Discard), api.ErrStopped)
}

func TestImportTellsTheLine(t *testing.T) {
	c, n := open(t)
	ctx := t.Context()
	r, err := n.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	items := func(texts ...string) io.Reader { return strings.NewReader(strings.Join(texts, "\n")) }
	sum, err := c.ImportItems(
		ctx, "r", "", "", items(`{"key":"a","value":"1"}`, `{"key":"b","value":"2"}`),
	)
	require.NoError(t, err)
	require.Equal(t, 2, sum.Imported)
	for bad, says := range map[string]string{
		`{"key":"c"}`: "neither a value nor a file", `{"key":"c","value":""}`: "delete the key",
		`{"key":1}`: "line 2", `nonsense`: "line 2",
		`{"key":"c","file":"/no/such/file"}`: "no directory to read files from",
		`{"key":"c","colour":1}`:             "colour",
	} {
		_, err := c.ImportItems(ctx, "r", "", "", items(`{"key":"a","value":"1"}`, bad))
		require.ErrorContains(t, err, says)
		require.ErrorContains(t, err, "line 2")
	}
	var many []string
	for i := range 3000 {
		many = append(many, fmt.Sprintf(`{"key":"many/%d","value":"%d"}`, i, i))
	}
	sum, err = c.ImportItems(ctx, r.ID.String(), "", "", items(many...))
	require.NoError(t, err)
	require.Equal(t, 3000, sum.Imported)
	count := 0
	all := api.ListRequest{Name: "r", Prefix: api.Key("many/")}
	_, err = c.ReplicaEntries(ctx, all, func(e api.Entry) error {
		require.Equal(t, "complete", e.Content)
		count++
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 3000, count)
}

func TestWatchAndSocket(t *testing.T) {
	n, err := skerry.Open(t.Context(), node.Config{Dir: t.TempDir()}, nil)
	require.NoError(t, err)
	l, err := Listen(New(n, "test"), t.TempDir(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	st, err := os.Stat(l.Path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), st.Mode().Perm(), "for its owner only")
	c := api.Dial(l.Path)
	_, err = c.ReplicaNew(t.Context(), api.NewReplicaRequest{Name: "r"})
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	seen := make(chan api.Entry, 10)
	done := make(chan error, 1)
	go func() {
		done <- c.ReplicaWatch(ctx, api.NameRequest{Name: "r"}, func(e api.Entry) error {
			seen <- e
			return nil
		})
	}()
	require.Eventually(t, func() bool { // the first ones may come before the watch has begun
		_, err := c.ReplicaSet(ctx, api.SetRequest{
			Name: "r", Key: api.Key("k"), Value: []byte(fmt.Sprint(time.Now())),
		})
		require.NoError(t, err)
		return len(seen) > 0
	}, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, api.Key("k"), (<-seen).Key)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)

	go func() {
		done <- c.ReplicaWatch(t.Context(), api.NameRequest{Name: "r"}, func(api.Entry) error {
			return nil
		})
	}()
	require.NoError(t, l.Close())
	require.Error(t, <-done, "a node that stops ends its watches")
	c.Close()
	_, err = net.Dial("unix", l.Path)
	require.Error(t, err)
	require.NoError(t, n.Close())
}

func TestFreePaths(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, free(filepath.Join(dir, "new"), true))
	require.NoError(t, free(dir, true), "an empty directory may be filled")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	require.ErrorContains(t, free(filepath.Join(dir, "file"), true), "exists")
	require.ErrorContains(t, free(dir, true), "not empty")
	require.ErrorIs(t, free(filepath.Join(dir, "missing", "x"), true), fs.ErrNotExist)
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "link")))
	require.ErrorContains(
		t, free(filepath.Join(dir, "link"), true), "exists", "a dangling link is not free either",
	)
}

// move transfers ranges of a blob between stores.
func move(t *testing.T, from, to *blobs.Store, info blobs.Info, ranges blobs.Ranges) {
	var stream bytes.Buffer
	require.NoError(t, from.Encode(t.Context(), &stream, info.Hash, ranges))
	rc := to.NewReceiver(t.Context())
	require.NoError(
		t, rc.Receive(bufio.NewReader(&stream), info.Hash, info.Size, ranges, blobs.Hooks{}),
	)
	require.NoError(t, rc.Close())
}
