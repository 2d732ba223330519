package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/identity"
)

func (a *app) vaultCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vault",
		Short: "Manage vaults, which list all your replicas privately",
		Long: "Work with vaults. A vault is a replica that is derived from your identity, and lists " +
			"all your replicas. Whoever hosts it sees nothing of them. With your identity's words and " +
			"the address of one\n" +
			"node that holds it, a new device has everything again; apps read it after you have approved.",
	}
	cmd.AddCommand(
		a.vaultInit(), a.vaultLs(), a.vaultAdd(), a.vaultRm(), a.vaultJoin(), a.vaultOpen(),
		a.vaultRequests(), a.vaultApprove(), a.vaultDeny(), a.vaultVaults(),
	)
	return cmd
}

func vaultLine(v api.Vault) (string, display) {
	text := displayf("%-12s  %-25s  ", v.Name, v.Identity)
	if v.Application == "" {
		text += "yours"
	} else {
		text += displayf("read as %s", v.Application)
	}
	return v.ReplicaID.String(), text
}

func (a *app) vaultInit() *cobra.Command {
	var identity string
	var peers []string
	password := newPassword()
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Open your vault on this node: begin it, or find it at a peer",
		Long: "Open your vault on this node. Without --peer it is begun; with the address of a node " +
			"that holds it, it comes from there, as on a new device. From then on every replica that " +
			"this node\n" +
			"makes is listed in it by itself.",
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(
		&identity, "identity", "", "whose vault (default: the only identity of the keyring)",
	)
	cmd.Flags().StringArrayVar(
		&peers, "peer", nil,
		"address of a node that holds it, such as /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW… (repeatable)",
	)
	password.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		pw, err := password.read(a, false)
		if err != nil {
			return err
		}
		return a.with(cmd.Context(), len(peers) > 0, func(s *session) error {
			v, err := s.Client.VaultInit(
				cmd.Context(), api.OpenVaultRequest{Identity: identity, Password: pw, Peers: peers},
			)
			if err != nil {
				return err
			}
			return a.print(
				v, v.ReplicaID.String(),
				displayf("the vault of %s is open as %s: skerry vault ls lists it", v.Identity, v.Name),
			)
		})
	}
	return cmd
}

// vaultFlag names a vault where there are several.
func vaultFlag(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(
		to, "vault", "",
		"which vault, by its identity or its replica (default: your own, or the only one)",
	)
}

func (a *app) vaultLs() *cobra.Command {
	var which string
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the projects of a vault",
		Long:  "List the projects of a vault. Offline, this is the last list that the node has.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				l, err := s.Client.VaultList(cmd.Context(), api.VaultRequest{Vault: which})
				if err != nil {
					return err
				}
				for _, w := range l.Warnings {
					a.warn("%s", w)
				}
				for _, f := range l.Faults {
					a.warn("cannot be read: %s", f)
				}
				if a.json {
					return a.printJSON(l)
				}
				out := newList(a, projectLine)
				for _, p := range l.Projects {
					if err := out.add(p); err != nil {
						return err
					}
				}
				if !l.Newest.IsZero() {
					a.note(
						"%d projects; the newest entry is of %s", len(l.Projects),
						l.Newest.Local().Format(time.DateTime),
					)
				}
				return nil
			})
		},
	}
	vaultFlag(cmd, &which)
	return cmd
}

func projectLine(p api.VaultProject) (string, display) {
	here := "not here"
	if p.Here != "" {
		here = "here as " + p.Here
	}
	return p.Name, displayf(
		"%-24s  %-5s  %-20s  %s%s", p.Name, p.Capability, here, encryptedText(p.Encrypted), p.ReplicaID,
	)
}

// warn tells a person something that must not be overlooked, whatever the form of output.
func (a *app) warn(format string, args ...any) {
	a.bar.clear()
	_ = a.stderr.text("warning: " + displayf(format, args...)) // there is nobody left to tell
}

