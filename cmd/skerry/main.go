// Command skerry is the command line of a node. Each group of commands is a file; none has logic of
// its own: commands ask the node over its API, or open the data directory and ask themselves.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// app is what commands share.
type app struct {
	dir     string
	json    bool
	quiet   bool
	command string // as it was given, without arguments, such as "skerry share"
	ring    string // socket of a keyring in a process of its own, or empty
	stdin   io.Reader
	stdout  *printer
	stderr  *printer
	bar     *bar // of the work under way, or nil

	terminal  *os.File // standard input, if it is a terminal
	interrupt func()   // does what an interrupt does
}

// interrupts returns a context that the first interrupt ends. A second one ends the process at
// once, for what ignores the context.
func interrupts() (context.Context, context.CancelFunc) {
	signals, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(signals, stop)
	ctx, cancel := context.WithCancel(signals)
	return ctx, func() {
		cancel()
		stop()
	}
}

// started is called when interrupts are heard. Tests replace it.
var started = func() {}

func run(args []string) (code int) {
	ctx, interrupt := interrupts()
	defer interrupt()
	started()
	a := &app{stdout: standardOutput(), stderr: standardError()}
	a.useStdin(ctx, os.Stdin, interrupt)
	defer a.caught(&code)
	root := a.root()
	root.SetArgs(args)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	started := false
	a.finish(root, func() { started = true })
	ran, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return 0
	case !started: // cobra did not accept the arguments
		err = api.UsageErrorf("%v", err)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = errors.New("interrupted" + resumeText(ran))
	}
	a.bar.clear()
	a.failed(err, args)
	return api.ExitCode(err)
}

// resumeText says what becomes of a command that was interrupted.
func resumeText(cmd *cobra.Command) string {
	switch strings.TrimPrefix(cmd.CommandPath(), "skerry ") {
	case "get", "blob fetch", "replica sync", "replica join", "vault join":
		return ": the same command goes on where this one stopped"
	case "replica import":
		return ": what was imported stays; to import the same again changes nothing else"
	}
	return ""
}

// failed tells of an error: as JSON if that is asked for, also by arguments that were not
// understood.
func (a *app) failed(err error, args []string) {
	if !a.json && !slices.Contains(args, "--json") {
		a.stderr.problem(api.AsError(err))
		return
	}
	enc := json.NewEncoder(a.stderr)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(map[string]*api.Error{"error": api.AsError(err)}) // there is nobody left to tell
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "skerry",
		Short: "Sync content and replicas between your devices, peer to peer",
		Long: "Skerry keeps blobs and replicas the same on all your devices, and with everybody you " +
			"give a ticket.\n" +
			"Start with: skerry share PATH on one machine, and skerry get TICKET on another.",
		Version:       versionText(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("skerry {{.Version}}\n")
	useHelp(root)
	root.SetHelpCommand(a.helpCommand(root))
	root.PersistentFlags().StringVar(&a.dir, "dir", defaultDir(),
		"data directory of the node (default: $SKERRY_DIR, or ~/.skerry)")
	root.PersistentFlags().Lookup("dir").DefValue = "" // its text tells, in fewer columns
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print one JSON value")
	root.PersistentFlags().BoolVarP(&a.quiet, "quiet", "q", false, "print only the essential")
	root.PersistentFlags().StringVar(&a.ring, "keyring", os.Getenv("SKERRY_KEYRING"),
		"socket of a keyring in a process of its own "+
			"(default: $SKERRY_KEYRING, or the keys in the data directory)")
	root.PersistentFlags().Lookup("keyring").DefValue = ""
	root.AddCommand(
		a.collectionsCommand(), a.upCommand(), a.statusCommand(), a.shareCommand(), a.getCommand(),
		a.blobCommand(), a.replicaCommand(), a.conflictsCommand(), a.authorCommand(),
		a.identityCommand(), a.vaultCommand(),
		a.keyringCommand(), a.projectCommand(), a.seedCommand(), a.ticketCommand(), a.benchCommand(),
		a.doctorCommand(), a.storeCommand(), a.versionCommand(),
	)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

func defaultDir() string {
	if dir := os.Getenv("SKERRY_DIR"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil || home == "" {
		return "" // see absDir: a directory where somebody happens to be would be a surprise
	}
	return filepath.Join(home, ".skerry")
}

// version is set by the release build; otherwise the module's own version counts.
var version = ""

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.print(
				map[string]string{"version": versionText()}, versionText(),
				displayf("skerry %s", versionText()),
			)
		},
	}
}
