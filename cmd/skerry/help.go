package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpColumns is how wide help is, wherever it is read. A test goes through the whole tree.
const helpColumns = usualColumns

// Where the explanations of commands and flags begin. One whose name is longer begins on the next
// line.
const (
	commandsAt = 15
	flagsAt    = 28
)

// helpText is what --help shows of a command.
func helpText(cmd *cobra.Command) string {
	return wrap(paragraphs(cmp.Or(cmd.Long, cmd.Short)), 0, helpColumns) + "\n\n" + usageText(cmd)
}

// paragraphs joins lines that end within a sentence: they were broken for another width.
func paragraphs(text string) string {
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	out := lines[0]
	for i, line := range lines[1:] {
		before := lines[i]
		within := before != "" && !strings.HasSuffix(before, ".") && !strings.HasSuffix(before, ":")
		if within && line != "" && line[0] != ' ' && line[0] != '\t' {
			out += " " + line
		} else {
			out += "\n" + line
		}
	}
	return out
}

// usageText is helpText without what the command is for.
func usageText(cmd *cobra.Command) string {
	var b strings.Builder
	b.WriteString("Usage:\n")
	if cmd.Runnable() && !cmd.HasAvailableSubCommands() {
		b.WriteString(wrap("  "+cmd.UseLine(), 4, helpColumns) + "\n")
	} else {
		b.WriteString("  " + cmd.CommandPath() + " COMMAND\n")
	}
	if cmd.Example != "" {
		b.WriteString("\nExamples:\n" + strings.TrimRight(cmd.Example, "\n") + "\n")
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				b.WriteString(hanging("  "+sub.Name(), sub.Short, commandsAt))
			}
		}
	}
	flags(&b, "Flags", cmd.LocalFlags())
	flags(&b, "Flags of all commands", cmd.InheritedFlags())
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\n" + cmd.CommandPath() + " COMMAND --help tells more about a command.\n")
	}
	return b.String()
}

func flags(b *strings.Builder, title string, all *pflag.FlagSet) {
	if !all.HasAvailableFlags() {
		return
	}
	b.WriteString("\n" + title + ":\n")
	all.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		name := "      --" + f.Name
		if f.Shorthand != "" {
			name = "  -" + f.Shorthand + ", --" + f.Name
		}
		kind, usage := pflag.UnquoteUsage(f)
		if kind != "" {
			name += " " + strings.TrimSuffix(kind, "Array") // its text says that it repeats
		}
		switch f.DefValue {
		case "", "0", "false", "[]":
		default:
			usage += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		b.WriteString(hanging(name, usage, flagsAt))
	})
}

// hanging gives a name, and beside it, from column at on, what it means.
func hanging(name, text string, at int) string {
	pad := strings.Repeat(" ", at)
	if utf8.RuneCountInString(name)+2 > at {
		return name + "\n" + wrap(pad+text, at, helpColumns) + "\n"
	}
	return wrap(name+pad[utf8.RuneCountInString(name):]+text, at, helpColumns) + "\n"
}

// wrap breaks lines that are longer than columns at their spaces; what goes on is indented.
func wrap(text string, indent, columns int) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = wrapLine(line, indent, columns)
	}
	return strings.Join(lines, "\n")
}

// wrapLine is wrap for one line. A word that is longer than a line stays whole, where it stands: it
// may be a path or a ticket that somebody copies.
func wrapLine(line string, indent, columns int) string {
	if utf8.RuneCountInString(line) <= columns {
		return line
	}
	var out strings.Builder
	column := 0
	for line != "" {
		word := strings.TrimLeft(line, " ")
		gap := len(line) - len(word)
		word, line = cutWord(word)
		if word == "" { // spaces at the end
			break
		}
		width := utf8.RuneCountInString(word)
		if column > 0 && column+gap+width > columns && indent+width <= columns {
			out.WriteString("\n")
			column, gap = 0, indent
		}
		out.WriteString(strings.Repeat(" ", gap) + word)
		column += gap + width
	}
	return out.String()
}

// cutWord returns the text before the first space, and what is left.
func cutWord(text string) (word, rest string) {
	if i := strings.IndexByte(text, ' '); i >= 0 {
		return text[:i], text[i:]
	}
	return text, ""
}

// helpCommand shows the help of a command by its name. That of cobra succeeds for names that are
// not there.
func (a *app) helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]...",
		Short: "Show the help of a command",
		Long:  "Show the help of a command, as COMMAND --help does.",
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) (
			names []cobra.Completion, _ cobra.ShellCompDirective) {
			if of, rest, err := root.Find(args); err == nil && len(rest) == 0 {
				for _, sub := range of.Commands() {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			of, rest, err := root.Find(args)
			switch {
			case err != nil:
				return unknownBelow(root, args)
			case len(rest) > 0 && of.HasSubCommands():
				return unknownBelow(of, rest)
			}
			return of.Help()
		},
	}
}

// useHelp has help written by helpText, which keeps to the width of a terminal.
func useHelp(root *cobra.Command) {
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		_, _ = io.WriteString(cmd.OutOrStdout(), helpText(cmd)) // there is nobody left to tell
	})
	root.SetUsageFunc(func(cmd *cobra.Command) error {
		_, err := io.WriteString(cmd.OutOrStderr(), usageText(cmd))
		return err
	})
}
