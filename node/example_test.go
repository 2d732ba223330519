package node_test

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// Many keys are written in one go; large values are read from where they are.
func ExampleReplica_Batch() {
	ctx := context.Background()
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	dir, err := os.MkdirTemp("", "node-")
	must(err)
	n, err := node.Open(ctx, node.Config{Dir: dir, Temporary: true}) // offline; see skerry.Start
	must(err)
	defer n.Close()
	made, err := n.CreateReplica(ctx, "shopping", true)
	must(err)
	shopping := n.ReplicaOf(made.ID)

	batch, err := shopping.Batch(ctx, node.WriteOptions{})
	must(err)
	defer batch.Close()
	must(batch.Add(node.Change{Key: []byte("fruit/apples"), Value: []byte("6")}))
	must(batch.Add(node.Change{Key: []byte("fruit/pears"), Value: []byte("4")}))
	must(batch.Add(node.Change{Key: []byte("recipe"), Stream: strings.NewReader("Peel, cut, bake.")}))
	_, err = batch.Commit() // durable now, and on its way to peers
	must(err)

	for it, err := range shopping.Latest(ctx, replica.Query{Prefix: []byte("fruit/")}) {
		must(err)
		fmt.Println(string(it.Key))
	}
	// Output:
	// fruit/apples
	// fruit/pears
}
