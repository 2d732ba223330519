package service

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/skerry-sync/skerry/internal/disk"
)

// keyPair is a certificate in files, which is read again when they have changed.
type keyPair struct {
	cert, key string

	mu     sync.Mutex
	of     [2]time.Time
	loaded *tls.Certificate
}

func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var now [2]time.Time
	for i, name := range []string{p.cert, p.key} {
		st, err := os.Stat(name)
		if err != nil {
			if p.loaded != nil { // it is being replaced
				return p.loaded, nil
			}
			return nil, err
		}
		now[i] = st.ModTime()
	}
	if p.loaded != nil && now == p.of {
		return p.loaded, nil
	}
	c, err := loadKeyPair(p.cert, p.key)
	switch {
	case err == nil:
		p.loaded, p.of = &c, now
	case p.loaded == nil:
		return nil, err
	}
	return p.loaded, nil
}

// leaf returns the certificate that counts now, nil if there is none.
func (p *keyPair) leaf() *x509.Certificate {
	c, err := p.get(nil)
	if err != nil {
		return nil
	}
	return c.Leaf
}

// certifies reports whether a host, also with a port, is one of the certificate's names.
func (p *keyPair) certifies(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	leaf := p.leaf()
	return leaf != nil && leaf.VerifyHostname(host) == nil
}

// names returns the certificate's names and addresses.
func (p *keyPair) names() (all []string) {
	leaf := p.leaf()
	if leaf == nil {
		return nil
	}
	for _, a := range leaf.IPAddresses {
		all = append(all, a.String())
	}
	return append(all, leaf.DNSNames...)
}

// maxPEM is how long a file with a certificate or a key may be.
const maxPEM = 1 << 20

// loadKeyPair is tls.LoadX509KeyPair for regular files. A pipe would stop all handshakes.
func loadKeyPair(cert, key string) (c tls.Certificate, err error) {
	certs, err := disk.ReadFile(cert, maxPEM)
	if err != nil {
		return c, err
	}
	secret, err := disk.ReadFile(key, maxPEM)
	if err != nil {
		return c, err
	}
	return tls.X509KeyPair(certs, secret)
}

// ACME says for which names certificates are got (RFC 8555), and from whom.
type ACME struct {
	Hosts     []string
	Email     string
	Directory string // of the authority; "" is DefaultACME
	Cache     string // directory for what was got
}

// DefaultACME is the directory of the authority that is asked unless another one is named.
const DefaultACME = autocert.DefaultACMEDirectory

// config returns what a server needs that gets its certificates itself.
func (o *ACME) config() (*tls.Config, error) {
	if err := os.MkdirAll(o.Cache, 0o700); err != nil {
		return nil, fmt.Errorf("certificates by ACME: %w", err)
	}
	m := &autocert.Manager{Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(o.Cache),
		HostPolicy: autocert.HostWhitelist(o.Hosts...), Email: o.Email,
		Client: &acme.Client{DirectoryURL: cmp.Or(o.Directory, DefaultACME)}}
	c := m.TLSConfig()
	c.MinVersion = tls.VersionTLS12
	return c, nil
}
