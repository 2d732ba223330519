package collections

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/skerry-sync/skerry/collections/value"
)

// leaves returns what is wrong with data: what is nearest to its root first.
func leaves(e *jsonschema.ValidationError) (all []*jsonschema.ValidationError) {
	seen := map[*jsonschema.ValidationError]bool{} // what a reference remembers is told again
	var walk func(e *jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		if seen[e] {
			return
		}
		seen[e] = true
		switch e.ErrorKind.(type) {
		case *kind.AnyOf, *kind.OneOf, *kind.Not: // their causes are not what is wrong
			all = append(all, e)
			return
		}
		if len(e.Causes) == 0 {
			all = append(all, e)
		}
		for _, c := range e.Causes {
			walk(c)
		}
	}
	walk(e)
	slices.SortStableFunc(all, func(a, b *jsonschema.ValidationError) int {
		return cmp.Or(
			len(a.InstanceLocation)-len(b.InstanceLocation),
			slices.Compare(a.InstanceLocation, b.InstanceLocation), cmp.Compare(turnOf(a), turnOf(b)),
		)
	})
	return all
}

// turnOf orders what is wrong with one value as the validator of the published server finds it.
func turnOf(e *jsonschema.ValidationError) int {
	switch e.ErrorKind.(type) {
	case *kind.Type:
		return 0
	case *kind.Required:
		return 1
	}
	return 2
}

// types returns the types that a part of the schema allows, in the order in which it names them.
func (s *schema) types(location string, otherwise []string) string {
	_, pointer, _ := strings.Cut(location, "#")
	var at any = s.source
	for _, p := range strings.Split(pointer, "/")[1:] {
		p = strings.NewReplacer("~1", "/", "~0", "~").Replace(p)
		switch v := at.(type) {
		case *value.Object:
			at, _ = v.Get(p)
		case value.Array:
			if i, err := strconv.Atoi(p); err == nil && i >= 0 && i < len(v) {
				at = v[i]
			}
		}
	}
	o, _ := at.(*value.Object)
	v, _ := o.Get("type")
	a, ok := v.(value.Array)
	if !ok {
		return strings.Join(otherwise, ",")
	}
	var all []string
	for _, x := range a {
		t, _ := x.(string)
		all = append(all, t)
	}
	return strings.Join(all, ",")
}

// message says what is wrong in the words of the published server's validator, which clients show.
func (s *schema) message(e *jsonschema.ValidationError) string {
	number := func(f fmt.Stringer) string { return strings.TrimSuffix(f.String(), "/1") }
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		return "must be " + s.types(e.SchemaURL, k.Want)
	case *kind.Required:
		return "must have required property '" + k.Missing[0] + "'"
	case *kind.AdditionalProperties:
		return "must NOT have additional properties"
	case *kind.Enum:
		return "must be equal to one of the allowed values"
	case *kind.Const:
		return "must be equal to constant"
	case *kind.Minimum:
		return "must be >= " + rational(number(k.Want))
	case *kind.Maximum:
		return "must be <= " + rational(number(k.Want))
	case *kind.ExclusiveMinimum:
		return "must be > " + rational(number(k.Want))
	case *kind.ExclusiveMaximum:
		return "must be < " + rational(number(k.Want))
	case *kind.MultipleOf:
		return "must be multiple of " + rational(number(k.Want))
	case *kind.MinLength:
		return fmt.Sprintf("must NOT have fewer than %d characters", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("must NOT have more than %d characters", k.Want)
	case *kind.Pattern:
		return fmt.Sprintf("must match pattern \"%s\"", k.Want)
	case *kind.Format:
		return fmt.Sprintf("must match format \"%s\"", k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("must NOT have fewer than %d items", k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("must NOT have more than %d items", k.Want)
	case *kind.UniqueItems:
		return fmt.Sprintf(
			"must NOT have duplicate items (items ## %d and %d are identical)", k.Duplicates[1],
			k.Duplicates[0],
		)
	case *kind.MinProperties:
		return fmt.Sprintf("must NOT have fewer than %d properties", k.Want)
	case *kind.MaxProperties:
		return fmt.Sprintf("must NOT have more than %d properties", k.Want)
	case *kind.AnyOf:
		return "must match a schema in anyOf"
	case *kind.OneOf:
		return "must match exactly one schema in oneOf"
	case *kind.Not:
		return "must NOT be valid"
	case *kind.FalseSchema:
		return "boolean schema is false"
	}
	return "must be valid: " + strings.Join(e.ErrorKind.KeywordPath(), "/")
}

// rational writes a fraction as a decimal.
func rational(s string) string {
	n, d, ok := strings.Cut(s, "/")
	if !ok {
		return s
	}
	x, err1 := strconv.ParseFloat(n, 64)
	y, err2 := strconv.ParseFloat(d, 64)
	if err1 != nil || err2 != nil {
		return s
	}
	return string(value.Append(nil, x/y))
}
