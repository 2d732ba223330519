package collections

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/cost"
)

func mustSchema(t *testing.T, text string) *schema {
	t.Helper()
	o, err := value.ParseObject([]byte(text), value.MaxDepth)
	require.NoError(t, err)
	s, err := compileSchema(o, matching{})
	require.NoError(t, err)
	return s
}

// branches is a schema of expressions: what has arguments is checked against each kind of them.
func branches(combine, items string) string {
	kind := func(name string) string {
		return `{"type": "object", "required": ["op", "args"], "properties": {"op": {"const": "` + name +
			`"}, "args": {"type": "array", "items": ` + items + `}}}`
	}
	return `{"properties": {"e": {"$ref": "#/definitions/expr"}}, "definitions": {
		"arg": {"$ref": "#/definitions/expr"},
		"expr": {"` + combine + `": [{"type": "string"}, ` +
		kind("and") + `, ` + kind("or") + `, ` + kind("not") + `]}}}`
}

const draft2020 = `{"$schema": "https://json-schema.org/draft/2020-12/schema", `

const toItself = `{"$ref": "#/definitions/expr"}`

var selfReferring = map[string]string{
	"oneOf":         branches("oneOf", toItself),
	"anyOf":         branches("anyOf", toItself),
	"allOf":         branches("allOf", toItself),
	"in two steps":  branches("oneOf", `{"$ref": "#/definitions/arg"}`),
	"not":           branches("oneOf", `{"not": {"not": `+toItself+`}}`),
	"a later draft": draft2020 + branches("oneOf", toItself)[1:],
	"if": branches(
		"oneOf", `{"if": `+toItself+`, "then": `+toItself+`, "else": `+toItself+`}`),
	"its own members": `{"additionalProperties": {"anyOf": [{"type": "string"},
		{"required": ["x"], "$ref": "#"}, {"allOf": [{"$ref": "#"}, {"required": ["args"]}]}]}}`,
}

// A schema that refers to itself in several branches is checked in time that grows with the
// document, and not with the ways through its branches. The count is of bytes.
func TestSchemasThatReferToThemselves(t *testing.T) {
	for name, text := range selfReferring {
		s := mustSchema(t, text)
		for _, leaf := range []string{`"x"`, `5`} {
			work := func(depth int) func() {
				e := leaf
				for range depth {
					e = `{"op":"and","args":[` + e + `]}`
				}
				o, err := value.ParseObject([]byte(`{"e":`+e+`}`), value.MaxDepth)
				require.NoError(t, err)
				return func() { _ = s.check(t.Context(), o) }
			}
			few, many := cost.Bytes(work(5)), cost.Bytes(work(10))
			// Errors tell where they are, which is longer the deeper that is.
			require.LessOrEqual(t, many, 4*few+1<<16, "%s: %d, then %d bytes", name, few, many)
		}
	}
}

// What a schema that refers to itself lets in, and what it says of the rest, is what the library
// says without the memory.
func TestReferencesCheckAsTheLibraryDoes(t *testing.T) {
	type both struct {
		s     *schema
		plain *jsonschema.Schema
	}
	all := map[string]both{}
	for name, text := range selfReferring {
		s := mustSchema(t, text)
		c := jsonschema.NewCompiler()
		c.DefaultDraft(jsonschema.Draft7)
		require.NoError(t, c.AddResource("schema:", goValue(s.source)))
		plain, err := c.Compile("schema:")
		require.NoError(t, err)
		all[name] = both{s, plain}
	}
	var gen func(depth int) *rapid.Generator[any]
	gen = func(depth int) *rapid.Generator[any] {
		return rapid.Custom(func(t *rapid.T) any {
			n := rapid.IntRange(0, 9).Draw(t, "kind")
			switch {
			case n == 0:
				return 5.0
			case n == 1 || depth == 0:
				return "x"
			}
			args := value.Array{}
			for range rapid.IntRange(0, 2).Draw(t, "args") {
				args = append(args, gen(depth-1).Draw(t, "arg"))
			}
			if n == 2 {
				return args
			}
			op := rapid.SampledFrom([]any{"and", "or", "not", "x", 5.0}).Draw(t, "op")
			o := value.NewObject(value.Member{Key: "op", Value: op})
			if n != 3 {
				o.Set("args", args)
			}
			return o
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{
			"oneOf", "anyOf", "allOf", "in two steps", "not", "a later draft", "if", "its own members",
		}).Draw(t, "schema")
		x := all[name]
		data := value.NewObject(value.Member{Key: "e", Value: gen(3).Draw(t, "e")})
		want := ""
		invalid, is := errors.AsType[*jsonschema.ValidationError](x.plain.Validate(goValue(data)))
		if is {
			first := leaves(invalid)[0]
			want = fmt.Sprint(x.s.message(first), first.InstanceLocation)
		}
		got := ""
		err := x.s.check(t.Context(), data)
		if a, is := errors.AsType[*answered](err); is {
			o := a.Body.(*value.Object)
			message, _ := o.String("error")
			path, _ := o.Get("path")
			got = strings.TrimPrefix(message, "Schema validation failed: ") + fmt.Sprint(path)
		} else {
			require.NoError(t, err)
		}
		require.Equal(t, want, got, "%s: %s", name, value.Append(nil, data))
	})
}

// What leads back to itself otherwise than by $ref would cost as much as it did, and is refused.
func TestRecursionThatIsRefused(t *testing.T) {
	for _, text := range []string{
		`{"$schema": "https://json-schema.org/draft/2019-09/schema", "items": {"$recursiveRef": "#"}}`,
		draft2020 + `"$dynamicAnchor": "a", "items": {"$dynamicRef": "#a"}}`,
		draft2020 + `"items": {"$ref": "#"}, "unevaluatedProperties": false}`,
	} {
		o, err := value.ParseObject([]byte(text), value.MaxDepth)
		require.NoError(t, err)
		_, err = compileSchema(o, matching{})
		require.ErrorIs(t, err, errRecursion, text)
	}
	mustSchema(t, draft2020+`"properties": {"a": {"$ref": "#/$defs/a"}},
		"unevaluatedProperties": false, "$defs": {"a": {"type": "string"}}}`)
}
