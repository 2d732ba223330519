package replicas_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// Whatever an author writes among the entries of a log, what is no element of it keeps nobody from
// reading those of others, and from adding some.
func TestWhatIsNoElement(t *testing.T) {
	testkit.OneGoroutine(t)
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	evil := m.other(t)
	clock := func() time.Time { return time.UnixMilli(2_000_000_000_000) }
	d, l := document.In(m, clock), document.Log{Field: "items"}
	add := func(log string, i int) {
		at := int64(1_000_000_000_000 + i)
		_, err := d.Add(t.Context(), log, document.Addition{Time: &at,
			Data: value.NewObject(value.Member{Key: "i", Value: float64(i)})}, l)
		require.NoError(t, err, log)
	}
	text := func(a value.Array) (s string) {
		for _, e := range a {
			s += string(value.Append(nil, e)) + "\n"
		}
		return s
	}
	deep := `{"data":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}"
	keys := []string{
		"", "x", "!", "-", "~", "0", "+000000000000005", "-000000000000005", "0000000000000005 ",
		"000000000000005", "00000000000000005", "1000000000000", "0001000000000001x", "99999999999999999",
		"\x000000000000000005", "x\x000001000000000001", "0001000000000001\x000001000000000001",
		"0x00000000000005", "٠001000000000001",
	}
	bodies := map[string]string{
		"empty array": "[]", "text": "x", "half": `{"data":`, "two": "{}{}", "deep": deep,
	}
	for _, key := range keys {
		bodies["key "+key] = `{"ts":5,"data":{"evil":1}}`
	}
	n := 0
	for name, body := range bodies {
		log := fmt.Sprintf("log%d", n)
		n++
		key, isKey := strings.CutPrefix(name, "key ")
		if !isKey {
			key = "0001000000000004"
		}
		for i := range 4 {
			add(log, i)
		}
		first, err := d.Since(t.Context(), log, "", -1, 100, l)
		require.NoError(t, err, name)
		require.NoError(t, m.Settle(t.Context()))
		for _, k := range []string{key, strings.Repeat("9", 16) + "9" + key} {
			m.forge(t, evil, "log/"+log+"\x00"+k, []byte(body))
		}
		for i := range 3 {
			add(log, 5+i)
		}
		require.NoError(t, m.Settle(t.Context()))
		all, err := d.Elements(t.Context(), log, -1, nil, l)
		require.NoError(t, err, name)
		require.Len(t, all.Elements, 7, name)
		require.NotContains(t, text(all.Elements), "evil", name)
		two := int64(2)
		last, err := d.Elements(t.Context(), log, -1, &two, l)
		require.NoError(t, err, name)
		require.Equal(t, text(all.Elements[5:]), text(last.Elements), name)
		require.Equal(t, all.Hash, last.Hash, name)
		for _, cursor := range []string{"", first.Next} {
			got := ""
			for {
				news, err := d.Since(t.Context(), log, cursor, -1, 2, l)
				require.NoError(t, err, name)
				got += text(news.Elements)
				if cursor = news.Next; !news.More {
					break
				}
			}
			require.Contains(t, got, text(all.Elements[4:]), name)
			require.NotContains(t, got, "evil", name)
			again, err := d.Since(t.Context(), log, cursor, -1, 2, l)
			require.NoError(t, err, name)
			require.Empty(t, again.Elements, name)
		}
		length, err := m.Length(t.Context(), log, math.MaxInt64)
		require.NoError(t, err, name)
		require.NotZero(t, length.All, name)
	}
}

// An element of the last time that there is stands in the way of no reader.
func TestLastOfAllTimes(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	key := "log/log\x00" + strings.Repeat("9", 16)
	m.forge(t, m.other(t), key, []byte(`{"ts":9999999999999999,"data":{}}`))
	m.forge(t, m.other(t), key+"9", []byte(`{"ts":9999999999999999,"data":{}}`))
	n, err := m.Since(t.Context(), "log", "", -1, 10, nil)
	require.NoError(t, err)
	require.Len(t, n.Elements, 1)
	n, err = m.Since(t.Context(), "log", n.Next, -1, 10, nil)
	require.NoError(t, err)
	require.Empty(t, n.Elements)
}
