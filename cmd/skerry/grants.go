package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/replica"
)

func (a *app) replicaGrant() *cobra.Command {
	var prefix, from, until string
	var delegable bool
	cmd := &cobra.Command{
		Use:   "grant NAME AUTHOR",
		Short: "Let an author write to a replica",
		Long: `Let an author write to a replica. This node must hold a write ticket, or an author who may delegate that much.
AUTHOR is an id, as skerry author ls shows it on the author's node; that node needs a read ticket besides.
Or it is an EVM address: then an invite is printed, with which the holder of that wallet gets a grant on each device, by signing once (skerry replica join --wallet). It works while this node
runs, until skerry replica uninvite ends it, or until the time of --until, when what it lets write ends, too.`,
		Args: cobra.ExactArgs(2),
	}
	cmd.Flags().StringVar(&prefix, "prefix", "", "only keys that begin with this")
	cmd.Flags().StringVar(
		&from, "from", "", "only entries with a timestamp from this on: a time, or how long from now",
	)
	cmd.Flags().StringVar(
		&until, "until", "", "only entries with a timestamp up to this: a time, or how long from now",
	)
	cmd.Flags().BoolVar(&delegable, "delegable", false, "the author may grant others as much, or less")
	one(
		a, cmd, false, (*api.Client).ReplicaGrant,
		func(args []string) (req api.GrantRequest, err error) {
			req = api.GrantRequest{Name: args[0], Author: args[1], Delegable: delegable}
			if req.Prefix, err = api.ParseKey(prefix); err != nil {
				return req, err
			}
			if req.NotBefore, err = parseAhead("from", from); err != nil {
				return req, err
			}
			req.NotAfter, err = parseAhead("until", until)
			return req, err
		}, func(g api.Grant) (string, display) { return g.ID, grantText(g) },
	)
	toAuthor := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !strings.HasPrefix(args[1], "0x") {
			return toAuthor(cmd, args)
		}
		if from != "" {
			return api.UsageErrorf(
				"--from: what a wallet is granted has no such limit; --until, --prefix and " +
					"--delegable can be set",
			)
		}
		key, err := api.ParseKey(prefix)
		if err != nil {
			return err
		}
		invite := &api.InviteRequest{
			Prefix: key, Delegable: delegable, Forever: until == "", Uses: new(int), Wallet: args[1],
		}
		if invite.Expires, err = parseAhead("until", until); err != nil {
			return err
		}
		return a.shareTicket(
			cmd, api.ShareReplicaRequest{Name: args[0], Mode: replica.Write, Invite: invite},
		)
	}
	return cmd
}

func (a *app) replicaRevoke() *cobra.Command {
	var from string
	var all, keep, drop, dropMissing bool
	cmd := &cobra.Command{
		Use:   "revoke NAME AUTHOR",
		Short: "End what an author may write to a replica",
		Long: `End what an author may write to a replica, and what others may write by grants
of that author. All nodes drop the author's entries from now on.

The author can still sign entries with an older time, and all nodes accept them;
so can an author whose grant has ended by itself. --from an earlier time leaves
less room for that, and --all leaves none. Both also drop what the author wrote
since then. --keep leaves no room either, and keeps what is here: this node signs
the author's entries anew as its own before it revokes everything.

Versions that would go with the author, and that nothing has superseded, stay:
this node first publishes them anew as its own. --drop lets them go.`,
		Example: "  skerry replica revoke album k3v7… --keep",
		Args:    cobra.ExactArgs(2),
	}
	cmd.Flags().StringVar(&from, "from", "", "entries from this time on are void (default: now)")
	cmd.Flags().BoolVar(&all, "all", false, "everything that the author ever wrote is void")
	cmd.Flags().BoolVar(
		&keep, "keep", false, "like --all, but sign what is here anew as this node's own",
	)
	cmd.Flags().BoolVar(&drop, "drop", false, "let the author's versions go, too")
	cmd.Flags().BoolVar(
		&dropMissing, "drop-missing", false, "let those versions go that are not all on this node",
	)
	return one(
		a, cmd, false, (*api.Client).ReplicaRevoke,
		func(args []string) (req api.RevokeRequest, err error) {
			req = api.RevokeRequest{
				Name: args[0], Author: args[1], All: all, Keep: keep, Drop: drop, DropMissing: dropMissing,
			}
			req.From, err = parseTime("from", from)
			return req, err
		}, func(r api.Revoked) (string, display) {
			since := "all its entries are void"
			if !r.From.IsZero() {
				since = "its entries are void from " + dateText(r.From) + " on"
			}
			text := displayf("revoked author %s: %s, %d dropped here", r.Author, since, r.Dropped)
			if r.Kept > 0 {
				text += displayf("; %d signed anew", r.Kept)
			}
			if r.Adopted > 0 {
				text += displayf("; %d versions published anew", r.Adopted)
			}
			return r.Author.String(), text
		},
	)
}

func (a *app) replicaGrants() *cobra.Command {
	return &cobra.Command{
		Use:   "grants NAME",
		Short: "List who may write to a replica, and who no longer may",
		Long: `List who may write to a replica, and who no longer may. A grant that has ended,
by itself or by a revocation from some time on, is marked if its author can still
sign entries with a time before the end, which all nodes accept.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				all, err := s.Client.ReplicaGrants(cmd.Context(), api.NameRequest{Name: args[0]})
				if err != nil {
					return err
				}
				if a.json {
					return a.print(all, "", "")
				}
				out := newList(a, func(g api.Grant) (string, display) {
					return g.Author.String(), grantText(g)
				})
				for _, g := range all.Grants {
					if err := out.add(g); err != nil {
						return err
					}
				}
				return out.end()
			})
		},
	}
}

func dateText(t time.Time) string { return t.Local().Format(time.DateTime) }

func grantText(g api.Grant) display {
	var b display
	b += displayf("%s may write", g.Author)
	if len(g.Prefix) > 0 {
		b += displayf(" %s…", g.Prefix)
	}
	if !g.NotBefore.IsZero() {
		b += displayf("  from %s", dateText(g.NotBefore))
	}
	if !g.NotAfter.IsZero() {
		b += displayf("  until %s", dateText(g.NotAfter))
	}
	if g.Delegable {
		b += "  and delegate"
	}
	if g.By != "" {
		b += displayf("  by %s", g.By)
	}
	switch {
	case g.Revoked && g.RevokedFrom.IsZero():
		b += "  REVOKED"
	case g.Revoked:
		b += displayf("  REVOKED from %s", dateText(g.RevokedFrom))
	}
	if g.Backdatable {
		b += "  (ended; can still backdate until revoked with --all or --keep)"
	}
	return b
}
