package api

import (
	"context"

	"github.com/skerry-sync/skerry/seed/report"
)

// The operations of a node, by the names under which docs/api.md has them. Each returns an *Error,
// whose Kind says what sort of failure it is, or the error of ctx.

// Status tells how the node is, and with whom it is connected (status).
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, "status", nil)
}

// DoctorNetwork says how others reach the node, and what to do if they do not (doctor/network).
func (c *Client) DoctorNetwork(ctx context.Context) (DoctorResult, error) {
	return call[DoctorResult](ctx, c, "doctor/network", nil)
}

// BlobAdd adds files and directories, and calls each for all that was added (blob/add).
func (c *Client) BlobAdd(ctx context.Context, req AddRequest, each func(Added) error) error {
	return every[Added](ctx, c, "blob/add", req, each)
}

// BlobList calls each for every blob that is here (blob/ls).
func (c *Client) BlobList(ctx context.Context, each func(BlobInfo) error) error {
	return every[BlobInfo](ctx, c, "blob/ls", nil, each)
}

// BlobRemove removes a blob (blob/rm).
func (c *Client) BlobRemove(ctx context.Context, req HashRequest) (BlobInfo, error) {
	return call[BlobInfo](ctx, c, "blob/rm", req)
}

// BlobVerify reads blobs anew, mends them if asked to, and calls each for what is damaged
// (blob/verify).
func (c *Client) BlobVerify(
	ctx context.Context, req VerifyRequest, each func(Damage) error,
) (Verified, error) {
	return both[Damage, Verified](ctx, c, "blob/verify", req, each)
}

// BlobExport writes a blob, a directory or a file in chunks to a path (blob/export).
func (c *Client) BlobExport(ctx context.Context, req ExportRequest) (Got, error) {
	return call[Got](ctx, c, "blob/export", req)
}

// BlobStat tells what is here of a blob, and which peers have it (blob/stat).
func (c *Client) BlobStat(ctx context.Context, req HashRequest) (BlobStat, error) {
	return call[BlobStat](ctx, c, "blob/stat", req)
}

// BlobPin keeps a blob from being collected (blob/pin).
func (c *Client) BlobPin(ctx context.Context, req PinRequest) (Pin, error) {
	return call[Pin](ctx, c, "blob/pin", req)
}

// BlobUnpin ends pins, and calls each for those that have ended (blob/unpin).
func (c *Client) BlobUnpin(ctx context.Context, req UnpinRequest, each func(Pin) error) error {
	return every[Pin](ctx, c, "blob/unpin", req, each)
}

// BlobPins calls each for every pin (blob/pins).
func (c *Client) BlobPins(ctx context.Context, each func(Pin) error) error {
	return every[Pin](ctx, c, "blob/pins", nil, each)
}

// BlobCollect removes the blobs that nothing keeps (blob/gc).
func (c *Client) BlobCollect(ctx context.Context, req CollectRequest) (Collected, error) {
	return call[Collected](ctx, c, "blob/gc", req)
}

// BlobFetch fetches parts of a blob (blob/fetch).
func (c *Client) BlobFetch(ctx context.Context, req FetchRequest) (FetchedPart, error) {
	return call[FetchedPart](ctx, c, "blob/fetch", req)
}

// Share adds a file or directory and makes a ticket for it (share).
func (c *Client) Share(ctx context.Context, req AddRequest) (Shared, error) {
	return call[Shared](ctx, c, "share", req)
}

// Get fetches what a ticket or hash names, and writes it to a path if there is one (get).
func (c *Client) Get(ctx context.Context, req GetRequest) (Got, error) {
	return call[Got](ctx, c, "get", req)
}

// ReplicaNew makes a replica (replica/new).
func (c *Client) ReplicaNew(ctx context.Context, req NewReplicaRequest) (ReplicaStatus, error) {
	return call[ReplicaStatus](ctx, c, "replica/new", req)
}

// ReplicaList lists the replicas that the node holds (replica/ls).
func (c *Client) ReplicaList(ctx context.Context) ([]ReplicaStatus, error) {
	return call[[]ReplicaStatus](ctx, c, "replica/ls", nil)
}

