package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/identity/eth"
)

// What is granted to an EVM address is written by whoever holds the wallet: an identity of the
// keyring, or another program that a person has sign a text.
func TestGrantToAWallet(t *testing.T) {
	t.Parallel()
	a := startProc(t, t.TempDir(), "/ip4/127.0.0.1/tcp/0")
	run := func(dir, stdin string, args ...string) (stdout, stderr string, code int) {
		cmd := exec.Command("skerry", append([]string{"--dir", dir}, args...)...)
		var out, errs bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
		cmd.Env = append(os.Environ(), "SKERRY_PASSWORD=secret")
		_ = cmd.Run() // its exit code tells
		return out.String(), errs.String(), cmd.ProcessState.ExitCode()
	}
	must := func(dir string, args ...string) string {
		t.Helper()
		stdout, stderr, code := run(dir, "", args...)
		require.Zero(t, code, stderr)
		return stdout
	}
	must(a.dir, "replica", "new", "album")
	b, c := t.TempDir(), t.TempDir()
	var me struct{ Identity, Address string }
	require.NoError(t, json.Unmarshal([]byte(must(b, "identity", "new", "--json")), &me))
	other, err := eth.KeyFromSecret([32]byte{31: 7})
	require.NoError(t, err)

	_, stderr, code := run(a.dir, "", "replica", "grant", "album", "0x12")
	require.Equal(t, 2, code, stderr)
	_, stderr, code = run(a.dir, "", "replica", "grant", "album", me.Address, "--from", "1h")
	require.Equal(t, 2, code, stderr)
	ticket := strings.TrimSpace(
		must(
			a.dir, "replica", "grant", "album", me.Address, "--prefix", "photos/", "--until", "1h", "-q",
		),
	)
	_, stderr, code = run(b, "", "replica", "join", ticket)
	require.Equal(t, 5, code)
	require.Contains(t, stderr, "join with --wallet")
	_, _, code = run(c, "", "replica", "join", ticket, "--wallet", me.Identity)
	require.NotZero(t, code, "it has no such identity")
	must(b, "replica", "join", ticket, "--wallet", me.Identity)
	must(b, "replica", "set", "album", "photos/1", "mine")
	require.Regexp(t, "may write photos/…  until 20", must(a.dir, "replica", "grants", "album"))
	_, _, code = run(b, "", "replica", "set", "album", "else", "mine")
	require.Equal(t, 5, code)

	// Another program signs.
	ticket = strings.TrimSpace(
		must(
			a.dir, "replica", "share", "album", "--mode", "write", "--wallet", other.Address().Lower(), "-q",
		),
	)
	_, stderr, code = run(b, "", "replica", "join", ticket, "--wallet", me.Identity)
	require.Equal(t, 2, code)
	require.Contains(t, stderr, other.Address().String())
	_, stderr, code = run(c, "0x12\n", "replica", "join", ticket, "--wallet", other.Address().String())
	require.Equal(t, 2, code, stderr)
	cmd := exec.Command(
		"skerry", "--dir", c, "replica", "join", ticket, "--wallet", other.Address().String(),
	)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	asked := ""
	for end := time.Now().Add(20 * time.Second); !strings.HasSuffix(asked, "Signature: "); {
		require.True(t, time.Now().Before(end))
		one := make([]byte, 256)
		n, err := out.Read(one)
		require.NoError(t, err, asked)
		asked += string(one[:n])
	}
	text := strings.Split(asked, "\n----\n")[1]
	require.Contains(t, text, "Action: Skerry Invite\nWallet: "+other.Address().Lower()+"\nInvite: ")
	_, err = fmt.Fprintf(in, "%s\n", other.Sign(eth.TextDigest([]byte(text))))
	require.NoError(t, err)
	rest, err := io.ReadAll(out)
	require.NoError(t, err)
	require.NoError(t, cmd.Wait(), "%s", rest)
	must(c, "replica", "set", "album", "anything", "mine")

	list := must(a.dir, "replica", "invites", "album")
	require.Contains(t, list, "for wallet "+me.Address)
	require.Contains(t, list, "for wallet "+other.Address().String())
	must(b, "replica", "sync", "album")
	require.Equal(t, "mine", must(a.dir, "replica", "get", "album", "photos/1"))
}
