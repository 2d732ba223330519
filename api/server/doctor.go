package server

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/node/doctor"
	"github.com/skerry-sync/skerry/node/doctor/report"
	"github.com/skerry-sync/skerry/seed"
)

func (s *Server) doctorNetwork(
	ctx context.Context, _ struct{}, _ *answer,
) (api.DoctorResult, error) {
	all, err := doctor.Network(ctx, s.node)
	if err != nil {
		return api.DoctorResult{}, err
	}
	claims, err := doctor.Claims(ctx, s.node)
	if err != nil {
		return api.DoctorResult{}, err
	}
	times, err := doctor.Times(ctx, s.node)
	if err != nil {
		return api.DoctorResult{}, err
	}
	all = append(append(all, claims...), times...)
	seeds, err := s.diagnoseSeeds(ctx)
	if seeds != nil {
		all = append(all, *seeds)
	}
	return api.DoctorResult{NodeID: s.node.ID().String(), Findings: all}, err
}

// diagnoseSeeds asks the seeds at which this node has registered replicas whether they keep them,
// and returns nil if there are none.
func (s *Server) diagnoseSeeds(ctx context.Context) (*report.Finding, error) {
	asked := (&seed.Watch{Node: s.node, Log: slog.New(slog.DiscardHandler), Now: time.Now}).Look(ctx)
	all, err := seed.StoodAt(ctx, s.node)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	f := &report.Finding{
		About: "seeds", Health: report.Good, Text: fmt.Sprintf("registrations that stand: %d", len(all)),
	}
	var lost []string
	for _, x := range all {
		if !x.Asked.IsZero() && !x.Stands() {
			lost = append(lost, fmt.Sprintf("replica %s at %s", x.Replica.Short(), x.Seed))
		}
	}
	switch {
	case len(lost) > 0:
		f.Health, f.Text = report.Bad, "no longer registered: "+strings.Join(lost, ", ")
		f.Advice = "register them again with seed register, or end that with seed unregister"
	case asked != nil:
		f.Health, f.Text = report.Warn, "not all seeds answered: "+asked.Error()
		f.Advice = "try again later"
	}
	return f, nil
}
