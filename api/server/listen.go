package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/internal/netaddr"
	"github.com/skerry-sync/skerry/vault"
)

// Listener serves the API on a Unix socket.
type Listener struct {
	Path   string
	srv    *http.Server
	done   chan error
	remove string // a directory made for the socket, or empty
}

// maxSocketPath is less than what any system allows for the path of a Unix socket.
const maxSocketPath = 100

// Listen serves s on a socket in the data directory dir, that only its owner can use. Where the
// path would be too long for a socket, it lies in a directory of its own under the system's
// temporary one.
func Listen(s *Server, dir string, log *slog.Logger) (*Listener, error) {
	return listen(s, filepath.Join(dir, "api.sock"), log)
}

// ListenKeyring serves a keyring likewise, on the socket path; see KeyringHandler. It returns an
// error if another process answers there, or if something else than a socket has that name.
func ListenKeyring(k vault.Keyring, path string, log *slog.Logger) (*Listener, error) {
	return listen(guarded(KeyringHandler(k), log), path, log)
}

func listen(h http.Handler, path string, log *slog.Logger) (*Listener, error) {
	l := &Listener{Path: path, done: make(chan error, 1)}
	if len(l.Path) > maxSocketPath {
		tmp, err := os.MkdirTemp("", "skerry-")
		if err != nil {
			return nil, fmt.Errorf("api socket: %w", err)
		}
		l.remove, l.Path = tmp, filepath.Join(tmp, filepath.Base(path))
		if len(l.Path) > maxSocketPath {
			err := api.UsageErrorf("socket %s: its name is too long for a socket", path)
			return nil, errors.Join(err, l.clean())
		}
	}
	ln, err := disk.ListenUnix(l.Path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("socket: %w", err), l.clean())
	}
	l.srv = &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go func() { l.done <- l.srv.Serve(netaddr.Limit(ln, netaddr.MaxLocalConns)) }()
	return l, nil
}

// Close ends all requests and waits for the server.
func (l *Listener) Close() error {
	err := l.srv.Close()
	if served := <-l.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return errors.Join(err, l.clean())
}

// clean removes the directory that was made for the socket.
func (l *Listener) clean() error {
	if l.remove == "" {
		return nil
	}
	return os.RemoveAll(l.remove)
}
