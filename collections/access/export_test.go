package access

// SetMost changes of how many issuers lists are kept.
func (r *Revocations) SetMost(issuers int) { r.most = issuers }