func (a *app) vaultAdd() *cobra.Command {
	var which, name string
	cmd := &cobra.Command{
		Use:   "add REPLICA",
		Short: "Add a replica to your vault's list",
		Long: "Add a replica to your vault's list that it does not list by itself, such as " +
			"somebody else's.",
		Args: cobra.ExactArgs(1),
	}
	vaultFlag(cmd, &which)
	cmd.Flags().StringVar(&name, "name", "", "name in the vault (default: the one that it has here)")
	return one(
		a, cmd, false, (*api.Client).VaultAdd, func(args []string) (api.VaultProjectRequest, error) {
			return api.VaultProjectRequest{Vault: which, Project: args[0], Name: name}, nil
		},
		func(p api.VaultProject) (string, display) {
			return p.ProjectID, displayf("the vault lists %s", p.Name)
		},
	)
}

func (a *app) vaultRm() *cobra.Command {
	var which string
	cmd := &cobra.Command{
		Use:   "rm PROJECT",
		Short: "Remove a project from your vault's list",
		Long:  "Remove a project from your vault's list. Its replicas stay as they are.",
		Args:  cobra.ExactArgs(1),
	}
	vaultFlag(cmd, &which)
	return one(
		a, cmd, false, (*api.Client).VaultRemove, func(args []string) (api.VaultProjectRequest, error) {
			return api.VaultProjectRequest{Vault: which, Project: args[0]}, nil
		}, func(p api.VaultProject) (string, display) {
			return p.ProjectID, displayf("the vault lists %s no longer", p.Name)
		},
	)
}

func (a *app) vaultJoin() *cobra.Command {
	var which, name string
	var all bool
	cmd := &cobra.Command{
		Use:   "join [PROJECT]",
		Short: "Join a project of a vault, or all that are not here",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) == 1) || all && name != "" {
				return api.UsageErrorf("name a project, or say --all")
			}
			return a.with(cmd.Context(), true, func(s *session) error {
				wanted := args
				if all {
					l, err := s.Client.VaultList(cmd.Context(), api.VaultRequest{Vault: which})
					if err != nil {
						return err
					}
					for _, p := range l.Projects {
						if p.Here == "" {
							wanted = append(wanted, p.ReplicaID.String())
						}
					}
				}
				return a.joinProjects(cmd.Context(), s, which, name, wanted)
			})
		},
	}
	vaultFlag(cmd, &which)
	cmd.Flags().StringVar(
		&name, "name", "", "name of the replica on this node (default: the one in the vault)",
	)
	cmd.Flags().BoolVar(&all, "all", false, "all projects that are not here")
	return cmd
}

func (a *app) joinProjects(
	ctx context.Context, s *session, which, name string, projects []string,
) error {
	out := newList(a, func(r api.ReplicaStatus) (string, display) {
		return r.ReplicaID.String(), displayf(
			"joined replica %s (%s): %d entries  %s", r.Name, r.Capability, r.Entries, r.ReplicaID,
		)
	})
	var missing []error
	for _, p := range projects {
		r, err := s.Client.VaultJoin(ctx, api.VaultProjectRequest{Vault: which, Project: p, Name: name})
		if err != nil && ctx.Err() == nil && len(projects) > 1 { // the others may be to be had
			missing = append(missing, err)
			a.warn("%s: %v", p, err)
			continue
		}
		if err != nil {
			return err
		}
		if err := a.settle(ctx, s, r.ReplicaID.String()); err != nil {
			return err
		}
		if err := out.add(r); err != nil {
			return err
		}
	}
	if err := out.end(); err != nil || len(missing) == 0 {
		return err
	}
	return fmt.Errorf(
		"%d of %d projects could not be joined; say this again when somebody who holds them "+
			"is online: %w",
		len(missing), len(projects), missing[0],
	)
}

