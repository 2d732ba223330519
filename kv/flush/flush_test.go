package flush

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// held is a flush that ends as it is told.
type held struct {
	began int
	end   chan func() error
}

func (h *held) run() error {
	h.began++
	return (<-h.end)()
}

func ends(err error) func() error { return func() error { return err } }

// wait calls Wait so many times at once, and returns where their errors come. A panic comes as
// an error, too.
func wait(g *Group, callers int) chan error {
	out := make(chan error, callers)
	for range callers {
		go func() {
			defer func() {
				if v := recover(); v != nil {
					out <- v.(error)
				}
			}()
			out <- g.Wait()
		}()
	}
	synctest.Wait()
	return out
}

func all(c chan error) (errs []error) {
	for range cap(c) {
		errs = append(errs, <-c)
	}
	return errs
}

// Whoever comes during a flush waits for the next one, which all of them share, with its error.
func TestCallersShareTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &held{end: make(chan func() error)}
		g := New(h.run)
		first := wait(g, 1)
		second := wait(g, 10)
		require.Equal(t, 1, h.began)
		h.end <- ends(nil)
		require.Equal(t, []error{nil}, all(first))
		synctest.Wait()
		require.Equal(t, 2, h.began)
		require.Empty(t, second, "the first may have missed what they wrote")

		third := wait(g, 5)
		wrong := errors.New("disk gone")
		h.end <- ends(wrong)
		for _, err := range all(second) {
			require.Equal(t, wrong, err)
		}
		synctest.Wait()
		require.Equal(t, 3, h.began)
		require.Empty(t, third)
		h.end <- ends(nil)
		require.Equal(t, make([]error, 5), all(third), "an error is not of later ones")

		fourth := wait(g, 1)
		require.Equal(t, 4, h.began, "with nobody there, one begins at once")
		h.end <- ends(nil)
		require.Equal(t, []error{nil}, all(fourth))
	})
}

// A panic ends the flush of those who share it, and no other.
func TestPanicLetsOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &held{end: make(chan func() error)}
		g := New(h.run)
		broken := errors.New("broken")
		panics := func() error { panic(broken) }
		first := wait(g, 1)
		second := wait(g, 3)
		h.end <- panics
		require.Equal(t, []error{broken}, all(first))
		synctest.Wait()
		third := wait(g, 2)
		h.end <- panics
		require.ElementsMatch(t, []error{broken, errPanic, errPanic}, all(second))
		h.end <- ends(nil)
		require.Equal(t, make([]error, 2), all(third))
	})
}

func TestManyAtOnce(t *testing.T) {
	written, durable := 0, 0
	var mu sync.Mutex
	g := New(func() error {
		mu.Lock()
		defer mu.Unlock()
		durable = written
		return nil
	})
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			for range 50 {
				mu.Lock()
				written++
				mine := written
				mu.Unlock()
				err := g.Wait()
				mu.Lock()
				if err != nil || durable < mine {
					t.Errorf("%d written, %d durable, error %v", mine, durable, err)
				}
				mu.Unlock()
			}
		})
	}
	callers.Wait()
}
