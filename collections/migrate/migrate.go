// Package migrate brings the documents of a place into the form of a configuration: it encrypts
// and decrypts them as that says, and renames what no request reaches any more.
//
// What belongs here: what is done to which place, in which order, and what came of it. What never
// belongs here: how a document is encrypted (package encrypted), which names are former ones
// (package former), secrets and flags, which the caller has read, and the node that a replica is
// on, which the caller opens.
//
// Start at [Migration].
package migrate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/former"
	"github.com/skerry-sync/skerry/collections/service"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/encrypted"
)

// Migration is one of a place, which nobody else may write to meanwhile. Place, Config, To and Log
// must be given: Run refuses without.
type Migration struct {
	Place  service.Place
	Config *config.Config   // that says what requests reach
	To     *encrypted.Codec // of Config; one of which nothing is encrypted decrypts what From reads
	// From is the codec of the configuration of before, by which is read what To does not read; nil
	// if that was the same.
	From *encrypted.Codec
	// DryRun only counts.
	DryRun bool
	// Progress, unless nil, is called now and then.
	Progress func(encrypted.Migrated)
	// Failed, unless nil, is told of what could not be read, and Left of what stays where no request
	// reaches it.
	Failed, Left func(key string, err error)
	Log          *slog.Logger
}

// Done counts what a migration has found and written, or would have.
type Done struct {
	encrypted.Migrated
	Renamed int `json:"renamed"`     // documents
	Left    int `json:"not_renamed"` // documents that no request reaches, and that stay where they are
}

// Err returns an error if some documents could not be read. The others have been migrated.
func (d *Done) Err() error {
	if d.Failed == 0 {
		return nil
	}
	return fmt.Errorf("%d documents could not be read and stay as they were", d.Failed)
}

// Run migrates. It may be run again after it was interrupted. In a place that several servers write
// nothing is renamed: others may have written it, and signed where.
func (m *Migration) Run(ctx context.Context) (d Done, err error) {
	if m.Place == nil || m.Config == nil || m.To == nil || m.Log == nil {
		return d, errors.New("a migration needs Place, Config, To and Log")
	}
	kept, err := m.Place.Open(ctx, service.Keep{Log: m.Log})
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	all := encrypted.Migration{To: m.To, From: m.From, DryRun: m.DryRun, Failed: m.Failed,
		Progress: m.Progress}
	if d.Migrated, err = all.Run(ctx, kept); err != nil {
		return d, err
	}
	if _, shared := m.Place.(service.Ruled); shared {
		return d, nil
	}
	moved, err := former.Move(ctx, m.Config, store.Coded(kept, m.To),
		former.Options{DryRun: m.DryRun, Left: m.Left})
	d.Renamed, d.Left = moved.Documents, moved.Left
	return d, err
}
