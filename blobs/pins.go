package blobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
)

// A Pin keeps a blob, under a name, until it is unpinned. Its record is the value under "bp" and
// the name: version u8 = 1, kind u8 (0 blob, 1 sequence), hash[32].
type Pin struct {
	Name     string
	Hash     Hash
	Sequence bool // the children are kept, too
}

// MaxPinName is the length of a pin's name in bytes.
const MaxPinName = 1024

// ErrPinName reports a name that no pin can have.
var ErrPinName = kind.New(kind.Usage, "invalid pin name")

// ErrPinNotFound reports a pin that is not there.
var ErrPinNotFound = kind.New(kind.NotFound, "no such pin")

func pinKey(name string) []byte { return append([]byte(keyPin), name...) }

func (p Pin) marshal() []byte {
	kind := byte(0)
	if p.Sequence {
		kind = 1
	}
	return append([]byte{1, kind}, p.Hash[:]...)
}

func parsePin(key, value []byte) (p Pin, err error) {
	if len(value) != 2+HashSize || value[0] != 1 || value[1] > 1 {
		return p, errMalformed
	}
	return Pin{Name: string(key[len(keyPin):]), Hash: Hash(value[2:]), Sequence: value[1] == 1}, nil
}

// Pin keeps the blob p.Hash, which must be in the store, whole or partly; or else ErrNotFound. A
// pin of the same name is moved. While a Collect runs, the list of a sequence is read: if it is
// damaged, that is the error.
func (s *Store) Pin(ctx context.Context, p Pin) error {
	if p.Name == "" || len(p.Name) > MaxPinName || !utf8.ValidString(p.Name) ||
		strings.ContainsFunc(p.Name, func(r rune) bool { return r < ' ' }) {
		return fmt.Errorf(
			"%w: %q: it must be 1 to %d bytes of text in one line", ErrPinName, p.Name, MaxPinName,
		)
	}
	s.Touch(p.Hash)
	if p.Sequence { // a collection that runs may have looked at the pins already
		if err := s.TouchSequence(ctx, p.Hash); err != nil {
			return fmt.Errorf("pin %q: %w", p.Name, err)
		}
	}
	return s.kv.Update(ctx, func(tx kv.Txn) error {
		if _, err := getRecord(tx, p.Hash); err != nil {
			return err
		}
		return tx.Set(pinKey(p.Name), p.marshal())
	})
}

// PinNew keeps a blob under a name that nothing else has: p.Name, or that with a number behind it.
// It returns the name. If the blob is pinned under such a name already, it stays so.
func (s *Store) PinNew(ctx context.Context, p Pin) (name string, err error) {
	base := p.Name
	for i := 2; ; i++ {
		old, err := s.PinNamed(ctx, p.Name)
		switch {
		case errors.Is(err, ErrPinNotFound):
			return p.Name, s.Pin(ctx, p)
		case err != nil:
			return "", err
		case old.Hash == p.Hash && old.Sequence == p.Sequence:
			return p.Name, nil
		}
		p.Name = fmt.Sprintf("%s#%d", base, i)
	}
}

// PinNamed returns the pin of that name, or ErrPinNotFound.
func (s *Store) PinNamed(ctx context.Context, name string) (p Pin, err error) {
	err = s.kv.View(ctx, func(r kv.Reader) error {
		v, err := r.Get(pinKey(name))
		if errors.Is(err, kv.ErrNotFound) {
			return fmt.Errorf("%w: %q", ErrPinNotFound, name)
		}
		if err != nil {
			return err
		}
		p, err = parsePin(pinKey(name), v)
		return err
	})
	return p, err
}

// Unpin removes the pin of that name, or returns ErrPinNotFound. The blob stays until Collect finds
// nothing else that keeps it.
func (s *Store) Unpin(ctx context.Context, name string) error {
	return s.kv.Update(kv.ToMakeRoom(ctx), func(tx kv.Txn) error {
		has, err := tx.Has(pinKey(name))
		if err == nil && !has {
			err = fmt.Errorf("%w: %q", ErrPinNotFound, name)
		}
		if err != nil {
			return err
		}
		return tx.Delete(pinKey(name))
	})
}

// Pins yields all pins in the order of their names.
func (s *Store) Pins(ctx context.Context) iter.Seq2[Pin, error] {
	return func(yield func(Pin, error) bool) {
		stopped := false
		err := s.kv.View(ctx, func(r kv.Reader) error {
			for p, err := range r.Scan(kv.Prefix([]byte(keyPin)), kv.ScanOptions{}) {
				if err != nil {
					return err
				}
				pin, err := parsePin(bytes.Clone(p.Key), p.Value)
				if err != nil {
					return err
				}
				if !yield(pin, nil) {
					stopped = true
					return nil
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(Pin{}, err)
		}
	}
}
