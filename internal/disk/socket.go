package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"
)

// ErrSocketInUse reports a socket at which another process answers.
var ErrSocketInUse = errors.New("a process serves there already")

// dialTime is how long a process may take to accept a connection to a socket.
const dialTime = time.Second

// ListenUnix listens on a Unix socket that only its owner can use. A socket that a dead process
// left under the same name is removed. If a process answers there, the error is ErrSocketInUse; if
// something else has the name, it is fs.ErrExist, and that stays as it is. The socket is removed
// when the listener is closed, unless something else has taken its name.
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
	} else if !refused(err) {
		return fmt.Errorf("%s: it cannot be told whether a process answers there: %w", path, err)
	}
	return os.Remove(path)
}

// unixListener removes its own socket when it is closed.
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
