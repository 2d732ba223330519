package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/skerry-sync/skerry/internal/kind"
)

// ErrSocketInUse reports a socket at which another process answers.
var ErrSocketInUse = errors.New("a process serves there already")

// ErrForeignSocket reports a socket at which a process of another user answers.
var ErrForeignSocket = kind.New(kind.NotAllowed, "a process of another user answers there")

// trusted reports whether a process of a user may see what this process sees: it is of the same
// user, or of root.
var trusted = func(uid int) bool { return uid == os.Geteuid() || uid == 0 }

// DialUnix connects to a process of this user, of root, or of the user who owns the file named as,
// if that is not empty, at a Unix socket. If another answers there, the error is ErrForeignSocket,
// and nothing has been sent: where others may make files, they may take the name of a socket whose
// process has ended, and wait for passwords. A system that does not tell whose process answers is
// asked who owns the socket; one that has no such owners lets all answer.
func DialUnix(ctx context.Context, path, as string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	uid, known, err := userOf(c, path)
	if err == nil && known && !trusted(uid) {
		err = ErrForeignSocket
		if owner, ok := ownerOf(as); as != "" && ok && owner == uid {
			err = nil
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("socket %s: %w", path, err), c.Close())
	}
	return c, nil
}

// userOf returns the user whose process is at the other end of a connection, or who owns the
// socket at path, if that is not empty.
func userOf(c net.Conn, path string) (uid int, known bool, err error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, false, nil
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, false, err
	}
	if ctlErr := raw.Control(func(fd uintptr) { uid, known, err = peerUser(int(fd)) }); ctlErr != nil {
		return 0, false, ctlErr
	}
	if err == nil && !known && path != "" {
		uid, known = ownerOf(path)
	}
	return uid, known, err
}

// dialTime is how long a process may take to accept a connection to a socket.
const dialTime = time.Second

// ListenUnix listens on a Unix socket that only its owner and root can use: connections of others,
// made before the socket had its mode, are closed. A socket that a dead process left under the same
// name is removed. If a process answers there, the error is ErrSocketInUse; if something else has
// the name, it is fs.ErrExist, and that stays as it is. The socket is removed when the listener is
// closed, unless something else has taken its name.
func ListenUnix(path string) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	own, err := os.Lstat(path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &unixListener{l, path, own}, nil
}

func removeStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is no socket: name another path, or move it away: %w", path, fs.ErrExist)
	}
	if conn, err := net.DialTimeout("unix", path, dialTime); err == nil {
		return errors.Join(fmt.Errorf("%s: %w", path, ErrSocketInUse), conn.Close())
	} else if !Refused(err) {
		return fmt.Errorf("%s: it cannot be told whether a process answers there: %w", path, err)
	}
	return os.Remove(path)
}

// unixListener removes its own socket when it is closed, and takes connections of its own user and
// of root alone.
type unixListener struct {
	*net.UnixListener
	path string
	own  fs.FileInfo
}

func (l *unixListener) Close() error {
	err := l.UnixListener.Close()
	if err != nil {
		return err
	}
	if st, err := os.Lstat(l.path); err != nil || !os.SameFile(st, l.own) {
		return nil
	}
	return os.Remove(l.path)
}

func (l *unixListener) Accept() (net.Conn, error) {
	for {
		c, err := l.UnixListener.Accept()
		if err != nil {
			return nil, err
		}
		uid, known, err := userOf(c, "")
		if err == nil && (!known || trusted(uid)) {
			return c, nil
		}
		_ = c.Close() // it has not been answered
	}
}
