package value_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/cost"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// Twice as many members cost twice as much, whatever their keys are and in whatever order they
// come.
func TestWorkGrowsWithTheText(t *testing.T) {
	testkit.OneGoroutine(t)
	const n = 4000
	object := func(n int, key func(i int) string) []byte {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,%q:0`, key(i))
		}
		return []byte("{" + b.String()[1:] + "}")
	}
	texts := map[string]func(n int) []byte{
		"names": func(n int) []byte {
			return object(n, func(i int) string { return fmt.Sprint("k", i) })
		},
		"numbers upwards": func(n int) []byte {
			return object(n, func(i int) string { return fmt.Sprint(i) })
		},
		"numbers downward": func(n int) []byte {
			return object(n, func(i int) string { return fmt.Sprint(n - i) })
		},
		"numbers shuffled": func(n int) []byte {
			return object(n, func(i int) string { return fmt.Sprint(i * 7919 % n) })
		},
		"names, numbers": func(n int) []byte {
			return object(n, func(i int) string { return strings.Repeat("k", i&1) + fmt.Sprint(n-i) })
		},
		"the same key": func(n int) []byte { return object(n, func(int) string { return "k" }) },
		"unsafe keys": func(n int) []byte {
			return object(n, func(i int) string { return []string{"__proto__", fmt.Sprint(n - i)}[i&1] })
		},
		"numbers in items": func(n int) []byte {
			return []byte(`{"a":[` + strings.Repeat("0,", n) + "0]}")
		},
		"objects in items": func(n int) []byte {
			return []byte(`{"a":[` + strings.Repeat(`{"1":0,"0":0},`, n) + "0]}")
		},
		"escapes": func(n int) []byte {
			return []byte(`{"a":"` + strings.Repeat(`\ud83d\n`, n) + `"}`)
		},
		"too deep": func(n int) []byte {
			return []byte(`{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}")
		},
	}
	parsed := func(text []byte) *value.Object {
		v, _ := value.Parse(text, value.MaxDepth)
		return v.(*value.Object)
	}
	works := map[string]func(text []byte) func(){
		"parse": func(text []byte) func() { return func() { parsed(text) } },
		"canonical": func(text []byte) func() {
			o := parsed(text)
			return func() { value.AppendCanonical(nil, o) }
		},
		"sanitize": func(text []byte) func() {
			o := parsed(text)
			return func() { value.Sanitize(o) }
		},
		"merge": func(text []byte) func() {
			o, few := parsed(text), object(n, func(i int) string { return fmt.Sprint(2 * (n - i)) })
			other := parsed(few)
			return func() { value.Merge(o, other) }
		},
		"set": func(text []byte) func() {
			o := parsed(text)
			return func() {
				made := &value.Object{}
				for k, v := range o.All() {
					made.Set(k, v)
				}
				value.Append(nil, made)
			}
		},
	}
	for name, text := range texts {
		for does, work := range works {
			once, twice := cost.Bytes(work(text(n))), cost.Bytes(work(text(2*n)))
			require.LessOrEqual(
				t, twice, 3*once+1<<18, "%s of %s: %d, then %d bytes", does, name, once, twice,
			)
		}
	}
}

// Members that are set downwards cost no more than those that are set upwards, and stand where they
// belong.
func TestSetInAnyOrder(t *testing.T) {
	const n = 2000
	set := func(o *value.Object) {
		o.Set("name", 1.0)
		for i := range n {
			o.Set(fmt.Sprint(n-i), 0.0)
		}
	}
	o := &value.Object{}
	require.Less(t, cost.Bytes(func() { o = &value.Object{}; set(o) }), uint64(n*1000))
	i := 0
	for k := range o.All() {
		if i++; i <= n {
			require.Equal(t, fmt.Sprint(i), k)
		} else {
			require.Equal(t, "name", k)
		}
	}
	require.Equal(t, n+1, i)
	require.Equal(t, string(value.Append(nil, o)), string(value.Append(nil, o.Clone())))
	o.Delete("7", "name", "2000", "none")
	require.Equal(t, n-2, o.Len())
	_, there := o.Get("7")
	require.False(t, there)
	o.Set("2000", 1.0)
	require.True(t, strings.HasSuffix(string(value.Append(nil, o)), `,"1999":0,"2000":1}`))
}

// Who has gone is not worked for, and nobody brings more values than there may be.
func TestParseWithin(t *testing.T) {
	testkit.OneGoroutine(t)
	items := func(n int) []byte { return []byte("[" + strings.Repeat("0,", n-1) + "0]") }
	_, err := value.ParseWithin(t.Context(), items(value.MaxValues-1), 1)
	require.NoError(t, err, "the array is a value, too")
	_, err = value.ParseWithin(t.Context(), items(value.MaxValues), 1)
	require.ErrorIs(t, err, value.ErrTooMany)
	_, err = value.ParseWithin(t.Context(), []byte("["+string(items(value.MaxValues))+"]"), 1)
	require.ErrorIs(t, err, value.ErrTooMany, "also of what is too deep")
	_, err = value.Parse(items(value.MaxValues), 1)
	require.NoError(t, err, "what is stored is read")

	gone := &countdown{Context: t.Context(), left: 3}
	_, err = value.ParseWithin(gone, items(100_000), 1)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, gone.left, "it is asked again and again, and not once more")
}

// countdown is a context that ends when it has been asked so often.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left == 0 {
		return context.Canceled
	}
	return nil
}
