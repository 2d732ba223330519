package netaddr

import (
	"net"

	"golang.org/x/net/netutil"
)

// How many connections an HTTP listener has open at a time (docs/protocol/limits.md).
const (
	MaxLocalConns  = 512  // for programs of this machine and its user
	MaxScrapeConns = 64   // for what measures
	MaxPublicConns = 2048 // for anybody
)

// Limit returns a listener that has at most n connections open at a time. Others wait in the
// system's queue, and so cost the process no memory and no file. Servers end connections that are
// idle or slow.
func Limit(l net.Listener, n int) net.Listener { return netutil.LimitListener(l, n) }
