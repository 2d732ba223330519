package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/internal/disk"
)

func (a *app) replicaSet() *cobra.Command {
	var file, author string
	cmd := &cobra.Command{
		Use:   "set NAME KEY [VALUE]",
		Short: "Set a key to a value, a file (-f) or standard input (-)",
		Long:  "Set a key to a value, to a file's content (-f FILE) or to standard input (VALUE -).",
		Args:  cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := api.ParseKey(args[1])
			if err != nil {
				return err
			}
			if (len(args) == 3) == (file != "") {
				return api.UsageErrorf("give either a value, - for standard input, or -f FILE")
			}
			req := api.SetRequest{Name: args[0], Key: key, Author: author}
			switch {
			case file != "":
				if req.File, err = filepath.Abs(file); err != nil {
					return err
				}
			case args[2] == "-":
				// The node stores, or seals, what comes as it comes: it never lies anywhere else.
				return a.with(cmd.Context(), false, func(s *session) error {
					in := struct{ io.Reader }{a.stdin} // which the request does not close
					e, err := s.SetValue(cmd.Context(), req, in)
					if err != nil {
						return err
					}
					return a.printSet(e)
				})
			default:
				req.Value = []byte(args[2])
			}
			return a.with(cmd.Context(), false, func(s *session) error {
				e, err := s.Client.ReplicaSet(cmd.Context(), req)
				if err != nil {
					return err
				}
				return a.printSet(e)
			})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "take the value from this file")
	cmd.Flags().StringVar(&author, "author", "", "author to write as (default: the default author)")
	return cmd
}

func (a *app) printSet(e api.Entry) error {
	return a.print(e, e.Hash.String(), displayf("set %s  %s  %s", e.Key, bytesText(e.Size), e.Hash))
}

func (a *app) replicaGet() *cobra.Command {
	return &cobra.Command{
		Use:   "get NAME KEY",
		Short: "Write the latest value of a key to standard output",
		Long: "Write the latest value of a key to standard output. With --json, describe every " +
			"author's entry.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := api.ParseKey(args[1])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), false, func(s *session) error {
				if !a.json {
					return a.stdout.content(func(w io.Writer) error {
						return s.ReadValue(cmd.Context(), args[0], key, w)
					})
				}
				out := newList(a, func(api.Entry) (string, display) { return "", "" })
				if err := s.Client.ReplicaGet(
					cmd.Context(), api.KeyRequest{Name: args[0], Key: key}, out.add,
				); err != nil {
					return err
				}
				return out.end()
			})
		},
	}
}

func (a *app) replicaDel() *cobra.Command {
	var prefix bool
	var author string
	cmd := &cobra.Command{
		Use: "del NAME KEY", Short: "Delete a key, or with --prefix all keys that begin with it",
		Args: cobra.ExactArgs(2),
	}
	cmd.Flags().BoolVar(&prefix, "prefix", false, "delete all keys that begin with KEY")
	cmd.Flags().StringVar(&author, "author", "", "author to write as (default: the default author)")
	return one(
		a, cmd, false, (*api.Client).ReplicaDelete, func(args []string) (api.KeyRequest, error) {
			key, err := api.ParseKey(args[1])
			return api.KeyRequest{Name: args[0], Key: key, Prefix: prefix, Author: author}, err
		}, func(r api.Removed) (string, display) {
			return strconv.Itoa(r.Removed), displayf("deleted %d keys", r.Removed)
		},
	)
}

// parseTime reads a time: RFC 3339, a date, or how long ago.
func parseTime(flag, text string) (time.Time, error) { return parseTimeFrom(flag, text, -1) }

// parseAhead reads a time: RFC 3339, a date, or how long from now.
func parseAhead(flag, text string) (time.Time, error) { return parseTimeFrom(flag, text, 1) }

func parseTimeFrom(flag, text string, ahead time.Duration) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly,
	} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	if d, err := parseDuration(text); err == nil && d >= 0 {
		return time.Now().Add(ahead * d), nil
	}
	if us, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.UnixMicro(us), nil
	}
	how := "how long ago"
	if ahead > 0 {
		how = "how long from now"
	}
	return time.Time{}, api.UsageErrorf(
		"--%s %q: give a date, an RFC 3339 time, microseconds since 1970, or %s (90m, 7d)", flag, text,
		how,
	)
}

func entryLine(e api.Entry) (string, display) {
	what := displayf("%10s  %s", bytesText(e.Size), e.Content)
	if e.Deleted {
		what = "   deleted"
	}
	if e.Dropped {
		what = "   revoked"
	}
	return e.Key.String(), displayf(
		"%s  %s  %s  %s", timeText(e.Timestamp), e.Author.String()[:10], what, e.Key,
	)
}

