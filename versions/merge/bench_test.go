package merge_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/skerry-sync/skerry/versions/merge"
)

// Two sides that each changed two lines of a text, and one member of an object.
func BenchmarkMerge(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		var text, object bytes.Buffer
		object.WriteString("{")
		for i := 0; text.Len() < size; i++ {
			fmt.Fprintf(&text, "line %d of a text that people might write\n", i)
			if i%4 == 3 {
				text.WriteString("\n")
			}
			if object.Len() < size {
				fmt.Fprintf(&object, `"member%d":{"done":false,"title":"task %d"},`, i, i)
			}
		}
		object.WriteString(`"last":0}`)
		edited := func(text []byte, from, to string, part float64) []byte {
			at := int(part * float64(len(text)))
			return append(bytes.Clone(text[:at]), bytes.Replace(text[at:], []byte(from), []byte(to), 1)...)
		}
		for _, kind := range []struct {
			name     string
			f        merge.Func
			content  []byte
			from, to string
		}{
			{"text", merge.Text, text.Bytes(), "text", "poem"},
			{"json", merge.JSON, object.Bytes(), "false", "true"},
		} {
			local := edited(edited(kind.content, kind.from, kind.to, 0), kind.from, kind.to, 0.6)
			remote := edited(edited(kind.content, kind.from, kind.to, 0.3), kind.from, kind.to, 0.9)
			b.Run(fmt.Sprintf("%s/%dKiB", kind.name, size>>10), func(b *testing.B) {
				b.SetBytes(int64(len(kind.content)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := kind.f(kind.content, local, remote); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
