package collections_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
)

// A batch that does not say which part of a log it wants gets no more than a pull could ask for.
func TestBatchesOfLogs(t *testing.T) {
	logOf := func(name, full, more string) string {
		return column(
			name, name+"/{id}", `"public"`, `"public"`,
			`, "appendOnly": {"requireAuthorSignature": false, "allowFull": `+full+more+`}`,
		)
	}
	w := newWorld(t, configOf(
		logOf("whole", "true", `, "maxPullLimit": 3`),
		logOf("few", "false", `, "maxPullLimit": 3`),
		logOf("young", "false", `, "maxPullLimit": 30, "maxCheckpointAgeMs": 4500`),
		logOf("plain", "false", ""),
		column("notes", "notes/{id}", `"public"`, `"public"`, ""),
	), nil)
	for i := range 10 {
		w.now = w.now.Add(time.Second)
		for _, name := range []string{"whole", "few", "young", "plain"} {
			rec := ask(w, http.MethodPost, "/push/"+name+"/a", fmt.Sprintf(`{"data":{"n":%d}}`, i))
			require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
		}
	}
	items := func(name, more string) []float64 {
		rec := ask(w, http.MethodGet, batchOf(name, `{"id":"a"}`)+more, "")
		require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
		var a struct {
			Collections map[string][]struct {
				Error string
				Hash  string
				Data  struct {
					Items []struct{ Data struct{ N float64 } }
				}
			}
		}
		require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &a))
		require.Len(t, a.Collections[name], 1)
		require.Empty(t, a.Collections[name][0].Error)
		require.NotEmpty(t, a.Collections[name][0].Hash)
		all := []float64{}
		for _, e := range a.Collections[name][0].Data.Items {
			all = append(all, e.Data.N)
		}
		return all
	}
	for _, more := range []string{
		"",
		"&appendParams=" + url.QueryEscape(`{"whole":[null],"few":[null],"young":[null],"plain":[null]}`),
	} {
		require.Len(t, items("whole", more), 10)
		require.Equal(t, []float64{7, 8, 9}, items("few", more))
		require.Equal(t, []float64{5, 6, 7, 8, 9}, items("young", more))
		require.Len(t, items("plain", more), 10)
	}
	// They count for the budget of a batch, whether or not it says which parts it wants.
	for name, most := range map[string]int{"plain": 5, "few": 100, "whole": 100, "notes": 100} {
		for n, status := range map[int]int{most: http.StatusOK, most + 1: http.StatusBadRequest} {
			ids := make([]string, n)
			for i := range ids {
				ids[i] = fmt.Sprintf(`{"id":"x%d"}`, i)
			}
			rec := ask(w, http.MethodGet, batchOf(name, strings.Join(ids, ",")), "")
			require.Equal(t, status, rec.Code, "%d of %s", n, name)
		}
	}
	// Who says how many pays for as many as there may be.
	for _, c := range []struct {
		name   string
		last   []int
		status int
	}{
		{"plain", []int{5000}, 200}, {"plain", []int{5001}, 400}, {"plain", []int{4000, 1001}, 400},
		{"plain", []int{1 << 53, 1 << 53}, 400}, {"few", []int{5001, 1 << 53}, 200},
	} {
		var ids, parts []string
		for i, n := range c.last {
			ids = append(ids, fmt.Sprintf(`{"id":"x%d"}`, i))
			parts = append(parts, fmt.Sprintf(`{"last":%d}`, n))
		}
		more := url.QueryEscape(fmt.Sprintf(`{%q:[%s]}`, c.name, strings.Join(parts, ",")))
		target := batchOf(c.name, strings.Join(ids, ",")) + "&appendParams=" + more
		require.Equal(t, c.status, ask(w, http.MethodGet, target, "").Code, c)
	}
}

// What is handed on to another server is held to the limits of this one first.
func TestLimitsBeforeHandingOn(t *testing.T) {
	handed := 0
	through := collections.Hook{
		BeforePush: func(context.Context, *collections.Event, []byte) (*collections.Answer, error) {
			handed++
			return &collections.Answer{Status: http.StatusOK}, nil
		},
	}
	readFirst := access.ResolverFunc(
		func(ctx context.Context, r *access.Request) (access.Auth, error) {
			_, err := r.Body() // as the signature of a certificate's holder asks for
			return access.Auth{}, err
		},
	)
	for name, resolver := range map[string]access.Resolver{
		"nobody": &access.Caps{}, "read first": readFirst,
	} {
		handed = 0
		const limit = `, "rateLimit": {"push": {"windowMs": 60000, "maxRequests": 3, "bucket": "ip"}}`
		w := newWorld(
			t, configOf(column("notes", "notes/{id}", `"public"`, `"public"`, limit)),
			func(o *collections.Options) {
				o.Hooks, o.Resolver = []collections.Hook{through}, resolver
			},
		)
		push := func(size int, known bool) int {
			body := `{"data":{"n":"` + strings.Repeat("x", size) + `"}}`
			r := httptest.NewRequest(http.MethodPost, "/push/notes/a", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			if !known {
				r.ContentLength = -1
			}
			rec := httptest.NewRecorder()
			w.ServeHTTP(rec, r)
			return rec.Code
		}
		require.Equal(t, http.StatusRequestEntityTooLarge, push(5000, true), name)
		require.Equal(t, http.StatusRequestEntityTooLarge, push(5000, false), name)
		require.Zero(t, handed, name)
		require.Equal(t, http.StatusOK, push(1, true), name)
		require.Equal(t, http.StatusOK, push(1, false), name)
		require.Equal(t, http.StatusTooManyRequests, push(1, true), name)
		require.Equal(t, 2, handed, name)
	}
}
