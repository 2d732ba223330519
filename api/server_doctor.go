package api

import (
	"context"

	"github.com/skerry-sync/skerry/node"
)

// DoctorResult is what was found about a node.
type DoctorResult struct {
	NodeID   string         `json:"node_id"`
	Findings []node.Finding `json:"findings"`
}

func (s *Server) doctorNetwork(ctx context.Context, _ struct{}, _ *answer) (DoctorResult, error) {
	all, err := s.node.DiagnoseNetwork(ctx)
	if err == nil {
		var claims []node.Finding
		claims, err = s.node.DiagnoseClaims(ctx)
		all = append(all, claims...)
	}
	return DoctorResult{s.node.ID().String(), all}, err
}
