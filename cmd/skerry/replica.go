package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/visible"
	"github.com/skerry-sync/skerry/node/handover"
)

func (a *app) replicaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "replica", Short: "Work with replicas: signed sets of entries that sync",
	}
	cmd.AddCommand(
		a.replicaNew(), a.replicaLs(), a.replicaJoin(), a.replicaLeave(), a.replicaShare(),
		a.replicaInfo(), a.replicaSet(), a.replicaGet(), a.replicaDel(), a.replicaEntries(),
		a.replicaImport(), a.replicaExport(), a.replicaWatch(), a.replicaSync(), a.replicaVerify(),
		a.replicaPolicy(), a.replicaGrant(), a.replicaRevoke(), a.replicaGrants(), a.replicaRotate(),
		a.replicaRename(), a.replicaDelete(), a.replicaInvites(), a.replicaUninvite(),
		a.replicaHistory(),
	)
	return cmd
}

// one makes a command whose request has one result.
func one[Req, Res any](
	a *app, cmd *cobra.Command, online bool,
	run func(*api.Client, context.Context, Req) (Res, error),
	request func(args []string) (Req, error), show func(Res) (essential string, text display),
) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req, err := request(args)
		if err != nil {
			return err
		}
		return a.with(cmd.Context(), online, func(s *session) error {
			res, err := run(s.Client, cmd.Context(), req)
			if err != nil {
				return err
			}
			essential, text := show(res)
			return a.print(res, essential, text)
		})
	}
	return cmd
}

func named(args []string) (api.NameRequest, error) { return api.NameRequest{Name: args[0]}, nil }

func (a *app) replicaNew() *cobra.Command {
	var encrypted bool
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Make a replica that this node may write",
		Long: "Make a replica that this node may write. With --encrypted, names and content are " +
			"sealed before they are stored: whoever is given a sync ticket, such as a seed,\n" +
			"keeps and passes on what it cannot read.",
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVar(
		&encrypted, "encrypted", false, "seal names and content, for all but those who may read",
	)
	return one(
		a, cmd, false, (*api.Client).ReplicaNew, func(args []string) (api.NewReplicaRequest, error) {
			return api.NewReplicaRequest{Name: args[0], Encrypted: encrypted}, nil
		}, func(r api.ReplicaStatus) (string, display) {
			return r.ReplicaID.String(), displayf(
				"made %sreplica %s  %s", encryptedText(r.Encrypted), r.Name, r.ReplicaID,
			)
		},
	)
}

func grantedText(mayWrite bool) string {
	if mayWrite {
		return "(writes by a grant) "
	}
	return ""
}

func encryptedText(encrypted bool) string {
	if encrypted {
		return "encrypted "
	}
	return ""
}

func (a *app) replicaRotate() *cobra.Command {
	return one(a, &cobra.Command{
		Use:   "rotate NAME",
		Short: "Change the read key of an encrypted replica",
		Long: "Begin a new epoch of an encrypted replica: what is written from now on is sealed with a " +
			"new read key, which those who may write, those who joined by an invite, and all who have " +
			"the\n" +
			"replica's write ticket are given. Read tickets that were handed out before open nothing " +
			"new. skerry replica revoke does this by itself.",
		Args: cobra.ExactArgs(1),
	}, false, (*api.Client).ReplicaRotate, named, func(r api.Rotated) (string, display) {
		return fmt.Sprint(r.Epoch), displayf(
			"epoch %d has begun: give new read tickets to those who have one", r.Epoch,
		)
	})
}

