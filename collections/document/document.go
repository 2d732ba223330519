// Package document is what collections keep under a path: JSON documents with their hash, the time
// of each of their fields and the proof of their author, and logs of such elements, on any store.
//
// What belongs here: the form in which a document is stored, writing it under the condition that
// nobody else has, appending, and the function by which concurrent versions of a document become
// one. What never belongs here: HTTP, who may do so, and where objects lie.
//
// Start at Documents. The stored form is that of the published servers
// (docs/protocol/starfish-v3.md, "Stored documents") with two members more: "times", and "whole".
package document

import (
	"errors"
	"fmt"
	"math"

	"github.com/skerry-sync/skerry/collections/value"
)

// ErrCorrupt reports an object of a store that is no document.
var ErrCorrupt = errors.New("what is stored is not a document")

// Author is the proof of who wrote something.
type Author struct {
	Key       string // Ed25519 public key, hex
	Signature string // base64
}

// Document is a stored document. It must not be changed.
type Document struct {
	Data   *value.Object
	Hash   string // of Data
	Time   int64  // of the last write, in Unix milliseconds
	Author *Author

	// Times is when each field got its value: a number for all that lies below; an object with the
	// times of its members, of which those that Data lacks are the times at which they were deleted;
	// or an array of a time before which everything was deleted, and such an object. nil is Time.
	Times any
	// Whole is set if the document is replaced as a whole: of concurrent versions, the latest stands.
	// It is what only its readers understand.
	Whole bool

	text []byte // Data as JSON
	log  *segments
}

// Text returns the data as JSON.
func (d *Document) Text() []byte { return d.text }

// version is that of the stored form.
const version = 1

// New returns a document as it is first written.
func New(data *value.Object, time int64, author *Author, whole bool) *Document {
	return &Document{
		Data: data, Hash: value.Hash(data), Time: time, Author: author, Whole: whole,
		text: value.Append(nil, data),
	}
}

func member(key string, v any) value.Member { return value.Member{Key: key, Value: v} }

// Bytes returns the stored form.
func (d *Document) Bytes() []byte {
	b := append(make([]byte, 0, len(d.text)+256), `{"v":1,"data":`...)
	b = append(append(b, d.text...), `,"ts":`...)
	b = append(value.Append(b, float64(d.Time)), `,"hash":`...)
	b = value.AppendString(b, d.Hash)
	if d.Author != nil {
		b = value.AppendString(append(b, `,"authorPubkey":`...), d.Author.Key)
		b = value.AppendString(append(b, `,"authorSignature":`...), d.Author.Signature)
	}
	if d.Times != nil {
		b = value.Append(append(b, `,"times":`...), d.Times)
	}
	if d.Whole {
		b = append(b, `,"whole":true`...)
	}
	if d.log != nil {
		b = d.log.append(b)
	}
	return append(b, '}')
}

// maxDepth is how deeply what is stored may be nested: the data of the deepest request, as an
// element of a log within its document.
const maxDepth = value.MaxDepth + 4

// Parse reads the stored form. It returns an error that is ErrCorrupt.
func Parse(b []byte) (*Document, error) {
	o, err := value.ParseObject(b, maxDepth)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if v, _ := o.Get("v"); v != nil && v != float64(version) {
		return nil, fmt.Errorf(
			"%w of version %d, but of %s: this program is too old", ErrCorrupt, version,
			value.Append(nil, v),
		)
	}
	d := &Document{}
	data, _ := o.Get("data")
	if d.Data, _ = data.(*value.Object); d.Data == nil {
		d.Data = &value.Object{}
	}
	d.Hash, _ = o.String("hash")
	d.Time = whole(o, "ts")
	var author Author
	var has [2]bool
	author.Key, has[0] = o.String("authorPubkey")
	author.Signature, has[1] = o.String("authorSignature")
	if has[0] && has[1] {
		d.Author = &author
	}
	if d.Times, _ = o.Get("times"); d.Times != nil && !isTimes(d.Times) {
		return nil, fmt.Errorf("%w: its times are neither numbers nor objects of them", ErrCorrupt)
	}
	v, _ := o.Get("whole")
	d.Whole = v == true
	if v, _ := o.Get("seg"); v == true {
		d.log = parseSegments(o)
	}
	d.text = value.Append(nil, d.Data)
	return d, nil
}

// whole returns a member that is a whole number, or 0.
func whole(o *value.Object, key string) int64 {
	v, _ := o.Get(key)
	if f, ok := v.(float64); ok && math.Abs(f) < 1<<53 {
		return int64(f)
	}
	return 0
}

func isTimes(t any) bool {
	switch t := t.(type) {
	case float64:
		return !math.IsInf(t, 0)
	case *value.Object:
		for _, v := range t.All() {
			if !isTimes(v) {
				return false
			}
		}
		return true
	case value.Array:
		if len(t) != 2 {
			return false
		}
		floor, ok := t[0].(float64)
		_, isObject := t[1].(*value.Object)
		return ok && floor >= 0 && !math.IsInf(floor, 0) && isObject && isTimes(t[1])
	}
	return false
}
