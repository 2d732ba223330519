package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/skerry-sync/skerry"
	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/api/server"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/datadir"
)

// startupWait is how long a command waits for a node that has the data directory but does not
// answer yet.
const startupWait = 5 * time.Second

// errNotRunning reports a command that is about a running node, without one. silent is what dial
// says of that.
type errNotRunning struct {
	dir    string
	silent error
}

func (e errNotRunning) Error() string {
	if e.silent != nil {
		return fmt.Sprintf("no node can be asked on %s: %v", e.dir, e.silent)
	}
	if owner, err := datadir.ReadOwner(e.dir); err == nil && owner.API == "" && alive(owner.PID) {
		return fmt.Sprintf("no node is running on %s, but it is in use by %s: "+
			"wait for that command, or end it; then start a node with skerry up", e.dir, owner)
	}
	return fmt.Sprintf("no node is running on %s: start one with skerry up", e.dir)
}

// alive reports whether a process exists, as far as one can tell.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil || pid <= 0 {
		return false
	}
	defer func() { _ = p.Release() }()
	err = p.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, fs.ErrPermission)
}

// session is a client of a node, and what must be ended with it.
type session struct {
	*api.Client
	own *skerry.Node // if the command opened the data directory itself
	end []func() error
}

func (s *session) close() error {
	var err error
	for i := len(s.end) - 1; i >= 0; i-- {
		err = errors.Join(err, s.end[i]())
	}
	return err
}

// with runs fn with a client of the node that runs on the data directory or, if none does, of one
// that lives as long as fn. online says whether that one needs a network. It then hands over what
// peers were sent entries of.
func (a *app) with(ctx context.Context, online bool, fn func(*session) error) error {
	return a.withSession(ctx, online, online, fn)
}

// untilInterrupted is with for a command that runs until Ctrl-C. Its node is there for whoever
// wants content, for as long as that takes, and keeps no account of who has taken it.
func (a *app) untilInterrupted(ctx context.Context, fn func(*session) error) error {
	return a.withSession(ctx, true, false, fn)
}

func (a *app) withSession(
	ctx context.Context, online, handsOver bool, fn func(*session) error,
) (err error) {
	s, err := a.connect(ctx, online, handsOver)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	bar := a.newBar()
	defer bar.clear()
	s.Progress = bar.show
	s.Warn = func(text string) { a.warn("%s", text) }
	if err := fn(s); err != nil {
		return err
	}
	_, err = a.handOver(ctx, s)
	return err
}

// dial returns a client of the running node, or nil if none answers; then silent tells what is at
// its socket, if anything is. A data directory of another user is an error: whether a node runs
// there cannot be told, and no other node may be started there.
func (a *app) dial() (_ *session, silent, err error) {
	owner, err := datadir.ReadOwner(a.dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil, nil, notYours(a.dir, err)
	}
	if err != nil || owner.API == "" {
		return nil, nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := disk.DialUnix(ctx, owner.API, a.dir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, nil, notYours(a.dir, err)
	case errors.Is(err, disk.ErrForeignSocket):
		return nil, err, nil // taken over by somebody since
	case errors.Is(err, fs.ErrNotExist), err != nil && disk.Refused(err):
		return nil, nil, nil // left by a process that died
	case err != nil:
		return nil, err, nil // of a process that does not come to accept
	}
	_ = conn.Close() // it only showed that somebody answers
	c := api.DialOf(a.dir, owner.API)
	return &session{Client: c, end: []func() error{func() error { c.Close(); return nil }}}, nil, nil
}

// stillInUse is the error of a command that has waited for a data directory that another process
// has open. silent is what dial says of that process.
func stillInUse(inUse, silent error) error {
	if silent == nil {
		return inUse
	}
	return fmt.Errorf("%w; that process could not be asked: %w", inUse, silent)
}

// notYours reports a node, or a data directory, of another user.
func notYours(dir string, err error) error {
	return &api.Error{
		Kind: api.NotAllowed,
		Message: fmt.Sprintf("data directory %s belongs to another "+
			"user (%s): say this as that user, or name your own with --dir",
			dir, api.AsError(err).Message),
	}
}

func (a *app) connect(ctx context.Context, online, handsOver bool) (*session, error) {
	if err := a.absDir(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(startupWait); ; {
		s, silent, err := a.dial()
		if s != nil || err != nil {
			return s, err
		}
		s, err = a.openOwn(ctx, online, handsOver)
		var inUse *datadir.InUseError
		if err == nil || !errors.As(err, &inUse) {
			return s, err
		}
		if time.Now().After(deadline) {
			return nil, stillInUse(err, silent)
		}
		select { // it is starting, or another command is at work
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (a *app) absDir() (err error) {
	if a.dir == "" && defaultDir() != "" {
		return api.UsageErrorf("--dir is empty: name the data directory")
	}
	if a.dir == "" {
		return api.UsageErrorf(
			"there is no home directory (HOME is not set): name the data directory with --dir or " +
				"in SKERRY_DIR",
		)
	}
	a.dir, err = filepath.Abs(a.dir)
	return err
}

func (a *app) openOwn(ctx context.Context, online, handsOver bool) (*session, error) {
	cfg := node.Config{Dir: a.dir, Command: a.command, HandsOver: handsOver}
	n, err := skerry.Open(ctx, cfg, a.keyringAt())
	if err != nil {
		return nil, err
	}
	s := &session{own: n, end: []func() error{n.Close}}
	if online {
		f, flags := netFlags{oneShot: true}, pflag.NewFlagSet("", pflag.ContinueOnError)
		f.add(flags)
		if err := errors.Join(
			a.readConfig(flags), goOnline(n.Node, &f, slog.New(slog.DiscardHandler)),
		); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	c, stop := server.Local(server.New(n, versionText()))
	s.Client, s.end = c, append(s.end, stop)
	return s, nil
}
