package main

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/bench"
)

func (a *app) benchCommand() *cobra.Command {
	var in string
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine",
		Long: "Measure this machine, beside the limit that it sets in the same run. Nothing of the " +
			"data directory is touched; files go to a temporary directory.",
	}
	cmd.PersistentFlags().StringVar(
		&in, "in", os.TempDir(), "directory for temporary files: choose one on the disk to be measured",
	)
	cmd.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		return checkCounts(cmd.Flags())
	}
	config := func(size int64, files int) bench.Config {
		return bench.Config{Dir: in, Size: size, Files: files, Note: a.note}
	}
	var size int64
	var files, items, entries int
	add := &cobra.Command{
		Use: "add", Short: "Add a large file, beside copying it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := bench.Add(cmd.Context(), config(size<<20, 0))
			if err != nil {
				return err
			}
			return a.print(
				r, "",
				displayf(
					"copy  %7.2f s, until on the disk %.2f s\n"+
						"add   %7.2f s  %.0f MB/s, %.2f times the copy, %.2f times one on the disk, %.2f CPU "+
						"seconds per GiB, heap at most %.0f MiB",
					r.CopySeconds, r.SyncedSeconds, r.AddSeconds, r.AddMBs, r.Ratio, r.RatioSynced,
					r.CPUSecondsGiB, r.PeakHeapMiB,
				),
			)
		},
	}
	transfer := &cobra.Command{
		Use: "transfer", Short: "Move large and small files between two nodes",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := bench.Transfer(cmd.Context(), config(size<<20, files))
			if err != nil {
				return err
			}
			return a.print(
				r, "",
				displayf(
					"copy             %7.0f MB/s\n"+
						"raw TLS          %7.0f MB/s\n"+
						"store to discard %7.0f MB/s  %.2f of raw TLS, %.2f CPU seconds per GiB\n"+
						"store to store   %7.0f MB/s  %.2f of copy, %.2f of one to the disk, %.2f CPU seconds per "+
						"GiB\nheap of both nodes at most %.0f MiB\n%d small files  shared in %.2f s, "+
						"fetched in %.2f s",
					r.CopyMBs, r.RawTLSMBs, r.DiscardMBs, r.DiscardToTLS, r.DiscardCPUGiB,
					r.StoreMBs, r.StoreToCopy, r.StoreToSynced, r.StoreCPUGiB, r.PeakHeapMiB,
					r.SmallFiles, r.SmallAddSeconds, r.SmallGetSeconds,
				),
			)
		},
	}
	for _, c := range []*cobra.Command{add, transfer} {
		c.Flags().Int64Var(&size, "mib", 1024, "size of the large file in MiB")
	}
	transfer.Flags().IntVar(&files, "files", 10_000, "number of small files")
	var differences []int
	var plain bool
	reconcile := &cobra.Command{
		Use: "reconcile", Short: "Reconcile two sets of random items", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := bench.Reconcile(cmd.Context(), config(0, 0), items, differences, plain)
			if err != nil {
				return err
			}
			var text display
			for i, r := range all {
				if i > 0 {
					text += "\n"
				}
				how := ""
				if r.Plain {
					how = ", without sketches"
				}
				text += displayf(
					"%d differences in %d%s: %d rounds, %d messages, %s beyond the items, %.1f ms", r.Differences,
					r.Items, how, r.Rounds, r.Messages, bytesText(r.Overhead), r.Milliseconds,
				)
			}
			return a.print(all, "", text)
		},
	}
	reconcile.Flags().IntVar(&items, "items", 1_000_000, "items in each set")
	reconcile.Flags().BoolVar(&plain, "plain", false, "run each session without sketches, too")
	reconcile.Flags().IntSliceVar(
		&differences, "differences", []int{1, 100, 1000, 10_000}, "numbers of differing items",
	)
	live := &cobra.Command{
		Use: "entries", Short: "Set, sync and push entries between two nodes over loopback",
		Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := bench.Entries(cmd.Context(), config(0, 0), entries)
			if err != nil {
				return err
			}
			return a.print(
				r, "",
				displayf(
					"set         %.0f entries/s in batches, %.0f/s singly, %.0f/s singly and synced\n"+
						"first sync  %.0f entries/s\n"+
						"live        %.2f ms median, %.2f ms p99\nheap of both nodes at most %.0f MiB",
					r.BatchPerSecond, r.SinglePerSecond, r.SyncedPerSecond, r.SyncPerSecond, r.LiveMedianMillis,
					r.LiveP99Millis, r.PeakHeapMiB,
				),
			)
		},
	}
	live.Flags().IntVar(&entries, "entries", 100_000, "number of entries")
	var path bench.Path
	var rate byteSize
	far := &cobra.Command{
		Use: "far", Short: "Move files across a path with a long round trip", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path.Rate = float64(rate)
			r, err := bench.Far(cmd.Context(), config(size<<20, files), path)
			if err != nil {
				return err
			}
			return a.print(
				r, "",
				displayf(
					"round trip   %d ms\nraw TLS      %.0f MB/s\nlarge blob   %.0f MB/s  %.2f of raw TLS\n%d "+
						"small files  %.2f s, as bytes over raw TLS %.2f s: %.2f of its rate\n"+
						"first read   64 KiB after %.0f ms, %d bytes fetched",
					r.RoundTripMillis, r.RawTLSMBs, r.LargeMBs, r.LargeToTLS, r.SmallFiles,
					r.SmallSeconds, r.RawSmallSeconds, r.SmallToTLS, r.FirstByteMillis,
					r.FirstReadBytes,
				),
			)
		},
	}
	far.Flags().Int64Var(&size, "mib", 1024, "size of the large blob in MiB")
	far.Flags().IntVar(&files, "files", 10_000, "number of small files")
	durationVar(far.Flags(), &path.RoundTrip, "round-trip", 50*time.Millisecond, "time there and back")
	far.Flags().Var(
		&rate, "rate",
		"bytes a second that the path carries, such as 125MB (default: as many as this "+
			"machine can pass on)",
	)
	edit := &cobra.Command{
		Use: "edit", Short: "Edit a large file that is kept in chunks, and sync it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := bench.Edit(cmd.Context(), config(size<<20, 0), []int{1 << 10, 1 << 20})
			if err != nil {
				return err
			}
			text := displayf(
				"first     imported in %.2f s, synced in %.2f s", r.ImportSeconds, r.SyncSeconds,
			)
			for _, e := range r.Edits {
				text += displayf(
					"\n%7s   imported in %.2f s, synced in %.2f s, %s fetched", bytesText(uint64(e.EditedBytes)),
					e.ImportSeconds, e.SyncSeconds, bytesText(e.FetchedBytes),
				)
			}
			return a.print(r, "", text)
		},
	}
	edit.Flags().Int64Var(&size, "mib", 1024, "size of the file in MiB")
	var nodes, idleNodes, replicas int
	var wait time.Duration
	group := &cobra.Command{
		Use: "live", Short: "Time entries from set to stored at several connected nodes",
		Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := bench.Live(cmd.Context(), config(0, 0), nodes)
			if err != nil {
				return err
			}
			return a.print(
				r, "",
				displayf(
					"%d nodes    %.2f ms median, %.2f ms until the last one, %.2f ms p99", r.Nodes, r.MedianMillis,
					r.LastMillis, r.P99Millis,
				),
			)
		},
	}
	group.Flags().IntVar(&nodes, "nodes", 5, "number of nodes")
	idle := &cobra.Command{
		Use: "idle", Short: "Let nodes that hold many replicas in common do nothing", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := bench.Idle(cmd.Context(), config(0, 0), idleNodes, replicas, wait)
			if err != nil {
				return err
			}
			return a.print(
				r, "",
				displayf(
					"compared    after %.0f ms, %.2f CPU seconds\n"+
						"idle        %.2f %% of a core for %d nodes together, %.2f %% each, %.0f MiB of heap",
					r.SetupMillis, r.FirstCPU, r.CPUPercent, r.Nodes, r.PerNode, r.HeapMiB,
				),
			)
		},
	}
	idle.Flags().IntVar(&idleNodes, "nodes", 10, "number of nodes")
	idle.Flags().IntVar(&replicas, "replicas", 10_000, "number of replicas")
	durationVar(idle.Flags(), &wait, "time", time.Minute, "how long")
	var rounds int
	sealed := &cobra.Command{
		Use: "sealed", Short: "Move a large value through an encrypted replica",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := bench.Sealed(cmd.Context(), config(size<<20, 0), rounds)
			if err != nil {
				return err
			}
			line := func(name string, t bench.ValueTimes) display {
				return displayf(
					"%-7s  set %.0f MB/s, transferred %.0f MB/s, read %.0f MB/s, all %.0f MB/s, %.2f CPU "+
						"seconds per GiB\n",
					name, t.SetMBs, t.TransferMBs, t.ReadMBs, t.TotalMBs, t.CPUGiB,
				)
			}
			return a.print(
				r, "",
				line("plain", r.Plain)+line("sealed", r.Sealed)+displayf("sealed at %.2f of the rate", r.Ratio),
			)
		},
	}
	sealed.Flags().Int64Var(&size, "mib", 1024, "size of the value in MiB")
	sealed.Flags().IntVar(&rounds, "rounds", 3, "how often each")
	var projects, samples int
	cold := &cobra.Command{
		Use: "vault", Short: "Open a vault on new nodes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := bench.Vault(cmd.Context(), config(0, 0), projects, samples)
			if err != nil {
				return err
			}
			return a.print(
				r, "",
				displayf(
					"%d projects made and listed in %.0f ms\n"+
						"opened and listed on a new node in %.0f ms median, %.0f ms at worst of %d",
					r.Projects, r.BeginMillis, r.MedianMillis, r.WorstMillis, r.Samples,
				),
			)
		},
	}
	cold.Flags().IntVar(&projects, "projects", 100, "number of projects")
	cold.Flags().IntVar(&samples, "samples", 20, "number of new nodes")
	cmd.AddCommand(
		add, transfer, sealed, cold, far, edit, reconcile, live, group, idle, a.benchSeed(config),
	)
	return cmd
}