// ReplicaJoin joins the replica of a ticket or invite (replica/join).
func (c *Client) ReplicaJoin(ctx context.Context, req JoinRequest) (ReplicaStatus, error) {
	return call[ReplicaStatus](ctx, c, "replica/join", req)
}

// ReplicaLeave forgets a replica (replica/leave).
func (c *Client) ReplicaLeave(ctx context.Context, req LeaveRequest) (Left, error) {
	return call[Left](ctx, c, "replica/leave", req)
}

// ReplicaShare makes a ticket or an invite for a replica (replica/share).
func (c *Client) ReplicaShare(
	ctx context.Context, req ShareReplicaRequest,
) (ReplicaTicket, error) {
	return call[ReplicaTicket](ctx, c, "replica/share", req)
}

// ReplicaInfo tells all about a replica (replica/info).
func (c *Client) ReplicaInfo(ctx context.Context, req NameRequest) (ReplicaInfo, error) {
	return call[ReplicaInfo](ctx, c, "replica/info", req)
}

// ReplicaInvites lists invites that were made here, and those that wait to be redeemed
// (replica/invites).
func (c *Client) ReplicaInvites(ctx context.Context, req InvitesRequest) (Invites, error) {
	return call[Invites](ctx, c, "replica/invites", req)
}

// ReplicaUninvite ends an invite (replica/uninvite).
func (c *Client) ReplicaUninvite(ctx context.Context, req UninviteRequest) (Uninvited, error) {
	return call[Uninvited](ctx, c, "replica/uninvite", req)
}

// ReplicaGrant lets an author write (replica/grant).
func (c *Client) ReplicaGrant(ctx context.Context, req GrantRequest) (Grant, error) {
	return call[Grant](ctx, c, "replica/grant", req)
}

// ReplicaRevoke ends what an author may write (replica/revoke).
func (c *Client) ReplicaRevoke(ctx context.Context, req RevokeRequest) (Revoked, error) {
	return call[Revoked](ctx, c, "replica/revoke", req)
}

// ReplicaGrants lists who may write (replica/grants).
func (c *Client) ReplicaGrants(ctx context.Context, req NameRequest) (Grants, error) {
	return call[Grants](ctx, c, "replica/grants", req)
}

// ReplicaRotate begins a new read key (replica/rotate).
func (c *Client) ReplicaRotate(ctx context.Context, req NameRequest) (Rotated, error) {
	return call[Rotated](ctx, c, "replica/rotate", req)
}

// ReplicaPolicy tells which content of a replica is fetched, or changes it (replica/policy).
func (c *Client) ReplicaPolicy(ctx context.Context, req PolicyRequest) (Policy, error) {
	return call[Policy](ctx, c, "replica/policy", req)
}

// ReplicaSet sets a value (replica/set).
func (c *Client) ReplicaSet(ctx context.Context, req SetRequest) (Entry, error) {
	return call[Entry](ctx, c, "replica/set", req)
}

// ReplicaGet calls each for every author's entry of a key (replica/get).
func (c *Client) ReplicaGet(ctx context.Context, req KeyRequest, each func(Entry) error) error {
	return every[Entry](ctx, c, "replica/get", req, each)
}

// ReplicaDelete deletes a key, or all that begin with a prefix (replica/del).
func (c *Client) ReplicaDelete(ctx context.Context, req KeyRequest) (Removed, error) {
	return call[Removed](ctx, c, "replica/del", req)
}

// ReplicaEntries calls each for the entries that req selects (replica/list).
func (c *Client) ReplicaEntries(
	ctx context.Context, req ListRequest, each func(Entry) error,
) (Listed, error) {
	return both[Entry, Listed](ctx, c, "replica/list", req, each)
}

// ReplicaExport writes the values of a replica to files (replica/export).
func (c *Client) ReplicaExport(ctx context.Context, req ExportReplicaRequest) (Exported, error) {
	return call[Exported](ctx, c, "replica/export", req)
}

// ReplicaWatch calls each for entries as they come, until ctx ends (replica/watch).
func (c *Client) ReplicaWatch(ctx context.Context, req NameRequest, each func(Entry) error) error {
	return every[Entry](ctx, c, "replica/watch", req, each)
}

// ReplicaSync runs sessions with peers (replica/sync).
func (c *Client) ReplicaSync(ctx context.Context, req SyncRequest) (Synced, error) {
	return call[Synced](ctx, c, "replica/sync", req)
}

