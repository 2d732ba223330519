package main

import (
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
)

func (a *app) conflictsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "conflicts", Short: "See and end conflicts between edits of one item",
		Long: `See and end conflicts between edits of one item. Edits that two devices make
without knowing of each other are merged if that can be done. If it cannot, all
of them stay, and each device goes on with its own, until somebody chooses, on
any device.
Only what an app or a folder keeps with versions can be in conflict. Values of
skerry replica set have no versions.`,
	}
	cmd.AddCommand(a.conflictsLs(), a.conflictsShow(), a.conflictsResolve())
	return cmd
}

func (a *app) conflictsLs() *cobra.Command {
	return &cobra.Command{
		Use:   "ls [REPLICA]",
		Short: "List what is in conflict, in one replica or in all",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				out := newList(a, func(c api.ItemConflict) (string, display) {
					return c.Replica + " " + c.Key.String(), conflictText(c)
				})
				req := api.ConflictsRequest{Name: strings.Join(args, "")}
				found := 0
				if err := s.Conflicts(cmd.Context(), req, func(c api.ItemConflict) error {
					found++
					return out.add(c)
				}); err != nil {
					return err
				}
				if found == 0 {
					a.note("nothing is in conflict")
				}
				return out.end()
			})
		},
	}
}

// conflictTitle names an item that is in conflict, and says why it is.
func conflictTitle(c api.ItemConflict) display {
	title := displayf("%s  %s", c.Replica, c.Key)
	if c.Name != "" && c.Name != c.Key.String() {
		title = displayf("%s  %s (%s)", c.Replica, c.Name, c.Key)
	}
	if c.Kind != "" {
		title += displayf(", %s", c.Kind)
	}
	return title + displayf("\n  %s", c.Reason)
}

func conflictText(c api.ItemConflict) display {
	text := conflictTitle(c)
	for _, v := range c.Heads {
		text += "\n  " + versionLine(v)
	}
	return text
}

// whoseColumns is how much of a device's name, or of an author's id, a list shows.
const whoseColumns = 11

// whose names who wrote a version: this device, another by its name, or an author.
func whose(v api.ItemVersion) string {
	switch name := []rune(v.Device); {
	case v.Here:
		return "this device"
	case len(name) > whoseColumns:
		return string(name[:whoseColumns-1]) + "…"
	case len(name) > 0:
		return v.Device
	}
	return v.Author[:min(len(v.Author), whoseColumns)]
}

// versionLine describes a version in a list, in 80 columns.
func versionLine(v api.ItemVersion) display {
	size := "not kept"
	switch {
	case v.Deleted:
		size = "deleted"
	case v.Kept:
		size = bytesText(v.Size)
	}
	line := displayf("%3d  %s  %-11s  %10s", v.Number, dateText(v.Time), whose(v), size)
	switch {
	case v.Plain:
		line += "  plain value"
	case v.Shown:
		line += "  shown here"
	case v.Head:
		line += "  beside it"
	}
	return line
}

