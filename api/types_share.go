package api

import (
	"time"

	"github.com/skerry-sync/skerry/replica/ids"
)

// ShareReplicaRequest asks for a ticket.
type ShareReplicaRequest struct {
	Name string         `json:"name"`
	Mode ids.Capability `json:"mode"`
	// Invite, if there, asks for an invite instead of a ticket that anybody may use for ever.
	Invite *InviteRequest `json:"invite,omitempty"`
}

// InviteRequest sets the limits of an invite.
type InviteRequest struct {
	Prefix    Key  `json:"prefix"`              // of what may be written
	Delegable bool `json:"delegable,omitempty"` // the grant may be passed on
	// Expires ends the invite and, with mode write, what it lets write: for all who use it, at this
	// same time. Without it, writing does not end by itself.
	Expires time.Time `json:"expires,omitzero"`
	// InviteExpires ends the invite alone, and is not after Expires. Without both, the invite ends in
	// 7 days.
	InviteExpires time.Time `json:"invite_expires,omitzero"`
	// Forever is an invite that never ends; it goes with neither of the two above.
	Forever bool   `json:"forever,omitempty"`
	Uses    *int   `json:"uses,omitempty"`   // 1 if this is not given, 0 for no limit
	Wallet  string `json:"wallet,omitempty"` // EVM address whose holder alone may use it
}

// ReplicaTicket is a ticket for a replica, or an invite to it.
type ReplicaTicket struct {
	Ticket    string         `json:"ticket"`
	ReplicaID ids.Replica    `json:"replica_id"`
	Mode      ids.Capability `json:"mode"`
	Invite    string         `json:"invite,omitempty"` // its id
	Expires   time.Time      `json:"expires,omitzero"` // of an invite, itself
	// GrantExpires is when what an invite lets write ends; without it, that never ends.
	GrantExpires time.Time `json:"grant_expires,omitzero"`
	Uses         int       `json:"uses,omitempty"`      // of an invite
	Encrypted    bool      `json:"encrypted,omitempty"` // with an invite: the replica is
}

// InvitesRequest asks for the invites to one replica, or for all.
type InvitesRequest struct {
	Name string `json:"name,omitempty"`
}

// Invites are those that this node has made, and those that it was given and could not redeem yet.
type Invites struct {
	Issued  []Invite        `json:"issued"`
	Pending []PendingInvite `json:"pending"`
}

// Invite is one that this node has made.
type Invite struct {
	ID        string         `json:"id"`
	ReplicaID ids.Replica    `json:"replica_id"`
	Replica   string         `json:"replica,omitempty"` // its name, if it is still here
	Mode      ids.Capability `json:"mode"`
	Prefix    Key            `json:"prefix"`
	Delegable bool           `json:"delegable"`
	Created   time.Time      `json:"created"`
	Expires   time.Time      `json:"expires,omitzero"` // of the invite itself
	// GrantExpires is when what it lets write ends; without it, what the invite gives never ends.
	GrantExpires time.Time    `json:"grant_expires,omitzero"`
	Uses         int          `json:"uses"` // 0 for no limit
	Wallet       string       `json:"wallet,omitempty"`
	State        string       `json:"state"` // "open", "expired", "used" or "revoked"
	Redeemed     []Redemption `json:"redeemed"`
}

// Redemption tells who has used an invite.
type Redemption struct {
	Author ids.Author `json:"author"`
	Node   string     `json:"node"`
	At     time.Time  `json:"at"`
}

// PendingInvite is one whose node has not been reached yet.
type PendingInvite struct {
	ID      string    `json:"id"`
	From    []string  `json:"from"` // ids of nodes
	Created time.Time `json:"created"`
	Error   string    `json:"error"`             // of the last attempt
	Refused bool      `json:"refused,omitempty"` // it is not tried again
}

// UninviteRequest names an invite by its id, or the first 8 or more digits of it.
type UninviteRequest struct {
	ID string `json:"id"`
}

// Uninvited is the id of an invite that is worthless now, or was given up.
type Uninvited struct {
	ID string `json:"id"`
}

// GrantRequest asks to let an author write.
type GrantRequest struct {
	Name      string    `json:"name"`
	Author    string    `json:"author"`
	Prefix    Key       `json:"prefix"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Delegable bool      `json:"delegable,omitempty"`
}

// Grant is what an author may write.
type Grant struct {
	ID     string     `json:"id"`
	Author ids.Author `json:"author"`
	// the author who delegated it; nothing for the replica key
	By     string `json:"by,omitempty"`
	Prefix Key    `json:"prefix"`
	// the prefix is that of an encrypted replica, and cannot be read here
	Sealed      bool      `json:"sealed,omitempty"`
	Issued      time.Time `json:"issued"`
	NotBefore   time.Time `json:"not_before,omitzero"`
	NotAfter    time.Time `json:"not_after,omitzero"`
	Delegable   bool      `json:"delegable"`
	Revoked     bool      `json:"revoked"` // in whole or from a time on
	RevokedFrom time.Time `json:"revoked_from,omitzero"`
	// Backdatable is set if the grant has ended, and entries with a time before its end still count,
	// whenever they are signed.
	Backdatable bool `json:"backdatable,omitempty"`
}

// RevokeRequest asks to end what an author may write: everything, or from a time on, which is now
// unless given.
type RevokeRequest struct {
	Name   string    `json:"name"`
	Author string    `json:"author"`
	From   time.Time `json:"from,omitzero"`
	All    bool      `json:"all,omitempty"`
	// Keep signs the author's entries that are here anew, as the default author of the node, before
	// everything that the author ever signed is made void. It implies All.
	Keep bool `json:"keep,omitempty"`
	// Versions that stand are first published anew, as versions of the node, unless Drop is set.
	// DropMissing leaves out those that are not all here; otherwise nothing is revoked then.
	Drop        bool `json:"drop,omitempty"`
	DropMissing bool `json:"drop_missing,omitempty"`
}

// Revoked tells what a revocation did.
type Revoked struct {
	Author  ids.Author `json:"author"`
	From    time.Time  `json:"from,omitzero"`  // nothing for everything
	Dropped uint64     `json:"dropped"`        // entries, on this node
	Kept    uint64     `json:"kept,omitempty"` // entries that were signed anew
	// Adopted is how many versions this node has published anew.
	Adopted uint64 `json:"adopted,omitempty"`
}

// Revocation is one of a replica.
type Revocation struct {
	Author ids.Author `json:"author"`
	By     string     `json:"by,omitempty"` // the author who made it; nothing for the replica key
	Issued time.Time  `json:"issued"`
	From   time.Time  `json:"from,omitzero"` // nothing for everything
}

// Grants are the statements of a replica about who may write.
type Grants struct {
	Grants      []Grant      `json:"grants"`
	Revocations []Revocation `json:"revocations"`
}
