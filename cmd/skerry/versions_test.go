package main

import (
	"context"
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/skerry-sync/skerry"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/versions"
)

// edit DIR REPLICA KEY FILE writes a version of an item, as an app does that has the data directory
// open. FILE - deletes the item. No node may run on DIR.
func edit(ts *testscript.TestScript, _ bool, args []string) {
	ctx := context.Background()
	n, err := skerry.Open(ctx, node.Config{Dir: ts.MkAbs(args[0])}, nil)
	ts.Check(err)
	defer func() { ts.Check(n.Close()) }()
	r, err := n.Replicas().Resolve(ctx, args[1])
	ts.Check(err)
	set, release, err := n.Versions.Open(ctx, r.ID)
	ts.Check(err)
	defer release()
	item, err := set.Read(ctx, []byte(args[2]), versions.Looked{})
	ts.Check(err)
	if args[3] == "-" {
		ts.Check(set.Delete(ctx, item))
		return
	}
	content, err := os.ReadFile(ts.MkAbs(args[3]))
	ts.Check(err)
	ts.Check(set.Set.Set(ctx, item, content))
}