// ReplicaVerify checks every entry of a replica, and mends it if asked to (replica/verify).
func (c *Client) ReplicaVerify(ctx context.Context, req CheckRequest) (Checked, error) {
	return call[Checked](ctx, c, "replica/verify", req)
}

// ReplicaHistory calls each for the versions of an item that are known, the newest first
// (replica/history).
func (c *Client) ReplicaHistory(
	ctx context.Context, req ItemRequest, each func(ItemVersion) error,
) (History, error) {
	return both[ItemVersion, History](ctx, c, "replica/history", req, each)
}

// ReplicaRestore gives an item the content of one of its versions again (replica/restore).
func (c *Client) ReplicaRestore(ctx context.Context, req VersionRequest) (Restored, error) {
	return call[Restored](ctx, c, "replica/restore", req)
}

// Conflicts calls each for every conflict of a replica, or of all (conflicts/ls).
func (c *Client) Conflicts(
	ctx context.Context, req ConflictsRequest, each func(ItemConflict) error,
) error {
	return every[ItemConflict](ctx, c, "conflicts/ls", req, each)
}

// ConflictShow tells what the versions of a conflict hold (conflicts/show).
func (c *Client) ConflictShow(ctx context.Context, req ItemRequest) (ShownConflict, error) {
	return call[ShownConflict](ctx, c, "conflicts/show", req)
}

// ConflictResolve ends a conflict (conflicts/resolve).
func (c *Client) ConflictResolve(ctx context.Context, req ResolveRequest) (Resolved, error) {
	return call[Resolved](ctx, c, "conflicts/resolve", req)
}

// AuthorNew makes an author (author/new).
func (c *Client) AuthorNew(ctx context.Context) (Author, error) {
	return call[Author](ctx, c, "author/new", nil)
}

// AuthorList lists the authors whose keys are here (author/ls).
func (c *Client) AuthorList(ctx context.Context) ([]Author, error) {
	return call[[]Author](ctx, c, "author/ls", nil)
}

// AuthorDefault tells which author signs what names none, or changes it (author/default).
func (c *Client) AuthorDefault(ctx context.Context, req AuthorRequest) (Author, error) {
	return call[Author](ctx, c, "author/default", req)
}

// AuthorExport returns an author's secret key (author/export).
func (c *Client) AuthorExport(ctx context.Context, req AuthorRequest) (AuthorKey, error) {
	return call[AuthorKey](ctx, c, "author/export", req)
}

// AuthorImport adds an author by the secret key (author/import).
func (c *Client) AuthorImport(ctx context.Context, req ImportAuthorRequest) (Author, error) {
	return call[Author](ctx, c, "author/import", req)
}

// ReplicaRename gives a replica another name (replica/rename).
func (c *Client) ReplicaRename(ctx context.Context, req RenameRequest) (ReplicaStatus, error) {
	return call[ReplicaStatus](ctx, c, "replica/rename", req)
}

// IdentityList lists the identities whose keys are here (identity/ls).
func (c *Client) IdentityList(ctx context.Context) ([]Identity, error) {
	return call[[]Identity](ctx, c, "identity/ls", nil)
}

// IdentityAdd makes or imports an identity (identity/add).
func (c *Client) IdentityAdd(ctx context.Context, req AddIdentityRequest) (Identity, error) {
	return call[Identity](ctx, c, "identity/add", req)
}

// IdentityExport returns the keys of an identity in a form (identity/export).
func (c *Client) IdentityExport(
	ctx context.Context, req ExportIdentityRequest,
) (ExportedIdentity, error) {
	return call[ExportedIdentity](ctx, c, "identity/export", req)
}

// IdentityRemove removes an identity (identity/rm).
func (c *Client) IdentityRemove(ctx context.Context, req IdentityRequest) (Identity, error) {
	return call[Identity](ctx, c, "identity/rm", req)
}

// ProjectNew makes a project (project/new).
func (c *Client) ProjectNew(ctx context.Context, req NewProjectRequest) (Project, error) {
	return call[Project](ctx, c, "project/new", req)
}

// ProjectList lists the projects (project/ls).
func (c *Client) ProjectList(ctx context.Context) ([]Project, error) {
	return call[[]Project](ctx, c, "project/ls", nil)
}

