package service

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/internal/netaddr"
)

// ListenOptions say how a server listens. At must be given.
type ListenOptions struct {
	At    string // host:port
	Wrap  collections.Wrapping
	Local bool          // for callers of this machine, of which there are fewer
	Drain time.Duration // for what has been accepted when the server ends; 0 is ten seconds

	Cert, Key string // files with a certificate and its key, for HTTPS; "" is none
	ACME      *ACME  // that gets certificates instead, for names of Options.Hosts; nil is none
}

// Bounds of connections: how long a request's headers may take and be, and how long a connection
// may be idle.
const (
	headerTime     = 10 * time.Second // or the time for an answer, if that is less
	maxHeaderBytes = 64 << 10
	idleTime       = 2 * time.Minute
	maxStreams     = 32 // requests at once on a connection of HTTP/2; browsers have other ones wait
	drainTime      = 10 * time.Second
)

// Listen begins to answer, and returns the URL that all paths follow. It is called once.
func (s *Server) Listen(o ListenOptions) (base string, err error) {
	handler, err := collections.Wrap(s.withHealth(s.served), o.Wrap)
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", o.At)
	if err != nil {
		return "", err
	}
	srv := s.bounded(netaddr.Local(l.Addr(), handler, s.names()...), o.Wrap.Timeout)
	scheme, err := s.certify(srv, &o)
	if err != nil {
		return "", errors.Join(err, l.Close())
	}
	most := netaddr.MaxPublicConns
	if o.Local {
		most = netaddr.MaxLocalConns
	}
	at := l.Addr()
	// The server must see what HeaderTimeouts has made of connections.
	l = collections.HeaderTimeouts(srv, netaddr.LimitBehind(l, most, s.o.ProxyHops))
	s.tellHosts(at)
	s.serve(srv, l, cmp.Or(o.Drain, drainTime))
	return scheme + "://" + at.String() + s.o.Prefix, nil
}

// bounded returns a server with bounds. An answer may take timeout; 0 is without end.
func (s *Server) bounded(h http.Handler, timeout time.Duration) *http.Server {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTime,
		IdleTimeout: idleTime, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
	}
	if timeout > 0 {
		srv.ReadHeaderTimeout = min(headerTime, timeout)
		srv.ReadTimeout, srv.WriteTimeout = timeout+headerTime, 2*(timeout+headerTime)
	}
	return srv
}

// serve serves until the server is closed.
func (s *Server) serve(srv *http.Server, l net.Listener, drain time.Duration) {
	serve := srv.Serve
	if srv.TLSConfig != nil {
		serve = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	}
	done := make(chan error, 1)
	go func() { done <- serve(l) }()
	s.closes = append(s.closes, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		err := srv.Shutdown(ctx) // what has been accepted is answered
		if err != nil {
			err = errors.Join(err, srv.Close())
		}
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	})
}

// certify gives a server the certificates that it needs.
func (s *Server) certify(srv *http.Server, o *ListenOptions) (scheme string, err error) {
	switch {
	case o.ACME != nil:
		srv.TLSConfig, err = o.ACME.config()
	case o.Cert != "" || o.Key != "":
		pair := &keyPair{cert: o.Cert, key: o.Key}
		if _, err := pair.get(nil); err != nil {
			return "", fmt.Errorf("certificate: %w", err)
		}
		s.pair = pair
		srv.TLSConfig = &tls.Config{GetCertificate: pair.get, MinVersion: tls.VersionTLS12}
	default:
		return "http", nil
	}
	return "https", err
}

// withHealth answers /health also where all else has a prefix, of which whoever looks after the
// process need not know.
func (s *Server) withHealth(h http.Handler) http.Handler {
	if s.o.Prefix == "" {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			w.Header().Set("Content-Type", config.JSON)
			_, _ = io.WriteString(w, `{"ok":true}`) // whoever has gone misses nothing
			return
		}
		h.ServeHTTP(w, r)
	})
}

// knownHost returns what tells whether a request names this server: by the address that it came in
// at, by a name that was given, or by one of the certificate's.
func (s *Server) knownHost() func(r *http.Request) bool {
	named := collections.Known(s.names()...)
	return func(r *http.Request) bool {
		return named(r) || s.pair != nil && s.pair.certifies(r.Host)
	}
}

// tellHosts says for which names callers may sign requests.
func (s *Server) tellHosts(at net.Addr) {
	if s.o.Wallets != nil {
		return // who signs for no host
	}
	names := append([]string{at.String()}, s.names()...)
	if s.pair != nil {
		names = append(names, s.pair.names()...)
	}
	slices.Sort(names)
	s.log.Info("requests with certificates count if they are signed for one of these hosts; "+
		"further names are given with --host or --origin", "hosts", slices.Compact(names))
}

// names returns the names by which clients reach this server.
func (s *Server) names() []string {
	all := slices.Clone(s.o.Hosts)
	if u := s.o.Origin; u != nil {
		all = append(all, u.Hostname())
	}
	return all
}
