package api

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/project"
	"github.com/skerry-sync/skerry/replica"
)

// contentPrefix is where a project keeps the content of all versions of its assets, by their hashes
// in hex, so that they are synced and kept.
const contentPrefix = "/content/"

func contentKey(h [32]byte) []byte { return fmt.Appendf(nil, "%s%x", contentPrefix, h) }

// messages are what is to be set in one go.
type messages map[string][]byte

// putMessages sets keys of a project to messages, beside what a batch has already.
func putMessages(batch *node.Batch, all messages) error {
	for k, b := range all {
		if err := batch.Add(node.Change{Key: []byte(k), Value: b}); err != nil {
			return err
		}
	}
	_, err := batch.Commit()
	return err
}

// setMessages sets keys of a project to messages.
func (s *Server) setMessages(ctx context.Context, o opened, all messages) error {
	batch, err := o.handle.Batch(ctx, node.WriteOptions{})
	if err != nil {
		return err
	}
	defer batch.Close()
	return putMessages(batch, all)
}

// message returns the bytes of a message of a project.
func (s *Server) message(ctx context.Context, o opened, it *replica.Item) ([]byte, error) {
	if err := s.waitContent(ctx, it); err != nil {
		return nil, err
	}
	r, err := s.node.OpenPlain(ctx, o.Plain, &it.Entry)
	if err != nil {
		return nil, err
	}
	if r.Size() > project.MaxEncoded {
		return nil, fmt.Errorf("%s: %w: %d bytes", it.Key, project.ErrMalformed, r.Size())
	}
	return io.ReadAll(r)
}

func (s *Server) messageAt(ctx context.Context, o opened, key []byte) ([]byte, error) {
	it, err := o.LatestOf(ctx, key)
	if err != nil {
		return nil, err
	}
	return s.message(ctx, o, &it)
}

// owner returns who makes a project or an asset: the identity named, or that of the own vault, or
// the only one of the keyring.
func (s *Server) owner(ctx context.Context, text string) (identity.ID, error) {
	if text != "" {
		if id, err := identity.ParseID(text); err == nil {
			return id, nil // its key need not be here
		}
		i, err := s.whichIdentity(ctx, text)
		return i.ID, err
	}
	if v, err := s.vaults.Of(ctx, ""); err == nil && v.Own() {
		return v.Identity.ID, nil
	}
	i, err := s.whichIdentity(ctx, "")
	return i.ID, err
}

func (s *Server) projectNew(ctx context.Context, req NewProjectRequest, _ *answer) (Project, error) {
	owner, err := s.owner(ctx, req.Owner)
	if err != nil {
		return Project{}, err
	}
	// What cannot become a project is told before there is a replica.
	probe := project.New(replica.ID{}, req.Name, owner, time.Now())
	probe.Description = req.Description
	if err := errors.Join(probe.Check(replica.ID{}), replica.CheckName(req.Name)); err != nil {
		return Project{}, err
	}
	r, err := s.node.CreateReplica(ctx, req.Name, req.Encrypted)
	if err != nil {
		return Project{}, err
	}
	o, err := s.open(ctx, r.ID.String(), "make a project of")
	if err != nil {
		return Project{}, err
	}
	p := project.New(r.ID, req.Name, owner, r.Created)
	p.Description = req.Description
	if err := s.setMessages(ctx, o, messages{project.ProjectKey: p.Marshal()}); err != nil {
		return Project{}, err
	}
	return describeProjectOf(r, &p), nil
}

func describeProjectOf(r replica.Replica, p *project.Project) Project {
	return Project{ReplicaID: r.ID, Replica: r.Name, ProjectID: project.IDOf(r.ID), Name: p.Name, Description: p.Description, Owner: p.Owner, Created: p.Created, Updated: p.Updated}
}

// project reads the project that a replica is; replica.ErrNotFound if it is none.
func (s *Server) project(ctx context.Context, o opened) (project.Project, error) {
	b, err := s.messageAt(ctx, o, []byte(project.ProjectKey))
	if err != nil {
		return project.Project{}, err
	}
	p, err := project.Parse(b)
	if err == nil {
		err = p.Check(o.ID)
	}
	return p, err
}

