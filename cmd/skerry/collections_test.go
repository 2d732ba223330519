package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const openCollections = `{"version": 1, "collections": [
  {"name": "notes", "storagePath": "notes/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 65536}]}`

// serveCollections starts a server of collections in a process of its own.
func serveCollections(t *testing.T, dir string) (p *proc, url string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "collections.json")
	require.NoError(t, os.WriteFile(config, []byte(openCollections), 0o600))
	p = &proc{t: t, dir: dir, cmd: exec.Command("skerry", "--dir", dir, "--json", "collections", "serve", "-q", "--no-discovery", "--config", config,
		"--listen", "127.0.0.1:0", "--p2p-listen", "/ip4/127.0.0.1/tcp/0")}
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	require.NoError(t, err)
	var first struct{ Collections string }
	require.NoError(t, json.Unmarshal(line, &first))
	require.NotEmpty(t, first.Collections, "%s", line)
	return p, first.Collections
}

// What was acknowledged is there after the process has been killed in the midst of writing.
func TestKilledServerOfCollections(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acknowledged := map[string]string{} // hashes by names
	var mu sync.Mutex
	for round := range 3 {
		p, url := serveCollections(t, dir)
		var writers sync.WaitGroup
		for w := range 16 {
			writers.Go(func() {
				for i := 0; ; i++ {
					name := fmt.Sprintf("%d-%d-%d", round, w, i)
					res, err := http.Post(url+"/push/notes/"+name, "application/json", strings.NewReader(fmt.Sprintf(`{"data":{"n":%d},"baseHash":null}`, i)))
					if err != nil {
						return // the server is gone
					}
					var done struct{ Hash string }
					err = json.NewDecoder(res.Body).Decode(&done)
					_ = res.Body.Close()
					if err != nil || res.StatusCode != http.StatusOK {
						return
					}
					mu.Lock()
					acknowledged[name] = done.Hash
					mu.Unlock()
				}
			})
		}
		require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(acknowledged) > 500*(round+1) }, 60*time.Second, time.Millisecond)
		p.kill()
		writers.Wait()
	}
	_, url := serveCollections(t, dir)
	for name, hash := range acknowledged {
		res, err := http.Get(url + "/pull/notes/" + name)
		require.NoError(t, err)
		var got struct{ Hash string }
		require.NoError(t, json.NewDecoder(res.Body).Decode(&got))
		require.NoError(t, res.Body.Close())
		require.Equal(t, hash, got.Hash, name)
	}
}

// Clients that send headers without end are refused, and those that send them slowly keep nobody waiting and are sent away.
func TestHostileHTTP(t *testing.T) {
	t.Parallel()
	_, url := serveCollections(t, t.TempDir())
	host := strings.TrimPrefix(url, "http://")
	for _, flood := range []string{"X-Long: " + strings.Repeat("x", 1<<20) + "\r\n", strings.Repeat("X-Many: y\r\n", 1<<16)} {
		conn, err := net.Dial("tcp", host)
		require.NoError(t, err)
		go func() { _, _ = io.WriteString(conn, "GET /pull/notes/a HTTP/1.1\r\nHost: x\r\n"+flood+"\r\n") }() // the server does not read all of it
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, res.StatusCode)
		require.NoError(t, conn.Close())
	}
	var slow []net.Conn
	for range 300 {
		conn, err := net.Dial("tcp", host)
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET /pull/notes/a HTTP/1.1\r\nHo")
		require.NoError(t, err)
		slow = append(slow, conn)
	}
	res, err := http.Get(url + "/health")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode)
	for _, conn := range slow {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(60*time.Second)))
		_, err := io.Copy(io.Discard, conn) // until the server closes it
		require.NoError(t, err)
	}
}
