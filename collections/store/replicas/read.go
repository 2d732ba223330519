package replicas

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/replica"
)

// read reads an object from the replica. whole is set if all that may count of it is here. With an
// error that is one of what is left out, what is known of times is returned all the same.
func (s *Store) read(ctx context.Context, key string) (st state, whole bool, err error) {
	var versions []replica.Entry
	gone := uint64(0) // when it was last deleted
	for it, err := range s.plain.Entries(
		ctx, replica.Query{Key: []byte(docs + key), Tombstones: true},
	) {
		if err != nil {
			return st, false, err
		}
		s.date(&st, &it.Entry, !s.ruled() || isInternal(key))
		switch {
		case !it.Entry.IsTombstone():
			versions = append(versions, it.Entry)
		case s.deletes(key, &it.Entry):
			gone = max(gone, it.Entry.Timestamp)
		}
	}
	st.own = true
	var parsed []*document.Document
	var body []byte
	var latest *replica.Entry // of those whose body is here
	var out left
	for i := range versions {
		e := &versions[i]
		if e.Timestamp <= gone {
			continue
		}
		st.own = st.own && e.Author == s.author.Author()
		b, err := s.version(ctx, key, e)
		if stop := out.add(err); stop != nil {
			return state{}, false, stop
		}
		if err != nil {
			continue
		}
		st.hashes = append(st.hashes, e.Hash)
		// What is no document does not merge: the latest stands.
		if isInternal(key) {
			if latest == nil || replica.CompareVersions(e, latest) > 0 {
				body, latest = b, e
			}
			continue
		}
		body = b
		own := e.Author == s.author.Author()
		if len(versions) > 1 || !own {
			d, err := document.Parse(b)
			if err != nil { // another version may be one
				continue
			}
			was := d
			if !s.ruled() { // which see to that otherwise
				d = timely(d, e)
			}
			if len(versions) > 1 || d != was {
				parsed = append(parsed, d)
			}
		}
	}
	if len(st.hashes) == 0 { // or an entry that does not count would hide a file
		return s.readFile(ctx, key, st, &out)
	}
	s.tell(&out)
	s.patience.came(key)
	if len(parsed) > 0 {
		body = document.Merge(parsed).Bytes()
	}
	st.object = &store.Object{Body: body, Type: jsonType, Tag: tagOf(st.hashes)}
	return st, out.final(), nil
}

// isInternal reports whether a key is of what servers keep for themselves.
func isInternal(key string) bool { return strings.HasPrefix(key, store.Internal) }

// deletes reports whether a tombstone under a key stands for what others have written there. Where
// there are rules, nobody deletes what another has written; nor does anybody ever delete a list of
// revocations that another server keeps.
func (s *Store) deletes(key string, e *replica.Entry) bool {
	return !s.ruled() && (!isInternal(key) || e.Author == s.author.Author())
}

// timely returns a version without times that its entry, whose own time no node takes from far
// ahead, could not have: over these no acknowledged write would ever stand. An honest one is up to
// replica.MaxAhead later than its entry, as what it was written over may have been, and a little
// more if it was written often.
func timely(d *document.Document, e *replica.Entry) *document.Document {
	at := time.UnixMicro(int64(e.Timestamp)).Add(replica.MaxAhead)
	return d.Within(at.Add(replica.MaxAhead).UnixMilli(), at.UnixMilli())
}

// date takes note of the time of an entry under a key. stands is whether of those under the key the
// latest stands, be it of this store's author or another: the next write must be later.
func (s *Store) date(st *state, e *replica.Entry, stands bool) {
	if e.Author == s.author.Author() {
		st.last = max(st.last, e.Timestamp)
	}
	if stands {
		st.known = max(st.known, e.Timestamp)
	}
}

// version returns the body of a version of a document, or of an element. Its error is errMissing,
// ErrRefused, an *undecidedError, an *unreadableError, or one of the node.
func (s *Store) version(ctx context.Context, key string, e *replica.Entry) ([]byte, error) {
	return s.looked(e, func() ([]byte, error) { return s.lookAt(ctx, key, e) })
}

// lookAt is version for what it is not remembered of that it does not count.
func (s *Store) lookAt(ctx context.Context, key string, e *replica.Entry) ([]byte, error) {
	if err := ctx.Err(); err != nil { // of many, that are long, none is read for nobody
		return nil, err
	}
	kept, err := s.content(ctx, e, s.most(key))
	if err != nil {
		return nil, err
	}
	if kept, err = s.decode(key, kept); err != nil {
		if isInternal(key) && e.Author != s.author.Author() { // it may be no list at all
			return nil, neverStored(e, err)
		}
		return nil, unreadable(e, err)
	}
	if isInternal(key) {
		if err := access.CheckInternal(key, kept); err != nil {
			return nil, neverStored(e, err)
		}
	}
	if !s.ruled() {
		return kept, nil
	}
	return s.check(ctx, &Version{Key: key, Kept: kept, Author: e.Author, Time: milliseconds(e)})
}

func milliseconds(e *replica.Entry) int64 { return int64(e.Timestamp / 1000) }

const jsonType = "application/json"

func tagOf(hashes []blobs.Hash) string {
	var b []byte
	for _, h := range hashes {
		b = append(b, h[:8]...)
	}
	return hex.EncodeToString(b)
}

// file is a version of a file.
type file struct {
	version Version
	hashes  []blobs.Hash // of the entries that it was made of
	at      uint64       // time of the first of these
}