// openProject finds a replica that is a project.
func (s *Server) openProject(ctx context.Context, name, op string) (o opened, p project.Project, err error) {
	if o, err = s.open(ctx, name, op); err != nil {
		return o, p, err
	}
	p, err = s.project(ctx, o)
	if errors.Is(err, replica.ErrNotFound) {
		err = &Error{NotFound, fmt.Sprintf("replica %s is not a project (skerry project new makes one)", o.Name)}
	}
	return o, p, err
}

func (s *Server) projectList(ctx context.Context, _ struct{}, _ *answer) ([]Project, error) {
	all, err := s.node.Replicas.List(ctx)
	if err != nil {
		return nil, err
	}
	out := []Project{}
	for _, r := range all {
		o, err := s.open(ctx, r.ID.String(), "list")
		if err != nil {
			if kind.Of(err) == NotAllowed {
				continue // it cannot be read here
			}
			return nil, err
		}
		p, err := s.project(ctx, o)
		if errors.Is(err, replica.ErrNotFound) {
			continue
		}
		one := describeProjectOf(r, &p)
		if err != nil {
			one.Fault = err.Error()
		}
		out = append(out, one)
	}
	return out, nil
}

func (s *Server) projectShow(ctx context.Context, req NameRequest, _ *answer) (out ProjectContents, err error) {
	o, p, err := s.openProject(ctx, req.Name, "show")
	if err != nil {
		return out, err
	}
	out = ProjectContents{Project: describeProjectOf(o.Replica, &p), Assets: []Asset{}, References: []Reference{}}
	for it, err := range o.Latest(ctx, replica.Query{Prefix: []byte(project.AssetPrefix)}) {
		if err != nil {
			return out, err
		}
		out.Assets = append(out.Assets, s.describeAsset(ctx, o, &it))
	}
	refs, err := s.references(ctx, o)
	out.References = append(out.References, refs...)
	return out, err
}

func (s *Server) describeAsset(ctx context.Context, o opened, it *replica.Item) Asset {
	b, err := s.message(ctx, o, it)
	var a project.Asset
	if err == nil {
		a, err = project.ParseAsset(b)
	}
	out := Asset{a.ID, a.Name, a.Author, a.Content, a.Size, a.Format, a.Created, a.Updated, "", ""}
	if err == nil {
		if err = a.Check(); err == nil && string(a.Key()) != string(it.Key) {
			err = fmt.Errorf("%w: it stands under %s", project.ErrInvalid, Key(it.Key))
		}
	}
	if err != nil {
		out.ID, out.Fault = strings.TrimPrefix(string(it.Key), project.AssetPrefix), err.Error()
		return out
	}
	b, err = s.messageAt(ctx, o, []byte(project.SignaturePrefix+a.ID))
	if errors.Is(err, replica.ErrNotFound) {
		return out
	}
	out.Signature = "good"
	var signed project.SignedAsset
	if err == nil {
		if signed, err = project.ParseSignedAsset(b); err == nil {
			if err = signed.Verify(); err == nil && (signed.Asset.Content != a.Content || signed.Asset.Author != a.Author) {
				err = errors.New("it is for another version")
			}
		}
	}
	if err != nil {
		out.Signature = err.Error()
	}
	return out
}

// asset reads an asset of a project.
func (s *Server) asset(ctx context.Context, o opened, id string) (a project.Asset, err error) {
	b, err := s.messageAt(ctx, o, []byte(project.AssetPrefix+id))
	if errors.Is(err, replica.ErrNotFound) {
		return a, &Error{NotFound, fmt.Sprintf("project %s has no asset %q (skerry project show %s)", o.Name, id, o.Name)}
	}
	if err != nil {
		return a, err
	}
	if a, err = project.ParseAsset(b); err == nil {
		err = a.Check()
	}
	return a, err
}

// assetID makes an id of a file's name.
func assetID(name string) string {
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, name)
	return strings.Trim(id[:min(len(id), project.MaxID)], "-")
}

