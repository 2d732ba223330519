// Package nginx writes the configuration of an nginx that stands before servers of collections: it
// answers public documents from a cache, and lets through no more requests than the collections'
// configuration allows.
//
// What belongs here: what nginx must know of a configuration, and how that is written down. What
// never belongs here: running nginx.
//
// Start at Generate. The rules are those of the generator of OctoBot's sync server, but for what
// its doc comment names.
package nginx

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
)

// Options say where things are. What is empty is the default.
type Options struct {
	Upstream string // host:port of a server of collections; 127.0.0.1:8500
	Listen   string // port, or address:port, of nginx; 80
	Prefix   string // of all paths of the server; /v1. "/" is none
	Cache    string // directory; /var/cache/nginx/sync
	// Unix socket by which the cache asks what limits requests; /run/skerry-limits.sock
	Socket string
}

// ErrOption reports options that nginx could not use.
var ErrOption = errors.New("bad option")

var (
	hostPort = regexp.MustCompile(`^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$`)
	listens  = regexp.MustCompile(`^((\[[0-9a-fA-F:]+\]|[A-Za-z0-9._*-]+):)?[0-9]{1,5}$`)
	prefixes = regexp.MustCompile(`^(/[A-Za-z0-9._-]+)+$`)
	files    = regexp.MustCompile(`^/[A-Za-z0-9._/-]+$`)
	names    = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)

func (o Options) checked() (Options, error) {
	o.Upstream, o.Listen = cmp.Or(o.Upstream, "127.0.0.1:8500"), cmp.Or(o.Listen, "80")
	o.Cache, o.Socket = cmp.Or(o.Cache, "/var/cache/nginx/sync"), cmp.Or(
		o.Socket, "/run/skerry-limits.sock",
	)
	o.Prefix = strings.TrimSuffix(cmp.Or(o.Prefix, "/v1"), "/")
	for _, x := range []struct {
		name, value string
		form        *regexp.Regexp
		such        string
	}{
		{"upstream", o.Upstream, hostPort, "127.0.0.1:8500"},
		{"listen", o.Listen, listens, "80 or 127.0.0.1:8080"},
		{"cache", o.Cache, files, "/var/cache/nginx/sync"},
		{"socket", o.Socket, files, "/run/limits.sock"},
	} {
		if !x.form.MatchString(x.value) {
			return o, fmt.Errorf("%w: %s %q: expected one such as %s", ErrOption, x.name, x.value, x.such)
		}
	}
	if o.Prefix != "" && !prefixes.MatchString(o.Prefix) {
		return o, fmt.Errorf("%w: prefix %q: expected one such as /v1", ErrOption, o.Prefix)
	}
	for _, at := range []string{o.Upstream, o.Listen} {
		port := at[strings.LastIndexByte(at, ':')+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return o, fmt.Errorf("%w: %q: a port is 1 to 65535", ErrOption, at)
		}
	}
	return o, nil
}

// location is a location block.
type location struct {
	Of      string // what it is for
	Match   string // quoted regular expression
	Valid   string // for how long an answer is kept; "" is not at all
	Limit   string // the zone; "" is none
	Burst   int64
	Private bool
}

// limit is a rate of nginx.
type limit struct {
	Rate  string // as 2r/s
	Burst int64
}

// rateOf returns the rate for a number of requests in a time: whole requests a second, or a minute
// if that is less than one a second, rounded up.
func rateOf(requests, windowMS int64) limit {
	ceil := func(of int64) int64 { // ceil(requests · of / windowMS)
		n := new(big.Int).Mul(big.NewInt(requests), big.NewInt(of))
		n.Add(n, big.NewInt(windowMS-1)).Quo(n, big.NewInt(windowMS))
		return max(1, n.Int64())
	}
	l := limit{Burst: max(1, requests/2)}
	if requests*1000 >= windowMS {
		l.Rate = strconv.FormatInt(ceil(1000), 10) + "r/s"
	} else {
		l.Rate = strconv.FormatInt(ceil(60_000), 10) + "r/m"
	}
	return l
}

