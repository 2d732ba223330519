package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/project"
	"github.com/skerry-sync/skerry/replica"
)

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

func (s *Server) projectNew(
	ctx context.Context, req api.NewProjectRequest, _ *answer,
) (api.Project, error) {
	owner, err := s.owner(ctx, req.Owner)
	if err != nil {
		return api.Project{}, err
	}
	of := func(id replica.ID, created time.Time) project.Project {
		p := project.New(id, req.Name, owner, created)
		p.Description = req.Description
		return p
	}
	// What cannot become a project is told before there is a replica.
	probe := of(replica.ID{}, time.Now())
	err = errors.Join(probe.Check(replica.ID{}), replica.CheckName(req.Name))
	if err != nil {
		return api.Project{}, err
	}
	r, err := s.node.CreateReplica(ctx, req.Name, req.Encrypted)
	if err != nil {
		return api.Project{}, err
	}
	p := of(r.ID, r.Created)
	if err := project.Create(ctx, s.node.ReplicaOf(r.ID), p); err != nil {
		return api.Project{}, err
	}
	return projectOf(r, &p), nil
}

func projectOf(r replica.Replica, p *project.Project) api.Project {
	return api.Project{ReplicaID: r.ID, Replica: r.Name, ProjectID: project.IDOf(r.ID), Name: p.Name,
		Description: p.Description, Owner: p.Owner, Created: p.Created, Updated: p.Updated}
}

// openProject finds a replica that is a project, to write it.
func (s *Server) openProject(
	ctx context.Context, name, op string,
) (r replica.Replica, p *project.Opened, err error) {
	o, err := s.open(ctx, name, op)
	if err != nil {
		return r, nil, err
	}
	p, err = s.projectIn(ctx, o, o.handle)
	return o.Replica, p, err
}

// readProject is openProject to read much of it.
func (s *Server) readProject(
	ctx context.Context, name, op string,
) (r replica.Replica, p *project.Opened, err error) {
	o, err := s.open(ctx, name, op)
	if err != nil {
		return r, nil, err
	}
	in, err := o.handle.Reading(ctx)
	if err != nil {
		return r, nil, err
	}
	p, err = s.projectIn(ctx, o, in)
	return o.Replica, p, err
}

func (s *Server) projectIn(
	ctx context.Context, o opened, in project.Replica,
) (*project.Opened, error) {
	p, err := project.Open(ctx, in, s.projectHere)
	if errors.Is(err, project.ErrNone) {
		err = &api.Error{Kind: api.NotFound, Message: fmt.Sprintf(
			"replica %s is not a project (skerry project new makes one)", o.Name)}
	}
	return p, err
}

// projectHere is a project.Finder.
func (s *Server) projectHere(ctx context.Context, id string) (project.Replica, error) {
	all, err := s.node.Replicas().List(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if project.IDOf(r.ID) != id {
			continue
		}
		if o, err := s.open(ctx, r.ID.String(), "read"); err == nil { // it may be forbidden
			return o.handle.Reading(ctx)
		}
	}
	return nil, nil
}

// noAsset says by the name of its replica which project lacks an asset, and how to look.
func (s *Server) noAsset(ctx context.Context, err error) error {
	none, ok := errors.AsType[*project.NoAssetError](err)
	if !ok {
		return err
	}
	r, errName := s.node.Replicas().Resolve(ctx, none.Replica.String())
	if errName != nil {
		return err // it says the same with an id
	}
	return &api.Error{Kind: api.NotFound, Message: fmt.Sprintf(
		"project %s has no asset %q (skerry project show %s)", r.Name, none.Asset, r.Name)}
}

func (s *Server) projectList(ctx context.Context, _ struct{}, _ *answer) ([]api.Project, error) {
	all, err := s.node.Replicas().List(ctx)
	if err != nil {
		return nil, err
	}
	out := []api.Project{}
	for _, r := range all {
		o, err := s.open(ctx, r.ID.String(), "list")
		if err != nil {
			if kind.Of(err) == api.NotAllowed {
				continue // it cannot be read here
			}
			return nil, err
		}
		p, err := project.Read(ctx, o.handle)
		if errors.Is(err, project.ErrNone) {
			continue
		}
		one := projectOf(r, &p)
		one.Fault = textOf(err)
		out = append(out, one)
	}
	return out, nil
}

