// Package project is what OBJECTS keeps in a replica: a project with its assets, the references
// between them, and signatures of their authors.
//
// What belongs here: the types, their form in bytes, the keys of their entries, and what makes each
// of them right, which is checked before it is written; and what is done with them: adding versions
// of assets and references, and finding what is there. What never belongs here: how a replica
// stores and syncs, and who a person is: both are handed in.
//
// Start at [Open], or at [Create] for a replica that is no project yet.
//
// Facts from OBJECTS RFC-004, draft 0.1: messages of the proto3 package objects.data.v1, in binary
// form; times in Unix seconds. Unknown fields are kept.
package project

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/replica"
)

// Keys of entries.
const (
	ProjectKey      = "/project"
	AssetPrefix     = "/assets/"
	ReferencePrefix = "/refs/"
	// SignaturePrefix is where signed assets are kept, by the ids of the assets: OBJECTS says nothing
	// about that.
	SignaturePrefix = "/signatures/"
)

// Limits, in bytes.
const (
	MaxID   = 64
	MaxName = 1024
	MaxText = 16 << 10
)

// ErrInvalid reports a project, asset or reference that lacks something, or contradicts itself.
var ErrInvalid = kind.New(kind.Usage, "invalid")

func invalid(what, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %s", what, ErrInvalid, fmt.Sprintf(format, args...))
}

// checkID returns what is wrong with an id: letters, digits and hyphens, at most MaxID.
func checkID(what, name, id string) error {
	alphanumeric := func(c rune) bool {
		return c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	}
	if id == "" || len(id) > MaxID ||
		strings.ContainsFunc(id, func(c rune) bool { return !alphanumeric(c) }) {
		return invalid(what, "%s %.70q: expected 1 to %d letters, digits and hyphens", name, id, MaxID)
	}
	return nil
}

func checkText(what, name, s string, most int, required bool) error {
	switch {
	case required && s == "":
		return invalid(what, "no %s", name)
	case len(s) > most:
		return invalid(what, "%s of %d bytes, at most %d", name, len(s), most)
	case !utf8.ValidString(s):
		return invalid(what, "%s is not UTF-8", name)
	}
	return nil
}

func checkTimes(what string, created, updated time.Time) error {
	switch {
	case created.IsZero() || created.Unix() <= 0:
		return invalid(what, "no time of creation")
	case updated.Before(created):
		return invalid(what, "updated before it was created")
	}
	return nil
}

func checkIdentity(what, name, id string) error {
	if _, err := identity.ParseID(id); err != nil {
		return invalid(what, "%s: %v", name, err)
	}
	return nil
}

func seconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// Project describes the replica that it is.
type Project struct {
	ID          string // hex of the replica id's first 16 bytes
	Name        string
	Description string
	Owner       string // an identity id
	Created     time.Time
	Updated     time.Time
	unknown     []byte
}

// IDOf is the id of the project that a replica is.
func IDOf(id replica.ID) string { return fmt.Sprintf("%x", id[:16]) }

// New describes a new project.
func New(id replica.ID, name string, owner identity.ID, now time.Time) Project {
	return Project{
		ID: IDOf(id), Name: name, Owner: owner.String(), Created: seconds(now), Updated: seconds(now),
	}
}

// Key returns the key of the project's entry.
func (p *Project) Key() []byte { return []byte(ProjectKey) }

// Check returns ErrInvalid unless the project may be stored in the replica with this id.
func (p *Project) Check(id replica.ID) error {
	const what = "project"
	if p.ID != IDOf(id) {
		return invalid(what, "id %.70q, in a replica whose project has the id %s", p.ID, IDOf(id))
	}
	return errors.Join(
		checkText(what, "name", p.Name, MaxName, true),
		checkText(what, "description", p.Description, MaxText, false),
		checkIdentity(what, "owner", p.Owner), checkTimes(what, p.Created, p.Updated),
	)
}

// Marshal returns the message.
func (p *Project) Marshal() []byte {
	var f fields
	f.text(1, p.ID)
	f.text(2, p.Name)
	f.text(3, p.Description)
	f.text(4, p.Owner)
	f.time(5, p.Created)
	f.time(6, p.Updated)
	return append(f, p.unknown...)
}

// Parse reads what Marshal wrote, or returns ErrMalformed. Whether it is right is for Check to say.
func Parse(b []byte) (p Project, err error) {
	p.unknown, err = parse(b, func(f *field) (known bool, err error) {
		switch f.number {
		case 1:
			p.ID, err = f.text()
		case 2:
			p.Name, err = f.text()
		case 3:
			p.Description, err = f.text()
		case 4:
			p.Owner, err = f.text()
		case 5:
			p.Created, err = f.seconds()
		case 6:
			p.Updated, err = f.seconds()
		default:
			return false, nil
		}
		return true, err
	})
	return p, err
}

// Asset is a thing that people work on. Its content is a blob of its own; the hash of that is its
// version.
type Asset struct {
	ID      string // letters, digits and hyphens
	Name    string
	Author  string   // an identity id
	Content [32]byte // BLAKE3
	Size    uint64
	Format  string // a media type
	Created time.Time
	Updated time.Time
	unknown []byte
}

// Key returns the key of the asset's entry.
func (a *Asset) Key() []byte { return []byte(AssetPrefix + a.ID) }

var emptyHash = blake3.Sum256(nil)

// Check returns ErrInvalid unless the asset may be stored.
func (a *Asset) Check() error {
	const what = "asset"
	if (a.Size == 0) != (a.Content == emptyHash) || a.Content == ([32]byte{}) {
		return invalid(what, "size %d does not fit the content's hash", a.Size)
	}
	return errors.Join(
		checkID(what, "id", a.ID), checkText(what, "name", a.Name, MaxName, true),
		checkIdentity(what, "author", a.Author), checkText(what, "format", a.Format, MaxName, false),
		checkTimes(what, a.Created, a.Updated),
	)
}

// Marshal returns the message.
func (a *Asset) Marshal() []byte {
	var f fields
	f.text(1, a.ID)
	f.text(2, a.Name)
	f.text(3, a.Author)
	f.bytes(4, a.Content[:])
	f.number(5, a.Size)
	f.text(6, a.Format)
	f.time(7, a.Created)
	f.time(8, a.Updated)
	return append(f, a.unknown...)
}

// ParseAsset reads what Marshal wrote, or returns ErrMalformed. Whether it is right is for Check to
// say.
func ParseAsset(b []byte) (a Asset, err error) {
	a.unknown, err = parse(b, func(f *field) (known bool, err error) {
		switch f.number {
		case 1:
			a.ID, err = f.text()
		case 2:
			a.Name, err = f.text()
		case 3:
			a.Author, err = f.text()
		case 4:
			a.Content, err = hash(f)
		case 5:
			a.Size, err = f.uint()
		case 6:
			a.Format, err = f.text()
		case 7:
			a.Created, err = f.seconds()
		case 8:
			a.Updated, err = f.seconds()
		default:
			return false, nil
		}
		return true, err
	})
	return a, err
}

func hash(f *field) (h [32]byte, err error) {
	b, err := f.bytes()
	if err == nil && len(b) != len(h) {
		err = fmt.Errorf("field %d has %d bytes, expected 32", f.number, len(b))
	}
	copy(h[:], b)
	return h, err
}

// Equal reports whether two assets are the same, unknown fields included.
func (a *Asset) Equal(b *Asset) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }
