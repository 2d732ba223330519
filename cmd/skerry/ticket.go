package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/ticket"
)

func (a *app) ticketCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ticket", Short: "Look at tickets"}
	cmd.AddCommand(&cobra.Command{
		Use:   "inspect TICKET",
		Short: "Show what a ticket names and whom to ask, never its secret",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := ticket.Parse(args[0])
			if err != nil {
				return err
			}
			type peerInfo struct {
				ID    string   `json:"id"`
				Addrs []string `json:"addrs"`
			}
			peers := []peerInfo{}
			text := displayf("%s", t)
			for _, p := range t.Peers() {
				one := peerInfo{ID: p.ID.String(), Addrs: []string{}}
				for _, m := range p.Addrs {
					one.Addrs = append(one.Addrs, m.String())
				}
				peers = append(peers, one)
				text += displayf("\nat %s  %s", one.ID, strings.Join(one.Addrs, "  "))
			}
			value := map[string]any{"peers": peers}
			essential := ""
			switch t := t.(type) {
			case *ticket.Blob:
				value["kind"], value["hash"], value["mode"] = "blob", t.Hash, "raw"
				if t.Sequence {
					value["mode"] = "sequence"
				}
				essential = t.Hash.String()
			case *ticket.Doc:
				value["kind"], value["replica_id"], value["mode"], value["encrypted"] = "doc", t.Replica, t.Capability, t.ReadKey.Epoch > 0
				essential = t.Replica.String()
			case *ticket.Invite:
				value["kind"], value["mode"] = "doc", "invite"
			}
			return a.print(value, essential, text)
		},
	})
	return cmd
}
