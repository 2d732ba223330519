package api

import (
	"time"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/replica/ids"
)

// Identity is one whose key the keyring has.
type Identity struct {
	Identity  identity.ID `json:"identity"`
	Kind      string      `json:"kind"`              // "wallet" or "passkey"
	PublicKey string      `json:"public_key"`        // 33 bytes in hex
	Nonce     string      `json:"nonce"`             // 8 bytes in hex
	Address   string      `json:"address,omitempty"` // EVM address of a wallet
}

// AddIdentityRequest asks for a new identity, or to import one from words or a keystore file.
type AddIdentityRequest struct {
	Kind             string  `json:"kind,omitempty"`
	Mnemonic         *string `json:"mnemonic,omitempty"` // words that are empty are refused
	Keystore         []byte  `json:"keystore,omitzero"`  // a file that is empty likewise
	KeystorePassword string  `json:"keystore_password,omitempty"`
	Password         string  `json:"password"`
}

// ExportIdentityRequest asks for a key.
type ExportIdentityRequest struct {
	Identity string `json:"identity,omitempty"` // may be left out if there is one only
	Password string `json:"password"`
	Form     string `json:"form"` // "keystore", "ethereum" or "mnemonic"
}

// ExportedIdentity is a key, or words that are one.
type ExportedIdentity struct {
	Identity identity.ID `json:"identity"`
	Form     string      `json:"form"`
	Text     string      `json:"text"`
}

// IdentityRequest names an identity.
type IdentityRequest struct {
	Identity string `json:"identity,omitempty"`
}

// OpenVaultRequest asks to open the person's own vault on this node.
type OpenVaultRequest struct {
	Identity string   `json:"identity,omitempty"` // may be left out if the keyring has one only
	Password string   `json:"password"`
	Peers    []string `json:"peers,omitempty"` // addresses to find it at; without any it is begun
}

// AskVaultRequest asks, as an app, to be let read a vault.
type AskVaultRequest struct {
	At          string `json:"at,omitempty"` // address of the keyring's node; this node without it
	Application string `json:"application"`
	Reason      string `json:"reason,omitempty"`
	Identity    string `json:"identity,omitempty"`
}

// Asked is a request that waits for the person.
type Asked struct {
	Request string    `json:"request"`
	Code    string    `json:"code"` // shown on both sides
	Expires time.Time `json:"expires"`
}

// VaultRequest names a vault: by its identity, or its replica's name or id; empty is the person's
// own, or the only one.
type VaultRequest struct {
	Vault string `json:"vault,omitempty"`
}

// VaultProjectRequest names a project of a vault: by its name, its id or that of its replica, or a
// unique prefix of that.
type VaultProjectRequest struct {
	Vault   string `json:"vault,omitempty"`
	Project string `json:"project"`
	Name    string `json:"name,omitempty"` // of the replica on this node
}

// Vault is one that this node has open.
type Vault struct {
	ReplicaID ids.Replica `json:"replica_id"`
	Name      string      `json:"name"` // of the replica
	Identity  identity.ID `json:"identity"`
	// under which this node may read it; nothing for the person's own
	Application string    `json:"application,omitempty"`
	Opened      time.Time `json:"opened"`
}

// VaultListing is what is here of a vault.
type VaultListing struct {
	Vault    Vault          `json:"vault"`
	Projects []VaultProject `json:"projects"`
	Faults   []string       `json:"faults"`   // entries that cannot be read
	Warnings []string       `json:"warnings"` // devices of which entries are missing
	Newest   time.Time      `json:"newest,omitzero"`
}

// VaultProject is one that a vault lists.
type VaultProject struct {
	ProjectID  string         `json:"project_id"`
	ReplicaID  ids.Replica    `json:"replica_id"`
	Name       string         `json:"name"`
	Created    time.Time      `json:"created"`
	Updated    time.Time      `json:"updated"`
	Encrypted  bool           `json:"encrypted"`
	Here       string         `json:"here,omitempty"` // the replica's name on this node
	Capability ids.Capability `json:"capability"`     // with which it can be joined
}

// KeyringRequest is one that waits for the person.
type KeyringRequest struct {
	Asked
	Application string      `json:"application"`
	Reason      string      `json:"reason,omitempty"`
	Peer        string      `json:"peer,omitempty"` // nothing for a program on the keyring's machine
	Identity    identity.ID `json:"identity,omitzero"`
	At          time.Time   `json:"at"`
}

// DecideRequest answers a request, which is named by its code, its id or the first characters of
// that.
type DecideRequest struct {
	Request  string `json:"request"`
	Identity string `json:"identity,omitempty"`
	Password string `json:"password,omitempty"`
}

// Decided is a request that has been answered.
type Decided struct {
	Request     string `json:"request"`
	Application string `json:"application"`
	Approved    bool   `json:"approved"`
}

// RenameRequest gives a replica another name.
type RenameRequest struct {
	Name string `json:"name"`
	To   string `json:"to"`
}

// LeaveRequest asks to forget a replica, and perhaps to take it off the vault's list.
type LeaveRequest struct {
	Name       string `json:"name"`
	Everywhere bool   `json:"everywhere,omitempty"`
}

// Left is a replica that has been left.
type Left struct {
	ReplicaStatus
	InVault bool `json:"in_vault,omitempty"` // the vault lists it still
}

// AuthorKey is an author with the secret key.
type AuthorKey struct {
	Author ids.Author `json:"author"`
	Secret string     `json:"secret"` // "skerry-author-" and 64 hex digits
}

// ImportAuthorRequest gives the secret key of an author.
type ImportAuthorRequest struct {
	Secret string `json:"secret"`
}
