package value_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/skerry-sync/skerry/collections/value"
)

// What a push does with its data: reads it, leaves unsafe members out, hashes it and writes it.
func BenchmarkPush(b *testing.B) {
	var wide strings.Builder
	for i := range 30 {
		fmt.Fprintf(&wide, `,"field%02d":{"v":%d,"name":"value %d"}`, i, i, i)
	}
	for name, text := range map[string]string{
		"small": `{"data":{"title":"A note","tags":["a","b"],"count":12,"body":"words and words and words"},"baseHash":null}`,
		"wide":  `{"data":{` + wide.String()[1:] + `},"baseHash":null}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				body, err := value.ParseObject([]byte(text), value.MaxDepth)
				if err != nil {
					b.Fatal(err)
				}
				data, _ := body.Get("data")
				o := value.Sanitize(data.(*value.Object))
				hash, text := value.Hash(o), value.Append(nil, o)
				if len(hash) != 64 || len(text) == 0 {
					b.Fatal("nothing was written")
				}
			}
		})
	}
}
