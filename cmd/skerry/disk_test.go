package main

import (
	"bytes"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/ticket"
)

// marks are words that nobody else writes, to be looked for afterwards.
type marks struct{ all []string }

func (m *marks) make() string {
	raw := make([]byte, 15)
	for i := range raw {
		raw[i] = byte(rand.Uint32())
	}
	w := strings.ToLower(base32.StdEncoding.EncodeToString(raw))
	m.all = append(m.all, w)
	return w
}

// found returns which marks are in any file below a directory or in the name of one, in any of the
// forms in which something may write them. It reads each file once, whatever the number of marks:
// the first eight bytes of all forms are in a map, and every place of a file is looked up there.
func (m *marks) found(t *testing.T, dir string) (out []string, bytesRead int) {
	t.Helper()
	type form struct{ text, mark string }
	forms := map[uint64][]form{} // by how they begin
	for _, w := range m.all {
		for _, f := range []string{w, strings.ToUpper(w), hex.EncodeToString([]byte(w))} {
			start := binary.BigEndian.Uint64([]byte(f))
			forms[start] = append(forms[start], form{f, w})
		}
	}
	var begins [1 << 16]bool // with which two bytes one begins: most places need no look at the map
	for start := range forms {
		begins[start>>48] = true
	}
	seen := map[string]bool{}
	search := func(b []byte) {
		for i := 0; i+8 <= len(b); i++ {
			if !begins[uint16(b[i])<<8|uint16(b[i+1])] {
				continue
			}
			for _, f := range forms[binary.BigEndian.Uint64(b[i:])] {
				if len(b)-i >= len(f.text) && string(b[i:i+len(f.text)]) == f.text {
					seen[f.mark] = true
				}
			}
		}
	}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		bytesRead += len(b)
		search(b)
		search([]byte(filepath.Base(path)))
		return err
	}))
	for w := range seen {
		out = append(out, w)
	}
	return out, bytesRead
}

// Marks are found in each of their forms, in a file and in the name of one, wherever they stand.
func TestFoundMarks(t *testing.T) {
	m := &marks{}
	for range 8 {
		m.make()
	}
	absent := m.all[7]
	dir := t.TempDir()
	write := func(name, content string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	write("at the start", m.all[0]+" and more")
	write("in capitals", "xyz"+strings.ToUpper(m.all[1])+"\x00")
	write("in hex, at the end", "\xff"+hex.EncodeToString([]byte(m.all[2])))
	write("two at once", m.all[3]+m.all[4])
	write("after its own start", m.all[5][:10]+m.all[5])
	write("name "+m.all[6], "")
	write("cut", absent[:len(absent)-1])
	write("at the very end, cut", "abc "+absent[:9])
	write("short", "abc")
	got, read := m.found(t, dir)
	require.ElementsMatch(t, m.all[:7], got)
	require.Greater(t, read, 7*24)
	raw := &marks{all: []string{"\x00\x01\x02\x03\x04\x05\x06\x07\x08\xff", "no such key"}}
	write("a key", "\x00\x00"+raw.all[0]+"\x00")
	got, _ = raw.found(t, dir)
	require.Equal(t, raw.all[:1], got)
}

// The disk of a host that may only sync, searched for everything that was ever written to an
// encrypted replica: names, values, a large file in chunks, what was replaced and deleted, what the
// replica is called, and its keys. What the same host holds of a replica that is not encrypted is
// found by the same search.
func TestDiskOfAHost(t *testing.T) {
	const listen = "/ip4/127.0.0.1/tcp/0"
	dirA, dirB := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	a, b := startProc(t, dirA, listen), startProc(t, dirB, listen)
	var secret, open marks
	write := func(name string, m *marks) {
		for range 20 {
			key := m.make() + "/" + m.make()
			a.must("replica", "set", name, key, m.make()+" "+m.make())
			a.must("replica", "set", name, key, "replaced by "+m.make())
		}
		large := make([]byte, 6<<20)
		for i := range large {
			large[i] = byte(rand.Uint32())
		}
		for at := 100; at < len(large); at += 64 << 10 {
			copy(large[at:], m.make())
		}
		file := filepath.Join(t.TempDir(), "large")
		require.NoError(t, os.WriteFile(file, large, 0o600))
		a.must("replica", "set", name, m.make(), "-f", file)
		var lines bytes.Buffer
		for range 200 {
			require.NoError(
				t, json.NewEncoder(&lines).Encode(map[string]string{"key": m.make(), "value": m.make()}),
			)
		}
		items := filepath.Join(t.TempDir(), "items")
		require.NoError(t, os.WriteFile(items, lines.Bytes(), 0o600))
		a.must("replica", "import", name, items)
	}
	join := func(name string) {
		b.must(
			"replica", "join", strings.TrimSpace(a.must("replica", "share", name, "--mode", "sync", "-q")),
			"--name", "hosted-"+fmt.Sprint(len(name)),
		)
	}
	private := secret.make()
	a.must("replica", "new", private, "--encrypted")
	a.must("replica", "new", "public")
	write(private, &secret)
	join(private)
	join("public")
	write("public", &open)
	author := strings.TrimSpace(b.must("author", "default", "-q"))
	a.must("replica", "grant", "public", author) // and statements with prefixes and keys
	prefix := secret.make()
	a.must(
		"replica", "grant", private, strings.TrimSpace(a.must("author", "new", "-q")), "--prefix",
		prefix+"/",
	)
	before := strings.TrimSpace(a.must("replica", "share", private, "--mode", "write", "-q"))
	a.must("replica", "rotate", private)
	write(private, &secret)
	a.must("replica", "del", private, secret.all[1]+"/", "--prefix")
	after := strings.TrimSpace(a.must("replica", "share", private, "--mode", "write", "-q"))
	b.must("replica", "sync", "hosted-6")
	b.must("replica", "sync", "hosted-"+fmt.Sprint(len(private)))
	require.Eventually(t, func() bool {
		var info api.ReplicaInfo
		require.NoError(
			t,
			json.Unmarshal(
				[]byte(b.must("replica", "info", "hosted-"+fmt.Sprint(len(private)), "--json")), &info,
			),
		)
		return info.PendingContent == 0 && info.Entries >= 440
	}, 30e9, 50e6)
	b.stop()

	raw := &marks{}
	for _, text := range []string{before, after} {
		doc, err := ticket.ParseDoc(text)
		require.NoError(t, err)
		seed := doc.Secret.Seed()
		raw.all = append(raw.all, string(doc.ReadKey.Key[:]), string(seed[:]))
	}
	got, read := secret.found(t, dirB)
	require.Empty(t, got, "something of the encrypted replica can be read on the host's disk")
	require.Greater(t, read, 12<<20, "all of its content is there")
	got, _ = raw.found(t, dirB)
	require.Empty(t, got, "the host has keys")
	// The search finds what is there: nearly all words, for some are cut up by compression.
	got, _ = open.found(t, dirB)
	require.Greater(t, len(got), len(open.all)*9/10)
	got, _ = raw.found(t, dirA)
	require.Len(t, got, 3, "both read keys, and the replica's")
}
