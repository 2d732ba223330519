package netaddr

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A connection over the limit is accepted once another has gone.
func TestLimitBoundsConnections(t *testing.T) {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := Limit(raw, 2)
	accepted := make(chan net.Conn, 3)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	var dialled []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", raw.Addr().String())
		require.NoError(t, err)
		dialled = append(dialled, c)
	}
	first, second := <-accepted, <-accepted
	require.Empty(t, accepted)
	require.NoError(t, first.Close())
	third := <-accepted
	for _, c := range append(dialled, second, third) {
		require.NoError(t, c.Close())
	}
	require.NoError(t, l.Close())
	<-done
}

// Every HTTP server of the program has timeouts for headers and idle connections, a log that is not
// standard error, and a listener with a limit; with TLS, as many requests at once on a connection
// as it says.
func TestServersAreBounded(t *testing.T) {
	servers := 0
	err := filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		slash := filepath.ToSlash(name)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "bench" || d.Name() == "interop" || d.Name() == ".ci"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(slash, ".go") || strings.HasSuffix(slash, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			return err
		}
		found, limits, tls, http2 := 0, 0, false, false
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if !isSelector(n.Type, "http", "Server") {
					break
				}
				found++
				has := map[string]bool{}
				for _, e := range n.Elts {
					has[e.(*ast.KeyValueExpr).Key.(*ast.Ident).Name] = true
				}
				for _, key := range []string{"ReadHeaderTimeout", "IdleTimeout", "ErrorLog"} {
					require.True(t, has[key], "%s: an http.Server without %s", slash, key)
				}
				http2 = http2 || has["HTTP2"]
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "ServeTLS" {
					tls = true
				}
				if isSelector(n.Fun, "netaddr", "Limit") ||
					isSelector(n.Fun, "netaddr", "LimitBehind") {
					limits++
				}
			}
			return true
		})
		// which serves only its own process
		if found > 0 && !strings.HasSuffix(slash, "api/server/local.go") {
			require.Equal(t, found, limits, "%s: listeners without netaddr.Limit", slash)
		}
		require.True(t, http2 || !tls, "%s: requests at once on a connection have no limit", slash)
		servers += found
		return nil
	})
	require.NoError(t, err)
	require.GreaterOrEqual(t, servers, 6)
}

func isSelector(e ast.Expr, pkg, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg && s.Sel.Name == name
}