func (a *app) vaultOpen() *cobra.Command {
	req := api.AskVaultRequest{}
	cmd := &cobra.Command{
		Use:   "open",
		Short: "Ask a person for read access to their vault",
		Long: "Ask a person for read access to their vault, as an app does. The identity's key stays " +
			"where it is. The request waits at the keyring's node until the person approves it there " +
			"(skerry vault requests, skerry vault approve), who\n" +
			"compares the code that both show. Then this node has the vault to read, and can join what " +
			"it lists: skerry vault ls, skerry vault join.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), true, func(s *session) error {
				if s.own != nil && req.At == "" && a.ring == "" {
					return errNotRunning{dir: a.dir} // nobody could approve
				}
				v, err := s.Client.VaultAsk(cmd.Context(), req,
					func(asked api.Asked) error {
						a.bar.clear()
						return a.stderr.text(
							displayf(
								"code %s: approve it where the identity is, with  skerry vault approve %s  (until %s)",
								asked.Code, asked.Code, asked.Expires.Local().Format(time.TimeOnly),
							),
						)
					},
				)
				if err != nil {
					return err
				}
				return a.print(
					v, v.ReplicaID.String(),
					displayf(
						"the vault of %s is open to read as %s: skerry vault ls lists it", v.Identity, v.Name,
					),
				)
			})
		},
	}
	cmd.Flags().StringVar(
		&req.At, "keyring-at", "",
		"address of the keyring's node, such as /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW… "+
			"(default: this node)",
	)
	cmd.Flags().StringVar(
		&req.Application, "app", "skerry",
		"who asks: the app's domain, which the person is shown and signs; names like "+
			"skerry-… are reserved",
	)
	cmd.Flags().StringVar(&req.Reason, "reason", "", "what for; the person is shown it")
	cmd.Flags().StringVar(&req.Identity, "identity", "", "whose vault (default: the person chooses)")
	return cmd
}

func (a *app) vaultRequests() *cobra.Command {
	return &cobra.Command{
		Use: "requests", Short: "List the requests of apps that wait for you", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				all, err := s.Client.VaultRequests(cmd.Context())
				if err != nil {
					return err
				}
				out := newList(a, func(r api.KeyringRequest) (string, display) {
					return r.Code, requestText(r)
				})
				for _, r := range all {
					if err := out.add(r); err != nil {
						return err
					}
				}
				return out.end()
			})
		},
	}
}

// shortRequest is as much of a request's id as tells it from others; approve and deny take it, too.
func shortRequest(id string) string { return id[:min(len(id), 10)] }

func requestText(r api.KeyringRequest) display {
	from := "this machine"
	if r.Peer != "" {
		from = "node " + r.Peer
	}
	text := displayf("%s  %s, until %s", r.Code, r.Application,
		r.Expires.Local().Format(time.TimeOnly))
	if r.Reason != "" {
		text += displayf(": %s", r.Reason)
	}
	text += displayf("\n        from %s, request %s", from, shortRequest(r.Request))
	who := "the identity you choose"
	if r.Identity != (identity.ID{}) {
		who = r.Identity.String()
	}
	return text + displayf("\n"+
		"        approving signs \"Authenticate\" for the application %s\n"+
		"        as %s, and nothing else;\n"+
		"        it lets the application read the list in your vault", r.Application, who)
}