func (a *app) replicaLs() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the replicas of this node",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				all, err := s.Client.ReplicaList(cmd.Context())
				if err != nil {
					return err
				}
				out := newList(a, func(r api.ReplicaStatus) (string, display) {
					return r.Name, displayf("%-20s  %-5s  %8d entries  %s%s%s", r.Name, r.Capability, r.Entries,
						encryptedText(r.Encrypted), grantedText(r.MayWrite), r.ReplicaID)
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

func (a *app) replicaJoin() *cobra.Command {
	var name, wallet string
	var policy policyFlags
	password := newPassword()
	cmd := &cobra.Command{
		Use:   "join TICKET",
		Short: "Join the replica of a ticket or an invite, and sync it",
		Long: `Join the replica of a ticket or an invite, and sync it.
An invite may be for the holder of a wallet. --wallet with an identity of the keyring signs by itself; with an address (0x…), the text to sign is shown, and the signature, which the wallet makes
as "personal sign", is read from standard input.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen, err := policy.chosen()
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), true, func(s *session) error {
				req := api.JoinRequest{Ticket: args[0], Name: name, Policy: chosen}
				if req.Wallet, err = a.joinWallet(wallet, &password); err != nil {
					return err
				}
				r, err := s.Client.ReplicaJoin(cmd.Context(), req)
				var unsigned *api.Error
				if errors.As(err, &unsigned) && unsigned.Kind == api.Unsigned {
					if req.Wallet.Signature, err = a.askSignature(wallet, unsigned.Message); err != nil {
						return err
					}
					r, err = s.Client.ReplicaJoin(cmd.Context(), req)
				}
				if err != nil {
					return err
				}
				if err := a.settle(cmd.Context(), s, r.Name); err != nil {
					return err
				}
				if name != "" && r.Name != name {
					a.note("the replica was here already, as %s: skerry replica rename %s %s names it anew",
						r.Name, r.Name, name)
				}
				return a.print(
					r, r.ReplicaID.String(),
					displayf("joined replica %s (%s): %d entries  %s", r.Name, mayText(r), r.Entries, r.ReplicaID),
				)
			})
		},
	}
	cmd.Flags().StringVar(
		&name, "name", "", "name of the replica on this node (default: made from its id)",
	)
	cmd.Flags().StringVar(
		&wallet, "wallet", "",
		"who signs, if the invite is for the holder of a wallet: an identity of the keyring, or an "+
			"address whose wallet is another program",
	)
	password.add(cmd)
	policy.add(cmd)
	return cmd
}

// mayText says what this node may do with a replica.
func mayText(r api.ReplicaStatus) display {
	text := displayf("%s", r.Capability)
	if r.MayWrite {
		text += ", and write by a grant"
	}
	return text
}

// joinWallet says who signs for a wallet; nil if nobody is to.
func (a *app) joinWallet(wallet string, password *passwordFlag) (*api.JoinWallet, error) {
	switch {
	case wallet == "":
		return nil, nil
	case strings.HasPrefix(wallet, "0x"):
		if _, err := eth.ParseAddress(wallet); err != nil {
			return nil, api.UsageErrorf("--wallet: %v", err)
		}
		return &api.JoinWallet{At: time.Now().Unix()}, nil
	}
	pw, err := password.read(a, false)
	return &api.JoinWallet{Identity: wallet, Password: pw}, err
}

// maxSignature is how long a signature may be as text.
const maxSignature = 256

// askSignature lets a person have a text signed elsewhere.
func (a *app) askSignature(wallet, text string) (string, error) {
	a.bar.clear()
	shown := visible.Lines(text)
	if shown != text {
		return "", fmt.Errorf(
			"the text to sign has characters that cannot be seen, and is not signed: %s", shown,
		)
	}
	question := displayf("Sign this text with the wallet %s\n(\"personal sign\", EIP-191), "+
		"as it is between the lines:\n----\n%s\n----\nSignature: ", wallet, display(shown))
	if err := a.stderr.prompt(question); err != nil {
		return "", err
	}
	b, err := bufio.NewReader(io.LimitReader(a.stdin, maxSignature)).ReadString('\n')
	if err == io.EOF && b != "" {
		err = nil
	}
	if errors.Is(err, io.EOF) {
		err = api.UsageErrorf("there is no signature on standard input")
	}
	if err != nil {
		return "", errors.Join(err, a.stderr.line("")) // the question stands there
	}
	return strings.TrimSpace(b), nil
}

// settleWait is how long a command that brought its own node waits without progress for content to
// arrive before it leaves the rest for another time.
const settleWait = 10 * time.Second

// settle waits until content that entries point at has arrived, if the node ends with this command.
func (a *app) settle(ctx context.Context, s *session, name string) error {
	if s.own == nil {
		return nil
	}
	for wait := newSettling(time.Now()); ; {
		info, err := s.Client.ReplicaInfo(ctx, api.NameRequest{Name: name})
		if err != nil || info.PendingContent == 0 {
			return err
		}
		if !wait.goesOn(time.Now(), info.PendingContent) {
			a.note("the content of %d entries is not here yet: keep a node running (skerry up)",
				info.PendingContent)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// settling waits for content as long as less and less of it is pending. Entries that come meanwhile
// are no progress: somebody who goes on writing them would hold the command for ever.
type settling struct {
	least int // pending
	since time.Time
}

func newSettling(now time.Time) settling { return settling{least: math.MaxInt, since: now} }

func (s *settling) goesOn(now time.Time, pending int) bool {
	if pending < s.least {
		s.least, s.since = pending, now
	}
	return now.Sub(s.since) < settleWait
}

// handOverWait is how long a peer may take, without progress, to fetch the content of entries that
// a command which brought its own node has sent.
const handOverWait = 5 * time.Second

// handOver waits until peers have fetched the content of the entries that they were sent, if the
// node ends with this command. It tells what they have not fetched.
func (a *app) handOver(ctx context.Context, s *session) ([]handover.Untaken, error) {
	if s.own == nil || ctx.Err() != nil { // an interrupt is how some commands end
		return nil, nil
	}
	left, err := s.own.HandOver(ctx, handOverWait)
	for _, x := range left {
		if x.Peer == "" {
			a.warn("%d entries were sent to more peers than this command keeps account of: to make "+
				"sure that they get the content, keep a node running (skerry up)", x.Entries)
			continue
		}
		a.warn("the content of %d entries that were sent (%s) was not taken by peer %s yet: "+
			"keep a node running (skerry up)", x.Entries, bytesText(x.Bytes), x.Peer)
	}
	return left, err
}

func (a *app) replicaLeave() *cobra.Command {
	return one(a, &cobra.Command{
		Use:   "leave NAME",
		Short: "Remove a replica from this node",
		Long: "Remove a replica from this node. If your vault lists it, it is taken off the list if " +
			"no other device is known to hold it; skerry replica delete takes it off in any case.\n" +
			"Content stays until skerry blob gc.",
		Args: cobra.ExactArgs(1),
	}, false, (*api.Client).ReplicaLeave,
		func(args []string) (api.LeaveRequest, error) { return api.LeaveRequest{Name: args[0]}, nil },
		a.showLeft)
}

func (a *app) showLeft(r api.Left) (string, display) {
	text := displayf("left replica %s", r.Name)
	if r.InVault {
		text += displayf(
			"; your vault lists it still, since other devices hold it (skerry vault rm %s)", r.ReplicaID,
		)
	}
	return r.ReplicaID.String(), text
}

func (a *app) replicaDelete() *cobra.Command {
	return one(a, &cobra.Command{
		Use:   "delete NAME",
		Short: "Remove a replica from this node and from your vault",
		Long: "Remove a replica from this node, and take it off your vault's list. Content stays until " +
			"skerry blob gc.",
		Args: cobra.ExactArgs(1),
	}, false, (*api.Client).ReplicaLeave, func(args []string) (api.LeaveRequest, error) {
		return api.LeaveRequest{Name: args[0], Everywhere: true}, nil
	}, a.showLeft)
}

func (a *app) replicaRename() *cobra.Command {
	return one(a, &cobra.Command{
		Use:   "rename NAME NEW",
		Short: "Give a replica another name",
		Long: "Give a replica another name on this node and, if this node may write to it, " +
			"in your vault.",
		Args: cobra.ExactArgs(2),
	}, false, (*api.Client).ReplicaRename, func(args []string) (api.RenameRequest, error) {
		return api.RenameRequest{Name: args[0], To: args[1]}, nil
	},
		func(r api.ReplicaStatus) (string, display) {
			return r.ReplicaID.String(), displayf("replica %s is called %s now", r.ReplicaID, r.Name)
		})
}

func (a *app) replicaInfo() *cobra.Command {
	return one(
		a,
		&cobra.Command{
			Use: "info NAME", Short: "Show a replica: counts, fingerprint, authors and peers",
			Args: cobra.ExactArgs(1),
		},
		false, (*api.Client).ReplicaInfo, named, func(r api.ReplicaInfo) (string, display) {
			text := displayf(
				"replica      %s  %s\ncapability   %s\nentries      %d, and %d deletions\nfingerprint  %s",
				r.Name, r.ReplicaID, mayText(r.ReplicaStatus), r.Entries, r.Tombstones, r.Fingerprint,
			)
			if r.Encrypted {
				text += displayf("\nencrypted    epoch %s", epochText(r.Epoch))
			}
			if r.PendingContent > 0 {
				text += displayf("\nto fetch     content of %d entries", r.PendingContent)
			}
			if r.Ahead > 0 {
				text += displayf(
					"\nahead        %d entries have times ahead of this clock: peers refuse them (skerry "+
						"replica verify)",
					r.Ahead,
				)
			}
			for _, w := range r.WrongSizes {
				text += displayf("\nwrong size   %q by %s: claims %d bytes, its content has %d",
					w.Key, w.Author, w.Claimed, w.Proved)
			}
			for _, id := range r.Authors {
				text += displayf("\nauthor       %s", id)
			}
			for _, p := range r.Peers {
				state := "not connected"
				if p.Connected {
					state = "connected"
				}
				text += displayf("\npeer         %s  %s", p.ID, state)
				if p.Seed {
					text += "  (a seed)"
				}
				if p.Lost > 0 {
					text += displayf(
						"  (on %s it lacked %d entries that it had had before)",
						p.LostAt.Local().Format(time.DateTime), p.Lost,
					)
				}
			}
			return r.ReplicaID.String(), text
		},
	)
}

func epochText(epoch uint32) string {
	if epoch == 0 {
		return "unknown: its read key is not here"
	}
	return fmt.Sprint(epoch)
}

func (a *app) replicaSync() *cobra.Command {
	var who, prefix string
	cmd := &cobra.Command{
		Use:   "sync NAME",
		Short: "Synchronise with each peer of a replica now, and wait",
		Long:  "Run a session with each peer of a replica now, and wait until all have ended.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := api.ParseKey(prefix)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), true, func(s *session) error {
				res, err := s.Client.ReplicaSync(
					cmd.Context(), api.SyncRequest{Name: args[0], Peer: who, Prefix: from},
				)
				if err != nil {
					return err
				}
				if err := a.settle(cmd.Context(), s, args[0]); err != nil {
					return err
				}
				left, err := a.handOver(cmd.Context(), s)
				if err != nil {
					return err
				}
				for i := range res.Sessions {
					x := &res.Sessions[i]
					for _, y := range left {
						if x.Peer == y.Peer.String() {
							x.ContentLeft, x.ContentLeftBytes = y.Entries, y.Bytes
						}
					}
				}
				var text display
				for i, x := range res.Sessions {
					if i > 0 {
						text += "\n"
					}
					if x.Error != "" {
						text += displayf("%s  failed: %s", x.Peer, x.Error)
						continue
					}
					text += displayf(
						"%s  %d entries sent, %d received, %d rounds, %d messages, %s, %.0f ms", x.Peer,
						x.EntriesSent, x.EntriesReceived, x.Rounds, x.Messages,
						bytesText(x.BytesSent+x.BytesReceived), x.Milliseconds,
					)
					if x.Lost > 0 {
						a.warn(
							"peer %s lacked %d entries or more that it had had before: it was reset, shows an old "+
								"state, or withholds them. It has them again",
							x.Peer, x.Lost,
						)
					}
				}
				return a.print(res, "", text)
			})
		},
	}
	cmd.Flags().StringVar(&who, "peer", "", "only with the peer of this node id")
	cmd.Flags().StringVar(&prefix, "prefix", "", "only keys that begin with this")
	return cmd
}

func (a *app) replicaVerify() *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "verify NAME",
		Short: "Check every entry of a replica, and what is kept beside them",
		Long: "Verify the signature and the grant of every entry of a replica, and compare its " +
			"indexes, counts and summary tree with what the entries say. With --repair\n" +
			"these are written anew if one is wrong, and entries of this node's authors whose times are " +
			"ahead\n" +
			"of the clock are signed anew with the present time; other entries are never changed. It " +
			"ends with exit code 4 if something is wrong and has not been repaired.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				c, err := s.Client.ReplicaVerify(cmd.Context(), api.CheckRequest{Name: args[0], Repair: repair})
				if err != nil {
					return err
				}
				for _, f := range c.Faults {
					a.note("wrong: %s", f)
				}
				text := displayf(
					"%d entries, fingerprint %s: %d bad, %d faults", c.Entries, c.Fingerprint[:16], c.Bad,
					len(c.Faults),
				)
				if c.Repaired {
					text += ", repaired"
				}
				if c.Ahead > 0 {
					text += displayf(
						"\n%d entries have times ahead of this clock, %d of these are signed anew", c.Ahead, c.Mended,
					)
				}
				if err := a.print(c, c.Fingerprint, text); err != nil {
					return err
				}
				switch {
				case c.Bad > 0:
					return &api.Error{
						Kind: api.Verification,
						Message: fmt.Sprintf(
							"%d entries of %s have a wrong signature or no grant: leave the replica, and join it again",
							c.Bad, args[0],
						),
					}
				case c.Ahead > c.Mended && repair:
					return &api.Error{
						Kind: api.Verification,
						Message: fmt.Sprintf(
							"%d entries of %s have times ahead of this clock, and their authors' keys are not here: "+
								"mend them where they were written",
							c.Ahead-c.Mended, args[0],
						),
					}
				case c.Ahead > 0 && !repair:
					return &api.Error{
						Kind: api.Verification,
						Message: fmt.Sprintf(
							"%d entries of %s have times ahead of this clock, and peers refuse them: if this clock "+
								"is right, sign them anew with skerry replica verify --repair %s",
							c.Ahead, args[0], args[0],
						),
					}
				case len(c.Faults) > 0 && !c.Repaired:
					return &api.Error{
						Kind: api.Verification,
						Message: fmt.Sprintf(
							"what is kept beside the entries of %s is wrong: mend it with skerry replica "+
								"verify --repair %s",
							args[0], args[0],
						),
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "write what is wrong anew")
	return cmd
}
