package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
)

// finish goes through all commands once they are put together: what holds for each is said here.
func (a *app) finish(root *cobra.Command, running func()) {
	for _, c := range root.Commands() {
		a.finish(c, running)
	}
	if root.HasSubCommands() && !root.Runnable() && root.HasParent() {
		root.Args, root.RunE = cobra.ArbitraryArgs, unknownBelow
	}
	if inner := root.RunE; inner != nil {
		root.RunE = func(cmd *cobra.Command, args []string) error {
			running() // the arguments and flags are right as far as cobra can tell
			return inner(cmd, args)
		}
	}
	if root.ValidArgsFunction == nil {
		root.ValidArgsFunction = a.completion(root)
	}
}

// unknownBelow runs a command that only has others below it.
func unknownBelow(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	like := ""
	cmd.SuggestionsMinimumDistance = 2
	if names := cmd.SuggestionsFor(args[0]); len(names) > 0 {
		like = fmt.Sprintf(": do you mean %s %s?", cmd.CommandPath(), strings.Join(names, ", "))
	}
	return api.UsageErrorf("%s has no command %q%s (%s --help lists them)", cmd.CommandPath(), brief(args[0]), like, cmd.CommandPath())
}

// brief shortens what was given as an argument, to be shown in an error: it may be a secret, such
// as a ticket.
func brief(text string) string { return api.Brief(text) }

// completion says what the shell may offer for the arguments of a command, by the names that its
// usage gives them.
func (a *app) completion(cmd *cobra.Command) cobra.CompletionFunc {
	names := strings.Fields(cmd.Use)
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const nothing = cobra.ShellCompDirectiveNoFileComp
		at := len(args) + 1
		if at >= len(names) {
			if len(names) < 2 || !strings.HasSuffix(names[len(names)-1], "...") {
				return nil, nothing
			}
			at = len(names) - 1
		}
		name := strings.Trim(names[at], "[].")
		switch {
		case strings.Contains(name, "PATH"), strings.Contains(name, "FILE"), name == "KEYSTORE", name == "DIR":
			return nil, cobra.ShellCompDirectiveDefault
		case at == 1 && cmd.Parent() != nil && cmd.Parent().Name() == "replica" && name == "NAME" && cmd.Name() != "new":
			return a.replicaNames(cmd), nothing
		}
		return nil, nothing
	}
}

// replicaNames asks the running node. A shell waits for the answer, so nothing is started for it.
func (a *app) replicaNames(cmd *cobra.Command) (names []cobra.Completion) {
	if a.absDir() != nil {
		return nil
	}
	s, err := a.dial()
	if err != nil || s == nil {
		return nil
	}
	defer func() { err = errors.Join(err, s.close()) }() // a completion has nobody to tell
	all, err := api.Call[[]api.ReplicaStatus](cmd.Context(), s.Client, "replica/ls", nil)
	for _, r := range all {
		names = append(names, r.Name)
	}
	return names
}
