package schedule

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Source is a provider as a schedule sees it: who it is, and how fast it has shown to be.
type Source struct {
	id  peer.ID
	now func() time.Time

	mu    sync.Mutex
	bytes uint64    // verified since measured
	speed float64   // bytes a second, 0 while unknown
	since time.Time // when that was last measured
	last  time.Time // something came
	gave  uint64
	far   bool
}

// NewSource returns a provider that has given nothing yet.
func (s *Schedule) NewSource(id peer.ID) *Source { return &Source{id: id, now: s.now} }

// ID returns the peer's id.
func (p *Source) ID() peer.ID { return p.id }

// Came takes account of n verified bytes.
func (p *Source) Came(n int) {
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gave += uint64(n)
	p.bytes += uint64(n)
	p.last = now
	if p.since.IsZero() {
		p.since = now
	}
	const window = 100 * time.Millisecond
	if elapsed := now.Sub(p.since); elapsed >= window {
		speed := float64(p.bytes) / elapsed.Seconds()
		if p.speed > 0 {
			speed = (speed + p.speed) / 2
		}
		p.speed, p.bytes, p.since = speed, 0, now
	}
}

// Gave returns how many verified bytes have come.
func (p *Source) Gave() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gave
}

// IsFar notes that the provider is far away.
func (p *Source) IsFar() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.far = true
}

// rate returns the speed in bytes a second, or 0 while it is unknown. A provider that gives nothing
// slows down.
func (p *Source) rate() float64 {
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() {
		return 0
	}
	if elapsed := now.Sub(p.since); p.speed > 0 && elapsed > time.Second {
		return min(p.speed, float64(p.bytes+1)/elapsed.Seconds())
	}
	return p.speed
}

// idle returns how long nothing has come.
func (p *Source) idle() time.Duration {
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last.IsZero() {
		return 0
	}
	return now.Sub(p.last)
}

// blockBytes is how much work the provider takes at a time.
func (p *Source) blockBytes() uint64 {
	speed := p.rate()
	if speed == 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.far {
			return firstFarBlock
		}
		return firstBlock
	}
	return uint64(min(max(speed*blockTime.Seconds(), minBlock), maxBlock))
}
