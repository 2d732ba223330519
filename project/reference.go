package project

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// ReferenceType says what one asset is to another.
type ReferenceType uint64

// The types, by their numbers in OBJECTS. History is a chain of DerivedFrom.
const (
	Contains    ReferenceType = 1
	DependsOn   ReferenceType = 2
	DerivedFrom ReferenceType = 3
	References  ReferenceType = 4
)

var typeNames = map[ReferenceType]string{
	Contains: "contains", DependsOn: "depends-on", DerivedFrom: "derived-from",
	References: "references",
}

func (t ReferenceType) String() string {
	if s, ok := typeNames[t]; ok {
		return s
	}
	return fmt.Sprintf("type of reference %d", uint64(t))
}

// ParseReferenceType reads "contains", "depends-on", "derived-from" or "references".
func ParseReferenceType(s string) (ReferenceType, error) {
	for t, name := range typeNames {
		if name == s {
			return t, nil
		}
	}
	return 0, fmt.Errorf(
		"unknown type of reference %.70q: use contains, depends-on, derived-from or references", s,
	)
}

// Reference leads from one asset to another, of this project or, with Project, of another. Its
// target may be missing, not synced or not to be seen.
type Reference struct {
	ID      string
	Source  string // id of an asset
	Project string // of the target, if it is in another project
	Target  string // id of an asset
	Content [32]byte
	Type    ReferenceType
	Created time.Time
	unknown []byte
}

// Key returns the key of the reference's entry.
func (r *Reference) Key() []byte { return []byte(ReferencePrefix + r.ID) }

// Check returns ErrInvalid unless the reference may be stored.
func (r *Reference) Check() error {
	const what = "reference"
	err := errors.Join(
		checkID(what, "id", r.ID), checkID(what, "source", r.Source), checkID(what, "target", r.Target),
		checkTimes(what, r.Created, r.Created),
	)
	if _, ok := typeNames[r.Type]; !ok {
		err = errors.Join(err, invalid(what, "%s", r.Type))
	}
	if r.Project != "" {
		err = errors.Join(err, checkID(what, "project", r.Project))
	}
	return err
}

// The numbers of a Reference's fields, and of those of a CrossProjectReference, which has one more
// in the middle.
func (r *Reference) numbers() (target, content, kind, created protowire.Number) {
	if r.Project != "" {
		return 4, 5, 6, 7
	}
	return 3, 4, 5, 6
}

// Marshal returns the message: a CrossProjectReference if Project is set, else a Reference.
func (r *Reference) Marshal() []byte {
	target, content, kind, created := r.numbers()
	var f fields
	f.text(1, r.ID)
	f.text(2, r.Source)
	f.text(3, r.Project)
	f.text(target, r.Target)
	if r.Content != ([32]byte{}) {
		f.bytes(content, r.Content[:])
	}
	f.number(kind, uint64(r.Type))
	f.time(created, r.Created)
	return append(f, r.unknown...)
}

// ParseReference reads what Marshal wrote, or returns ErrMalformed. The two messages are told apart
// by their fifth field, which is a number in a Reference, and there in each that is right, and
// bytes in a CrossProjectReference, if it is there. Whether it is right is for Check to say.
func ParseReference(b []byte) (r Reference, err error) {
	cross := true
	if _, err := parse(b, func(f *field) (bool, error) {
		cross = cross && (f.number != 5 || f.kind != protowire.VarintType)
		return true, nil
	}); err != nil {
		return r, err
	}
	if cross {
		r.Project = "?" // until it is read, for numbers
	}
	target, content, kind, created := r.numbers()
	r.Project = ""
	r.unknown, err = parse(b, func(f *field) (known bool, err error) {
		switch {
		case f.number == 1:
			r.ID, err = f.text()
		case f.number == 2:
			r.Source, err = f.text()
		case f.number == 3 && cross:
			r.Project, err = f.text()
		case f.number == target:
			r.Target, err = f.text()
		case f.number == content:
			r.Content, err = hash(f)
		case f.number == kind:
			var n uint64
			n, err = f.uint()
			r.Type = ReferenceType(n)
		case f.number == created:
			r.Created, err = f.seconds()
		default:
			return false, nil
		}
		return true, err
	})
	if err == nil && cross && r.Project == "" {
		err = fmt.Errorf("%w: a reference without a type", ErrMalformed)
	}
	return r, err
}
