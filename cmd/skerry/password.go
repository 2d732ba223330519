package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/internal/disk"
)

// passwordFlag says where a password comes from: a file, the environment, or the terminal.
type passwordFlag struct {
	name, env, what string
	file            string
}

func (f *passwordFlag) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(
		&f.file, f.name+"-file", "",
		fmt.Sprintf(
			"file with the password of %s (default: %s, or the terminal is asked)", f.what, f.env,
		),
	)
}

// newPassword is that of an identity's key.
func newPassword() passwordFlag {
	return passwordFlag{name: "password", env: "SKERRY_PASSWORD", what: "the identity"}
}

// read returns the password. twice asks a person for it twice, when it is a new one.
func (f *passwordFlag) read(a *app, twice bool) (string, error) {
	if f.file != "" {
		b, err := a.readSmall(f.file)
		return string(bytes.TrimRight(b, "\r\n")), err
	}
	if text, ok := os.LookupEnv(f.env); ok {
		return text, nil
	}
	if a.terminal == nil {
		return "", api.UsageErrorf(
			"the password of %s is needed: give it with --%s-file or in %s", f.what, f.name, f.env,
		)
	}
	ask := func(prompt display) (string, error) {
		if err := a.stderr.prompt(prompt); err != nil {
			return "", err
		}
		b, err := a.readSecret()
		if told := a.stderr.line(""); err == nil {
			err = told
		}
		if errors.Is(err, io.EOF) {
			err = api.UsageErrorf("no password was given")
		}
		return string(b), err
	}
	first, err := ask(displayf("Password of %s: ", f.what))
	if err != nil || !twice {
		return first, err
	}
	second, err := ask("Once more: ")
	if err == nil && first != second {
		err = api.UsageErrorf("the two passwords differ")
	}
	return first, err
}

// maxSmall is the length of the longest file that readSmall reads.
const maxSmall = 1 << 20

// readSmall reads a small regular file, or standard input for -.
func (a *app) readSmall(name string) ([]byte, error) {
	if name != "-" {
		return disk.ReadFile(name, maxSmall)
	}
	b, err := io.ReadAll(io.LimitReader(a.stdin, maxSmall+1))
	if err == nil && len(b) > maxSmall {
		err = api.UsageErrorf("standard input is longer than %s", bytesText(maxSmall))
	}
	return b, err
}
