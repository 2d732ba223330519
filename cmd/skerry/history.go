package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
)

func (a *app) replicaHistory() *cobra.Command {
	var restore, content string
	cmd := &cobra.Command{
		Use:   "history NAME KEY",
		Short: "List the versions of an item, and restore one",
		Long: `List the versions of an item that are known, the newest first. --restore gives
the item the content of one again, in a new version over all that there are.
--content writes one to standard output, as it is.
Values of skerry replica set have no versions: each author's last one is listed.`,
		Example: "  skerry replica history notes todo.txt\n" +
			"  skerry replica history notes todo.txt --restore 3",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := api.ParseKey(args[1])
			if err != nil {
				return err
			}
			req := api.VersionRequest{Name: args[0], Key: key}
			return a.with(cmd.Context(), false, func(s *session) error {
				switch {
				case restore != "" && content != "":
					return api.UsageErrorf("give either --restore or --content")
				case restore != "":
					req.Number, req.ID = numberOrID(restore)
					return a.restore(cmd, s, req)
				case content != "":
					req.Number, req.ID = numberOrID(content)
					return a.stdout.content(func(w io.Writer) error {
						return s.ReadVersion(cmd.Context(), req, w)
					})
				}
				return a.listHistory(cmd, s, api.ItemRequest{Name: args[0], Key: key})
			})
		},
	}
	cmd.Flags().StringVar(&restore, "restore", "", "restore this version, by its number or id")
	cmd.Flags().StringVar(&content, "content", "", "write this version's content, by its number or id")
	return cmd
}

func (a *app) listHistory(cmd *cobra.Command, s *session, req api.ItemRequest) error {
	out := newList(a, func(v api.ItemVersion) (string, display) {
		if v.Plain {
			return v.Author, versionLine(v)
		}
		return v.ID, versionLine(v)
	})
	end, err := s.ReplicaHistory(cmd.Context(), req, out.add)
	if err != nil {
		return err
	}
	if end.Waiting > 0 {
		a.note("the content of %s is not here yet, and it is not listed",
			count(end.Waiting, "further version"))
	}
	return out.end()
}

func (a *app) restore(cmd *cobra.Command, s *session, req api.VersionRequest) error {
	r, err := s.ReplicaRestore(cmd.Context(), req)
	if err != nil {
		return err
	}
	return a.print(r, r.Version.ID, displayf(
		"%s  %s: restored the version of %s by %s, %s", r.Replica, r.Key, dateText(r.Version.Time),
		whose(r.Version), bytesText(r.Version.Size),
	))
}
