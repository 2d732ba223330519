package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
)

func (a *app) authorCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "author", Short: "Work with the keys that sign entries"}
	show := func(x api.Author) (string, display) {
		text := displayf("%s", x.Author)
		if x.Default {
			text += "  (default)"
		}
		return x.Author.String(), text
	}
	none := func([]string) (struct{}, error) { return struct{}{}, nil }
	cmd.AddCommand(
		one(a, &cobra.Command{
			Use:   "export [AUTHOR]",
			Short: "Print an author's secret key, to write as it elsewhere",
			Long: "Print the secret key of an author (default: the default author). Whoever has it can " +
				"write as this author, wherever the author may: keep it as you keep a password.",
			Args: cobra.MaximumNArgs(1),
		}, false, (*api.Client).AuthorExport, func(args []string) (api.AuthorRequest, error) {
			if len(args) == 1 {
				return api.AuthorRequest{Author: args[0]}, nil
			}
			return api.AuthorRequest{}, nil
		}, func(k api.AuthorKey) (string, display) {
			a.note("Whoever has this key writes as the author. Keep it where nobody else looks.")
			return k.Secret, displayf("%s", k.Secret)
		}),
		one(a, &cobra.Command{
			Use:   "import FILE",
			Short: "Store a secret key that skerry author export printed",
			Long: "Store the secret key of an author that skerry author export printed. FILE - is " +
				"standard input.",
			Args: cobra.ExactArgs(1),
		}, false, (*api.Client).AuthorImport, func(args []string) (api.ImportAuthorRequest, error) {
			b, err := a.readSmall(args[0])
			return api.ImportAuthorRequest{Secret: string(b)}, err
		}, show),
		one(a, &cobra.Command{Use: "new", Short: "Make an author", Args: cobra.NoArgs}, false,
			func(c *api.Client, ctx context.Context, _ struct{}) (api.Author, error) {
				return c.AuthorNew(ctx)
			}, none, show),
		one(a, &cobra.Command{
			Use:   "default [AUTHOR]",
			Short: "Show or set the author that writes by default",
			Long:  "Show or set the author that writes where no --author is given.",
			Args:  cobra.MaximumNArgs(1),
		}, false,
			(*api.Client).AuthorDefault, func(args []string) (api.AuthorRequest, error) {
				if len(args) == 1 {
					return api.AuthorRequest{Author: args[0]}, nil
				}
				return api.AuthorRequest{}, nil
			}, show),
		&cobra.Command{
			Use: "ls", Short: "List the authors whose keys this node has", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return a.with(cmd.Context(), false, func(s *session) error {
					all, err := s.Client.AuthorList(cmd.Context())
					if err != nil {
						return err
					}
					out := newList(a, show)
					for _, x := range all {
						if err := out.add(x); err != nil {
							return err
						}
					}
					return out.end()
				})
			},
		})
	return cmd
}
