package client

// MaxSeen is of how many elements a reader knows at least that they have come.
const MaxSeen = maxSeen

// MaxJSON is how long an answer of JSON may be unless the client says otherwise.
const MaxJSON = maxJSON

// MaxNews is of how many bytes answers one call of News takes, for tests.
const MaxNews = maxNews

// Remembered is of how many elements a reader remembers that they have come.
func (r *Reader) Remembered() int { return len(r.seen) + len(r.before) }
