package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/internal/visible"
)

func (a *app) identityCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "identity",
		Short: "Work with identities: the keys that say who you are",
		Long: "Work with identities. An identity is a key that says who you are, and from which your " +
			"vault is derived. It is kept encrypted with a password, and is used only for the moment\n" +
			"in which you give that.",
	}
	cmd.AddCommand(
		a.identityNew(), a.identityLs(), a.identityImport(), a.identityExport(), a.identityRm(),
	)
	return cmd
}

func identityLine(i api.Identity) (string, display) {
	return i.Identity.String(), displayf(
		"%-25s  %-7s  %s", i.Identity, i.Kind, strings.TrimSpace(i.PublicKey+"  "+i.Address),
	)
}

func (a *app) identityNew() *cobra.Command {
	var kind string
	var words bool
	password := newPassword()
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make an identity, under a password",
		Long: "Make an identity, and keep its key encrypted with a password. Write the words down that " +
			"skerry identity export --form mnemonic prints (or --words here): they are the only way " +
			"back\n" +
			"when the data directory or the password is lost.",
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(
		&kind, "kind", "wallet", "kind of key: wallet (secp256k1) or passkey (P-256)",
	)
	cmd.Flags().BoolVar(
		&words, "words", false, "print the 24 words that are the key, too, on standard error",
	)
	password.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		pw, err := password.read(a, true)
		if err != nil {
			return err
		}
		return a.with(cmd.Context(), false, func(s *session) error {
			i, err := s.Client.IdentityAdd(cmd.Context(), api.AddIdentityRequest{Kind: kind, Password: pw})
			if err != nil {
				return err
			}
			if words {
				x, err := s.Client.IdentityExport(
					cmd.Context(),
					api.ExportIdentityRequest{Identity: i.Identity.String(), Password: pw, Form: "mnemonic"},
				)
				if err != nil {
					return err
				}
				a.bar.clear()
				if err := a.stderr.line(displayf("%s", x.Text)); err != nil {
					return err
				}
			}
			return a.print(i, i.Identity.String(), displayf("made identity %s", i.Identity))
		})
	}
	return cmd
}

func (a *app) identityLs() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the identities whose keys are here", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), false, func(s *session) error {
				all, err := s.Client.IdentityList(cmd.Context())
				if err != nil {
					return err
				}
				out := newList(a, identityLine)
				for _, i := range all {
					if err := out.add(i); err != nil {
						return err
					}
				}
				return out.end()
			})
		},
	}
}

func (a *app) identityImport() *cobra.Command {
	var kind, mnemonic string
	password := newPassword()
	old := passwordFlag{
		name: "keystore-password", env: "SKERRY_KEYSTORE_PASSWORD", what: "the keystore file",
	}
	cmd := &cobra.Command{
		Use:   "import [KEYSTORE]",
		Short: "Import an identity from its 24 words or a keystore file",
		Long: "Import an identity from its 24 words, or from a keystore file. Keystores of Skerry and " +
			"of Ethereum (version 3) are accepted.",
		Args: cobra.MaximumNArgs(1),
	}
	cmd.Flags().StringVar(
		&kind, "kind", "wallet", "kind of key that the words stand for: wallet or passkey",
	)
	cmd.Flags().StringVar(
		&mnemonic, "mnemonic-file", "", "file with the 24 words (- for standard input)",
	)
	password.add(cmd)
	old.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if (len(args) == 1) == (mnemonic != "") {
			return api.UsageErrorf("give either a keystore file or --mnemonic-file")
		}
		req := api.AddIdentityRequest{Kind: kind}
		if mnemonic != "" {
			b, err := a.readSmall(mnemonic)
			if err != nil {
				return err
			}
			words := string(b)
			req.Mnemonic = &words
		} else {
			if req.Keystore, err = a.readSmall(args[0]); err != nil {
				return err
			}
			req.Keystore = append([]byte{}, req.Keystore...) // an empty file is not none
			if req.KeystorePassword, err = old.read(a, false); err != nil {
				return err
			}
		}
		if req.Password, err = password.read(a, true); err != nil {
			return err
		}
		return a.with(cmd.Context(), false, func(s *session) error {
			i, err := s.Client.IdentityAdd(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.print(i, i.Identity.String(), displayf("identity %s is here", i.Identity))
		})
	}
	return cmd
}

func (a *app) identityExport() *cobra.Command {
	var form string
	password := newPassword()
	cmd := &cobra.Command{
		Use:   "export [IDENTITY]",
		Short: "Print the key of an identity, encrypted, or as 24 words",
		Args:  cobra.MaximumNArgs(1),
	}
	cmd.Flags().StringVar(
		&form, "form", "keystore",
		"keystore (Skerry's, under the same password), ethereum (version 3, likewise) or mnemonic (24 "+
			"words, which are the key)",
	)
	password.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		pw, err := password.read(a, false)
		if err != nil {
			return err
		}
		req := api.ExportIdentityRequest{Password: pw, Form: form}
		if len(args) == 1 {
			req.Identity = args[0]
		}
		return a.with(cmd.Context(), false, func(s *session) error {
			x, err := s.Client.IdentityExport(cmd.Context(), req)
			if err != nil {
				return err
			}
			if form == "mnemonic" {
				a.note(
					"Whoever has these words is this identity. Write them down, and keep them where " +
						"nobody else looks.",
				)
			}
			text := display(visible.Lines(x.Text)) // of our own node: a keystore has several lines
			return a.printLines(x, text, text)
		})
	}
	return cmd
}

func (a *app) identityRm() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "rm IDENTITY",
		Short: "Remove an identity's key from this machine",
		Long:  "Remove an identity's key from this machine. Vaults that are open stay open.",
		Args:  cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVar(
		&yes, "yes", false, "really: without a copy of the key or its words elsewhere, it is lost",
	)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !yes {
			return api.UsageErrorf(
				"without a copy of the key or its words elsewhere, the identity would be lost: say --yes if " +
					"that is meant",
			)
		}
		return a.with(cmd.Context(), false, func(s *session) error {
			i, err := s.Client.IdentityRemove(cmd.Context(), api.IdentityRequest{Identity: args[0]})
			if err != nil {
				return err
			}
			return a.print(i, i.Identity.String(), displayf("forgot the key of identity %s", i.Identity))
		})
	}
	return cmd
}
