package collections_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/internal/cost"
)

// withSchema is a configuration whose documents must satisfy a schema.
func withSchema(schema string) []byte {
	text := column("notes", "notes/{id}", `"public"`, `"public"`, `, "objectSchema": `+schema)
	return configOf(strings.Replace(text, "4000", "4000000", 1))
}

// Patterns of schemas are those of ECMA-262, as the published servers have them
// (santhosh-tekuri/jsonschema #228, #243).
func TestPatternsOfSchemas(t *testing.T) {
	w := newWorld(t, withSchema(`{"properties": {
		"name": {"type": "string", "pattern": "^(?!root$)[a-z]+$"},
		"letter": {"pattern": "^\\u00c0$"},
		"space": {"pattern": "^\\s$"},
		"more": {"patternProperties": {"^(?!x)": {"type": "number"}},
			"propertyNames": {"pattern": "^\\S+$"}},
		"expression": {"format": "regex"}}}`), nil)
	for i, data := range []string{
		`{"name":"roots"}`, `{"letter":"À"}`, `{"space":"\u00a0"}`, `{"space":"\ufeff"}`,
		`{"more":{"a":1,"xa":"s"}}`,
		`{"expression":"^(?!a)\\u{41}"}`,
	} {
		rec := ask(w, "POST", fmt.Sprint("/push/notes/", i), `{"data":`+data+`}`)
		require.Equal(t, http.StatusOK, rec.Code, "%s: %s", data, rec.Body)
	}
	for _, c := range []struct{ data, message, path, keyword string }{
		{`{"name":"root"}`, `must match pattern \"^(?!root$)[a-z]+$\"`, `"name"`, "pattern"},
		{`{"letter":"u00c0"}`, `must match pattern \"^\\u00c0$\"`, `"letter"`, "pattern"},
		{`{"space":"\u180e"}`, `must match pattern \"^\\s$\"`, `"space"`, "pattern"},
		{`{"more":{"a":"s"}}`, `must be number`, `"more","a"`, "type"},
		{`{"expression":"(?i)a"}`, `must match format \"regex\"`, `"expression"`, "format"},
	} {
		rec := ask(w, "POST", "/push/notes/bad", `{"data":`+c.data+`}`)
		require.Equal(t, http.StatusBadRequest, rec.Code, c.data)
		require.JSONEq(t, `{"error":"Schema validation failed: `+c.message+`","path":[`+c.path+
			`],"validator":"`+c.keyword+`"}`, rec.Body.String())
	}
	rec := ask(w, "POST", "/push/notes/bad", `{"data":{"more":{"a\u3000":1}}}`)
	require.Equal(t, http.StatusBadRequest, rec.Code)
	for _, wrong := range []string{`(?i)x`, `\A`, `[`, `(?<=a`} {
		c, err := config.Parse(withSchema(fmt.Sprintf(`{"properties": {"a": {"pattern": %q}}}`, wrong)))
		require.NoError(t, err)
		_, err = collections.New(c, bare())
		var invalid *config.InvalidError
		require.ErrorAs(t, err, &invalid)
		require.Contains(t, invalid.Problems[0], `collection "notes": objectSchema`)
		require.Contains(t, invalid.Problems[0], "JavaScript regular expression")
	}
}

// What patterns may cost is bounded for all strings of a document together, and a pattern that was
// not decided lets nothing in, also where it must not match.
func TestCostlyPatterns(t *testing.T) {
	soon := func(o *collections.Options) { // a second goes by at each look at the clock
		at := time.Unix(0, 0)
		collections.SetMatchClock(o, func() time.Time { at = at.Add(time.Second); return at })
	}
	for _, schema := range []string{
		`{"properties": {"a": {"items": {"pattern": "^(?!x)"}}}}`,
		`{"properties": {"a": {"items": {"not": {"pattern": "^(?=x)"}}}}}`,
		`{"properties": {"a": {"items": {"anyOf": [{"pattern": "^(?!y)"}, true]}}}}`,
	} {
		w := newWorld(t, withSchema(schema), soon)
		rec := ask(w, "POST", "/push/notes/a", `{"data":{"a":["a","b","c"]}}`)
		require.Equal(t, http.StatusBadRequest, rec.Code, schema)
		var answer struct {
			Error, Validator string
			Path             []string
		}
		require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &answer))
		require.Contains(t, answer.Error, "takes too long to match")
		require.Equal(t, "pattern", answer.Validator)
		require.Empty(t, answer.Path)
		rec = ask(w, "POST", "/push/notes/a", `{"data":{"a":[]}}`)
		require.Equal(t, http.StatusOK, rec.Code, "the next is counted anew")
	}
	// What Go's engine matches takes no longer than its string is long, and is not counted.
	w := newWorld(t, withSchema(`{"properties": {"a": {"items": {"pattern": "^(a+)+$"}}}}`), soon)
	long := strings.Repeat("a", 5000)
	rec := ask(w, "POST", "/push/notes/a", `{"data":{"a":["a","aa","`+long+`"]}}`)
	require.Equal(t, http.StatusOK, rec.Code)
}

