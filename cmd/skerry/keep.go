package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
)

func (a *app) blobStat() *cobra.Command {
	cmd := &cobra.Command{
		Use: "stat HASH|TICKET", Short: "Show a blob's size, and which parts are where",
		Args: cobra.ExactArgs(1),
	}
	return one(
		a, cmd, false, (*api.Client).BlobStat,
		func(args []string) (api.HashRequest, error) { return api.HashRequest{Hash: args[0]}, nil },
		func(b api.BlobStat) (string, display) { return b.Hash.String(), statText(b) },
	)
}

func statText(b api.BlobStat) display {
	lines := []display{displayf("hash      %s", b.Hash)}
	add := func(name, format string, args ...any) {
		lines = append(lines, displayf("%-9s ", name)+displayf(format, args...))
	}
	kind := displayf("%s", b.Kind)
	if b.Children > 0 {
		kind += displayf(" of %d children, %d of them not here", b.Children, b.Missing)
		add("content", "%s", bytesText(b.Content))
	}
	add("kind", "%s", kind)
	add("size", "%s (%d bytes)", bytesText(b.Size), b.Size)
	switch {
	case b.Changed != "":
		add("here", "nothing that is known to be right: the file is not what was added, %s", b.Changed)
	case b.Complete:
		add("here", "all of it")
	default:
		add("here", "%s", bytesText(b.Present))
	}
	if b.Size > 0 {
		add("map", "[%s]", mapText(b, 60))
	}
	if b.Reference != "" {
		add("lies in", "%s", b.Reference)
	}
	for _, p := range b.Pins {
		add("pinned as", "%s", p)
	}
	for _, p := range b.Providers {
		what := bytesText(p.Present)
		if p.Complete {
			what = "all of it"
		}
		add("provider", "%s  %s", p.ID, what)
	}
	return joinDisplays(lines, "\n")
}

// mapText draws which parts are here: # all, + some, . none of a cell.
func mapText(b api.BlobStat, cells int) string {
	var out strings.Builder
	for i := range uint64(cells) {
		start, end := b.Size*i/uint64(cells), b.Size*(i+1)/uint64(cells)
		if start == end {
			end = start + 1
		}
		var have uint64
		for _, r := range b.Ranges {
			if from, to := max(start, r.Offset), min(end, r.Offset+r.Length); from < to {
				have += to - from
			}
		}
		switch {
		case have == 0:
			out.WriteByte('.')
		case have < min(end, b.Size)-min(start, b.Size):
			out.WriteByte('+')
		default:
			out.WriteByte('#')
		}
	}
	return out.String()
}

func (a *app) blobFetch() *cobra.Command {
	var ranges, children []string
	cmd := &cobra.Command{
		Use:   "fetch HASH|TICKET",
		Short: "Fetch a blob, or parts of it, into the store",
		Long: "Fetch a blob, or only byte ranges of it, into the store. With --children, fetch the " +
			"blob and those byte ranges of each child of the sequence\n" +
			"or directory, such as --children 0-64KiB for the beginning of each file. Ranges are " +
			"FROM-TO, in bytes or with a unit; TO is not included.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := api.FetchRequest{What: args[0]}
			var err error
			if req.Ranges, err = parseSpans(ranges); err != nil {
				return err
			}
			if req.Children, err = parseSpans(children); err != nil {
				return err
			}
			return a.with(cmd.Context(), true, func(s *session) error {
				got, err := s.Client.BlobFetch(cmd.Context(), req)
				if err != nil {
					return err
				}
				return a.print(
					got, got.Hash.String(),
					displayf("%s  fetched %s in %.1f s", got.Hash, bytesText(got.FetchedBytes), got.Seconds),
				)
			})
		},
	}
	cmd.Flags().StringArrayVar(
		&ranges, "range", nil, "bytes of the blob, such as 1MiB-2MiB (repeatable; default: all)",
	)
	cmd.Flags().StringArrayVar(&children, "children", nil, "bytes of each child (repeatable)")
	return cmd
}

func parseSpans(texts []string) (out []api.Span, err error) {
	for _, t := range texts {
		from, to, ok := strings.Cut(t, "-")
		var x, y byteSize
		if !ok || x.Set(from) != nil || y.Set(to) != nil || y <= x {
			return nil, api.UsageErrorf("range %q: expected FROM-TO, such as 0-64KiB", t)
		}
		out = append(out, api.Span{Offset: uint64(x), Length: uint64(y - x)})
	}
	return out, nil
}

func (a *app) blobPin() *cobra.Command {
	var req api.PinRequest
	cmd := &cobra.Command{
		Use:   "pin HASH",
		Short: "Keep a blob, and what it lists, from gc",
		Args:  cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&req.Name, "name", "", "name of the pin (default: the hash)")
	cmd.Flags().BoolVar(
		&req.Single, "single", false, "of a directory or sequence, keep only the list itself",
	)
	return one(a, cmd, false, (*api.Client).BlobPin, func(args []string) (api.PinRequest, error) {
		req.Hash = args[0]
		return req, nil
	},
		func(p api.Pin) (string, display) { return p.Name, displayf("pinned %s as %s", p.Hash, p.Name) })
}

func (a *app) blobUnpin() *cobra.Command {
	return &cobra.Command{
		Use:   "unpin NAME|HASH",
		Short: "Remove a pin, or all pins of a blob",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.pins(cmd, "unpinned ", func(s *session, each func(api.Pin) error) error {
				return s.BlobUnpin(cmd.Context(), api.UnpinRequest{Name: args[0]}, each)
			})
		},
	}
}

func (a *app) blobPins() *cobra.Command {
	return &cobra.Command{
		Use:   "pins",
		Short: "List the pins",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.pins(cmd, "", func(s *session, each func(api.Pin) error) error {
				return s.BlobPins(cmd.Context(), each)
			})
		},
	}
}

func (a *app) pins(
	cmd *cobra.Command, before string, run func(s *session, each func(api.Pin) error) error,
) error {
	return a.with(cmd.Context(), false, func(s *session) error {
		out := newList(a, func(p api.Pin) (string, display) {
			return p.Name, displayf("%s%s  %s", before, p.Hash, p.Name)
		})
		if err := run(s, out.add); err != nil {
			return err
		}
		return out.end()
	})
}

func (a *app) blobCollect() *cobra.Command {
	var req api.CollectRequest
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove what nothing keeps, and give its room back",
		Long: "Remove blobs that no pin and no replica's entry keeps and that are not being fetched, " +
			"and give their room back to the file system.",
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "only say what would be removed")
	return one(a, cmd, false, (*api.Client).BlobCollect, func([]string) (api.CollectRequest, error) {
		return req, nil
	}, func(c api.Collected) (string, display) {
		verb := "removed"
		if c.DryRun {
			verb = "would remove"
		}
		more := displayf("")
		if c.Postponed && !c.DryRun {
			more = displayf("\nthe disk is too full to close all gaps: run it again once there is more room")
		}
		return fmt.Sprint(c.Removed), displayf("%s %s of %s, giving back %s; %s of %s stay%s",
			verb, count(c.Removed, "blob"), bytesText(c.RemovedBytes), bytesText(c.FreedBytes),
			count(c.Kept, "blob"), bytesText(c.KeptBytes), more)
	})
}
