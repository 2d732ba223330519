package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
)

func (a *app) projectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "project",
		Short: "Work with projects: replicas of assets and versions",
	}
	asset := &cobra.Command{Use: "asset", Short: "Work with the assets of a project"}
	asset.AddCommand(a.assetAdd())
	ref := &cobra.Command{Use: "ref", Short: "Work with the references of a project"}
	ref.AddCommand(a.refAdd())
	cmd.AddCommand(a.projectNew(), a.projectLs(), a.projectShow(), asset, ref, a.projectHistory())
	return cmd
}

func (a *app) projectNew() *cobra.Command {
	var req api.NewProjectRequest
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Make a replica that is a project",
		Long: "Make a replica that is a project, of an identity: your vault's, or the only one of " +
			"the keyring, or one that is named. A vault that is open lists it.",
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&req.Description, "description", "", "what it is about")
	cmd.Flags().StringVar(&req.Owner, "owner", "", "identity that it belongs to")
	cmd.Flags().BoolVar(
		&req.Encrypted, "encrypted", false, "seal names and content, for all but those who may read",
	)
	return one(
		a, cmd, false, (*api.Client).ProjectNew, func(args []string) (api.NewProjectRequest, error) {
			req.Name = args[0]
			return req, nil
		}, func(p api.Project) (string, display) {
			return p.ReplicaID.String(), displayf("made project %s  %s", p.Name, p.ReplicaID)
		},
	)
}

func (a *app) projectLs() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the projects of this node", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				all, err := s.Client.ProjectList(cmd.Context())
				if err != nil {
					return err
				}
				out := newList(a, func(p api.Project) (string, display) {
					text := displayf("%-20s  %s  %s", p.Replica, p.Owner, p.Name)
					if p.Fault != "" {
						text = displayf("%-20s  %s", p.Replica, p.Fault)
					}
					return p.Replica, text
				})
				for _, p := range all {
					if err := out.add(p); err != nil {
						return err
					}
				}
				return out.end()
			})
		},
	}
}

func (a *app) projectShow() *cobra.Command {
	return one(
		a,
		&cobra.Command{
			Use: "show PROJECT", Short: "Show a project with its assets and references",
			Args: cobra.ExactArgs(1),
		},
		false, (*api.Client).ProjectShow, named, func(p api.ProjectContents) (string, display) {
			text := displayf(
				"project      %s  %s\nowner        %s\ncreated      %s", p.Name, p.ProjectID, p.Owner,
				p.Created.Local().Format(time.DateTime),
			)
			if p.Description != "" {
				text += displayf("\nabout        %s", p.Description)
			}
			for _, x := range p.Assets {
				text += displayf(
					"\nasset        %-20s  %10s  %s  %s", x.ID, bytesText(x.Size), x.Content.Short(), x.Name,
				)
				switch {
				case x.Fault != "":
					text += displayf("  %s", x.Fault)
				case x.Signature == "good":
					text += "  signed by its author"
				case x.Signature != "":
					text += displayf("  signature: %s", x.Signature)
				}
			}
			for _, r := range p.References {
				text += displayf("\nreference    %s %s %s", r.Source, r.Type, target(r.Project, r.Target))
				if r.Fault != "" {
					text += displayf("  %s", r.Fault)
				} else if !r.Here {
					text += "  (not here)"
				}
			}
			return p.ReplicaID.String(), text
		},
	)
}

func target(project, asset string) string {
	if project != "" {
		return asset + " of project " + project
	}
	return asset
}

func (a *app) assetAdd() *cobra.Command {
	var req api.AddAssetRequest
	password := newPassword()
	cmd := &cobra.Command{
		Use:   "add PROJECT FILE",
		Short: "Add a file as an asset, or as a new version of one",
		Long: "Add a file as an asset of a project. If there is an asset with that id, it becomes a " +
			"new version of it; the old one stays in its history. With --sign the author's identity " +
			"signs it, which anybody can verify.",
		Args: cobra.ExactArgs(2),
	}
	cmd.Flags().StringVar(
		&req.ID, "id", "",
		"id of the asset: letters, digits and hyphens (default: made from the file's name)",
	)
	cmd.Flags().StringVar(&req.Name, "name", "", "name of the asset (default: the file's)")
	cmd.Flags().StringVar(&req.Format, "format", "", "media type (default: by the file's name)")
	cmd.Flags().StringVar(
		&req.Author, "author", "", "identity of the author (default: yours, or the project's owner)",
	)
	cmd.Flags().BoolVar(&req.Sign, "sign", false, "sign it with the author's identity")
	password.add(cmd)
	return one(
		a, cmd, false, (*api.Client).AssetAdd, func(args []string) (_ api.AddAssetRequest, err error) {
			req.Project = args[0]
			if req.File, err = absPath(args[1]); err != nil || !req.Sign {
				return req, err
			}
			req.Password, err = password.read(a, false)
			return req, err
		}, func(x api.Asset) (string, display) {
			return x.ID, displayf("added asset %s  %s  %s", x.ID, bytesText(x.Size), x.Content)
		},
	)
}

func (a *app) refAdd() *cobra.Command {
	var req api.AddReferenceRequest
	cmd := &cobra.Command{
		Use:   "add PROJECT SOURCE TARGET",
		Short: "Say what one asset is to another",
		Long: "Say that the asset SOURCE of a project contains, depends on, is derived from or " +
			"refers to the asset TARGET, of the same project or of another one.",
		Args: cobra.ExactArgs(3),
	}
	cmd.Flags().StringVar(
		&req.Type, "type", "references", "contains, depends-on, derived-from or references",
	)
	cmd.Flags().StringVar(
		&req.Other, "in", "",
		"project of TARGET, if it is another: a replica that is here, or a project id",
	)
	cmd.Flags().StringVar(
		&req.Content, "content", "",
		"hash of the content of TARGET that is meant (default: the present one)",
	)
	return one(
		a, cmd, false, (*api.Client).ReferenceAdd, func(args []string) (api.AddReferenceRequest, error) {
			req.Project, req.Source, req.Target = args[0], args[1], args[2]
			return req, nil
		}, func(r api.Reference) (string, display) {
			return r.ID, displayf("%s %s %s", r.Source, r.Type, target(r.Project, r.Target))
		},
	)
}

func (a *app) projectHistory() *cobra.Command {
	return &cobra.Command{
		Use:   "history PROJECT ASSET",
		Short: "List the versions of an asset, and what it was derived from", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				all, err := s.Client.ProjectHistory(
					cmd.Context(), api.AssetRequest{Project: args[0], Asset: args[1]},
				)
				if err != nil {
					return err
				}
				out := newList(a, func(v api.Version) (string, display) {
					here := ""
					if !v.Here {
						here = "  (its content is not here)"
					}
					return v.Content.String(), displayf(
						"%s  %s  %s%s", v.At.Local().Format(time.DateTime), v.Content, target(v.Project, v.Asset),
						here,
					)
				})
				for _, v := range all {
					if err := out.add(v); err != nil {
						return err
					}
				}
				return out.end()
			})
		},
	}
}
