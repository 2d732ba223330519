package embedded_test

import (
	"context"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-sync/skerry"
	"github.com/skerry-sync/skerry/localfirst"
	"github.com/skerry-sync/skerry/localfirst/embedded"
	"github.com/skerry-sync/skerry/localfirst/sqlite"
	"github.com/skerry-sync/skerry/localfirst/testidentity"
)

// wallet is the store of an app, with its own words for what is in it.
type wallet struct {
	labels *localfirst.MemoryValueBackend[string]
	notes  *localfirst.MemoryValueBackend[map[string]string]
}

func newWallet() *wallet {
	return &wallet{
		labels: localfirst.NewMemoryValueBackend(func(a, b string) bool { return a == b }),
		notes:  localfirst.NewMemoryValueBackend(maps.Equal[map[string]string, map[string]string]),
	}
}

// RenameAccount is what the app does when a person renames an account.
func (w *wallet) RenameAccount(account, label string) error {
	return w.labels.Set(context.Background(), account, label)
}

// SetTxNote is what the app does when a person writes a note: notes lie in buckets.
func (w *wallet) SetTxNote(tx, note string) error {
	ctx := context.Background()
	bucket, _ := w.notes.Get(ctx, "bucket") // there may be none yet
	bucket = maps.Clone(bucket)
	if bucket == nil {
		bucket = map[string]string{}
	}
	bucket[tx] = note
	return w.notes.Set(ctx, "bucket", bucket)
}

// mergeTxNoteBucket keeps the notes of both sides.
func mergeTxNoteBucket(
	_ string, base *map[string]string, local, remote map[string]string,
) (map[string]string, bool, error) {
	merged := make(map[string]string, len(local)+len(remote))
	maps.Copy(merged, remote)
	maps.Copy(merged, local) // local wins where the same note differs
	if base != nil {
		for tx := range *base {
			_, here := local[tx]
			_, there := remote[tx]
			if !here || !there { // one side has deleted it
				delete(merged, tx)
			}
		}
	}
	return merged, true, nil
}

// The first example of the client that this engine was asked for from; only its construction is
// another.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "wallet")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	n, err := skerry.Start(ctx, filepath.Join(dir, "node"), skerry.Offline())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = n.Close() }()
	identity := testidentity.New("alice") // an app has one of its keystore
	appStore := newWallet()

	store, err := sqlite.Open(filepath.Join(dir, "sync.sqlite"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	engine, err := localfirst.Open(ctx, localfirst.Config{
		Client:       embedded.Client(n.Node, n.Versions),
		Identity:     identity,
		Store:        store,
		PollInterval: 30 * time.Second,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = engine.Close() }()

	defaultNS, err := engine.DefaultNamespace(ctx)
	if err != nil {
		log.Fatal(err)
	}
	labels, err := localfirst.OpenCollection(defaultNS, "account-labels",
		localfirst.CollectionConfig[string]{
			Codec:   localfirst.StringCodec(),
			Merge:   localfirst.PreferLocal[string](),
			Backend: appStore.labels,
		})
	if err != nil {
		log.Fatal(err)
	}
	_, err = localfirst.OpenCollection(defaultNS, "tx-note-buckets",
		localfirst.CollectionConfig[map[string]string]{
			Codec:   localfirst.JSONCodec[map[string]string](),
			Merge:   mergeTxNoteBucket,
			Backend: appStore.notes,
		})
	if err != nil {
		log.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(running) }()

	_ = appStore.RenameAccount("account:primary", "Savings")
	_ = appStore.SetTxNote("txid", "memo")
	engine.ScheduleSync()

	if err := engine.SyncNow(ctx); err != nil { // to have something to show
		log.Fatal(err)
	}
	history, err := labels.History(ctx, "account:primary")
	if err != nil {
		log.Fatal(err)
	}
	label, err := labels.Value(ctx, "account:primary", history[0].ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(label)
	stop()
	<-ended
	// Output: Savings
}
