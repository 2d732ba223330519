package document_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// stepped is a store of which each operation waits for its turn, as that of one server among
// several. A server can be lost before, or after, one of its operations.
type stepped struct {
	store.Store
	turn chan turn
	wait chan bool // true: it waits for its turn; false: it has ended
}

// turn is what becomes of an operation.
type turn int

const (
	done  turn = iota
	again      // a write is done, its answer is lost, and so it is sent again, later
	lost       // the server ends before it
)

var errLost = errors.New("the server is gone")

func (s *stepped) step() (turn, error) {
	s.wait <- true
	is := <-s.turn
	if is == lost {
		return is, errLost
	}
	return is, nil
}

func (s *stepped) Get(ctx context.Context, key string) (*store.Object, error) {
	if _, err := s.step(); err != nil {
		return nil, err
	}
	return s.Store.Get(ctx, key)
}

func (s *stepped) Put(ctx context.Context, key string, o *store.Object, if_ store.Condition) error {
	is, err := s.step()
	if err != nil {
		return err
	}
	err = s.Store.Put(ctx, key, o, if_)
	for is == again {
		if is, err = s.step(); err != nil {
			return err
		}
		err = s.Store.Put(ctx, key, o, if_)
	}
	return err
}

func (s *stepped) List(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	if _, err := s.step(); err != nil {
		return nil, err
	}
	return s.Store.List(ctx, prefix, after, limit)
}

func (s *stepped) Delete(ctx context.Context, key string) error {
	if _, err := s.step(); err != nil {
		return err
	}
	return s.Store.Delete(ctx, key)
}

// Several servers, each with its clock and perhaps its size of chunks, append to a log in one
// store, in whatever order their steps come. Some servers are lost between two of them, and some
// answers of the store. What was acknowledged is there, once; what was not, no more than once.
func TestSeveralServersAppend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shared := store.NewMemory()
		ctx := context.Background()
		sizes := rapid.Int64Range(1, 3)
		l := document.Log{Field: "items", ChunkSize: sizes.Draw(t, "chunk")}
		differ := rapid.Bool().Draw(t, "sizes differ")
		if rapid.Bool().Draw(t, "of another server") {
			const inline = `{"v":1,"data":{"items":[{"ts":1,"data":{"i":"a"}},{"ts":2,"data":{"i":"b"}},{"ts":3,"data":{"i":"c"}}]},"ts":3,"hash":"h"}`
			require.NoError(t, shared.Put(ctx, "log", &store.Object{Body: []byte(inline)}, store.Whatever))
		}
		var clocks []*clock
		var acknowledged, tried []string
		servers := make([]*stepped, rapid.IntRange(2, 3).Draw(t, "servers"))
		// What a server says comes between its turn and the next, so that there is one at a time.
		for i := range servers {
			s := &stepped{shared, make(chan turn), make(chan bool)}
			servers[i] = s
			c := newClock()
			clocks = append(clocks, c)
			d := document.In(s, c.now)
			l := l
			if differ {
				l.ChunkSize = sizes.Draw(t, "chunk of one")
			}
			go func() {
				defer func() { s.wait <- false }()
				for n := range 3 {
					s.wait <- true
					if <-s.turn == lost {
						return
					}
					item := fmt.Sprintf("%d-%d", i, n)
					tried = append(tried, item)
					data := value.NewObject(value.Member{Key: "i", Value: item})
					_, err := d.Append(ctx, "log", data, nil, nil, l)
					if errors.Is(err, errLost) {
						return
					}
					if err == nil {
						acknowledged = append(acknowledged, item)
					}
				}
			}()
		}
		numbers := map[*stepped]int{}
		for i, s := range servers {
			numbers[s] = i
		}
		turns := rapid.SampledFrom(append(slices.Repeat([]turn{done}, 28), again, again, lost))
		ticks := rapid.IntRange(0, 20)
		alive := slices.DeleteFunc(slices.Clone(servers), func(s *stepped) bool { return !<-s.wait })
		for len(alive) > 0 {
			i := rapid.IntRange(0, len(alive)-1).Draw(t, "who")
			c := clocks[numbers[alive[i]]]
			for range rapid.IntRange(1, 6).Draw(t, "steps") {
				c.at = c.at.Add(time.Duration(ticks.Draw(t, "ms")) * time.Millisecond)
				is := turns.Draw(t, "turn")
				if len(alive) == 1 && is == lost {
					is = done
				}
				alive[i].turn <- is
				if !<-alive[i].wait { // until its next step, or its end
					alive = slices.Delete(alive, i, i+1)
					break
				}
			}
		}
		later := newClock()
		later.at = later.at.Add(time.Hour)
		p, err := document.In(shared, later.now).Elements(ctx, "log", 0, nil, l)
		require.NoError(t, err)
		count := map[string]int{}
		for _, e := range p.Elements {
			count[strings.Trim(text(e), `{}"`)]++
		}
		for _, item := range acknowledged {
			n := 0
			for e, c := range count {
				if strings.Contains(e, item) {
					n += c
				}
			}
			require.Equal(t, 1, n, "%s: %v", item, count)
		}
		for e, c := range count {
			require.Equal(t, 1, c, e)
		}
		require.EqualValues(t, len(p.Elements), p.Length)
		require.LessOrEqual(t, len(acknowledged), len(tried))
	})
}
