package replica

import (
	"bytes"
	"errors"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/kv"
)

// The order of a replica is by key bytes, then author. Order bytes are strings that compare in this
// order: the key with each zero byte written as 00 ff, then 00 01, then the author.
//
// Keys may be longer than a kv store's, so they are kept in a tree of spaces. The root space holds
// the entries whose key has at most 512 bytes, under their order bytes. A longer key is cut behind
// its first 512 bytes; the root space has, for these, a mark that ends in 00 02 instead of 00 01
// and an author, and the rest of the key lies in a space of its own, named by the hash of all that
// was cut off, where the same holds again. A walk that enters a space where it meets its mark
// visits all entries in order.

const pieceSize = 512

const (
	endOfKey = 0x01 // behind a zero byte: the key ends here, an author follows
	goesOn   = 0x02 // behind a zero byte: the key goes on in another space
	zeroByte = 0xff // behind a zero byte: the zero byte was a byte of the key
)

func appendEscaped(b, key []byte) []byte {
	for _, c := range key {
		if b = append(b, c); c == 0 {
			b = append(b, zeroByte)
		}
	}
	return b
}

// orderBytes returns the order bytes of a key and an author.
func orderBytes(key []byte, author AuthorID) []byte {
	b := appendEscaped(make([]byte, 0, len(key)+2+32), key)
	return append(append(b, 0, endOfKey), author[:]...)
}

// orderOfKey returns the range of order bytes of all entries of a key.
func orderOfKey(key []byte) kv.Range {
	return kv.Prefix(append(appendEscaped(nil, key), 0, endOfKey))
}

// orderOfPrefix returns the range of order bytes of all entries whose key begins with prefix.
func orderOfPrefix(prefix []byte) kv.Range {
	if len(prefix) == 0 {
		return kv.Range{}
	}
	// A prefix that ends in a zero byte ends in 00 ff, so it does not take in keys that end before the
	// zero byte.
	return kv.Prefix(appendEscaped(nil, prefix))
}

// space is a kv prefix under which entries lie, and the key bytes cut off before it.
type space struct {
	prefix []byte
	cut    []byte
}

func rootSpace(n number) space {
	return space{prefix: append(numberKey(keyEntry, n), 0)}
}

// below returns the space of the keys that begin with all of cut.
func below(n number, cut []byte) space {
	h := blake3.Sum256(cut)
	prefix := append(numberKey(keyEntry, n), 1)
	return space{prefix: append(prefix, h[:16]...), cut: cut}
}

// entryKey returns the kv key of an entry, and those of the marks that lead to it.
func entryKey(n number, key []byte, author AuthorID) (entry []byte, marks [][]byte) {
	at := rootSpace(n)
	for len(key)-len(at.cut) > pieceSize {
		piece := key[len(at.cut) : len(at.cut)+pieceSize]
		marks = append(marks, append(appendEscaped(bytes.Clone(at.prefix), piece), 0, goesOn))
		at = below(n, key[:len(at.cut)+pieceSize])
	}
	return append(bytes.Clone(at.prefix), orderBytes(key[len(at.cut):], author)...), marks
}

var errBadEntryKey = errors.New("replica store: malformed entry key")

// splitKey takes apart what follows a space's prefix: the piece, and the author, or more if the key
// goes on.
func splitKey(b []byte) (piece []byte, author AuthorID, more bool, err error) {
	for i := 0; i+1 < len(b); i++ {
		if b[i] != 0 {
			piece = append(piece, b[i])
			continue
		}
		i++
		switch b[i] {
		case zeroByte:
			piece = append(piece, 0)
			continue
		case endOfKey:
			if len(b) == i+1+len(author) {
				copy(author[:], b[i+1:])
				return piece, author, false, nil
			}
		case goesOn:
			if len(b) == i+1 {
				return piece, author, true, nil
			}
		}
		break
	}
	return nil, author, false, errBadEntryKey
}

// firstPiece returns the part of order bytes that stands for the first 512 bytes of a key, and
// whether anything follows.
func firstPiece(order []byte) ([]byte, bool) {
	n := 0
	for i := 0; i < len(order); i++ {
		if n == pieceSize {
			return order[:i], true
		}
		if order[i] == 0 && i+1 < len(order) {
			if i++; order[i] == endOfKey {
				break
			}
		}
		n++
	}
	return order, false
}

// walk visits the entries of a replica whose order bytes lie in r, in order or in reverse. visit
// gets the whole key, which it may keep, and the record, valid only during the call; it returns
// false to stop.
func walk(
	rd kv.Reader, n number, r kv.Range, reverse bool,
	visit func(key []byte, author AuthorID, value []byte) bool,
) error {
	_, err := walkSpace(rd, n, rootSpace(n), r, reverse, visit)
	return err
}

func walkSpace(
	rd kv.Reader, n number, at space, r kv.Range, reverse bool,
	visit func([]byte, AuthorID, []byte) bool,
) (bool, error) {
	if r.To != nil && bytes.Compare(r.From, r.To) >= 0 {
		return true, nil
	}
	scan := kv.Prefix(at.prefix)
	// A bound that reaches into another space would sort behind the mark that leads there, so it is
	// cut to the mark's own piece.
	from, _ := firstPiece(r.From)
	scan.From = append(bytes.Clone(at.prefix), from...)
	if r.To != nil {
		to, deeper := firstPiece(r.To)
		scan.To = append(bytes.Clone(at.prefix), to...)
		if deeper {
			scan.To = append(scan.To, 0, goesOn+1)
		}
	}
	for p, err := range rd.Scan(scan, kv.ScanOptions{Reverse: reverse}) {
		if err != nil {
			return false, err
		}
		order := p.Key[len(at.prefix):]
		piece, author, more, err := splitKey(order)
		if err != nil {
			return false, err
		}
		key := append(at.cut[:len(at.cut):len(at.cut)], piece...)
		if !more {
			if bytes.Compare(order, r.From) < 0 || r.To != nil && bytes.Compare(order, r.To) >= 0 {
				continue
			}
			if !visit(key, author, p.Value) {
				return false, nil
			}
			continue
		}
		if len(piece) != pieceSize {
			return false, errBadEntryKey
		}
		inner, ok := rangeBelow(r, order[:len(order)-2])
		if !ok {
			continue
		}
		if goOn, err := walkSpace(rd, n, below(n, key), inner, reverse, visit); !goOn || err != nil {
			return false, err
		}
	}
	return true, nil
}

// rangeBelow restricts r to the order bytes that begin with piece, and takes piece off. ok is false
// if there are none.
func rangeBelow(r kv.Range, piece []byte) (inner kv.Range, ok bool) {
	switch {
	case bytes.HasPrefix(r.From, piece):
		inner.From = r.From[len(piece):]
	case bytes.Compare(r.From, piece) > 0:
		return inner, false
	}
	switch {
	case r.To == nil:
	case bytes.HasPrefix(r.To, piece):
		inner.To = r.To[len(piece):]
		if len(inner.To) == 0 {
			return inner, false
		}
	case bytes.Compare(r.To, piece) < 0:
		return inner, false
	}
	return inner, true
}
