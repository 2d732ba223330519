package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/replica"
)

// inviteFlags are those that make a ticket an invite.
type inviteFlags struct {
	invite, delegable bool
	prefix, wallet    string
	expires           string // of what is given
	inviteExpires     string
	uses              int
	cmd               *cobra.Command
}

func (f *inviteFlags) add(cmd *cobra.Command) {
	f.cmd = cmd
	cmd.Flags().BoolVar(
		&f.invite, "invite", false,
		"make an invite: this node gives what it says to whoever brings it, as often as --uses",
	)
	cmd.Flags().StringVar(
		&f.expires, "expires", "never",
		"when what an invite lets write ends, and the invite, too: a time, how long from now (24h, "+
			"7d), or never",
	)
	cmd.Flags().StringVar(
		&f.inviteExpires, "invite-expires", "7d",
		"when the invite alone ends: a time, how long from now, or never; what it gave stays",
	)
	cmd.Flags().IntVar(&f.uses, "uses", 1, "of an invite: how many authors may use it, 0 for no limit")
	cmd.Flags().StringVar(
		&f.prefix, "prefix", "", "of an invite to write: only keys that begin with this",
	)
	cmd.Flags().StringVar(
		&f.wallet, "wallet", "",
		"of an invite: only the holder of this EVM address may use it, who signs when joining",
	)
	cmd.Flags().BoolVar(
		&f.delegable, "delegable", false,
		"of an invite to write: whoever uses it may let others write as much, or less",
	)
}

// request returns nil if no invite is asked for.
func (f *inviteFlags) request() (*api.InviteRequest, error) {
	asked := f.invite
	for _, name := range []string{
		"expires", "invite-expires", "uses", "prefix", "delegable", "wallet",
	} {
		asked = asked || f.cmd.Flags().Changed(name)
	}
	if !asked {
		return nil, nil
	}
	prefix, err := api.ParseKey(f.prefix)
	if err != nil {
		return nil, err
	}
	req := &api.InviteRequest{Prefix: prefix, Delegable: f.delegable, Uses: &f.uses, Wallet: f.wallet}
	changed := f.cmd.Flags().Changed
	if f.expires != "never" {
		if req.Expires, err = parseAhead("expires", f.expires); err != nil {
			return nil, err
		}
	}
	switch {
	case !changed("invite-expires"): // as long as what it gives or, if that was not said, 7 days
		req.Forever = changed("expires") && req.Expires.IsZero()
	case f.inviteExpires == "never":
		req.Forever = req.Expires.IsZero()
	default:
		req.InviteExpires, err = parseAhead("invite-expires", f.inviteExpires)
	}
	return req, err
}

func (a *app) replicaShare() *cobra.Command {
	var mode string
	var flags inviteFlags
	cmd := &cobra.Command{
		Use:   "share NAME",
		Short: "Print a ticket for a replica, or an invite to it",
		Long: `Print a ticket for a replica, or, with one of the flags of invites, an invite to it.
A ticket works at any node that holds the replica, for whoever has it and for ever; a write ticket is the replica's key. An invite works at this node only, while it runs: it gives
whoever brings it the capability, and for writing a grant, which can be revoked. skerry replica invites lists them, skerry replica uninvite ends one.

--expires is a time from which on what an invite to write has given does not let
anybody write, whenever they took it: 7d counts from now. The invite ends then,
too, or before that with --invite-expires. Without --expires, what an invite
gives does not end by itself. Reading never does: whoever has a read key keeps
it. skerry replica revoke, or skerry replica rotate, changes the key of what
comes later.`,
		Example: "  skerry replica share album --mode write --prefix guests/ --expires 7d",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := replica.ParseCapability(mode)
			if err != nil {
				return api.UsageErrorf("--mode: %v", err)
			}
			invite, err := flags.request()
			if err != nil {
				return err
			}
			return a.shareTicket(cmd, api.ShareReplicaRequest{Name: args[0], Mode: c, Invite: invite})
		},
	}
	cmd.Flags().StringVar(
		&mode, "mode", "read", "what the ticket or invite allows: sync, read or write",
	)
	flags.add(cmd)
	return cmd
}

// shareTicket prints a ticket, or an invite.
func (a *app) shareTicket(cmd *cobra.Command, req api.ShareReplicaRequest) error {
	return a.with(cmd.Context(), true, func(s *session) error {
		t, err := s.Client.ReplicaShare(cmd.Context(), req)
		if err != nil {
			return err
		}
		switch {
		case req.Invite != nil:
			a.note("%s", inviteNote(t, req.Invite.Wallet))
		case req.Mode == replica.Write:
			a.note("This ticket is a secret: whoever has it may write the replica, and share it on.")
		}
		if err := a.print(t, t.Ticket, displayf("%s", t.Ticket)); err != nil {
			return err
		}
		a.showQR(t.Ticket)
		if s.own != nil {
			a.note("No node is running: start one with skerry up, so that others can reach it.")
		}
		return nil
	})
}

