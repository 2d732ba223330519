package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/node/doctor/report"
)

// doctorWait is how long a node that is started for the examination alone has to find peers.
const doctorWait = 5 * time.Second

// doctorTexts is the column at which what was found begins, as the formats have it.
const doctorTexts = 23

func (a *app) doctorCommand() *cobra.Command {
	network := false
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the node and suggest fixes",
		Long: "Examine the node. With --network: where it listens, whether others reach it, what kind " +
			"of router is between, relays, the hash table, and whether its clock agrees with that of " +
			"others.\n" +
			"The running node is asked; if none runs, one is started for some seconds. Exits with 1 if " +
			"something is bad.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if !network {
				return api.UsageErrorf("say what to examine: --network")
			}
			s, err := a.connect(cmd.Context(), true, false)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.close()) }()
			if s.own != nil {
				for end := time.Now().Add(doctorWait); time.Now().Before(end) && len(s.own.Peers()) == 0; {
					select {
					case <-cmd.Context().Done():
						return cmd.Context().Err()
					case <-time.After(100 * time.Millisecond):
					}
				}
			}
			got, err := s.Client.DoctorNetwork(cmd.Context())
			if err != nil {
				return err
			}
			text, bad := displayf("node %s", got.NodeID), 0
			for _, f := range got.Findings {
				line := displayf("%-8s %-13s %s", f.Health, f.About, f.Text)
				text += "\n" + a.stdout.hanging(line, doctorTexts)
				if f.Advice != "" {
					line := displayf("%23s→ %s", "", f.Advice)
					text += "\n" + a.stdout.hanging(line, doctorTexts+2)
				}
				if f.Health == report.Bad {
					bad++
				}
			}
			if err := a.printLines(got, text, text); err != nil || bad == 0 {
				return err
			}
			return fmt.Errorf("%d of %d things are bad", bad, len(got.Findings))
		},
	}
	cmd.Flags().BoolVar(&network, "network", false, "examine how the node is on the network")
	return cmd
}