func (a *app) replicaEntries() *cobra.Command {
	var req api.ListRequest
	var prefix, since, until string
	cmd := &cobra.Command{
		Use:   "list NAME",
		Short: "List the latest entry of each key",
		Long:  "List the latest entry of each key. With --all, list every author's entry, and deletions.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			req.Name = args[0]
			if req.Prefix, err = api.ParseKey(prefix); err != nil {
				return err
			}
			if req.Since, err = parseTime("since", since); err != nil {
				return err
			}
			if req.Until, err = parseTime("until", until); err != nil {
				return err
			}
			if req.Limit < 0 {
				return api.UsageErrorf("--limit must not be negative")
			}
			return a.with(cmd.Context(), false, func(s *session) error {
				out := newList(a, entryLine)
				sum, err := s.Client.ReplicaEntries(cmd.Context(), req, out.add)
				if err != nil {
					return err
				}
				a.noteUnreadable(sum.Unreadable)
				return out.end()
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&prefix, "prefix", "", "only keys that begin with this")
	f.StringVar(&req.Author, "author", "", "only entries by this author")
	f.StringVar(
		&since, "since", "", "only entries at or after this time, or not older than this (90m)",
	)
	f.StringVar(&until, "until", "", "only entries before this time")
	f.IntVar(&req.Limit, "limit", 0, "at most this many")
	f.BoolVar(&req.All, "all", false, "every author's entries, and deletions")
	f.BoolVar(&req.Reverse, "reverse", false, "from the last to the first")
	f.BoolVar(&req.ByTime, "by-time", false, "in the order of time (with --all)")
	return cmd
}

// noteUnreadable tells that there is more than can be shown.
func (a *app) noteUnreadable(n uint64) {
	if n > 0 {
		a.note(
			"%d entries cannot be read here: they are sealed with a read key that this node does not "+
				"have. Ask for a new ticket or invite",
			n,
		)
	}
}

func (a *app) replicaImport() *cobra.Command {
	var author, files string
	cmd := &cobra.Command{
		Use:   "import NAME FILE",
		Short: "Set many keys from lines of JSON",
		Long: "Set many keys from lines of {\"key\",\"value\"} or {\"key\",\"file\"} in FILE (- is " +
			"standard input). Files are relative to the directory of FILE, or to\n" +
			"the current one for standard input, and must be in it; --files-from names another directory.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			in, dir := a.stdin, "."
			if args[1] != "-" {
				f, err := disk.OpenRegular(args[1])
				if err != nil {
					return err
				}
				defer f.Close()
				in, dir = f, filepath.Dir(args[1])
			}
			if files != "" {
				dir = files
			}
			if dir, err = filepath.Abs(dir); err != nil {
				return err
			}
			return a.with(cmd.Context(), false, func(s *session) error {
				in := struct{ io.Reader }{in} // which the request does not close
				sum, err := s.ImportItems(cmd.Context(), args[0], author, dir, in)
				if err != nil {
					return err
				}
				return a.print(
					sum, strconv.Itoa(sum.Imported), displayf("set %d keys in %.1f s", sum.Imported, sum.Seconds),
				)
			})
		},
	}
	cmd.Flags().StringVar(&author, "author", "", "author to write as (default: the default author)")
	cmd.Flags().StringVar(
		&files, "files-from", "", "directory that files must be in (default: that of FILE)",
	)
	return cmd
}

func (a *app) replicaExport() *cobra.Command {
	var skip bool
	cmd := &cobra.Command{
		Use:   "export NAME DIR",
		Short: "Write the latest value of each key to a file under DIR",
		Long: "Write the latest value of each key to a file under DIR, which must not exist or be " +
			"empty.\n" +
			"Keys that cannot be names of files below DIR are listed and left out; the command then\n" +
			"exits with 1, unless --skip-unsafe says that they may be.",
		Example: "  skerry replica export notes ./notes",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := absPath(args[1])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), false, func(s *session) error {
				r, err := s.Client.ReplicaExport(
					cmd.Context(), api.ExportReplicaRequest{Name: args[0], Dir: dir, SkipUnsafe: skip},
				)
				if err != nil {
					return err
				}
				a.noteUnreadable(r.Unreadable)
				text := displayf("wrote %d files", r.Exported)
				for i, k := range r.Skipped {
					text += displayf("\n  left out: %s (%s)", k, r.Why[i])
				}
				if err := a.print(r, "", text); err != nil {
					return err
				}
				if len(r.Skipped) > 0 && !skip {
					return fmt.Errorf(
						"%d keys of %s are not written: they cannot be names of files (--skip-unsafe takes "+
							"that for success)",
						len(r.Skipped), args[0],
					)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(
		&skip, "skip-unsafe", false, "succeed although keys are left out that cannot be names of files",
	)
	return cmd
}

func (a *app) replicaWatch() *cobra.Command {
	return &cobra.Command{
		Use:   "watch NAME",
		Short: "Print entries as they are stored, until interrupted",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.untilInterrupted(cmd.Context(), func(s *session) error {
				err := s.Client.ReplicaWatch(
					cmd.Context(), api.NameRequest{Name: args[0]}, func(e api.Entry) error {
						if e.Missed > 0 {
							a.note("%d entries were stored too fast to be shown", e.Missed)
							if a.json {
								return a.print(map[string]uint64{"missed": e.Missed}, "", "")
							}
							return nil
						}
						essential, text := entryLine(e)
						return a.print(e, essential, text)
					},
				)
				if cmd.Context().Err() != nil {
					return nil // that is how a watch ends
				}
				return err
			})
		},
	}
}
