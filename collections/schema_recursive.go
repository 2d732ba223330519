package collections

import (
	"errors"
	"iter"
	"reflect"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// A schema that refers to itself in several branches, as one of trees or expressions does, makes
// the library check what lies n levels deep once for each way through n branches: some hundred
// bytes cost hours and gigabytes. So such a reference checks each value once, and then remembers.

// reference is the keyword $ref of a schema that leads back to itself, in the place of the
// library's.
type reference struct {
	to *jsonschema.Schema
	of *compiled
}

// checked is a value that a reference has led to.
type checked struct {
	to    *jsonschema.Schema
	value uintptr // of its first member; all of a document are alive while it is checked
	terse bool    // nobody asked what is wrong, so the errors do not tell
}

// never is satisfied by nothing.
var never = &jsonschema.Schema{Bool: new(bool)}

// Validate implements jsonschema.SchemaExt.
func (r *reference) Validate(ctx *jsonschema.ValidatorContext, v any) {
	id := identity(v)
	key := checked{r.to, id, isTerse(ctx, v)}
	causes, known := r.of.checked[key]
	if !known {
		causes = causesOf(ctx.Validate(r.to, v, nil))
		if id != 0 {
			r.of.checked[key] = causes
		}
	}
	if causes != nil {
		ctx.AddErrors(causes, &kind.Reference{Keyword: "$ref", URL: r.to.Location})
	}
}

// isTerse reports whether the library is only to find out whether a value is valid.
func isTerse(ctx *jsonschema.ValidatorContext, v any) bool {
	e, ok := errors.AsType[*jsonschema.ValidationError](ctx.Validate(never, v, nil))
	return ok && e.ErrorKind == nil
}

// causesOf returns what the library's own $ref tells of an error, nil if there is none.
func causesOf(err error) []*jsonschema.ValidationError {
	e, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return nil
	}
	if _, many := e.ErrorKind.(*kind.Group); many {
		return e.Causes
	}
	return []*jsonschema.ValidationError{e}
}

// identity tells apart the values of a document that have members; it is 0 of all others, which are
// checked at once.
func identity(v any) uintptr {
	switch v := v.(type) {
	case map[string]any:
		if len(v) > 0 {
			return reflect.ValueOf(v).Pointer()
		}
	case []any:
		if len(v) > 0 {
			return reflect.ValueOf(v).Pointer()
		}
	}
	return 0
}

// errRecursion reports a schema whose references to itself cannot be replaced.
var errRecursion = errors.New("a schema that refers to itself must do so by $ref, and must not " +
	"have unevaluatedProperties or unevaluatedItems")

// replaceRecursion replaces $ref where it leads back to itself, in a schema and all that it refers
// to, and reports whether it has.
func (c *compiled) replaceRecursion() (replaced bool, err error) {
	refs, plain := []*jsonschema.Schema{}, true
	for s := range reachable(c.s) {
		if s.Ref != nil {
			refs = append(refs, s)
		}
		// What a value below these is checked for depends on the way that led there.
		plain = plain && s.RecursiveRef == nil && s.DynamicRef == nil &&
			s.UnevaluatedProperties == nil && s.UnevaluatedItems == nil
	}
	to := map[*jsonschema.Schema]*jsonschema.Schema{}
	for _, s := range refs {
		for below := range reachable(s.Ref) {
			if below == s {
				to[s] = s.Ref
				break
			}
		}
	}
	for s, target := range to {
		s.Ref = nil
		s.Extensions = append(s.Extensions, &reference{target, c})
	}
	if !plain && (len(to) > 0 || hasCycle(c.s)) {
		return false, errRecursion
	}
	return len(to) > 0, nil
}

// hasCycle reports whether a schema comes to itself.
func hasCycle(s *jsonschema.Schema) bool {
	done := map[*jsonschema.Schema]bool{} // false while it is under way
	var walk func(s *jsonschema.Schema) bool
	walk = func(s *jsonschema.Schema) bool {
		if done, met := done[s]; met {
			return !done
		}
		done[s] = false
		for _, part := range parts(s) {
			if walk(part) {
				return true
			}
		}
		done[s] = true
		return false
	}
	return walk(s)
}

// reachable yields a schema and all that it has and refers to, each once.
func reachable(s *jsonschema.Schema) iter.Seq[*jsonschema.Schema] {
	return func(yield func(*jsonschema.Schema) bool) {
		seen := map[*jsonschema.Schema]bool{s: true}
		for next := []*jsonschema.Schema{s}; len(next) > 0; {
			s := next[len(next)-1]
			next = next[:len(next)-1]
			if !yield(s) {
				return
			}
			for _, part := range parts(s) {
				if !seen[part] {
					seen[part] = true
					next = append(next, part)
				}
			}
		}
	}
}

// parts returns the schemas that a schema has and refers to.
func parts(s *jsonschema.Schema) (all []*jsonschema.Schema) {
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Interface:
			walk(v.Elem())
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Map:
			for it := v.MapRange(); it.Next(); {
				walk(it.Value())
			}
		case reflect.Pointer:
			switch p := v.Interface().(type) {
			case *jsonschema.Schema:
				if p != nil {
					all = append(all, p)
				}
			case *jsonschema.DynamicRef:
				if p != nil {
					all = append(all, p.Ref)
				}
			}
		}
	}
	fields := reflect.ValueOf(s).Elem()
	for i := range fields.NumField() {
		if f := fields.Type().Field(i); f.IsExported() && f.Name != "Extensions" {
			walk(fields.Field(i))
		}
	}
	return all
}
