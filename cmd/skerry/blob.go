package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
)

func (a *app) blobCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "blob", Short: "Work with content by its hash"}
	cmd.AddCommand(a.blobAdd(), a.blobCat(), a.blobList(), a.blobRemove(), a.blobVerify(), a.blobExport())
	return cmd
}

func (a *app) blobAdd() *cobra.Command {
	var skipUnsafe bool
	cmd := &cobra.Command{
		Use:   "add PATH...",
		Short: "Import files and directories (- for standard input) and print their hashes",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				out := newList(a, func(x api.Added) (string, string) {
					text := fmt.Sprintf("%s  %s  %s", x.Hash, bytesText(x.Size), x.Path)
					if x.Kind == "directory" {
						text += fmt.Sprintf("  (directory, %d files)", x.Files)
					}
					for _, p := range x.Skipped {
						text += "\n  left out: " + p
					}
					return x.Hash.String(), text
				})
				for _, arg := range args {
					if arg == "-" {
						x, err := s.ImportBlob(cmd.Context(), a.stdin)
						if err != nil {
							return err
						}
						if err := out.add(x); err != nil {
							return err
						}
						continue
					}
					path, err := filepath.Abs(arg)
					if err != nil {
						return err
					}
					if err := api.Each(cmd.Context(), s.Client, "blob/add", api.AddRequest{Paths: []string{path}, SkipUnsafeLinks: skipUnsafe}, out.add); err != nil {
						return err
					}
				}
				return out.end()
			})
		},
	}
	cmd.Flags().BoolVar(&skipUnsafe, "skip-unsafe-links", false, "leave out symbolic links that lead out of a directory")
	return cmd
}

func (a *app) blobCat() *cobra.Command {
	var offset, length int64
	cmd := &cobra.Command{
		Use:   "cat HASH",
		Short: "Write the bytes of a blob to standard output",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if offset < 0 || cmd.Flags().Changed("length") && length < 0 {
				return api.UsageErrorf("--offset and --length must not be negative")
			}
			return a.with(cmd.Context(), false, func(s *session) error {
				return s.ReadBlob(cmd.Context(), args[0], offset, length, a.stdout)
			})
		},
	}
	cmd.Flags().Int64Var(&offset, "offset", 0, "start at this byte")
	cmd.Flags().Int64Var(&length, "length", -1, "write at most this many bytes")
	return cmd
}

func (a *app) blobList() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the blobs that are here",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				out := newList(a, func(b api.BlobInfo) (string, string) {
					state := "complete"
					if !b.Complete {
						state = fmt.Sprintf("partial, %s here", bytesText(b.Present))
					}
					return b.Hash.String(), fmt.Sprintf("%s  %10s  %s", b.Hash, bytesText(b.Size), state)
				})
				if err := api.Each(cmd.Context(), s.Client, "blob/ls", nil, out.add); err != nil {
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
		Short: "Remove blobs from this node",
		Long:  "Remove blobs from this node. Content that an entry of a replica points at is missing then, until it is added again.",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				out := newList(a, func(b api.BlobInfo) (string, string) {
					return b.Hash.String(), fmt.Sprintf("removed %s  %s", b.Hash, bytesText(b.Size))
				})
				for _, arg := range args {
					b, err := api.Call[api.BlobInfo](cmd.Context(), s.Client, "blob/rm", api.HashRequest{Hash: arg})
					if err != nil {
						return err
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
	return &cobra.Command{
		Use:   "verify [HASH...]",
		Short: "Hash stored content again and report what is damaged (all of it, unless hashes are given)",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				damage := []api.Damage{}
				sum, err := api.Both[api.Damage, api.Verified](cmd.Context(), s.Client, "blob/verify", api.VerifyRequest{Hashes: args}, func(d api.Damage) error {
					damage = append(damage, d)
					a.note("damaged: %s  bytes %d to %d: %s", d.Hash, d.Offset, d.Offset+d.Length, d.Cause)
					return nil
				})
				if err != nil {
					return err
				}
				value := struct {
					api.Verified
					Damage []api.Damage `json:"damage"`
				}{sum, damage}
				if err := a.print(value, fmt.Sprint(sum.Damaged), fmt.Sprintf("%d blobs, %s: %d damaged", sum.Blobs, bytesText(sum.Bytes), sum.Damaged)); err != nil {
					return err
				}
				if sum.Damaged > 0 {
					return &api.Error{Kind: api.Verification, Message: fmt.Sprintf("%d of %d blobs are damaged: remove them (skerry blob rm) and fetch or add them again", sum.Damaged, sum.Blobs)}
				}
				return nil
			})
		},
	}
}

func (a *app) blobExport() *cobra.Command {
	return &cobra.Command{
		Use:   "export HASH PATH",
		Short: "Write a blob or directory to a path that does not exist",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[1])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), false, func(s *session) error {
				got, err := api.Call[api.Got](cmd.Context(), s.Client, "blob/export", api.ExportRequest{Hash: args[0], Path: path})
				if err != nil {
					return err
				}
				return a.print(got, got.Path, fmt.Sprintf("%s  %s", got.Path, bytesText(got.Size)))
			})
		},
	}
}
