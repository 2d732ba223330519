// Package report is what a seed says of what it keeps, as JSON.
//
// What belongs here: the answers of seeds, for all who read them, who need no node for that. What
// never belongs here: how a seed comes by them (package seed).
package report

// Answer is what a seed says about a registered replica.
type Answer struct {
	ReplicaID   string `json:"replica_id"`
	State       string `json:"state"`
	BytesStored uint64 `json:"bytes_stored"`
	EntryCount  uint64 `json:"entry_count"`
	LastSync    int64  `json:"last_sync"` // Unix seconds; 0 for never
	Registered  int64  `json:"registered_at"`
	DeletionAt  int64  `json:"deletion_at,omitempty"`
	// Note tells a person something beside the result.
	Note string `json:"note,omitempty"`
}

// Quota is what an identity uses and may use.
type Quota struct {
	BytesUsed    uint64 `json:"bytes_used"`
	BytesLimit   uint64 `json:"bytes_limit"`
	ReplicaCount uint32 `json:"replica_count"`
	ReplicaLimit uint32 `json:"replica_limit"`
}
