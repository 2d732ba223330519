package vault

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/chacha20poly1305"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/project"
	"github.com/skerry-sync/skerry/replica"
)

// The catalogue is a set of entries of the vault's replica, one for each project, with the
// key "/catalog/" and the project's id, and as content a random nonce of 24 bytes and the
// XChaCha20-Poly1305 encryption, without associated data, of
//
//	message ProjectCatalogEntry {
//	  string project_id   = 1;
//	  bytes  replica_id   = 2;  // 32 bytes
//	  string project_name = 3;
//	  uint64 created_at   = 4;  // Unix seconds
//	  bytes  read_key     = 1000; // 36 bytes, of an encrypted replica: its epoch, u32 big-endian, and read key
//	}
//
// in proto3's binary form. Unknown fields are kept. OBJECTS does not know the last one; without it
// an app that is let read the vault could not read what it finds.
const (
	keyPrefix = "/catalog/"
	// fieldReadKey is the number of an extension.
	fieldReadKey = 1000
	// MaxProjectID is the length of the longest project id in bytes.
	MaxProjectID = 64
	// MaxProjectName is the length of the longest name in bytes.
	MaxProjectName = 1024
	// MaxSealed is the length of the longest sealed entry in bytes.
	MaxSealed = 16 << 10
)

var (
	// ErrNotCatalogue reports the key of an entry that is not one of the catalogue.
	ErrNotCatalogue = errors.New("not an entry of a catalogue")
	// ErrSealed reports an entry that this key does not open: it was changed, or sealed with another.
	ErrSealed = kind.New(kind.Verification, "a catalogue entry cannot be opened with this key")
	// ErrBadProject reports a project whose fields contradict each other or the format.
	ErrBadProject = kind.New(kind.Verification, "bad catalogue entry")
)

// Project is what the catalogue knows of a replica of the identity.
type Project struct {
	ID      string // hex of the replica id's first 16 bytes
	Replica replica.ID
	Name    string
	Created time.Time        // to the second
	ReadKey replica.EpochKey // of an encrypted replica
	unknown []byte           // fields of later versions
}

// NewProject describes a replica.
func NewProject(id replica.ID, name string, created time.Time) Project {
	return Project{
		ID: project.IDOf(id), Replica: id, Name: name, Created: created.UTC().Truncate(time.Second),
	}
}

// Key returns the key of the project's entry in the vault.
func (p *Project) Key() []byte { return []byte(keyPrefix + p.ID) }

// Prefix is what the keys of all entries of the catalogue begin with.
func Prefix() []byte { return []byte(keyPrefix) }

// check returns ErrBadProject, with the reason, unless the fields are as they must be.
func (p *Project) check() error {
	switch {
	case p.ID == "" || len(p.ID) > MaxProjectID || strings.ContainsRune(p.ID, '/') ||
		!utf8.ValidString(p.ID):
		return fmt.Errorf("%w: project id %.70q", ErrBadProject, p.ID)
	case len(p.Name) > MaxProjectName || !utf8.ValidString(p.Name):
		return fmt.Errorf("%w: a name of %d bytes, or not UTF-8", ErrBadProject, len(p.Name))
	case p.Replica == (replica.ID{}):
		return fmt.Errorf("%w: no replica id", ErrBadProject)
	case !p.Created.IsZero() && p.Created.Unix() < 0:
		return fmt.Errorf("%w: created before 1970", ErrBadProject)
	}
	return nil
}

func (p *Project) marshal() []byte {
	var b []byte
	b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), p.ID)
	b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), p.Replica[:])
	if p.Name != "" {
		b = protowire.AppendString(protowire.AppendTag(b, 3, protowire.BytesType), p.Name)
	}
	if at := p.Created.Unix(); at != 0 && !p.Created.IsZero() {
		b = protowire.AppendVarint(protowire.AppendTag(b, 4, protowire.VarintType), uint64(at))
	}
	if p.ReadKey.Epoch > 0 {
		b = protowire.AppendBytes(
			protowire.AppendTag(b, fieldReadKey, protowire.BytesType),
			append(binary.BigEndian.AppendUint32(nil, p.ReadKey.Epoch), p.ReadKey.Key[:]...),
		)
	}
	return append(b, p.unknown...)
}

