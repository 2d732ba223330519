package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/ticket"
)

func (a *app) blobCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "blob", Short: "Work with content by its hash"}
	cmd.AddCommand(
		a.blobAdd(), a.blobCat(), a.blobList(), a.blobStat(), a.blobFetch(), a.blobPin(), a.blobUnpin(),
		a.blobPins(), a.blobRemove(), a.blobCollect(), a.blobVerify(), a.blobExport(),
	)
	return cmd
}

// addFlags are those of commands that import.
func addFlags(cmd *cobra.Command, req *api.AddRequest) {
	cmd.Flags().BoolVar(
		&req.SkipUnsafeLinks, "skip-unsafe-links", false,
		"leave out symbolic links that lead out of a directory",
	)
	cmd.Flags().StringVar(&req.Pin, "pin", "", "keep it under this name (default: its path)")
	cmd.Flags().BoolVar(&req.NoPin, "no-pin", false, "let the next gc remove it")
	cmd.Flags().BoolVar(
		&req.NoCopy, "no-copy", false,
		"leave files where they are; they are verified whenever they are read",
	)
	cmd.Flags().BoolVar(
		&req.Chunked, "chunked", false,
		"cut single files in content-defined chunks, too, as large files of directories are",
	)
	cmd.Flags().BoolVar(&req.Whole, "whole", false, "cut no file in chunks")
}

func (a *app) blobAdd() *cobra.Command {
	var req api.AddRequest
	cmd := &cobra.Command{
		Use:   "add PATH...",
		Short: "Import files and directories, and print their hashes",
		Long: "Import files and directories (- for standard input), pin them so that gc keeps them, " +
			"and print their hashes. The hash of a file is its BLAKE3 hash, unless it is cut in\n" +
			"chunks; large files of directories are, so that an edit costs only the chunks around it.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				out := newList(a, func(x api.Added) (string, display) {
					text := displayf("%s  %s  %s", x.Hash, bytesText(x.Size), x.Path)
					if x.Kind == "directory" {
						text += displayf("  (directory, %s)", count(x.Files, "file"))
					}
					for _, p := range x.Skipped {
						text += displayf("\n  left out: %s", p)
					}
					return x.Hash.String(), text
				})
				for _, arg := range args {
					if arg == "-" {
						x, err := s.ImportBlob(cmd.Context(), a.stdin)
						if err != nil {
							return out.stop(err)
						}
						if err := out.add(x); err != nil {
							return err
						}
						continue
					}
					path, err := absPath(arg)
					if err != nil {
						return out.stop(err)
					}
					req.Paths = []string{path}
					if req.Pin != "" && len(args) > 1 {
						return api.UsageErrorf("--pin takes exactly one path and cannot be combined with --no-pin")
					}
					if err := s.Client.BlobAdd(cmd.Context(), req, out.add); err != nil {
						return out.stop(err)
					}
				}
				return out.end()
			})
		},
	}
	addFlags(cmd, &req)
	return cmd
}

func (a *app) blobCat() *cobra.Command {
	var offset, length byteSize
	var raw bool
	cmd := &cobra.Command{
		Use:   "cat HASH|TICKET",
		Short: "Write a blob to standard output",
		Long: "Write the bytes of a blob, or a part of them, to standard output. What is not " +
			"here is fetched.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			most := int64(-1) // all
			if cmd.Flags().Changed("length") {
				most = int64(length)
			}
			return a.with(cmd.Context(), ticket.Looks(args[0]), func(s *session) error {
				if a.stdout.terminal && !raw {
					st, err := s.Client.BlobStat(cmd.Context(), api.HashRequest{Hash: args[0]})
					if err == nil && st.Kind == "directory" {
						return api.UsageErrorf(
							"%s is a directory, whose list is not text: write it out with skerry get, or use --raw",
							st.Hash.Short(),
						)
					}
				}
				return a.stdout.content(func(w io.Writer) error {
					return s.ReadBlob(cmd.Context(), args[0], int64(offset), most, raw, w)
				})
			})
		},
	}
	cmd.Flags().Var(&offset, "offset", "start at this byte, such as 4096 or 1MiB")
	cmd.Flags().Var(&length, "length", "write at most this many bytes (default: all)")
	cmd.Flags().BoolVar(
		&raw, "raw", false, "of a file in chunks, write the list of its chunks' hashes",
	)
	return cmd
}

