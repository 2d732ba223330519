package s3

import (
	"bufio"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/value"
)

// losing is an S3 service of one bucket that does a write and closes the connection before it has
// answered. It serves one request at a time.
type losing struct {
	turn    chan struct{}
	bodies  map[string][]byte // by key
	lost    int               // how many writes there are until that one
	refused int               // writes whose condition was not met
}

func newLosing() *losing {
	return &losing{turn: make(chan struct{}, 1), bodies: map[string][]byte{}}
}

func etag(body []byte) string {
	sum := md5.Sum(body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func (l *losing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	key := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/bucket"), "/")
	body, there := l.bodies[key]
	switch q := r.URL.Query(); {
	case q.Has("location"):
		_, _ = io.WriteString(w, `<LocationConstraint>x</LocationConstraint>`)
	case q.Has("list-type"):
		l.list(w, q.Get("prefix"), q.Get("start-after"))
	case r.Method == http.MethodPut:
		l.put(w, r, key)
	case r.Method == http.MethodDelete:
		delete(l.bodies, key)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodGet && !there:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `<Error><Code>NoSuchKey</Code></Error>`)
	case r.Method == http.MethodGet:
		w.Header().Set("ETag", etag(body))
		w.Header().Set("Last-Modified", time.Unix(0, 0).UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}
}

// content returns the body of a write, without the signatures of its parts.
func content(r *http.Request) ([]byte, error) {
	if !strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return io.ReadAll(r.Body)
	}
	var all []byte
	in := bufio.NewReader(r.Body)
	for {
		head, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		size, _, _ := strings.Cut(strings.TrimSpace(head), ";")
		n, err := strconv.ParseInt(size, 16, 32)
		if err != nil || n == 0 {
			return all, err
		}
		part := make([]byte, n+2) // a line break follows
		if _, err := io.ReadFull(in, part); err != nil {
			return nil, err
		}
		all = append(all, part[:n]...)
	}
}

func (l *losing) put(w http.ResponseWriter, r *http.Request, key string) {
	body, err := content(r)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	now, there := l.bodies[key]
	match := strings.Trim(r.Header.Get("If-Match"), `"`)
	if r.Header.Get("If-None-Match") == "*" && there ||
		match != "" && (!there || match != strings.Trim(etag(now), `"`)) {
		l.refused++
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	l.bodies[key] = body
	if l.lost--; l.lost == 0 {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("ETag", etag(body))
}

func (l *losing) list(w http.ResponseWriter, prefix, after string) {
	type contents struct{ Key string }
	result := struct {
		XMLName  xml.Name `xml:"ListBucketResult"`
		Contents []contents
	}{}
	for key := range l.bodies {
		if strings.HasPrefix(key, prefix) && key > after {
			result.Contents = append(result.Contents, contents{key})
		}
	}
	slices.SortFunc(result.Contents, func(a, b contents) int { return strings.Compare(a.Key, b.Key) })
	_ = xml.NewEncoder(w).Encode(result)
}

// The client sends a write again whose answer is lost, and finds its condition not met then. It has
// stored the element once all the same.
func TestLostAnswers(t *testing.T) {
	l := document.Log{Field: "items", ChunkSize: 2}
	for lost := range 9 { // of appends that begin a chunk, and one that does not
		service := newLosing()
		srv := httptest.NewServer(service)
		keys := credentials.NewStaticV4("key", "secret", "")
		s, err := Open(t.Context(), srv.URL+"/bucket", Options{Credentials: keys})
		require.NoError(t, err)
		service.lost, service.refused = lost, 0
		d := document.In(s, nil)
		for i := range 3 {
			data := value.NewObject(value.Member{Key: "i", Value: float64(i)})
			_, err := d.Append(t.Context(), "log", data, nil, nil, l)
			require.NoError(t, err, "write %d", lost)
		}
		require.LessOrEqual(t, service.lost, 0, "there are as many writes")
		require.Equal(t, lost > 0, service.refused > 0, "write %d is sent again", lost)
		p, err := d.Elements(t.Context(), "log", 0, nil, l)
		require.NoError(t, err)
		var shown []string
		for _, e := range p.Elements {
			v, _ := e.(*value.Object).Get("data")
			shown = append(shown, string(value.Append(nil, v)))
		}
		require.Equal(t, []string{`{"i":0}`, `{"i":1}`, `{"i":2}`}, shown, fmt.Sprint("write ", lost))
		require.NoError(t, s.Close())
		srv.Close()
	}
}
