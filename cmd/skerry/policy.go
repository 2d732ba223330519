package main

import (
	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
)

// policyFlags say which content of a replica is to be fetched.
type policyFlags struct {
	everything, nothing bool
	prefixes            []string
	maxSize             byteSize
}

func (f *policyFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.everything, "everything", false, "fetch all content (the default)")
	cmd.Flags().BoolVar(
		&f.nothing, "nothing", false, "fetch no content, only what the entries say of it",
	)
	cmd.Flags().StringArrayVar(
		&f.prefixes, "prefix", nil, "fetch content only of keys that begin with this (repeatable)",
	)
	cmd.Flags().Var(&f.maxSize, "max-size", "fetch no content larger than this, such as 10MiB")
	cmd.MarkFlagsMutuallyExclusive("everything", "nothing", "prefix")
}

// chosen returns the policy of the flags, or nil if none is set.
func (f *policyFlags) chosen() (*api.Policy, error) {
	p := &api.Policy{Mode: "everything", MaxSize: uint64(f.maxSize)}
	switch {
	case f.nothing:
		p.Mode = "nothing"
	case len(f.prefixes) > 0:
		p.Mode = "prefixes"
		for _, text := range f.prefixes {
			k, err := api.ParseKey(text)
			if err != nil {
				return nil, err
			}
			p.Prefixes = append(p.Prefixes, k)
		}
	case !f.everything && f.maxSize == 0:
		return nil, nil
	}
	return p, nil
}

func (a *app) replicaPolicy() *cobra.Command {
	var flags policyFlags
	cmd := &cobra.Command{
		Use:   "policy NAME",
		Short: "Show or change which content of a replica is fetched",
		Long: "Show which content of a replica this node fetches or, with flags, change it. Entries " +
			"are always synced; a node with a policy knows all keys, sizes and\n" +
			"hashes. After a change, the node fetches what is wanted now and missing. Content that " +
			"is here stays.",
		Args: cobra.ExactArgs(1),
	}
	flags.add(cmd)
	return one(
		a, cmd, false, (*api.Client).ReplicaPolicy, func(args []string) (api.PolicyRequest, error) {
			p, err := flags.chosen()
			return api.PolicyRequest{Name: args[0], Policy: p}, err
		}, func(p api.Policy) (string, display) {
			text := displayf("fetches %s", p.Mode)
			if p.Mode == "prefixes" {
				text = "fetches content of keys that begin with"
				for _, k := range p.Prefixes {
					text += displayf(" %q", k.String())
				}
			}
			if p.MaxSize > 0 {
				text += displayf(", of at most %s", bytesText(p.MaxSize))
			}
			return p.Mode, text
		},
	)
}