func inviteNote(t api.ReplicaTicket, wallet string) display {
	var b display
	b += displayf("Invite %s to %s, for ", t.Invite[:8], t.Mode)
	switch {
	case wallet != "":
		b += displayf("the holder of %s", wallet)
	case t.Uses == 0:
		b += "anybody who brings it"
	case t.Uses == 1:
		b += "whoever brings it first"
	default:
		b += displayf("the first %d who bring it", t.Uses)
	}
	if !t.Expires.IsZero() {
		b += displayf(", until %s", dateText(t.Expires))
	}
	b += displayf(
		". This node must run for it to be taken.\n%s.", givesText(t.Mode, t.GrantExpires, t.Encrypted),
	)
	return b
}

// givesText says when what an invite gives ends.
func givesText(mode replica.Capability, until time.Time, encrypted bool) string {
	switch {
	case mode == replica.Write && !until.IsZero() && encrypted:
		return "What it lets write ends " + dateText(until) +
			"; reading does not, until skerry replica rotate after that"
	case mode == replica.Write && !until.IsZero():
		return "What it lets write ends " + dateText(until)
	case mode == replica.Write:
		return "What it gives never ends by itself: skerry replica revoke ends it"
	case mode == replica.Read && encrypted:
		return "What it gives never ends by itself: whoever takes it keeps the read key, and skerry " +
			"replica revoke changes it for what comes later"
	}
	return "What it gives never ends, and cannot be taken back"
}

func (a *app) replicaInvites() *cobra.Command {
	return &cobra.Command{
		Use:   "invites [NAME]",
		Short: "List invites made here, and those not redeemed yet",
		Long: "List the invites that this node has made, and those of others that it has not " +
			"redeemed yet.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var req api.InvitesRequest
			if len(args) == 1 {
				req.Name = args[0]
			}
			return a.with(cmd.Context(), false, func(s *session) error {
				all, err := s.Client.ReplicaInvites(cmd.Context(), req)
				if err != nil {
					return err
				}
				if a.json {
					return a.print(all, "", "")
				}
				issued := newList(a, inviteText)
				for _, v := range all.Issued {
					if err := issued.add(v); err != nil {
						return err
					}
				}
				if err := issued.end(); err != nil {
					return err
				}
				pending := newList(a, func(p api.PendingInvite) (string, display) {
					state := "not redeemed yet"
					if p.Refused {
						state = "refused"
					}
					return p.ID, displayf(
						"%s  from %s  %s: %s", p.ID[:8], strings.Join(p.From, ", "), state, p.Error,
					)
				})
				for _, p := range all.Pending {
					if err := pending.add(p); err != nil {
						return err
					}
				}
				return pending.end()
			})
		},
	}
}

func inviteText(v api.Invite) (string, display) {
	name := v.Replica
	if name == "" {
		name = v.ReplicaID.String()[:10]
	}
	var b display
	b += displayf("%s  %-7s  %-5s  %s", v.ID[:8], v.State, v.Mode, name)
	if len(v.Prefix) > 0 {
		b += displayf(" %s…", v.Prefix)
	}
	if v.Delegable {
		b += " and delegate"
	}
	b += displayf("  used %d", len(v.Redeemed))
	if v.Uses > 0 {
		b += displayf(" of %d", v.Uses)
	}
	if !v.Expires.IsZero() {
		b += displayf("\n    until %s", dateText(v.Expires))
	} else {
		b += "\n    without end"
	}
	if v.GrantExpires.IsZero() {
		b += "; what it gives never ends"
	} else {
		b += displayf("; what it lets write ends %s", dateText(v.GrantExpires))
	}
	if v.Wallet != "" {
		b += displayf("\n    for wallet %s", v.Wallet)
	}
	for _, u := range v.Redeemed {
		b += displayf("\n    %s  author %s\n    at node %s", dateText(u.At), u.Author, u.Node)
	}
	return v.ID, b
}

func (a *app) replicaUninvite() *cobra.Command {
	return one(a, &cobra.Command{
		Use:   "uninvite ID",
		Short: "End an invite, or give up one that could not be redeemed yet",
		Long: `End an invite: nobody can use it any more. What it has given stays; skerry replica revoke ends what an author may write.
ID is that of skerry replica invites, or its first 8 or more digits.`,
		Args: cobra.ExactArgs(1),
	}, false, (*api.Client).ReplicaUninvite,
		func(args []string) (api.UninviteRequest, error) { return api.UninviteRequest{ID: args[0]}, nil },
		func(u api.Uninvited) (string, display) { return u.ID, displayf("ended invite %s", u.ID[:8]) })
}
