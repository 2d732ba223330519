package api

import "github.com/skerry-sync/skerry/node/doctor/report"

// DoctorResult is what was found about a node.
type DoctorResult struct {
	NodeID   string           `json:"node_id"`
	Findings []report.Finding `json:"findings"`
}