func parseProject(b []byte) (p Project, err error) {
	bad := func(err error) (Project, error) {
		return Project{}, fmt.Errorf("%w: %w", ErrBadProject, err)
	}
	p.Created = time.Unix(0, 0).UTC() // what is not there is 0
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return bad(protowire.ParseError(n))
		}
		m := protowire.ConsumeFieldValue(num, kind, b[n:])
		if m < 0 {
			return bad(protowire.ParseError(m))
		}
		field, value := b[:n+m], b[n:n+m]
		b = b[n+m:]
		switch {
		case num == 1 && kind == protowire.BytesType:
			s, _ := protowire.ConsumeString(value)
			p.ID = s
		case num == 2 && kind == protowire.BytesType:
			raw, _ := protowire.ConsumeBytes(value)
			if len(raw) != len(p.Replica) {
				return bad(fmt.Errorf("a replica id of %d bytes", len(raw)))
			}
			p.Replica = replica.ID(raw)
		case num == 3 && kind == protowire.BytesType:
			p.Name, _ = protowire.ConsumeString(value)
		case num == 4 && kind == protowire.VarintType:
			at, _ := protowire.ConsumeVarint(value)
			if at > 1<<40 {
				return bad(fmt.Errorf("created %d seconds after 1970", at))
			}
			p.Created = time.Unix(int64(at), 0).UTC()
		case num == fieldReadKey && kind == protowire.BytesType:
			raw, _ := protowire.ConsumeBytes(value)
			if len(raw) != 36 || binary.BigEndian.Uint32(raw) == 0 {
				return bad(fmt.Errorf("a read key of %d bytes", len(raw)))
			}
			p.ReadKey.Epoch = binary.BigEndian.Uint32(raw)
			copy(p.ReadKey.Key[:], raw[4:])
		default:
			p.unknown = append(p.unknown, field...)
		}
	}
	return p, p.check()
}

// Seal returns the content of the project's entry. It returns ErrBadProject.
func (p *Project) Seal(key CatalogueKey) ([]byte, error) {
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	_, _ = rand.Read(nonce) // never fails
	return p.sealWith(key, nonce)
}

func (p *Project) sealWith(key CatalogueKey, nonce []byte) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, err
	}
	sealed := aead.Seal(bytes.Clone(nonce), nonce, p.marshal(), nil)
	if len(sealed) > MaxSealed {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrBadProject, len(sealed), MaxSealed)
	}
	return sealed, nil
}

// Open returns the project of an entry's key and content. It returns ErrNotCatalogue, ErrSealed, or
// ErrBadProject for one that was sealed wrongly, or under the key of another.
func Open(key CatalogueKey, entryKey, sealed []byte) (p Project, err error) {
	id, ok := bytes.CutPrefix(entryKey, []byte(keyPrefix))
	if !ok || len(id) > MaxProjectID {
		return p, fmt.Errorf("%w: key %.80q", ErrNotCatalogue, entryKey)
	}
	if len(sealed) < chacha20poly1305.NonceSizeX+chacha20poly1305.Overhead || len(sealed) > MaxSealed {
		return p, fmt.Errorf("project %s: %w: %d bytes", id, ErrSealed, len(sealed))
	}
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return p, err
	}
	plain, err := aead.Open(
		nil, sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:], nil,
	)
	if err != nil {
		return p, fmt.Errorf("project %s: %w", id, ErrSealed)
	}
	if p, err = parseProject(plain); err != nil {
		return Project{}, fmt.Errorf("project %s: %w", id, err)
	}
	// whoever hosts the vault could not have put it there, but whoever can write it
	if p.ID != string(id) {
		return Project{}, fmt.Errorf("project %s: %w: it is of project %s", id, ErrBadProject, p.ID)
	}
	return p, nil
}
