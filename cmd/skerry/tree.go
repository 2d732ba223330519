package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/skerry-sync/skerry/api"
)

// finish goes through all commands once they are put together: what holds for each is said here.
func (a *app) finish(root *cobra.Command, running func()) {
	for _, c := range root.Commands() {
		a.finish(c, running)
	}
	addExample(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return api.UsageErrorf("%s (%s --help shows its flags)", flagProblem(err), cmd.CommandPath())
	})
	if check := root.Args; check != nil {
		root.Args = func(cmd *cobra.Command, args []string) error {
			if check(cmd, args) == nil {
				return nil
			}
			return wrongArgs(cmd, args)
		}
	}
	if root.HasSubCommands() && !root.Runnable() {
		root.Args, root.RunE = cobra.ArbitraryArgs, unknownBelow
	}
	if inner := root.RunE; inner != nil {
		root.RunE = func(cmd *cobra.Command, args []string) error {
			a.command = cmd.CommandPath()
			running() // the arguments and flags are right as far as cobra can tell
			return inner(cmd, args)
		}
	}
	if root.ValidArgsFunction == nil {
		root.ValidArgsFunction = a.completion(root)
	}
}

// wrongArgs says which arguments a command takes.
func wrongArgs(cmd *cobra.Command, args []string) error {
	path, name := cmd.CommandPath(), ownPath(cmd)
	_, takes := cutWord(cmd.Use)
	if takes == "" {
		return api.UsageErrorf(
			"%s takes no arguments, not %q (%s --help tells more)", name, brief(args[0]), path,
		)
	}
	given := fmt.Sprintf("%d arguments were given", len(args))
	switch len(args) {
	case 0:
		given = "none was given"
	case 1:
		given = "one argument was given"
	}
	return api.UsageErrorf("%s takes%s: %s (%s --help tells more)", name, takes, given, path)
}

// flagProblem says what is wrong with a flag.
func flagProblem(err error) string {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var bad *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return fmt.Sprintf("there is no flag -%s", unknown.GetSpecifiedName())
	case errors.As(err, &unknown):
		return fmt.Sprintf("there is no flag --%s", brief(unknown.GetSpecifiedName()))
	case errors.As(err, &missing):
		return fmt.Sprintf("--%s needs a value", missing.GetFlag().Name)
	case errors.As(err, &bad):
		f, why := bad.GetFlag(), bad.Unwrap()
		if expected, ok := expectedValue[f.Value.Type()]; ok {
			return fmt.Sprintf("--%s must be %s, not %q", f.Name, expected, brief(bad.GetValue()))
		}
		return fmt.Sprintf("--%s: %v", f.Name, why)
	}
	return err.Error()
}

// expectedValue says what flags take whose own errors are about how a number is read.
var expectedValue = map[string]string{
	"bool": "true or false", "int": "a whole number", "int64": "a whole number",
	"uint32": "a whole number from 0 on", "uint64": "a whole number from 0 on",
	"intSlice": "whole numbers such as 1,10",
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
	what := "there is no command"
	if cmd.HasParent() {
		what = ownPath(cmd) + " has no command"
	}
	return api.UsageErrorf(
		"%s %q%s (%s --help lists them)", what, brief(args[0]), like, cmd.CommandPath(),
	)
}

// ownPath names a command in an error, which begins with the name of the program.
func ownPath(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}

// brief shortens what was given as an argument, to be shown in an error: it may be a secret, such
// as a ticket.
func brief(text string) string { return api.Brief(text) }

// completion says what the shell may offer for the arguments of a command, by the names that its
// usage gives them.
func (a *app) completion(cmd *cobra.Command) cobra.CompletionFunc {
	names := strings.Fields(cmd.Use)
	return func(
		cmd *cobra.Command, args []string, _ string,
	) ([]cobra.Completion, cobra.ShellCompDirective) {
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
		case strings.Contains(name, "PATH"), strings.Contains(name, "FILE"), name == "KEYSTORE",
			name == "DIR":
			return nil, cobra.ShellCompDirectiveDefault
		case at == 1 && cmd.Parent() != nil && cmd.Parent().Name() == "replica" && name == "NAME" &&
			cmd.Name() != "new":
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
	s, _, err := a.dial()
	if err != nil || s == nil {
		return nil
	}
	defer func() { err = errors.Join(err, s.close()) }() // a completion has nobody to tell
	all, err := s.Client.ReplicaList(cmd.Context())
	for _, r := range all {
		names = append(names, r.Name)
	}
	return names
}