// Generate returns the configuration of nginx, to be included within http.
//
// As its model does, it keeps public documents for 1 h if nobody may write them here, for 30 s
// otherwise; limits all requests of an address, or an IPv6 network of 56 bits, to the
// configuration's rate, and pushes to collections with a limit of their own to half of that. Other
// than there: paths are matched with their case; what is answered from the cache does not count;
// the same headers about the caller are sent everywhere; bodies may be as large as the largest
// collection takes; nothing is cached whose readers are restricted, nor what is over after a time
// (ttlMs); pages of several origins, each of which is told that it may read an answer, have answers
// of their own, as nginx before 1.23 heeds but one line of Vary; and text that nginx would read as
// its own is quoted or refused.
func Generate(c *config.Config, o Options) ([]byte, error) {
	o, err := o.checked()
	if err != nil {
		return nil, err
	}
	d := struct {
		Options
		Global, Strict *limit
		Cached, Pushes []location
		Rest           location
		MaxBody        int64
		Health         []string
		Parties        map[string]string // variables with an address, and with whose it is
	}{
		Parties: map[string]string{"remote_addr": "sync_party", "http_x_real_ip": "sync_party_behind"},
		Options: o, Rest: location{Of: "everything else"}, MaxBody: 1 << 20,
		Health: slices.Compact([]string{"/health", o.Prefix + "/health"}),
	}
	if c.RateLimit != nil {
		if c.RateLimit.MaxRequests <= 0 || c.RateLimit.WindowMS <= 0 {
			return nil, fmt.Errorf("rateLimit: windowMs and maxRequests must be positive")
		}
		global := rateOf(c.RateLimit.MaxRequests, c.RateLimit.WindowMS)
		strict := rateOf(max(1, c.RateLimit.MaxRequests/2), c.RateLimit.WindowMS)
		d.Global, d.Strict = &global, &strict
		d.Rest.Limit, d.Rest.Burst = "sync_global", global.Burst
	}
	restricted := access.HasRestrictions(c)
	seen := map[string]bool{}
	for _, col := range c.All() {
		if !names.MatchString(col.Name) {
			return nil, fmt.Errorf(
				"collection %q: its name must consist of letters, digits, '-' and '_'", col.Name,
			)
		}
		d.MaxBody = max(d.MaxBody, col.MaxBodyBytes)
		under := o.Prefix + "/"
		if col.Namespace != "" {
			if !names.MatchString(col.Namespace) {
				return nil, fmt.Errorf(
					"namespace %q: its name must consist of letters, digits, '-' and '_'", col.Namespace,
				)
			}
			under += col.Namespace + "/"
		}
		if cached(c, col) && !restricted {
			match, err := pattern(under + "pull/" + col.StoragePath)
			if err != nil {
				return nil, fmt.Errorf("collection %q: storagePath: %w", col.Name, err)
			}
			l := location{Of: col.Name, Match: match, Valid: "30s"}
			if col.PullOnly {
				l.Valid = "1h"
			}
			if !seen[match] {
				d.Cached = append(d.Cached, l)
			}
			seen[match] = true
		}
		if d.Strict != nil && col.RateLimit != nil && !col.PullOnly {
			path := under + "push/" + col.StoragePath
			if col.Bundle != "" {
				path += "/" + col.Name
			}
			match, err := pattern(path)
			if err != nil {
				return nil, fmt.Errorf("collection %q: storagePath: %w", col.Name, err)
			}
			d.Pushes = append(
				d.Pushes, location{Of: col.Name, Match: match, Limit: "sync_strict", Burst: d.Strict.Burst},
			)
		}
	}
	var b bytes.Buffer
	if err := text.Execute(&b, d); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// cached reports whether all that a pull of the collection's path shows is public, and for as long
// as nobody writes it. One of a bundle shows the others, too.
func cached(c *config.Config, col *config.Collection) bool {
	keeps := func(col *config.Collection) bool {
		return !col.RootOnly && col.PublicRead() && (col.TTLMS == nil || *col.TTLMS <= 0)
	}
	return !col.PushOnly && keeps(col) &&
		!slices.ContainsFunc(c.All(), func(o *config.Collection) bool {
			return col.Bundle != "" && o.Bundle == col.Bundle && o.Namespace == col.Namespace && !keeps(o)
		})
}

// pattern returns a regular expression, quoted for nginx, that matches the paths of a template.
func pattern(path string) (string, error) {
	var b strings.Builder
	b.WriteByte('^')
	for i, s := range strings.Split(path, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		if strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}") {
			b.WriteString("[^/]+")
			continue
		}
		for _, r := range s {
			if r < 0x20 || r == 0x7f {
				return "", fmt.Errorf("a control character in %q", path)
			}
		}
		b.WriteString(regexp.QuoteMeta(s))
	}
	b.WriteByte('$')
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(b.String()) + `"`, nil
}

