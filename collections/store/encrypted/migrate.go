package encrypted

import (
	"context"
	"errors"

	"github.com/skerry-sync/skerry/collections/atrest"
	"github.com/skerry-sync/skerry/collections/store"
)

// Migrated counts what a migration has found, and what it has written.
type Migrated struct {
	// that were looked at, those of no collection that is encrypted among them
	Documents int `json:"documents"`
	Encrypted int `json:"encrypted"` // that were in clear
	Rewritten int `json:"rewritten"` // that were in another form, or by a former secret
	Decrypted int `json:"decrypted"` // that are in clear now
	Failed    int `json:"failed"`    // that could not be read; they stay as they were
}

// Migration brings what is stored into the form of the present configuration and secrets. To must
// be given: Run refuses without.
type Migration struct {
	To *Codec
	// of the configuration of before, by which is read what To does not read; nil if that was the same
	From *Codec
	// DryRun only counts.
	DryRun bool
	// Failed, unless nil, is told of what could not be read.
	Failed func(key string, err error)
	// Progress, unless nil, is called now and then.
	Progress func(Migrated)
}

// progressEvery is after how many documents Progress is called.
const progressEvery = 256

// Run migrates all that is in a store, which nobody else may write to meanwhile. It may be run
// again after it was interrupted.
func (m *Migration) Run(ctx context.Context, s store.Store) (n Migrated, err error) {
	if m.To == nil {
		return n, errors.New("a migration needs To, the codec of the present configuration")
	}
	err = store.Rewrite(ctx, s, func(key string, kept []byte) ([]byte, error) {
		if n.Documents++; n.Documents%progressEvery == 0 && m.Progress != nil {
			m.Progress(n)
		}
		fresh, err := m.fresh(key, kept, &n)
		if err != nil {
			n.Failed++
			if m.Failed != nil {
				m.Failed(key, err)
			}
			return nil, nil
		}
		if m.DryRun {
			return nil, nil
		}
		return fresh, nil
	})
	if m.Progress != nil {
		m.Progress(n)
	}
	return n, err
}

// fresh returns what is to be kept instead, nil if it is as it should be.
func (m *Migration) fresh(key string, kept []byte, n *Migrated) ([]byte, error) {
	to, _ := m.To.of(key)
	before := m.From
	if before == nil {
		before = m.To
	}
	from, _ := before.of(key)
	if to == nil && (from == nil || isPlain(kept)) {
		return nil, nil
	}
	if to == nil {
		body, _, err := before.open(key, kept)
		if err == nil {
			n.Decrypted++
		}
		return body, err
	}
	body, current, err := m.To.open(key, kept)
	switch {
	case err == nil && current:
		return nil, nil
	case err == nil:
		n.Rewritten++
	case errors.Is(err, ErrPlain):
		body = kept
		n.Encrypted++
	case errors.Is(err, atrest.ErrSealed) && from != nil:
		if body, _, err = before.open(key, kept); err != nil {
			return nil, err
		}
		n.Rewritten++
	default:
		return nil, err
	}
	return m.To.Encode(key, body)
}
