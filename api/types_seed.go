package api

import (
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/replica/ids"
	"github.com/skerry-sync/skerry/seed/report"
)

// SeedRequest asks a seed to keep a replica, or not to keep it any more, or, without a replica, for
// what it keeps of an identity.
type SeedRequest struct {
	Replica string `json:"replica,omitempty"`
	At      string `json:"at"` // address of the seed's node
	// whose quota; the own vault's, or the only one of the keyring
	Identity string `json:"identity,omitempty"`
	Password string `json:"password"`
}

// SeedStatus is what a seed keeps of an identity.
type SeedStatus struct {
	Seed     string          `json:"seed"` // its node id
	Identity identity.ID     `json:"identity"`
	Quota    report.Quota    `json:"quota"`
	Backups  []report.Answer `json:"backups"`
	// Missing are replicas that this node has registered there and that the seed does not keep, or not
	// for long.
	Missing []ids.Replica `json:"missing,omitempty"`
}