func (a *app) conflictsShow() *cobra.Command {
	var content string
	cmd := &cobra.Command{
		Use:   "show REPLICA KEY",
		Short: "Show the versions that are in conflict",
		Long: `Show the versions that are in conflict: of each what it changed in the version
that all of them follow on, or its text. --content writes one of them to
standard output, as it is.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := api.ParseKey(args[1])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), false, func(s *session) error {
				c, err := s.ConflictShow(cmd.Context(), api.ItemRequest{Name: args[0], Key: key})
				if err != nil {
					return err
				}
				if content != "" {
					return a.writeHead(cmd, s, c, content)
				}
				return a.print(c, strconv.Itoa(len(c.Heads)), shownText(c))
			})
		},
	}
	cmd.Flags().StringVar(&content, "content", "", "write this version's content, by its number or id")
	return cmd
}

// writeHead writes the content of a head to standard output.
func (a *app) writeHead(cmd *cobra.Command, s *session, c api.ShownConflict, which string) error {
	req := api.VersionRequest{Name: c.ReplicaID.String(), Key: c.Key}
	var n int
	if n, req.ID = numberOrID(which); req.ID == "" {
		if n > len(c.Heads) {
			return api.UsageErrorf("--content %s: there are versions 1 to %d", which, len(c.Heads))
		}
		req.ID = c.Heads[n-1].ID
	}
	return a.stdout.content(func(w io.Writer) error {
		return s.ReadVersion(cmd.Context(), req, w)
	})
}

// numberOrID reads what names a version: a number from 1, or else an id.
func numberOrID(text string) (number int, id string) {
	if n, err := strconv.Atoi(text); err == nil && n > 0 {
		return n, ""
	}
	return 0, text
}

func shownText(c api.ShownConflict) display {
	text := conflictTitle(c.ItemConflict)
	if c.Base != nil {
		text += displayf("\n  what all follow on: %s by %s", dateText(c.Base.Time), whose(*c.Base))
	}
	for i, v := range c.Heads {
		text += "\n\n" + versionLine(v)
		if i >= len(c.Texts) {
			continue
		}
		switch t := c.Texts[i]; {
		case t.Why != "":
			text += displayf("\n     (%s)", t.Why)
		case t.Text == "":
			text += "\n     (empty)"
		default:
			for line := range strings.SplitSeq(strings.TrimSuffix(t.Text, "\n"), "\n") {
				text += displayf("\n     %s", strings.TrimSuffix(line, "\r"))
			}
		}
	}
	return text + displayf(
		"\n\nEnd it with: skerry conflicts resolve %s %s --take N", c.Replica, c.Key,
	)
}

func (a *app) conflictsResolve() *cobra.Command {
	var take, file string
	var del bool
	cmd := &cobra.Command{
		Use:   "resolve REPLICA KEY",
		Short: "End a conflict, on all devices",
		Long: `End a conflict, on all devices: with one of its versions (--take, by its number
or its id), with a file (--file), or by deleting the item (--delete). The other
versions stay in the item's history: skerry replica history.`,
		Example: "  skerry conflicts resolve notes todo.txt --take 2\n" +
			"  skerry conflicts resolve notes todo.txt --file merged.txt",
		Args: cobra.ExactArgs(2),
	}
	cmd.Flags().StringVar(&take, "take", "", "the version that stands, as conflicts show numbers it")
	cmd.Flags().StringVar(&file, "file", "", "the content that the item has from now on")
	cmd.Flags().BoolVar(&del, "delete", false, "delete the item")
	return one(
		a, cmd, false, (*api.Client).ConflictResolve,
		func(args []string) (req api.ResolveRequest, err error) {
			if ways(take != "", file != "", del) != 1 {
				return req, api.UsageErrorf(
					"say how it ends: --take N, --file FILE or --delete (skerry conflicts show %s %s tells "+
						"what there is)", args[0], args[1],
				)
			}
			req = api.ResolveRequest{Name: args[0], Delete: del}
			if take != "" {
				req.Number, req.ID = numberOrID(take)
			}
			if file != "" {
				if req.File, err = filepath.Abs(file); err != nil {
					return req, err
				}
			}
			req.Key, err = api.ParseKey(args[1])
			return req, err
		}, resolvedText,
	)
}

func ways(chosen ...bool) (n int) {
	for _, c := range chosen {
		if c {
			n++
		}
	}
	return n
}

func resolvedText(r api.Resolved) (string, display) {
	text := displayf("%s  %s: ", r.Replica, r.Key)
	switch {
	case r.Deleted:
		text += "deleted"
	case r.Took != nil:
		text += displayf("the version of %s by %s stands, %s", dateText(r.Took.Time), whose(*r.Took),
			bytesText(r.Size))
	default:
		text += displayf("the file stands, %s", bytesText(r.Size))
	}
	return r.Key.String(), text + displayf("; %d versions were in conflict", r.Heads)
}
