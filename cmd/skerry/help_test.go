package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// each calls fn with all commands below root, and root.
func each(root *cobra.Command, fn func(*cobra.Command)) {
	fn(root)
	for _, c := range root.Commands() {
		each(c, fn)
	}
}

// wholeTree is the commands as a person has them.
func wholeTree() (*app, *cobra.Command) {
	a, _, _ := testApp(false)
	root := a.root()
	a.finish(root, func() {})
	return a, root
}

// No line of any command's help is wider than a terminal of 80 columns, also when a list in it is
// one of long names.
func TestHelpFitsTheTerminal(t *testing.T) {
	t.Setenv("SKERRY_DIR", "/"+strings.Repeat("a long path/", 20))
	t.Setenv("SKERRY_KEYRING", "/"+strings.Repeat("a long path/", 20))
	_, root := wholeTree()
	seen := 0
	each(root, func(c *cobra.Command) {
		seen++
		var out bytes.Buffer
		c.SetOut(&out)
		require.NoError(t, c.Help())
		require.NotEmpty(t, c.Short, c.CommandPath())
		require.LessOrEqual(t, len(c.Short), 60, "%s: %s", c.CommandPath(), c.Short)
		for _, line := range strings.Split(out.String(), "\n") {
			require.LessOrEqual(
				t,
				utf8.RuneCountInString(line),
				usualColumns,
				"%s: %s",
				c.CommandPath(),
				line,
			)
			require.Equal(t, strings.TrimRight(line, " "), line, c.CommandPath())
		}
		require.NotContains(t, out.String(), "(default: false)")
	})
	require.Greater(t, seen, 100, "the commands have moved")
}

// Each command has an example, which it accepts, and no example is of a command that is not there.
func TestExamplesAreAccepted(t *testing.T) {
	_, root := wholeTree()
	left := map[string]bool{}
	for path := range examples {
		left[path] = true
	}
	each(root, func(c *cobra.Command) {
		path := strings.TrimPrefix(c.CommandPath(), "skerry ")
		delete(left, path)
		if c.HasAvailableSubCommands() || strings.HasPrefix(c.Name(), "__") {
			return
		}
		require.NotEmpty(t, c.Example, "%s has no example", c.CommandPath())
		for _, line := range strings.Split(strings.ReplaceAll(c.Example, "\\\n", " "), "\n") {
			_, line, ok := strings.Cut(line, "skerry ")
			require.True(t, ok, "%s: an example of another program: %q", c.CommandPath(), line)
			line, _, _ = strings.Cut(strings.TrimSuffix(line, ")"), " >")
			line, _, _ = strings.Cut(line, " |")
			args := words(line)
			found, rest, err := root.Find(args)
			require.NoError(t, err, line)
			require.Equal(t, c.CommandPath(), found.CommandPath(), line)
			require.NoError(t, found.ParseFlags(rest), line)
			if help, err := found.Flags().GetBool("help"); err == nil && help {
				continue
			}
			require.NoError(t, found.ValidateArgs(found.Flags().Args()), line)
			require.NoError(t, found.ValidateRequiredFlags(), line)
		}
	})
	require.Empty(t, left, "examples of commands that are not there")
}

// words cuts a line as a shell does, as far as examples need it.
func words(line string) (out []string) {
	quoted, word := false, ""
	for _, r := range line + " " {
		switch {
		case r == '\'':
			quoted = !quoted
		case r == ' ' && !quoted:
			if word != "" {
				out = append(out, word)
			}
			word = ""
		default:
			word += string(r)
		}
	}
	return out
}

// What is told to people is broken at spaces on a terminal, and stays as it is elsewhere.
func TestOutputFitsTheTerminal(t *testing.T) {
	long := "/" + strings.Repeat("d", 90)
	for text, want := range map[string]string{
		"short": "short",
		"a" + strings.Repeat(
			" word", 20,
		): "a" + strings.Repeat(" word", 15) + "\n  word word word word word",
		"  in" + strings.Repeat(
			" word", 20,
		): "  in" + strings.Repeat(" word", 15) + "\n    word word word word word",
		"cannot read " + long + ": it is a directory": "cannot read " + long + ":\n  it is a directory",
		strings.Repeat("é", 80):                       strings.Repeat("é", 80),
		"two\nlines":                                  "two\nlines",
		strings.Repeat("x", 79) + "  ":                strings.Repeat("x", 79),
	} {
		for _, terminal := range []bool{true, false} {
			if !terminal {
				want = text
			}
			a, out, errs := testApp(terminal)
			require.NoError(t, a.print(nil, "", display(text)))
			require.Equal(t, want+"\n", out.String())
			if !strings.Contains(text, "\n") {
				a.note("%s", text)
				require.Equal(t, want+"\n", errs.String())
			}
		}
	}
	a, out, errs := testApp(true)
	a.stderr.problem(errors.New(strings.Repeat("wrong ", 40)))
	for _, line := range strings.Split(strings.TrimSuffix(errs.String(), "\n"), "\n")[1:] {
		require.LessOrEqual(t, len(line), usualColumns)
		require.True(t, strings.HasPrefix(line, "  "), "not like a line of ours: %q", line)
	}
	a.quiet = true
	name := strings.Repeat("a name ", 20) + "x"
	require.NoError(t, a.print(nil, name, "text"))
	require.Equal(t, name+"\n", out.String(), "the essential is for scripts")
}