var text = template.Must(
	template.New("nginx").Parse(`# Written by skerry collections nginx, to be included within http { }.

proxy_cache_path {{.Cache}} levels=1:2 keys_zone=sync_cache:10m max_size=1g inactive=60m use_temp_path=off;
{{- if .Global}}

# Whose requests are counted together: those of an IPv4 address, or of an IPv6 network of 56 bits,
# also where the cache asks on somebody's behalf.
{{- range $of, $to := .Parties}}
map ${{$of}} ${{$to}} {
    default ${{$of}};
    "~^(?<sync_56>(?:[0-9a-f]+:){3}(?:[0-9a-f]{1,2}(?=[0-9a-f]{2}:))?)" $sync_56;
    "~^(?<sync_32>(?:[0-9a-f]+:){1,2})" $sync_32;
}
{{- end}}
limit_req_zone $sync_client zone=sync_global:10m rate={{.Global.Rate}};
limit_req_zone $sync_client zone=sync_strict:10m rate={{.Strict.Rate}};
limit_req_status 429;
{{- end}}

upstream skerry_collections {
    server {{.Upstream}};
    keepalive 32;
}
{{- if and .Global .Cached}}

upstream skerry_limits {
    server unix:{{.Socket}};
    keepalive 32;
}
{{- end}}

server {
    listen {{.Listen}};
    server_name _;
    client_max_body_size {{.MaxBody}};
{{- if .Global}}
    set $sync_client $sync_party;
{{- end}}

    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
{{range .Health}}
    location = {{.}} {
        proxy_pass http://skerry_collections;
    }
{{end}}
{{- $limited := .Global}}
{{- range .Cached}}
    # {{.Of}}
    location ~ {{.Match}} {
        proxy_cache sync_cache;
        proxy_cache_key "$http_origin $scheme$proxy_host$request_uri";
        proxy_cache_valid 200 {{.Valid}};
        proxy_cache_use_stale error timeout updating;
        proxy_cache_lock on;
        add_header X-Cache-Status $upstream_cache_status always;
        proxy_pass http://{{if $limited}}skerry_limits{{else}}skerry_collections{{end}};
    }
{{end}}
{{- range .Pushes}}
    # {{.Of}}
    location ~ {{.Match}} {
        limit_req zone={{.Limit}} burst={{.Burst}} nodelay;
        proxy_pass http://skerry_collections;
    }
{{end}}
    location {{.Prefix}}/ {
{{- if .Global}}
        limit_req zone={{.Rest.Limit}} burst={{.Rest.Burst}} nodelay;
{{- end}}
        proxy_pass http://skerry_collections;
    }
{{- if .Prefix}}

    location / {
        return 404;
    }
{{- end}}
}
{{- if and .Global .Cached}}

# What the cache does not have is asked for here, where it counts.
server {
    listen unix:{{.Socket}};
    server_name _;
    access_log off;
    set $sync_client $sync_party_behind;

    location / {
        limit_req zone={{.Rest.Limit}} burst={{.Rest.Burst}} nodelay;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Real-IP $http_x_real_ip;
        proxy_set_header X-Forwarded-For $http_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $http_x_forwarded_proto;
        proxy_pass http://skerry_collections;
    }
}
{{- end}}
`),
)