// With rules, nodes must agree on what a document may be, whatever time they take to find out.
func TestPatternsWithRules(t *testing.T) {
	const rules = `"rules": {"servers": [], "hosts": []}`
	for _, x := range []struct {
		pattern, extensions string
		linear, refused     bool
	}{
		{`^(?!root$)[a-z]+$`, rules, false, true},
		{`^(?!root$)[a-z]+$`, `"roles": {}`, true, true},
		{`^(?!root$)[a-z]+$`, `"roles": {}`, false, false},
		{`^(a+)+$`, rules, true, false},
	} {
		text := strings.TrimSpace(string(withSchema(
			fmt.Sprintf(`{"properties": {"a": {"pattern": %q}}}`, x.pattern))))
		require.True(t, strings.HasSuffix(text, "}"))
		text = text[:len(text)-1] + `, "extensions": {` + x.extensions + `}}`
		c, err := config.Parse([]byte(text))
		require.NoError(t, err)
		_, err = collections.New(c, bare(func(o *collections.Options) { o.Linear = x.linear }))
		if !x.refused {
			require.NoError(t, err)
			continue
		}
		var invalid *config.InvalidError
		require.ErrorAs(t, err, &invalid)
		require.Contains(t, invalid.Problems[0], "has a lookaround")
	}
}

// Checks that go on at once do not disturb each other.
func TestPatternsAtOnce(t *testing.T) {
	w := newWorld(t, withSchema(`{"properties": {"a": {"items": {"pattern": "^(?!root$)[a-z]+$"}}}}`),
		nil)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			name, want := "roots", http.StatusOK
			if i%2 == 1 {
				name, want = "root", http.StatusBadRequest
			}
			rec := ask(w, "POST", fmt.Sprint("/push/notes/", i), `{"data":{"a":["`+name+`","b","c"]}}`)
			if rec.Code != want {
				t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
			}
		})
	}
	wg.Wait()
}

// Numbers that no float64 holds are null: so they are stored, and so a schema sees them.
func TestInfiniteNumbers(t *testing.T) {
	w := newWorld(t, withSchema(`{"properties": {"n": {"type": "number"},
		"max": {"maximum": 5, "multipleOf": 2},
		"list": {"uniqueItems": true}, "const": {"const": 1}, "any": {}}}`), nil)
	long := strings.Repeat(",1e999", 30)
	const twice = "must NOT have duplicate items (items ## "
	for _, c := range [][2]string{
		{`{"n":1e999}`, "must be number"},
		{`{"n":-1e999}`, "must be number"},
		{`{"const":1e999}`, "must be equal to constant"},
		{`{"list":[0` + long + `]}`, twice + "2 and 1 are identical)"},
		{`{"list":[1,1.0]}`, twice + "1 and 0 are identical)"},
		{`{"list":[0,-0]}`, twice + "1 and 0 are identical)"},
		{`{"list":[{"a":[1],"b":null},2,{"b":null,"a":[1]}]}`, twice + "2 and 0 are identical)"},
	} {
		rec := ask(w, "POST", "/push/notes/a", `{"data":`+c[0]+`}`)
		require.Equal(t, http.StatusBadRequest, rec.Code, "%s: %s", c[0], rec.Body)
		var answer struct{ Error string }
		require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &answer))
		require.Equal(t, "Schema validation failed: "+c[1], answer.Error, c[0])
	}
	rec := ask(w, "POST", "/push/notes/a", `{"data":{"max":1e999,"any":[-1e999],
		"list":[1,"1",true,null,[],{},[1],["1"],"",1e308,5e-324]}}`)
	require.Equal(t, http.StatusOK, rec.Code, rec.Body)
	require.Contains(t, ask(w, "GET", "/pull/notes/a", "").Body.String(), `"max":null,"any":[null]`)
	for _, schema := range []string{
		`{"maximum": 1e999}`, `{"minLength": 1e999}`, `{"multipleOf": -1e999}`,
	} {
		c, err := config.Parse(withSchema(schema))
		require.NoError(t, err)
		_, err = collections.New(c, bare())
		var invalid *config.InvalidError
		require.ErrorAs(t, err, &invalid, schema)
	}
}

// Items that are made to look alike are told apart with as little work as others. The count is of
// bytes, as comparing numbers takes some.
func TestUniqueItemsCost(t *testing.T) {
	w := newWorld(t, withSchema(`{"properties": {"list": {"uniqueItems": true}}}`), nil)
	pushes := 0
	work := func(n int) func() {
		var b strings.Builder
		for i := range n { // each cuts one text into strings at other places
			b.WriteString(`,[1.5,"a`)
			for bit := range 14 {
				b.WriteString([]string{`\u0004b`, `","b`}[i>>bit&1])
			}
			b.WriteString(`"]`)
		}
		body := `{"data":{"list":[` + b.String()[1:] + `]}}`
		return func() {
			pushes++
			require.Equal(t, http.StatusOK, ask(w, "POST", fmt.Sprint("/push/notes/", pushes), body).Code)
		}
	}
	once, twice := cost.Bytes(work(1000)), cost.Bytes(work(2000))
	require.LessOrEqual(t, twice, 3*once+1<<18, "%d, then %d bytes", once, twice)
}
