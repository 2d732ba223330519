package collections

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/skerry-sync/skerry/collections/pattern"
	"github.com/skerry-sync/skerry/collections/value"
)

// schema is a JSON Schema that data must satisfy. Like the published servers' it is read as draft 7
// unless it says otherwise.
type schema struct {
	source   *value.Object
	matching matching
	patterns map[string]*pattern.Pattern
	any      *compiled // that all may use at once; nil if none may be
	// free are those that nobody uses, as many as may be used at once; nil is one yet to be compiled.
	free chan *compiled
}

// compiled is a schema as it can be checked. Only one goroutine at a time may do that if a pattern
// backtracks, or if the schema refers to itself, since the library tells patterns and keywords of
// nothing but what they are to look at.
type compiled struct {
	s         *jsonschema.Schema
	recursive bool // it refers to itself

	// Of the check that goes on.
	run     *pattern.Run
	checked map[checked][]*jsonschema.ValidationError // what is wrong; nil if nothing
}

// matchWithin is how long matching the strings of one document by patterns that backtrack may take.
const matchWithin = time.Second

// matching says how strings are matched by patterns.
type matching struct {
	linear bool             // patterns that backtrack are refused
	now    func() time.Time // nil is time.Now
}

type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s: a schema must not refer to others", url)
}

// matcher is a pattern of a compiled schema.
type matcher struct {
	*pattern.Pattern
	of *compiled
}

// MatchString implements jsonschema.Regexp.
func (m matcher) MatchString(s string) bool { return m.of.run.Match(m.Pattern, s) }

func compileSchema(o *value.Object, m matching) (*schema, error) {
	if o == nil {
		return nil, nil
	}
	s := &schema{source: o, matching: m, patterns: map[string]*pattern.Pattern{}}
	backtracks := false
	c, err := s.compile(func(text string) (*pattern.Pattern, error) {
		p, err := pattern.Compile(text, matchWithin)
		if err != nil {
			return nil, err
		}
		if m.linear && p.Backtracks() {
			return nil, fmt.Errorf("the pattern %s has a lookaround, a reference back or the like. "+
				"With extensions.rules it must not, as nodes could disagree about strings that "+
				"take long to match", pattern.Short(text))
		}
		s.patterns[text] = p
		backtracks = backtracks || p.Backtracks()
		return p, nil
	})
	if err != nil {
		return nil, err
	}
	if backtracks || c.recursive {
		n := runtime.GOMAXPROCS(0) // more at once would not be faster
		s.free = make(chan *compiled, n)
		s.free <- c
		for range n - 1 {
			s.free <- nil
		}
	} else {
		c.run = pattern.NewRun(matchWithin, nil) // in which nothing counts
		s.any = c
	}
	return s, nil
}

// compile compiles the schema with its patterns, which it asks read for.
func (s *schema) compile(read func(text string) (*pattern.Pattern, error)) (*compiled, error) {
	out := &compiled{}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.UseLoader(noLoader{})
	done := false
	c.UseRegexpEngine(func(text string) (jsonschema.Regexp, error) {
		if done { // it is data, which the schema wants to be a pattern, and nothing is matched by it
			p, err := pattern.Compile(text, matchWithin)
			return matcher{p, out}, err
		}
		p, err := read(text)
		return matcher{p, out}, err
	})
	if err := c.AddResource("schema:", goValue(s.source)); err != nil {
		return nil, err
	}
	var err error
	if out.s, err = c.Compile("schema:"); err != nil {
		return nil, err
	}
	done = true
	replaceUnique(out.s)
	if out.recursive, err = out.replaceRecursion(); err != nil {
		return nil, err
	}
	return out, nil
}

// take returns a compiled schema that nobody else uses until it is given back, or need not.
func (s *schema) take(ctx context.Context) (*compiled, error) {
	if s.any != nil {
		return s.any, nil
	}
	select {
	case c := <-s.free:
		if c != nil {
			return c, nil
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	read := func(text string) (*pattern.Pattern, error) { return s.patterns[text], nil }
	c, err := s.compile(read)
	if err != nil {
		s.free <- nil
	}
	return c, err
}

func (s *schema) give(c *compiled) {
	if s.any == nil {
		s.free <- c
	}
}

// goValue returns a value as encoding/json has it. What is infinite is null, as in the canonical
// form, in which it is stored.
func goValue(v any) any {
	switch v := v.(type) {
	case value.Array:
		a := make([]any, len(v))
		for i, x := range v {
			a[i] = goValue(x)
		}
		return a
	case *value.Object:
		m := make(map[string]any, v.Len())
		for k, x := range v.All() {
			m[k] = goValue(x)
		}
		return m
	case float64:
		if math.IsInf(v, 0) {
			return nil
		}
	}
	return v
}

// check refuses data that does not satisfy the schema; a nil schema is satisfied by all. It may
// have to wait until others are checked, no longer than ctx lasts.
func (s *schema) check(ctx context.Context, data *value.Object) error {
	if s == nil {
		return nil
	}
	c, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer s.give(c)
	run := c.run
	if s.any == nil {
		run = pattern.NewRun(matchWithin, s.matching.now)
		c.run = run
		if c.recursive {
			c.checked = map[checked][]*jsonschema.ValidationError{}
			defer func() { c.checked = nil }()
		}
	}
	err = c.s.Validate(goValue(data))
	if p := run.Undecided(); p != nil {
		reason := fmt.Sprintf("pattern \"%s\" takes too long to match", p)
		return invalidData(reason, value.Array{}, "pattern")
	}
	var invalid *jsonschema.ValidationError
	if err == nil {
		return nil
	}
	if !errors.As(err, &invalid) {
		return err
	}
	first := leaves(invalid)[0]
	path := value.Array{}
	for _, p := range first.InstanceLocation {
		path = append(path, p)
	}
	keyword := ""
	if k := first.ErrorKind.KeywordPath(); len(k) > 0 {
		keyword = k[0]
	}
	return invalidData(s.message(first), path, keyword)
}

// invalidData returns the answer to data that does not satisfy a schema.
func invalidData(message string, path value.Array, keyword string) error {
	return &answered{Answer{http.StatusBadRequest, value.NewObject(
		value.Member{Key: "error", Value: "Schema validation failed: " + message},
		value.Member{Key: "path", Value: path}, value.Member{Key: "validator", Value: keyword})}}
}

// seconds rounds a time up to whole seconds, as text.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
