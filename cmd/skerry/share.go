package main

import (
	"bytes"
	"io"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/mdp/qrterminal/v3"
	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/ticket"
)

func (a *app) shareCommand() *cobra.Command {
	var req api.AddRequest
	cmd := &cobra.Command{
		Use:   "share PATH",
		Short: "Share a file or directory by a ticket",
		Long: "Import a file or directory, print its ticket, and serve it until interrupted. A " +
			"running node serves it afterwards, too.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := absPath(args[0])
			if err != nil {
				return err
			}
			req.Paths = []string{path}
			return a.untilInterrupted(cmd.Context(), func(s *session) error {
				shared, err := s.Client.Share(cmd.Context(), req)
				if err != nil {
					return err
				}
				for _, p := range shared.Skipped {
					a.note("left out: %s", p)
				}
				a.note(
					"%s  %s\nhash %s\nOn another machine:  skerry get TICKET", path,
					bytesText(shared.Size), shared.Hash,
				)
				if err := a.print(shared, shared.Ticket, displayf("%s", shared.Ticket)); err != nil {
					return err
				}
				a.showQR(shared.Ticket)
				if s.own == nil {
					a.note("The running node goes on serving it. Ctrl-C ends this command only.")
				} else {
					a.note("Serving until Ctrl-C.")
				}
				<-cmd.Context().Done()
				return nil
			})
		},
	}
	addFlags(cmd, &req)
	return cmd
}

// showQR draws a ticket on a terminal, in capitals, for which a QR code needs less room.
func (a *app) showQR(text string) {
	if a.quiet || a.json || !a.stderr.terminal {
		return
	}
	columns, rows := qrSize(text)
	if c, r := a.stderr.size(); columns > c || rows > r {
		a.note(
			"A QR code of this ticket takes %d columns and %d rows: make the window larger to see it.",
			columns, rows,
		)
		return
	}
	drawQR(text, a.stderr)
}

// qrSize returns how much of a terminal a QR code takes.
func qrSize(text string) (columns, rows int) {
	var out bytes.Buffer
	drawQR(text, &out)
	lines := bytes.Split(bytes.TrimRight(out.Bytes(), "\n"), []byte("\n"))
	return utf8.RuneCount(lines[0]), len(lines)
}

// drawQR draws text in capitals.
func drawQR(text string, w io.Writer) {
	qrterminal.GenerateWithConfig(strings.ToUpper(text), qrterminal.Config{
		Level: qrterminal.L, Writer: w, HalfBlocks: true, QuietZone: 2,
		BlackChar: qrterminal.BLACK_BLACK, WhiteChar: qrterminal.WHITE_WHITE,
		BlackWhiteChar: qrterminal.BLACK_WHITE, WhiteBlackChar: qrterminal.WHITE_BLACK,
	})
}

func (a *app) getCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "get TICKET|HASH",
		Short: "Fetch a blob or directory and write it to a path",
		Long: "Fetch a blob or directory and write it to a path. If it was interrupted, the same " +
			"command goes on where it stopped.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("output") {
				out = "skerry-" + nameFor(args[0])
			}
			path, err := absPath(out)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), true, func(s *session) error {
				got, err := s.Client.Get(cmd.Context(), api.GetRequest{What: args[0], Path: path})
				if err != nil {
					return err
				}
				text := displayf("%s  %s", got.Path, bytesText(got.Size))
				if got.FetchedBytes > 0 {
					text += displayf("  (fetched %s in %.1f s)", bytesText(got.FetchedBytes), got.Seconds)
				}
				return a.print(got, got.Path, text)
			})
		},
	}
	cmd.Flags().
		StringVarP(
			&out, "output", "o", "",
			"path to write to: one that does not exist, or an empty directory (default: skerry- and the "+
				"hash's first digits, here)",
		)
	return cmd
}

// nameFor gives the first digits of the hash that text names.
func nameFor(text string) string {
	if t, err := ticket.ParseBlob(text); err == nil {
		return t.Hash.Short()
	}
	return filepath.Base(text[:min(len(text), 10)])
}