// readFile reads a file: the latest that counts. st is what is known of the key besides, where no
// version of a document counts, and out what is left out of these.
func (s *Store) readFile(
	ctx context.Context, key string, st state, out *left,
) (_ state, whole bool, err error) {
	var entries []replica.Entry
	for it, err := range s.plain.Entries(
		ctx, replica.Query{Key: []byte(files + key), Tombstones: true},
	) {
		if err != nil {
			return st, false, err
		}
		entries = append(entries, it.Entry)
		s.date(&st, &it.Entry, !s.ruled())
	}
	slices.SortFunc(entries, func(a, b replica.Entry) int {
		return replica.CompareVersions(&b, &a)
	})
	ruled := s.ruled()
	var all []file // the latest first
	for i := range entries {
		e := &entries[i]
		if e.IsTombstone() {
			if !s.deletes(key, e) {
				continue
			}
			break
		}
		f, err := s.fileOf(ctx, key, e, ruled)
		if stop := out.add(err); stop != nil {
			return st, false, stop
		}
		if err != nil {
			continue
		}
		if all = append(all, f); !ruled {
			break
		}
	}
	if ruled {
		slices.SortStableFunc(all, func(a, b file) int {
			return cmp.Compare(s.guard.SignedAt(&b.version), s.guard.SignedAt(&a.version))
		})
	}
	for i := range all {
		f := &all[i]
		if ruled {
			_, err := s.check(ctx, &f.version)
			if stop := out.add(err); stop != nil {
				return st, false, stop
			}
			if err != nil {
				continue
			}
		}
		s.tell(out)
		s.patience.came(key)
		o := &store.Object{Body: f.version.Kept, Type: f.version.Media, Tag: tagOf(f.hashes)}
		st = state{object: o, hashes: f.hashes, last: st.last, known: st.known}
		if ruled {
			st.known, st.signed = max(st.known, f.at), s.guard.SignedAt(&f.version)
		}
		return st, out.final(), nil
	}
	s.tell(out)
	if err := s.reason(key, out); err != nil {
		return st, false, err
	}
	st.own = st.own && (!ruled || len(entries) == 0)
	return st, out.final(), nil
}

// fileOf returns the file of an entry, with the media type that counts for it.
func (s *Store) fileOf(
	ctx context.Context, key string, e *replica.Entry, ruled bool,
) (f file, err error) {
	f = file{
		Version{Key: key, Author: e.Author, Time: milliseconds(e), Media: "application/octet-stream"},
		[]blobs.Hash{e.Hash}, e.Timestamp,
	}
	if f.version.Kept, err = s.content(ctx, e, s.most(key)); err != nil {
		return f, err
	}
	if len(f.version.Kept) == 1 && f.version.Kept[0] == emptyMark {
		f.version.Kept = nil
	}
	kind, err := s.typeOf(ctx, key, e, ruled)
	if err != nil || kind == nil {
		return f, err
	}
	b, err := s.content(ctx, kind, maxType)
	if err != nil {
		return f, err
	}
	f.version.Media, f.version.Proof = cutProof(b)
	f.hashes = append(f.hashes, kind.Hash)
	return f, nil
}

// typeOf returns the entry with the media type of a file: the one of the file's author, who has
// written both together, and whose proof it has where there are rules. Without rules, the latest
// stands for one that is not there.
func (s *Store) typeOf(
	ctx context.Context, key string, e *replica.Entry, ruled bool,
) (*replica.Entry, error) {
	for it, err := range s.plain.Entries(
		ctx, replica.Query{Key: []byte(types + key), Author: &e.Author},
	) {
		return &it.Entry, err
	}
	if ruled {
		return nil, nil
	}
	it, err := s.plain.LatestOf(ctx, []byte(types+key))
	if errors.Is(err, replica.ErrNotFound) {
		return nil, nil
	}
	return &it.Entry, err
}

// An author of the replica can write an entry of any length, which costs it nothing if its bytes
// repeat. What is longer than these is left out.
const (
	longestUnsaid = 64 << 20
	// longestInternal is of what servers keep for themselves: lists of revocations have 1 MiB at most.
	longestInternal = 2 << 20
	// maxType is how long the media type of a file may be, with the proof of the file.
	maxType = 256 << 10
)

// most is how many bytes are read of an entry of what a key stands for.
func (s *Store) most(key string) int64 {
	switch {
	case isInternal(key):
		return longestInternal
	case s.longest == nil:
		return longestUnsaid
	}
	return s.longest(key)
}

// unreadable is the error of a version that is left out as it cannot be read.
func unreadable(e *replica.Entry, err error) error {
	return &unreadableError{
		err: fmt.Errorf("the version of author %s: %w", e.Author.String()[:10], err),
	}
}

// neverStored is the error of a version that is left out as no server stores such: it has another
// length than anybody may have stored, or is no list of revocations where one belongs.
func neverStored(e *replica.Entry, err error) error {
	return &unreadableError{
		err: fmt.Errorf("the version of author %s: %w", e.Author.String()[:10], err), never: true,
	}
}

// falseSize makes of an error that an entry gives a size which its content does not have one of a
// version that is left out, as if it were not there. Anybody who may write to the replica can write
// such an entry, about any content. What this node has written has its size.
func (s *Store) falseSize(e *replica.Entry, err error) error {
	var size *content.SizeError
	if e.Author == s.author.Author() || !errors.As(err, &size) {
		return err
	}
	return neverStored(e, err)
}
