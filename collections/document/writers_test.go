package document_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

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
	turn chan bool // false ends the server
	wait chan bool // true: it waits for its turn; false: it has ended
}

var errLost = errors.New("the server is gone")

func (s *stepped) step() error {
	s.wait <- true
	if !<-s.turn {
		return errLost
	}
	return nil
}

func (s *stepped) Get(ctx context.Context, key string) (*store.Object, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	return s.Store.Get(ctx, key)
}

func (s *stepped) Put(ctx context.Context, key string, o *store.Object, if_ store.Condition) error {
	if err := s.step(); err != nil {
		return err
	}
	return s.Store.Put(ctx, key, o, if_)
}

func (s *stepped) List(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	return s.Store.List(ctx, prefix, after, limit)
}

func (s *stepped) Delete(ctx context.Context, key string) error {
	if err := s.step(); err != nil {
		return err
	}
	return s.Store.Delete(ctx, key)
}

// Several servers append to a log in one store, in whatever order their steps come, and some are
// lost between two of them: what was acknowledged is there, once.
func TestSeveralServersAppend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shared := store.NewMemory()
		ctx := context.Background()
		l := document.Log{Field: "items", ChunkSize: rapid.Int64Range(1, 3).Draw(t, "chunk")}
		if rapid.Bool().Draw(t, "of another server") {
			const inline = `{"v":1,"data":{"items":[{"ts":1,"data":{"i":"a"}},{"ts":2,"data":{"i":"b"}},{"ts":3,"data":{"i":"c"}}]},"ts":3,"hash":"h"}`
			require.NoError(t, shared.Put(ctx, "log", &store.Object{Body: []byte(inline)}, store.Whatever))
		}
		clock := newClock()
		var acknowledged, tried []string
		servers := make([]*stepped, rapid.IntRange(2, 3).Draw(t, "servers"))
		// What a server says comes between its turn and the next, so that there is one at a time.
		for i := range servers {
			s := &stepped{shared, make(chan bool), make(chan bool)}
			servers[i] = s
			d := document.In(s, clock.now)
			go func() {
				defer func() { s.wait <- false }()
				for n := range 3 {
					s.wait <- true
					if !<-s.turn {
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
		alive := slices.DeleteFunc(slices.Clone(servers), func(s *stepped) bool { return !<-s.wait })
		for len(alive) > 0 {
			i := rapid.IntRange(0, len(alive)-1).Draw(t, "who")
			for range rapid.IntRange(1, 6).Draw(t, "steps") {
				alive[i].turn <- len(alive) == 1 || rapid.IntRange(0, 30).Draw(t, "lost") < 30
				if !<-alive[i].wait { // until its next step, or its end
					alive = slices.Delete(alive, i, i+1)
					break
				}
			}
		}
		p, err := document.In(shared, clock.now).Elements(ctx, "log", 0, nil, l)
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