func (a *app) blobList() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the blobs that are here",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				out := newList(a, func(b api.BlobInfo) (string, display) {
					text := displayf("%s  %10s", b.Hash, bytesText(b.Size))
					if !b.Complete {
						text += displayf("  partial, %s here", bytesText(b.Present))
					}
					for _, name := range b.Pins {
						text += displayf("  pinned as %s", name)
					}
					return b.Hash.String(), text
				})
				if err := s.Client.BlobList(cmd.Context(), out.add); err != nil {
					return err
				}
				return out.end()
			})
		},
	}
}

func (a *app) blobRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "rm HASH...",
		Short: "Remove blobs, and their pins, from this node",
		Long: "Remove blobs, and the pins that keep them, from this node. The files of a directory " +
			"stay until gc, and the room of small blobs is given back by gc. Content that an entry of a " +
			"replica points at is missing then, until it is added again.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				out := newList(a, func(b api.BlobInfo) (string, display) {
					return b.Hash.String(), displayf("removed %s  %s", b.Hash, bytesText(b.Size))
				})
				for _, arg := range args {
					b, err := s.Client.BlobRemove(cmd.Context(), api.HashRequest{Hash: arg})
					if err != nil {
						return out.stop(err)
					}
					if err := out.add(b); err != nil {
						return err
					}
				}
				return out.end()
			})
		},
	}
}

func (a *app) blobVerify() *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "verify [HASH...]",
		Short: "Verify stored content and report what is damaged",
		Long: "Hash stored content again, and report what is damaged: all of it or, with hashes, these " +
			"blobs and what they list.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), repair, func(s *session) error {
				damage := []api.Damage{}
				sum, err := s.Client.BlobVerify(
					cmd.Context(), api.VerifyRequest{Hashes: args, Repair: repair}, func(d api.Damage) error {
						damage = append(damage, d)
						if d.Unread {
							a.note("unread: %s  %s", d.Hash, d.Cause)
							return nil
						}
						state := ""
						if d.Repaired {
							state = "  (fetched again)"
						} else if d.RepairError != "" {
							state = "  (dropped, but not fetched again: " + d.RepairError + ")"
						}
						a.note(
							"damaged: %s  bytes %d to %d: %s%s", d.Hash, d.Offset, d.Offset+d.Length, d.Cause, state,
						)
						return nil
					},
				)
				if err != nil {
					return err
				}
				value := struct {
					api.Verified
					Damage []api.Damage `json:"damage"`
				}{sum, damage}
				text := displayf("%s, %s: %d damaged",
					count(sum.Blobs, "blob"), bytesText(sum.Bytes), sum.Damaged)
				if repair {
					text += displayf(", %d of these repaired", sum.Repaired)
				}
				if sum.Unread > 0 {
					text += displayf("; %d could not be looked at", sum.Unread)
				}
				if sum.Missing > 0 {
					text += displayf("; %d of what they list not here", sum.Missing)
				}
				if err := a.print(value, fmt.Sprint(sum.Damaged-sum.Repaired), text); err != nil {
					return err
				}
				if left := sum.Damaged - sum.Repaired; left > 0 {
					return &api.Error{Kind: api.Verification, Message: fmt.Sprintf("%d of %s damaged: fetch "+
						"them again from peers (skerry blob verify --repair), or add them again",
						left, count(sum.Blobs, "blob"))}
				}
				if sum.Unread > 0 {
					return &api.Error{Kind: api.Failed, Message: fmt.Sprintf("%d of %s could not be looked at; "+
						"see above for why", sum.Unread, count(sum.Blobs, "blob"))}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "fetch what is damaged again from connected peers")
	return cmd
}

func (a *app) blobExport() *cobra.Command {
	return &cobra.Command{
		Use:   "export HASH PATH",
		Short: "Write a blob or directory to a path that does not exist",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := absPath(args[1])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), false, func(s *session) error {
				got, err := s.Client.BlobExport(cmd.Context(), api.ExportRequest{Hash: args[0], Path: path})
				if err != nil {
					return err
				}
				return a.print(got, got.Path, displayf("%s  %s", got.Path, bytesText(got.Size)))
			})
		},
	}
}
