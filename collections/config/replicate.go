package config

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Primary is the server that a replica keeps collections in step with.
type Primary struct {
	URL    string // of its origin, or with /v1 behind it
	Mode   WriteMode
	Every  time.Duration // of scheduled syncs
	Wallet string        // see Remote
	Chain  string
}

// primaryPrefix is what the paths of a primary begin with.
const primaryPrefix = "/v1"

// Base returns the URL that paths of a primary follow.
func (p Primary) Base() (string, error) {
	u, err := url.Parse(p.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" ||
		u.Fragment != "" {
		return "", fmt.Errorf("%q is not the URL of a server, such as https://sync.example", p.URL)
	}
	return strings.TrimSuffix(strings.TrimRight(p.URL, "/"), primaryPrefix) + primaryPrefix, nil
}

// Replicable returns why the document of a collection cannot be kept in step with a primary's, or
// nil if it can: it must be one JSON document, which both may read.
func (c *Collection) Replicable() error {
	for _, x := range []struct {
		is     bool
		reason string
	}{
		{c.Namespace != "", "it is in a namespace"},
		{len(Params(c.StoragePath)) > 0, "its storagePath has parameters"},
		{c.AppendOnly != nil, "it is a log"},
		{c.Binary(), "it is binary (allowedMimeTypes lacks application/json)"},
		{c.Encryption != Plain, fmt.Sprintf("encryption is %q", c.Encryption)},
		{c.Bundle != "", "it is part of a bundle"},
		{c.PushOnly, "it is pushOnly"},
	} {
		if x.is {
			return fmt.Errorf("collection %q is served here alone: %s", c.Name, x.reason)
		}
	}
	return nil
}

// Replica returns a configuration by which the replicable collections are kept in step with a
// primary, before each pull and regularly. Those that have another server already keep it; local
// says of each of the rest why it is served here alone.
func (c *Config) Replica(p Primary) (own *Config, local []error, err error) {
	base, err := p.Base()
	if err != nil {
		return nil, nil, err
	}
	switch p.Mode {
	case PullOnly, PushThrough, Bidirectional, PushOnly:
	default:
		return nil, nil, fmt.Errorf(
			"the write mode must be %q, %q, %q or %q, not %q", Bidirectional, PullOnly, PushThrough,
			PushOnly, p.Mode,
		)
	}
	copied := *c
	copied.Remotes = append([]*Remote(nil), c.Remotes...)
	has := map[*Collection]bool{}
	for _, r := range c.Remotes {
		has[r.Collection] = true
	}
	for _, col := range c.All() {
		if has[col] {
			continue
		}
		if err := col.Replicable(); err != nil {
			local = append(local, err)
			continue
		}
		r := &Remote{
			Collection: col, URL: base, PullPath: "/pull/" + col.StoragePath, Headers: map[string]string{},
			Mode: p.Mode, Every: p.Every, OnPull: true, Wallet: p.Wallet, Chain: p.Chain,
		}
		if p.Mode != PullOnly {
			r.PushPath = "/push/" + col.StoragePath
		}
		copied.Remotes = append(copied.Remotes, r)
	}
	return &copied, local, nil
}
