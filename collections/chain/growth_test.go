package chain

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/cost"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// Reading what an endpoint answers does twice the work for twice the bytes, counted in what it
// allocates.
func TestWorkGrowsWithTheReply(t *testing.T) {
	testkit.OneGoroutine(t)
	const calls = 64
	list := func(n int, one func(i int) string) string {
		all := make([]string, n)
		for i := range all {
			all[i] = one(i)
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	result := func(i int) string { return fmt.Sprintf(`{"id":%d,"result":"0x00"}`, i+1) }
	for name, text := range map[string]func(n int) string{
		"replies":     func(n int) string { return list(n, result) },
		"the same id": func(n int) string { return list(n, func(int) string { return result(0) }) },
		"errors": func(n int) string {
			return list(n, func(i int) string { return fmt.Sprintf(`{"id":%d,"error":{"code":3}}`, i+1) })
		},
		"a long result": func(n int) string {
			return `[{"id":1,"result":"0x` + strings.Repeat("00", 10*n) + `"}]`
		},
		"no hexadecimal": func(n int) string {
			return `[{"id":1,"result":"0x` + strings.Repeat("xx", 10*n) + `"}]`
		},
		"deep": func(n int) string { return strings.Repeat("[", n) },
		"no list": func(n int) string {
			return `{"error":{"code":1,"message":"` + strings.Repeat("long ", 10*n) + `"}}`
		},
		"of others": func(n int) string {
			return list(n, func(i int) string { return fmt.Sprintf(`{"%d":[]}`, i) })
		},
	} {
		const n = 3000
		work := func(text []byte, count int) func() {
			return func() { _, _ = parseReplies(text, count) }
		}
		for _, count := range []int{1, calls, n, 2 * n} {
			once := cost.Bytes(work([]byte(text(n)), count))
			twice := cost.Bytes(work([]byte(text(2*n)), count))
			require.LessOrEqual(
				t, twice, 3*once+1<<16, "%s for %d calls: %d, then %d bytes", name, count, once,
				twice,
			)
		}
	}
}