// hashFile returns the BLAKE3 hash and the size of a file, and goes back to its beginning.
func hashFile(ctx context.Context, f *disk.File) (h [32]byte, size uint64, err error) {
	sum := blake3.New(32, nil)
	r := f.Reader()
	for buf := make([]byte, 1<<20); ; {
		n, err := r.Read(buf)
		_, _ = sum.Write(buf[:n]) // never fails
		size += uint64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return h, 0, fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	sum.Sum(h[:0])
	_, err = f.Seek(0, io.SeekStart)
	return h, size, err
}

func (s *Server) assetAdd(ctx context.Context, req AddAssetRequest, a *answer) (out Asset, err error) {
	file, err := openFile(req.File)
	if err != nil {
		return out, err
	}
	defer file.Close()
	o, p, err := s.openProject(ctx, req.Project, "add an asset to")
	if err != nil {
		return out, err
	}
	base := filepath.Base(req.File)
	x := project.Asset{ID: req.ID, Name: req.Name, Format: req.Format, Author: req.Author}
	if x.ID == "" {
		x.ID = assetID(base)
	}
	if x.Name == "" {
		x.Name = base
	}
	if x.Format == "" {
		if x.Format = mime.TypeByExtension(filepath.Ext(base)); x.Format == "" {
			x.Format = "application/octet-stream"
		}
	}
	if x.Author == "" {
		x.Author = p.Owner
		if id, err := s.owner(ctx, ""); err == nil {
			x.Author = id.String()
		}
	}
	now := time.Now().UTC().Truncate(time.Second)
	x.Created, x.Updated = now, now
	if x.Content, x.Size, err = hashFile(ctx, file); err != nil {
		return out, err
	}
	all := messages{}
	old, err := s.asset(ctx, o, x.ID)
	switch {
	case err == nil && old.Content == x.Content:
		x.Created = old.Created
	case err == nil:
		x.Created = old.Created
		r := newReference(x.ID, "", x.ID, old.Content, project.DerivedFrom, now)
		all[string(r.Key())] = r.Marshal()
	case AsError(err).Kind != NotFound:
		return out, err
	}
	if x.Updated.Before(x.Created) {
		x.Updated = x.Created
	}
	if err := x.Check(); err != nil {
		return out, err
	}
	all[string(x.Key())] = x.Marshal()
	if req.Sign {
		signed, err := s.vaults.Keyring().SignAsset(ctx, x, req.Password)
		if err != nil {
			return out, err
		}
		all[string(signed.Key())] = signed.Marshal()
	}
	batch, err := o.handle.Batch(ctx, node.WriteOptions{Progress: adding(a)})
	if err != nil {
		return out, err
	}
	defer batch.Close()
	if err := batch.Add(node.Change{Key: contentKey(x.Content), File: file}); err != nil {
		return out, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return out, err
	}
	if h, size, err := hashFile(ctx, file); err != nil || h != x.Content || size != x.Size {
		return out, errors.Join(fmt.Errorf("%s has changed while it was added: try again", req.File), err)
	}
	if err := putMessages(batch, all); err != nil {
		return out, err
	}
	it, err := o.LatestOf(ctx, x.Key())
	if err != nil {
		return out, err
	}
	return s.describeAsset(ctx, o, &it), nil
}

// newReference makes a reference whose id follows from what it says, so that saying it twice is
// saying it once.
func newReference(source, other, target string, content [32]byte, kind project.ReferenceType, now time.Time) project.Reference {
	h := blake3.New(16, nil)
	for _, part := range []string{source, other, target, string(content[:]), kind.String()} {
		_, _ = h.Write(append([]byte(part), 0)) // never fails
	}
	return project.Reference{ID: hex.EncodeToString(h.Sum(nil)), Source: source, Project: other, Target: target, Content: content, Type: kind, Created: now}
}

func (s *Server) referenceAdd(ctx context.Context, req AddReferenceRequest, _ *answer) (out Reference, err error) {
	kind, err := project.ParseReferenceType(req.Type)
	if err != nil {
		return out, UsageErrorf("%v", err)
	}
	o, _, err := s.openProject(ctx, req.Project, "add a reference to")
	if err != nil {
		return out, err
	}
	if _, err := s.asset(ctx, o, req.Source); err != nil {
		return out, err
	}
	target, other := o, ""
	if req.Other != "" {
		other = req.Other
		if r, err := s.node.Replicas.Resolve(ctx, req.Other); err == nil {
			other = project.IDOf(r.ID)
			if target, err = s.open(ctx, r.ID.String(), "refer to"); err != nil {
				return out, err
			}
		} else {
			target = opened{} // it may be anywhere
		}
	}
	var content blobs.Hash
	if req.Content != "" {
		if content, err = blobs.ParseHash(req.Content); err != nil {
			return out, UsageErrorf("content: %v", err)
		}
	}
	if target.Plain != nil {
		a, err := s.asset(ctx, target, req.Target)
		if err != nil && (other == "" || req.Content == "") {
			return out, err
		}
		if req.Content == "" {
			content = a.Content
		}
	}
	r := newReference(req.Source, other, req.Target, content, kind, time.Now().UTC().Truncate(time.Second))
	if err := r.Check(); err != nil {
		return out, err
	}
	if err := s.setMessages(ctx, o, messages{string(r.Key()): r.Marshal()}); err != nil {
		return out, err
	}
	return s.describeReference(ctx, o, &r), nil
}

func (s *Server) describeReference(ctx context.Context, o opened, r *project.Reference) Reference {
	out := Reference{ID: r.ID, Source: r.Source, Project: r.Project, Target: r.Target, Content: r.Content, Type: r.Type.String(), Created: r.Created}
	if r.Project == "" {
		_, err := s.asset(ctx, o, r.Target)
		out.Here = err == nil
		return out
	}
	all, err := s.node.Replicas.List(ctx)
	if err != nil {
		out.Fault = err.Error()
		return out
	}
	for _, other := range all {
		if project.IDOf(other.ID) != r.Project {
			continue
		}
		if there, err := s.open(ctx, other.ID.String(), "read"); err == nil { // it may be forbidden
			_, err = s.asset(ctx, there, r.Target)
			out.Here = err == nil
		}
	}
	return out
}

func (s *Server) references(ctx context.Context, o opened) (out []Reference, err error) {
	for it, err := range o.Latest(ctx, replica.Query{Prefix: []byte(project.ReferencePrefix)}) {
		if err != nil {
			return nil, err
		}
		b, err := s.message(ctx, o, &it)
		var r project.Reference
		if err == nil {
			if r, err = project.ParseReference(b); err == nil {
				if err = r.Check(); err == nil && string(r.Key()) != string(it.Key) {
					err = fmt.Errorf("%w: it stands under %s", project.ErrInvalid, Key(it.Key))
				}
			}
		}
		if err != nil {
			out = append(out, Reference{ID: strings.TrimPrefix(string(it.Key), project.ReferencePrefix), Fault: err.Error()})
			continue
		}
		out = append(out, s.describeReference(ctx, o, &r))
	}
	slices.SortStableFunc(out, func(a, b Reference) int { return a.Created.Compare(b.Created) })
	return out, nil
}

// maxHistory bounds a history.
const maxHistory = 10_000

// projectHistory follows the chain of what an asset was derived from.
func (s *Server) projectHistory(ctx context.Context, req AssetRequest, _ *answer) ([]Version, error) {
	o, _, err := s.openProject(ctx, req.Project, "show the history of")
	if err != nil {
		return nil, err
	}
	a, err := s.asset(ctx, o, req.Asset)
	if err != nil {
		return nil, err
	}
	refs, err := s.references(ctx, o)
	if err != nil {
		return nil, err
	}
	has := func(h blobs.Hash) bool {
		it, err := o.LatestOf(ctx, contentKey(h))
		if err != nil {
			return false
		}
		d, err := s.describe(ctx, o, &it)
		return err == nil && d.Content == "complete"
	}
	out := []Version{{Asset: a.ID, Content: a.Content, At: a.Updated, Here: has(a.Content)}}
	seen := map[string]bool{}
	for queue := []string{a.ID}; len(queue) > 0 && len(out) < maxHistory; queue = queue[1:] {
		if seen[queue[0]] {
			continue
		}
		seen[queue[0]] = true
		for i := len(refs) - 1; i >= 0; i-- { // the latest first
			r := &refs[i]
			if r.Source != queue[0] || r.Type != project.DerivedFrom.String() || r.Fault != "" {
				continue
			}
			v := Version{r.Target, r.Project, r.Content, r.Created, r.Project == "" && has(r.Content)}
			out = append(out, v)
			if r.Project == "" {
				queue = append(queue, r.Target)
			}
		}
	}
	return out, nil
}
