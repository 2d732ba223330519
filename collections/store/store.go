// Package store is what collections keep their documents in: one small interface, and its
// implementations in memory, in a directory and by functions of the caller.
//
// What belongs here: objects under keys. What never belongs here: what an object means; that is
// package document. Stores with dependencies of their own have packages below this one.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"sync/atomic"
)

var (
	// ErrNotFound reports a key under which there is nothing.
	ErrNotFound = errors.New("not found")
	// ErrChanged reports that there is something else under a key than a conditional Put expects.
	ErrChanged = errors.New("it has changed meanwhile")
	// ErrKey reports a key that is too long for a store, under which there never is anything.
	ErrKey = errors.New("the key is too long for the store")
	// ErrAhead reports a write over one of a time that this server's clock has not come to, as it was
	// ahead and has been set back: no other server takes it yet.
	ErrAhead = errors.New("this server's clock is behind the time of what it has written there")
	// ErrSignedLater reports a file over one whose request was signed later, which stands at all
	// servers.
	ErrSignedLater = errors.New("what is there was signed later than this")
	// ErrNotCome reports an object that another server has stored and whose content is not here yet.
	ErrNotCome = errors.New("the content has not come yet")
)

// Internal is what the keys of what servers keep for themselves begin with, which are no documents.
const Internal = "__sync__/"

// Mark stands in the keys of all that servers keep beside documents, as the chunks of a log. No
// request can name a key with it.
const Mark = "!"

// ReadOnlyError reports a store that this server may only read.
type ReadOnlyError struct{ Err error }

func (e *ReadOnlyError) Error() string { return "this server may not write: " + e.Err.Error() }

// Unwrap returns why.
func (e *ReadOnlyError) Unwrap() error { return e.Err }

// Object is what lies under a key. It must not be changed once a store has it or has returned it.
type Object struct {
	Body []byte
	Type string // media type
	Tag  string // differs whenever the object does; set by the store
	// Proof is the request that has asked for the object, nil of what a server writes by itself. A
	// store whose other servers check what they are given keeps it with the object; Get does not
	// return it.
	Proof *Proof

	memo atomic.Pointer[any]
}

// Memo returns what make makes of the object, which is kept with it: a store that returns the same
// object again spares its reader the parsing.
func (o *Object) Memo(make func() any) any {
	if m := o.memo.Load(); m != nil {
		return *m
	}
	v := make()
	o.memo.Store(&v)
	return v
}

// Condition says what must lie under a key for a Put to take place.
type Condition struct {
	tag   string
	given bool
}

// Whatever is no condition.
var Whatever Condition

// Absent is the condition that there is nothing.
var Absent = Condition{given: true}

// Same is the condition that the object with a tag is still there.
func Same(tag string) Condition { return Condition{tag, true} }

// Tag returns the tag that must be there, "" for none at all; ok is false if there is no condition.
func (c Condition) Tag() (tag string, ok bool) { return c.tag, c.given }

func (c Condition) met(now *Object) bool {
	if !c.given {
		return true
	}
	if now == nil {
		return c.tag == ""
	}
	return now.Tag == c.tag
}

// Store keeps objects. Its methods may be called by several goroutines at once. Keys are not empty
// and consist of segments that are separated by single slashes; no segment is ".", ".." or holds
// control characters. An object that Put has acknowledged survives the process and, in stores that
// outlive it, the loss of power.
type Store interface {
	// Get returns ErrNotFound if there is nothing.
	Get(ctx context.Context, key string) (*Object, error)
	// Put returns ErrChanged if the condition is not met, and may return ErrKey, ErrAhead and
	// ErrSignedLater. Either all of the object is stored, or nothing has happened.
	Put(ctx context.Context, key string, o *Object, if_ Condition) error
	// List returns, in the order of bytes, the first limit keys that begin with prefix and are greater
	// than after.
	List(ctx context.Context, prefix, after string, limit int) ([]string, error)
	// Delete removes what there is.
	Delete(ctx context.Context, key string) error
	Close() error
}

// Element is an element of a log.
type Element struct {
	Time  int64 // Unix milliseconds
	Body  []byte
	Proof *Proof // as that of an Object
}

// Length is how long a log is.
type Length struct {
	All   int64 // elements
	Shown int64 // of them, those that are not later than was asked for
	Last  int64 // the time of the last of these; -1 if there is none
}

// News is what a reader of a log has not got yet.
type News struct {
	Elements []Element
	Next     string // the cursor from here on
	More     bool   // there is more than was asked for
	// Undecided is how many elements are left out of which cannot be told yet whether they count, or
	// what they are. The cursor gets those that do.
	Undecided int
}

// ErrCursor reports a cursor that is none.
var ErrCursor = errors.New("it is not a cursor of this log")

// Logs is a store that keeps logs by itself. Without it, package document keeps a log in several
// objects.
type Logs interface {
	// Length returns how long a log is, of elements of until a time.
	Length(ctx context.Context, key string, until int64) (Length, error)
	// Has reports whether this server has added an element of a time.
	Has(ctx context.Context, key string, time int64) (bool, error)
	// Append adds an element, of a time that Has denies. head is the object that Get is to return
	// under the key.
	Append(ctx context.Context, key string, e Element, head *Object) error
	// Count returns how many elements of a log count, or a number of at least most if there are so
	// many. It may say more than there are, for a time, after some have been added that do not count.
	Count(ctx context.Context, key string, most int64) (int64, error)
	// Elements returns, in the order of their times, the elements that are later than after and
	// not later than until, but no more than the last limit of them, if that is
	// not negative. before, unless nil, is called before so many bytes of them are read into memory;
	// its error ends the reading. Of so many as undecided says cannot be told yet whether they count,
	// or what they are. Whoever asks for all after a time, which is not negative, and goes on from the
	// last that it gets, misses none that is decided within some time: it gets none behind it.
	Elements(
		ctx context.Context, key string, after, until int64, limit int, before func(bytes int) error,
	) (all []Element, undecided int, err error)
	// Since returns what a reader has not got who has a cursor, "" at first, and read up to it at any
	// server of the log: all elements that are later than after, which may be -1, some of which it
	// may have got before, and about limit at most. It returns ErrCursor.
	// before is as that of Elements.
	Since(
		ctx context.Context, key, cursor string, after int64, limit int, before func(bytes int) error,
	) (News, error)
}

// Proof is a request as far as its caller has signed it, by which others can check what it has
// asked for.
type Proof struct {
	Method string
	Target string      // path and, where it is signed, query
	Host   string      // of the server; "" where it is not signed
	Header http.Header // those that present the caller
	Media  string      // of the body, "" if it was not named
	Body   []byte
}

// Request is on whose behalf a store is used.
type Request struct {
	Namespace  string // "" is none
	Collection string
	Params     map[string]string // of the path
	Key        string            // that the path stands for
	Identity   string            // of the caller, "" if nobody
	Roles      []string
	Action     string // pull, push or list
}

type requestKey struct{}

// WithRequest returns a context that tells a store on whose behalf it is used.
func WithRequest(ctx context.Context, r *Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// RequestOf returns on whose behalf a store is used, or nil.
func RequestOf(ctx context.Context) *Request {
	r, _ := ctx.Value(requestKey{}).(*Request)
	return r
}

// tagOf is the tag of an object in stores that have none of their own.
func tagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:16])
}