// textOf returns the text of an error, "" of none.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (s *Server) projectShow(
	ctx context.Context, req api.NameRequest, _ *answer,
) (out api.ProjectContents, err error) {
	r, p, err := s.readProject(ctx, req.Name, "show")
	if err != nil {
		return out, err
	}
	out = api.ProjectContents{Project: projectOf(r, &p.Project), Assets: []api.Asset{},
		References: []api.Reference{}}
	assets, err := p.Assets(ctx)
	if err != nil {
		return out, err
	}
	for i := range assets {
		out.Assets = append(out.Assets, assetOf(&assets[i]))
	}
	refs, err := p.References(ctx)
	for i := range refs {
		out.References = append(out.References, referenceOf(&refs[i]))
	}
	return out, err
}

func assetOf(f *project.FoundAsset) api.Asset {
	out := api.Asset{ID: f.ID, Name: f.Name, Author: f.Author, Content: f.Content, Size: f.Size,
		Format: f.Format, Created: f.Created, Updated: f.Updated, Fault: textOf(f.Fault)}
	if f.Signed {
		out.Signature = "good"
	}
	if f.Wrong != nil {
		out.Signature = f.Wrong.Error()
	}
	return out
}

func referenceOf(f *project.FoundReference) api.Reference {
	if f.Fault != nil && f.Type == 0 { // it could not be read
		return api.Reference{ID: f.ID, Fault: f.Fault.Error()}
	}
	return api.Reference{ID: f.ID, Source: f.Source, Project: f.Project, Target: f.Target,
		Content: f.Content, Type: f.Type.String(), Created: f.Created, Here: f.Here,
		Fault: textOf(f.Fault)}
}

func (s *Server) assetAdd(
	ctx context.Context, req api.AddAssetRequest, a *answer,
) (out api.Asset, err error) {
	file, err := openFile(req.File)
	if err != nil {
		return out, err
	}
	defer file.Close()
	_, p, err := s.openProject(ctx, req.Project, "add an asset to")
	if err != nil {
		return out, err
	}
	n := project.NewAsset{FileName: req.File, ID: req.ID, Name: req.Name, Format: req.Format,
		Author: req.Author, Progress: adding(a)}
	if n.Author == "" {
		if id, err := s.owner(ctx, ""); err == nil { // else it is the project's
			n.Author = id.String()
		}
	}
	if req.Sign {
		n.Sign = func(ctx context.Context, x project.Asset) (project.SignedAsset, error) {
			return s.vaults.Keyring().SignAsset(ctx, x, req.Password)
		}
	}
	f, err := p.AddAsset(ctx, n, file)
	if err != nil {
		return out, err
	}
	return assetOf(&f), nil
}

func (s *Server) referenceAdd(
	ctx context.Context, req api.AddReferenceRequest, _ *answer,
) (out api.Reference, err error) {
	n := project.NewReference{Source: req.Source, Target: req.Target}
	if n.Type, err = project.ParseReferenceType(req.Type); err != nil {
		return out, api.UsageErrorf("%v", err)
	}
	_, p, err := s.openProject(ctx, req.Project, "add a reference to")
	if err != nil {
		return out, err
	}
	if req.Content != "" {
		h, err := blobs.ParseHash(req.Content)
		if err != nil {
			return out, api.UsageErrorf("content: %v", err)
		}
		n.Content = (*[32]byte)(&h)
	}
	if req.Other != "" {
		n.Project = req.Other // which may be anywhere
		if r, err := s.node.Replicas().Resolve(ctx, req.Other); err == nil {
			o, err := s.open(ctx, r.ID.String(), "refer to")
			if err != nil {
				return out, err
			}
			n.Project, n.In = project.IDOf(r.ID), o.handle
		}
	}
	f, err := p.AddReference(ctx, n)
	if err != nil {
		return out, s.noAsset(ctx, err)
	}
	return referenceOf(&f), nil
}

func (s *Server) projectHistory(
	ctx context.Context, req api.AssetRequest, _ *answer,
) ([]api.Version, error) {
	_, p, err := s.readProject(ctx, req.Project, "show the history of")
	if err != nil {
		return nil, err
	}
	all, err := p.History(ctx, req.Asset)
	if err != nil {
		return nil, s.noAsset(ctx, err)
	}
	var out []api.Version
	for _, v := range all {
		out = append(out, api.Version{
			Asset: v.Asset, Project: v.Project, Content: v.Content, At: v.At, Here: v.Here,
		})
	}
	return out, nil
}
