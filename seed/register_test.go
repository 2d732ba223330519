package seed

import (
	"context"
	"time"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/seed/report"
)

// Register registers for a request of which it is not known from where it comes.
func (s *Seed) Register(ctx context.Context, req *Request) (report.Answer, error) {
	return s.register(ctx, req, source{})
}

// Register is RegisterFrom nowhere.
func (r *Registry) Register(
	ctx context.Context, s kv.Store, id identity.ID, rep replica.ID, ticket, device string,
	at time.Time,
) (Registration, error) {
	return r.RegisterFrom(ctx, s, id, rep, ticket, device, "", at)
}
