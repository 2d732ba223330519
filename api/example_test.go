package api_test

import (
	"context"
	"fmt"
	"os"

	"github.com/skerry-sync/skerry"
	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/api/server"
	"github.com/skerry-sync/skerry/node"
)

// A client asks a node for operations by name. Here both are in one process; Dial is for a node
// that runs in another one.
func ExampleClient() {
	ctx := context.Background()
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	dir, err := os.MkdirTemp("", "node-")
	must(err)
	n, err := skerry.Open(ctx, node.Config{Dir: dir, Temporary: true}, nil)
	must(err)
	defer n.Close()
	client, stop := server.Local(server.New(n, "example"))
	defer stop()

	made, err := client.ReplicaNew(ctx, api.NewReplicaRequest{Name: "notes"})
	must(err)
	fmt.Println(made.Name, made.Capability)
	_, err = client.ReplicaInfo(ctx, api.NameRequest{Name: "nobody"})
	fmt.Println(api.AsError(err).Kind)
	// Output:
	// notes write
	// not_found
}