func (a *app) vaultApprove() *cobra.Command {
	var who string
	password := newPassword()
	cmd := &cobra.Command{
		Use:   "approve [CODE]",
		Short: "Let an app know who you are, and read your vault",
		Long: "Let the app that shows this code know who you are, and read the list of your\n" +
			"replicas. It is not given your identity's key, and cannot change the list. The\n" +
			"identity signs one message, \"Authenticate\" for the app's name. Skerry signs other\n" +
			"things with other messages, so the app can use the signature for nothing else.\n" +
			"Without a code, wait for a request, show it, and ask.",
		Args: cobra.MaximumNArgs(1),
	}
	cmd.Flags().StringVar(
		&who, "identity", "",
		"as whom (default: the only identity of the keyring, or the one that is asked for)",
	)
	password.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.with(cmd.Context(), false, func(s *session) error {
			r, yes, err := api.KeyringRequest{}, true, error(nil)
			if len(args) == 1 {
				// What is approved is shown before the password is asked for: an app chooses its code.
				if r, err = a.findRequest(cmd.Context(), s, strings.TrimSpace(args[0])); err != nil {
					return err
				}
				if !a.quiet && !a.json {
					a.bar.clear()
					_ = a.stderr.line(requestText(r)) // there is nobody left to tell
				}
			} else {
				if r, err = a.nextRequest(cmd.Context(), s); err != nil {
					return err
				}
				if yes, err = a.ask(requestText(r) + "\nThe app must show the same code.\n" +
					"Let it know who you are, and read your vault? [y/N] "); err != nil {
					return err
				}
			}
			// The very request that was shown: meanwhile its code can be that of another.
			req := api.DecideRequest{Request: r.Request, Identity: who}
			decide := s.Client.VaultDeny
			if yes {
				decide = s.Client.VaultApprove
				if req.Password, err = password.read(a, false); err != nil {
					return err
				}
			}
			d, err := decide(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.print(d, d.Request, decidedText(d))
		})
	}
	return cmd
}

func decidedText(d api.Decided) display {
	if d.Approved {
		return displayf("%s may read your vault", d.Application)
	}
	return displayf("%s has been refused", d.Application)
}

// findRequest finds the request that a person means by its code, or by its id or the beginning of
// it.
func (a *app) findRequest(
	ctx context.Context, s *session, text string,
) (api.KeyringRequest, error) {
	return s.Client.VaultRequest(ctx, api.DecideRequest{Request: text})
}

// nextRequest waits for a request of an app.
func (a *app) nextRequest(ctx context.Context, s *session) (r api.KeyringRequest, err error) {
	for told := false; ; told = true {
		all, err := s.Client.VaultRequests(ctx)
		if err != nil {
			return r, err
		}
		if len(all) > 0 {
			return all[0], nil
		}
		if s.own != nil {
			return r, errNotRunning{dir: a.dir} // nobody could ask
		}
		if !told {
			a.note("waiting for a request")
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// ask asks a person a question, which is answered with a line on standard input.
func (a *app) ask(question display) (yes bool, err error) {
	a.bar.clear()
	if err := a.stderr.prompt(question); err != nil {
		return false, err
	}
	var answer []byte
	for one := make([]byte, 1); ; {
		n, err := a.stdin.Read(one) // no further than the line: a password may follow
		if n == 1 && one[0] != '\n' && len(answer) < 64 {
			answer = append(answer, one[0])
			continue
		}
		if n == 1 || err == io.EOF && len(answer) > 0 {
			break
		}
		if err == io.EOF {
			err = api.UsageErrorf("there is no answer on standard input: nothing is decided")
		}
		if err != nil {
			return false, errors.Join(err, a.stderr.line("")) // the question stands there
		}
	}
	text := strings.ToLower(strings.TrimSpace(string(answer)))
	return text == "y" || text == "yes", nil
}

func (a *app) vaultDeny() *cobra.Command {
	return one(
		a,
		&cobra.Command{Use: "deny CODE", Short: "Refuse a request of an app", Args: cobra.ExactArgs(1)},
		false, (*api.Client).VaultDeny,
		func(args []string) (api.DecideRequest, error) {
			return api.DecideRequest{Request: args[0]}, nil
		},
		func(d api.Decided) (string, display) { return d.Request, decidedText(d) },
	)
}

func (a *app) vaultVaults() *cobra.Command {
	return &cobra.Command{
		Use: "vaults", Short: "List the vaults that are open on this node", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				all, err := s.Client.Vaults(cmd.Context())
				if err != nil {
					return err
				}
				out := newList(a, vaultLine)
				for _, v := range all {
					if err := out.add(v); err != nil {
						return err
					}
				}
				return out.end()
			})
		},
	}
}
