package client_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/client"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
)

// A reader gets each element once, also when it begins anew with its cursor, and what comes while
// it is away; a writer whose time lies ahead hides nothing from it.
func TestReader(t *testing.T) {
	c, err := config.Parse(
		[]byte(
			`{"version": 1, "collections": [{"name": "log", "storagePath": "log/{id}", "readRoles": ["public"],
		"writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000, "appendOnly": {"requireAuthorSignature": false, "maxPullLimit": 3}}]}`,
		),
	)
	require.NoError(t, err)
	h, err := collections.New(
		c, collections.Options{Documents: document.In(store.NewMemory(), nil), Resolver: &access.Caps{}},
	)
	require.NoError(t, err)
	s := httptest.NewServer(h)
	defer s.Close()
	w := &client.Client{Base: s.URL}
	r := &client.Reader{Client: w, Path: "log/a"}
	n := 0
	add := func(at int64) {
		_, err := w.Append(t.Context(), "log/a", object(t, fmt.Sprintf(`{"n":%d}`, n)), at)
		require.NoError(t, err)
		n++
	}
	read := func(want int) {
		all, err := r.News(t.Context())
		require.NoError(t, err)
		require.Len(t, all, want)
	}
	read(0)
	for range 7 {
		add(0)
	}
	read(7)
	read(0)
	add(time.Now().UnixMilli() + 200_000)
	add(0)
	read(2)
	r = &client.Reader{Client: w, Path: "log/a", Cursor: r.Cursor}
	add(0)
	read(1)
	r = &client.Reader{Client: w, Path: "log/a"}
	read(10)
	// A server that goes in a circle does not keep a reader for ever.
	circle := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"data":{"items":[]},"cursor":"x","more":true}`)
	}))
	defer circle.Close()
	_, err = (&client.Reader{
		Client: &client.Client{Base: circle.URL}, Path: "log/a",
	}).News(t.Context())
	require.ErrorContains(t, err, "does not go on")
}

// A reader does not remember all that it has ever read, and still takes nothing twice that comes
// again soon.
func TestReaderForgets(t *testing.T) {
	const pages, size = 40, client.MaxSeen / 10
	page := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		// Half of each page was in the one before.
		fmt.Fprint(w, `{"data":{"items":[`)
		for i := range size {
			if i > 0 {
				fmt.Fprint(w, ",")
			}
			fmt.Fprintf(w, `{"ts":%d,"data":{}}`, 1+page*size/2+i)
		}
		page++
		fmt.Fprintf(w, `]},"cursor":"%d","more":%v}`, page, page < pages)
	}))
	defer s.Close()
	r := &client.Reader{Client: &client.Client{Base: s.URL}, Path: "log/a"}
	all, err := r.News(t.Context())
	require.NoError(t, err)
	require.Len(t, all, (pages+1)*size/2)
	require.Greater(t, len(all), 2*client.MaxSeen-size)
	require.LessOrEqual(t, r.Remembered(), 2*client.MaxSeen)
}

// A server that says for ever that there is more neither keeps a reader nor fills its memory: it
// gets some at a time.
func TestReaderOfTheEndless(t *testing.T) {
	page, items := 0, ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		page++
		fmt.Fprintf(w, `{"data":{"items":[`+items+`]},"cursor":"%[1]d","more":true}`, page)
	}))
	defer s.Close()
	r := &client.Reader{Client: &client.Client{Base: s.URL}, Path: "log/a"}
	_, err := r.News(t.Context())
	require.ErrorContains(t, err, "does not go on")
	require.Less(t, page, 2000)

	const long = 16 << 20
	items = `{"ts":` + "%[1]d" + `,"data":{"s":"` + strings.Repeat("x", long) + `"}}`
	all, err := r.News(t.Context())
	require.NoError(t, err)
	require.LessOrEqual(t, len(all), client.MaxNews/long+1)
	require.True(t, r.More)
}
