package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/repair"
	"github.com/skerry-sync/skerry/seed"
)

func (a *app) storeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "store", Short: "Repair the node's store, or give a copy its own key", Args: cobra.NoArgs,
	}
	cmd.AddCommand(a.storeRepair(), a.storeRenewKey())
	return cmd
}

func (a *app) storeRenewKey() *cobra.Command {
	return &cobra.Command{
		Use:   "renew-key",
		Short: "Give a copied data directory a node key of its own",
		Long: "Give a copied data directory a node key of its own. Two copies of a data directory are " +
			"one\n" +
			"node for all others. To run both, stop the node on one of them, run this command there, and\n" +
			"start it again. Replicas, authors and content stay. Tickets that this copy has printed lead\n" +
			"to the other one from then on.",
		Example: "  skerry store renew-key",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := a.absDir(); err != nil {
				return err
			}
			before, after, err := node.RenewKey(a.dir, a.command)
			if errors.Is(err, fs.ErrNotExist) {
				return &api.Error{Kind: api.NotFound, Message: fmt.Sprintf("there is no node at %s", a.dir)}
			}
			if err != nil {
				return err
			}
			got := map[string]string{"node_id": after.String(), "former_node_id": before.String()}
			return a.print(got, after.String(), displayf("node %s is now node %s", before, after))
		},
	}
}

func (a *app) storeRepair() *cobra.Command {
	return &cobra.Command{
		Use:   "repair",
		Short: "Save what can be read of a damaged store",
		Long: "Save what can be read of a damaged store. Stop the node first. Every record that can " +
			"be\n" +
			"read moves to a new store; the damaged one is kept beside it until you delete it. Indexes\n" +
			"are built anew, and all content is verified. What was lost comes back from peers at the\n" +
			"next sync. Exits with 0 if nothing was damaged, and with 4 if something was lost.",
		Example: "  skerry store repair",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A seed must not fetch afterwards what nobody has room for. Its limits are not known here:
			// what is charged already stays, and the rest waits until the seed runs.
			if err := a.absDir(); err != nil {
				return err
			}
			host := seed.NewRegistry(seed.Limits{}, nil)
			got, err := repair.Store(
				cmd.Context(), node.Config{Dir: a.dir, Host: host, Command: a.command},
				func(doing string) { a.note("%s", doing) },
			)
			if err != nil {
				return err
			}
			text := repairText(&got)
			if err := a.print(got, got.Old, text); err != nil {
				return err
			}
			if len(got.Unread) > 0 {
				return &api.Error{Kind: api.Failed, Message: fmt.Sprintf(
					"%d blobs and replicas could not be looked at, and stay as they are; see above for why",
					len(got.Unread))}
			}
			if len(got.Damaged)+len(got.Lost) > 0 {
				return &api.Error{Kind: api.Verification, Message: fmt.Sprintf(
					"%d files of the store and %d blobs were damaged; what was lost comes back from peers",
					len(got.Damaged), len(got.Lost))}
			}
			return nil
		},
	}
}

func repairText(r *repair.Report) display {
	text := displayf("records      %d kept\ncontent      %d blobs checked", r.Records, r.Blobs)
	for _, d := range r.Damaged {
		text += displayf("\ndamaged      %s: %s", d.File, d.Cause)
		if len(d.Kinds) > 0 {
			text += displayf("\n             lost records may be of: %s", strings.Join(d.Kinds, "; "))
		}
	}
	for _, h := range r.Lost {
		text += displayf("\nblob         %s is damaged; it is fetched again, or its file must be back", h)
	}
	for _, e := range r.Entries {
		text += displayf("\nentry        %s in replica %s has damaged content", api.Key(e.Key), e.Replica)
	}
	for _, u := range r.Unread {
		text += displayf("\nunread       %s: %s", u.What, u.Cause)
	}
	for _, x := range r.Replicas {
		text += displayf("\nreplica      %s: rebuilt (%s)", x.Name, strings.Join(x.Faults, "; "))
	}
	if r.Old != "" {
		text += displayf(
			"\nkept         %s holds the damaged store; delete it when nothing is missing", r.Old,
		)
	}
	return text
}