// ProjectShow lists what is in a project (project/show).
func (c *Client) ProjectShow(ctx context.Context, req NameRequest) (ProjectContents, error) {
	return call[ProjectContents](ctx, c, "project/show", req)
}

// AssetAdd adds a version of an asset to a project (project/asset).
func (c *Client) AssetAdd(ctx context.Context, req AddAssetRequest) (Asset, error) {
	return call[Asset](ctx, c, "project/asset", req)
}

// ReferenceAdd adds a reference to an asset elsewhere (project/ref).
func (c *Client) ReferenceAdd(ctx context.Context, req AddReferenceRequest) (Reference, error) {
	return call[Reference](ctx, c, "project/ref", req)
}

// ProjectHistory lists the versions of an asset (project/history).
func (c *Client) ProjectHistory(ctx context.Context, req AssetRequest) ([]Version, error) {
	return call[[]Version](ctx, c, "project/history", req)
}

// SeedRegister has a seed keep a replica (seed/register).
func (c *Client) SeedRegister(ctx context.Context, req SeedRequest) (report.Answer, error) {
	return call[report.Answer](ctx, c, "seed/register", req)
}

// SeedUnregister has a seed keep it no longer (seed/unregister).
func (c *Client) SeedUnregister(ctx context.Context, req SeedRequest) (report.Answer, error) {
	return call[report.Answer](ctx, c, "seed/unregister", req)
}

// SeedStatus tells what a seed keeps (seed/status).
func (c *Client) SeedStatus(ctx context.Context, req SeedRequest) (SeedStatus, error) {
	return call[SeedStatus](ctx, c, "seed/status", req)
}

// VaultInit opens the vault of an identity, and makes it if there is none (vault/init).
func (c *Client) VaultInit(ctx context.Context, req OpenVaultRequest) (Vault, error) {
	return call[Vault](ctx, c, "vault/init", req)
}

// VaultAsk asks a keyring for a vault, and calls each with the request as soon as it was sent
// (vault/open).
func (c *Client) VaultAsk(
	ctx context.Context, req AskVaultRequest, each func(Asked) error,
) (Vault, error) {
	return both[Asked, Vault](ctx, c, "vault/open", req, each)
}

// Vaults lists the vaults that are open (vault/vaults).
func (c *Client) Vaults(ctx context.Context) ([]Vault, error) {
	return call[[]Vault](ctx, c, "vault/vaults", nil)
}

// VaultList lists what is in a vault (vault/ls).
func (c *Client) VaultList(ctx context.Context, req VaultRequest) (VaultListing, error) {
	return call[VaultListing](ctx, c, "vault/ls", req)
}

// VaultAdd lists a replica in a vault (vault/add).
func (c *Client) VaultAdd(ctx context.Context, req VaultProjectRequest) (VaultProject, error) {
	return call[VaultProject](ctx, c, "vault/add", req)
}

// VaultRemove removes a replica from a vault (vault/rm).
func (c *Client) VaultRemove(ctx context.Context, req VaultProjectRequest) (VaultProject, error) {
	return call[VaultProject](ctx, c, "vault/rm", req)
}

// VaultJoin joins a replica of a vault (vault/join).
func (c *Client) VaultJoin(ctx context.Context, req VaultProjectRequest) (ReplicaStatus, error) {
	return call[ReplicaStatus](ctx, c, "vault/join", req)
}

// VaultRequests lists what apps have asked of the keyring (vault/requests).
func (c *Client) VaultRequests(ctx context.Context) ([]KeyringRequest, error) {
	return call[[]KeyringRequest](ctx, c, "vault/requests", nil)
}

// VaultRequest tells about one such request (vault/request).
func (c *Client) VaultRequest(ctx context.Context, req DecideRequest) (KeyringRequest, error) {
	return call[KeyringRequest](ctx, c, "vault/request", req)
}

// VaultApprove grants one (vault/approve).
func (c *Client) VaultApprove(ctx context.Context, req DecideRequest) (Decided, error) {
	return call[Decided](ctx, c, "vault/approve", req)
}

// VaultDeny refuses one (vault/deny).
func (c *Client) VaultDeny(ctx context.Context, req DecideRequest) (Decided, error) {
	return call[Decided](ctx, c, "vault/deny", req)
}
