// Package report is what a doctor says of a node, as JSON.
//
// What belongs here: findings, for all who read them, who need no node for that. What never belongs
// here: how a finding comes about (package doctor).
package report

// Health says how well something is.
type Health string

// Bad is what keeps the node from its work; Warn what may.
const (
	Good Health = "ok"
	Warn Health = "warning"
	Bad  Health = "bad"
)

// Finding is what was found about one thing, and what a person may do about it.
type Finding struct {
	About  string `json:"about"`
	Health Health `json:"health"`
	Text   string `json:"text"`
	Advice string `json:"advice,omitempty"`
}