// mayBeNone are the numbers of things that a measurement can do without.
var mayBeNone = map[string]bool{"devices": true, "replicas": true, "wakes": true}

// checkCounts refuses numbers of things to measure that are none or less: nothing could be divided
// by them.
func checkCounts(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		least := int64(1)
		if mayBeNone[f.Name] {
			least = 0
		}
		switch f.Value.Type() {
		case "int", "int64", "intSlice":
			for _, text := range strings.Split(strings.Trim(f.Value.String(), "[]"), ",") {
				if n, parseErr := strconv.ParseInt(text, 10, 64); parseErr != nil || n < least || n > maxCount {
					err = api.UsageErrorf("--%s must be from %d to %d, not %s",
						f.Name, least, int64(maxCount), text)
				}
			}
		case "duration":
			if f.Value.String() == "0" {
				err = api.UsageErrorf("--%s must be longer than 0", f.Name)
			}
		}
	})
	return err
}

// maxCount is more than any machine has room for, and less than what overflows as bytes of so many
// MiB.
const maxCount = 1 << 40

// benchSeed measures this program as a seed.
func (a *app) benchSeed(config func(size int64, files int) bench.Config) *cobra.Command {
	var load bench.SeedLoad
	cmd := &cobra.Command{
		Use: "seed", Short: "Measure a seed with many replicas and devices", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if load.Command, err = os.Executable(); err != nil {
				return err
			}
			r, err := bench.Seed(cmd.Context(), config(0, 0), load)
			if err != nil {
				return err
			}
			return a.print(
				r, "",
				displayf(
					"registered  %d at %.0f/s; %.0f MiB with them, %.0f with a tenth, %.0f without: %.0f bytes "+
						"each\nsessions    %.2f ms median, %.2f p99 for one of them; %.2f for one that is not "+
						"there\ndevices     %d, %d sessions, %d failed, %d entries missing, %.2f ms median, %.2f "+
						"p99; the seed used %.2f cores and %.0f MiB\n"+
						"wake        up to date after %.0f ms median, %.0f at worst",
					r.Registered, r.RegisteredSecond, r.FullMiB, r.TenthMiB, r.EmptyMiB,
					r.BytesEach, r.FoundMillis, r.FoundP99Millis, r.NoneMillis, r.Devices,
					r.Sessions, r.Failed, r.Missing, r.SessionMS, r.SessionP99, r.Cores, r.PeakMiB,
					r.WakeMillis, r.WakeWorstMillis,
				),
			)
		},
	}
	cmd.Flags().IntVar(&load.Registered, "replicas", 100_000, "number of registered replicas")
	cmd.Flags().IntVar(&load.Devices, "devices", 100, "number of connected devices")
	durationVar(
		cmd.Flags(), &load.Every, "every", 10*time.Second,
		"how often each sets an entry and runs a session",
	)
	durationVar(cmd.Flags(), &load.Time, "time", time.Minute, "how long")
	cmd.Flags().IntVar(&load.Wakes, "wakes", 20, "how often a device that slept comes back")
	return cmd
}
