package access

import (
	"time"

	"github.com/skerry-sync/skerry/collections/store"
)

// SetMost changes of how many issuers lists are kept, and how many bytes of lists.
func (r *Revocations) SetMost(issuers, bytes int) { r.mostIssuers, r.mostBytes = issuers, bytes }

// Allowance is what a source may still bring.
type Allowance = allowance

// NewAllowance returns one of which nothing has been taken.
func NewAllowance() *Allowance { return newAllowance(1) }

// Take takes what lists and their bytes cost, all or nothing.
func (a *allowance) Take(now time.Time, lists, bytes int) bool {
	return a.take(now, lists, bytes)
}

// Full reports whether nothing has been taken that has not come back.
func (a *allowance) Full(now time.Time) bool { return a.full(now) }

// Limits that the tests stand on both sides of.
const (
	SourceLists = sourceLists
	SourceBytes = sourceBytes
	ListPause   = listPause
	MaxSources  = maxSources
)

// StrangerKept is how long a list is kept of an issuer who remains a stranger.
const StrangerKept = strangerKept

// SetNow sets the clock.
func (r *Revocations) SetNow(now func() time.Time) { r.now = now }

// SetStore sets where lists are kept.
func (r *Revocations) SetStore(s, notes store.Store) { r.store, r.notes = s, notes }

// Old is for how long an owner is known to whom what others do leaves a share of its own.
const Old = old

// MaxUnknown is how long a list may be of an issuer who is not known for some time.
const MaxUnknown = maxUnknown

// ParseNote returns a note as it is written, "" for what is none.
func ParseNote(b []byte) string {
	if n := parseNote(b); n != nil {
		return string(n.bytes())
	}
	return ""
}

// Brought reports how many lists of those that are in memory the store may lose.
func (r *Revocations) Brought() (n int) {
	for _, x := range r.byIssuer {
		if x.brought {
			n++
		}
	}
	return n
}

// Marked reports how many issuers Load has something to do about.
func (r *Revocations) Marked() int { return len(r.marked) }

// Bytes returns how long all lists are that count, but those of whom the configuration names.
func (r *Revocations) Bytes() int { return r.all.bytes }

// LeftFor is how long it is remembered that there was no room for a list.
const LeftFor = leftFor

// JournalFile is what a journal of nonces is written to.
type JournalFile = journalFile

// WrapJournal exchanges the file that the journal is written to.
func (n *Nonces) WrapJournal(wrap func(JournalFile) JournalFile) { n.journal.f = wrap(n.journal.f) }
