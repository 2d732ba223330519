// Package server answers package api for a node: it translates requests to calls of the node, and
// what these give to lines of answers, and it serves the socket that clients dial.
//
// What belongs here: a handler for each operation, and who may have which file of this machine read
// or written. What never belongs here: the work itself, which is node's, or project's for versions
// of assets, or that of package review for conflicts and history; the types of requests and
// answers, which are api's; and anything about terminals, which is cmd/skerry's.
//
// Start at [New] and [Listen]; [Local] is for a client in the same process.
package server

import (
	"net/http"

	"github.com/skerry-sync/skerry"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/invites"
	"github.com/skerry-sync/skerry/node/vaults"
	"github.com/skerry-sync/skerry/versions/onnode"
	"github.com/skerry-sync/skerry/versions/review"
)

// Server answers the API for one node.
type Server struct {
	node    *node.Node
	invites *invites.Service
	vaults  *vaults.Service
	review  *review.Service
	sets    *onnode.Sets
	version string
	mux     *http.ServeMux
}

// New returns a server for n; version is what Status reports. What n has no room for, the
// server refuses.
func New(n *skerry.Node, version string) *Server {
	s := &Server{
		node: n.Node, invites: n.Invites, vaults: n.Vaults, review: review.New(n.Node, n.Versions),
		sets: n.Versions, version: version, mux: http.NewServeMux(),
	}
	handle(s, "status", s.status)
	handle(s, "doctor/network", s.doctorNetwork)
	handle(s, "blob/add", s.blobAdd)
	handle(s, "blob/ls", s.blobList)
	handle(s, "blob/rm", s.blobRemove)
	handle(s, "blob/verify", s.blobVerify)
	handle(s, "blob/export", s.blobExport)
	handle(s, "blob/stat", s.blobStat)
	handle(s, "blob/pin", s.blobPin)
	handle(s, "blob/unpin", s.blobUnpin)
	handle(s, "blob/pins", s.blobPins)
	handle(s, "blob/gc", s.blobCollect)
	handle(s, "blob/fetch", s.blobFetch)
	handle(s, "share", s.share)
	handle(s, "get", s.get)
	handle(s, "replica/new", s.replicaNew)
	handle(s, "replica/ls", s.replicaList)
	handle(s, "replica/join", s.replicaJoin)
	handle(s, "replica/leave", s.replicaLeave)
	handle(s, "replica/share", s.replicaShare)
	handle(s, "replica/info", s.replicaInfo)
	handle(s, "replica/invites", s.replicaInvites)
	handle(s, "replica/uninvite", s.replicaUninvite)
	handle(s, "replica/grant", s.replicaGrant)
	handle(s, "replica/revoke", s.replicaRevoke)
	handle(s, "replica/grants", s.replicaGrants)
	handle(s, "replica/rotate", s.replicaRotate)
	handle(s, "replica/policy", s.replicaPolicy)
	handle(s, "replica/set", s.replicaSet)
	handle(s, "replica/get", s.replicaGet)
	handle(s, "replica/del", s.replicaDelete)
	handle(s, "replica/list", s.entries)
	handle(s, "replica/export", s.replicaExport)
	handle(s, "replica/watch", s.replicaWatch)
	handle(s, "replica/sync", s.replicaSync)
	handle(s, "replica/verify", s.replicaVerify)
	handle(s, "replica/history", s.replicaHistory)
	handle(s, "replica/restore", s.replicaRestore)
	handle(s, "conflicts/ls", s.conflictsList)
	handle(s, "conflicts/show", s.conflictsShow)
	handle(s, "conflicts/resolve", s.conflictsResolve)
	handle(s, "author/new", s.authorNew)
	handle(s, "author/ls", s.authorList)
	handle(s, "author/default", s.authorDefault)
	handle(s, "author/export", s.authorExport)
	handle(s, "author/import", s.authorImport)
	handle(s, "replica/rename", s.replicaRename)
	handle(s, "identity/ls", s.identityList)
	handle(s, "identity/add", s.identityAdd)
	handle(s, "identity/export", s.identityExport)
	handle(s, "identity/rm", s.identityRemove)
	handle(s, "project/new", s.projectNew)
	handle(s, "project/ls", s.projectList)
	handle(s, "project/show", s.projectShow)
	handle(s, "project/asset", s.assetAdd)
	handle(s, "project/ref", s.referenceAdd)
	handle(s, "project/history", s.projectHistory)
	handle(s, "seed/register", s.seedRegister)
	handle(s, "seed/unregister", s.seedUnregister)
	handle(s, "seed/status", s.seedStatus)
	handle(s, "vault/init", s.vaultInit)
	handle(s, "vault/open", s.vaultAsk)
	handle(s, "vault/vaults", s.vaultAll)
	handle(s, "vault/ls", s.vaultList)
	handle(s, "vault/add", s.vaultAdd)
	handle(s, "vault/rm", s.vaultRemove)
	handle(s, "vault/join", s.vaultJoin)
	handle(s, "vault/requests", s.vaultRequests)
	handle(s, "vault/request", s.vaultRequest)
	handle(s, "vault/approve", s.vaultApprove)
	handle(s, "vault/deny", s.vaultDeny)
	s.mux.HandleFunc("POST /v1/keyring", s.keyringCall)
	s.mux.HandleFunc("GET /v1/blob", s.readBlob)
	s.mux.HandleFunc("POST /v1/blob", s.importBlob)
	s.mux.HandleFunc("GET /v1/value", s.readValue)
	s.mux.HandleFunc("POST /v1/value", s.writeValue)
	s.mux.HandleFunc("GET /v1/version", s.readVersion)
	s.mux.HandleFunc("POST /v1/replica/import", s.replicaImport)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	guarded(s.mux, s.node.Log()).ServeHTTP(w, r)
}
