package reconcile_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/skerry-sync/skerry/reconcile"
)

// words is a set of words, as simple as a set can be: a session visits all of it.
type words struct {
	mu  sync.Mutex
	all map[string]bool
}

func wordsOf(text string) *words {
	w := &words{all: map[string]bool{}}
	for _, word := range strings.Fields(text) {
		w.all[word] = true
	}
	return w
}

func (w *words) sorted() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.all))
}

// scan yields the words of a range. The mark of a word is a hash of all that makes it differ.
func (w *words) scan(_ context.Context, r reconcile.Range) iter.Seq2[reconcile.Item, error] {
	return func(yield func(reconcile.Item, error) bool) {
		for _, word := range w.sorted() {
			id := sha256.Sum256([]byte(word))
			mark := reconcile.Mark{ID: id, Element: reconcile.Element(id[:16])}
			item := reconcile.Item{Key: []byte(word), Mark: mark, Data: []byte(word)}
			if r.Contains(item.Key) && !yield(item, nil) {
				return
			}
		}
	}
}

func (w *words) insert(_ context.Context, items [][]byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, item := range items {
		w.all[string(item)] = true
	}
	return nil
}

// Two sets become one, over any two streams of bytes.
func ExampleRun() {
	here, there := wordsOf("rock sea island"), wordsOf("sea lighthouse rock")
	a, b := net.Pipe()
	key := [32]byte{1} // in earnest, both sides contribute to it, anew each time
	var both sync.WaitGroup
	for set, end := range map[*words]net.Conn{here: a, there: b} {
		both.Go(func() {
			_, err := reconcile.Run(context.Background(), bufio.NewReader(end), end,
				func() { _ = end.Close() }, reconcile.Config{
					Set: reconcile.Scanned(set.scan), Insert: set.insert, Key: key,
					Initiator: set == here,
				})
			if err != nil {
				panic(err)
			}
		})
	}
	both.Wait()
	fmt.Println(here.sorted())
	fmt.Println(there.sorted())
	// Output:
	// [island lighthouse rock sea]
	// [island lighthouse rock sea]
}
