package merge

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"
)

// Counter is a number that several devices add to at the same time. It keeps a tally for each
// device and is merged by taking the greater tallies, so it needs no base and counts nothing twice.
//
// A bare number would not do: where two devices each count from 5 to 6, both contents are 6, and
// versions with equal contents are one.
//
// As JSON it is an object with a member for each device, whose value is what the device has added
// and what it has taken away, as two whole numbers below 2^64: {"laptop":[3,0],"phone":[1,2]} is 2.
// The zero Counter is 0 and ready for use.
type Counter struct{ tallies map[string]tally }

// tally is how much a device has added and taken away. Both only grow.
type tally struct{ added, taken uint64 }

// Add adds n, which may be negative. device names this device and its incarnation: two devices that
// count under one name lose what the one that has counted less has added. Add changes nothing and
// reports an error if the device would have added or taken away 2^64 or more in all, or if its name
// is not UTF-8.
func (c *Counter) Add(device string, n int64) error {
	if !utf8.ValidString(device) {
		return fmt.Errorf("counter: the name of device %q is not UTF-8", device)
	}
	t := c.tallies[device]
	sum, by := &t.added, uint64(n)
	if n < 0 {
		sum, by = &t.taken, -uint64(n)
	}
	if *sum > math.MaxUint64-by {
		return fmt.Errorf("counter of %q: cannot add %d to %d: over 2^64-1", device, n, *sum)
	}
	*sum += by
	if c.tallies == nil {
		c.tallies = map[string]tally{}
	}
	c.tallies[device] = t
	return nil
}

// Value returns what all devices have added, less what they have taken away.
func (c Counter) Value() *big.Int {
	sum := new(big.Int)
	for _, t := range c.tallies {
		sum.Add(sum, new(big.Int).SetUint64(t.added))
		sum.Sub(sum, new(big.Int).SetUint64(t.taken))
	}
	return sum
}

// MarshalJSON writes the counter, with the devices in the order of their names' bytes.
func (c Counter) MarshalJSON() ([]byte, error) {
	written := make(map[string][2]uint64, len(c.tallies))
	for device, t := range c.tallies {
		written[device] = [2]uint64{t.added, t.taken}
	}
	return json.Marshal(written)
}

// UnmarshalJSON reads what MarshalJSON writes. It reports a *Conflict for what is no counter.
func (c *Counter) UnmarshalJSON(text []byte) error {
	var p values
	v, err := p.parse(text)
	if err != nil {
		return err
	}
	read, err := counterOf(v)
	if err == nil {
		*c = read
	}
	return err
}

func counterOf(v *value) (Counter, error) {
	if v.kind != '{' {
		return Counter{}, conflict(NotCounter)
	}
	c := Counter{tallies: make(map[string]tally, len(v.members))}
	for _, m := range v.members {
		if m.value.kind != '[' || len(m.value.items) != 2 {
			return Counter{}, conflict(NotCounter)
		}
		added, err1 := strconv.ParseUint(m.value.items[0].raw, 10, 64)
		taken, err2 := strconv.ParseUint(m.value.items[1].raw, 10, 64)
		device := m.key.said()
		if err1 != nil || err2 != nil || !utf8.ValidString(device) {
			return Counter{}, conflict(NotCounter)
		}
		c.tallies[device] = tally{added, taken}
	}
	return c, nil
}

// Counters merges two [Counter] in JSON. Each device's tallies are the greater ones of both sides;
// the base says nothing.
func Counters(base, local, remote []byte) ([]byte, error) {
	if merged, ok := settled(base, local, remote); ok {
		return merged, nil
	}
	var p values
	_, l, r, err := p.parseAll(nil, local, remote)
	if err != nil {
		return nil, err
	}
	merged, err := counterOf(l)
	if err != nil {
		return nil, err
	}
	other, err := counterOf(r)
	if err != nil {
		return nil, err
	}
	for device, t := range other.tallies {
		ours := merged.tallies[device]
		merged.tallies[device] = tally{max(ours.added, t.added), max(ours.taken, t.taken)}
	}
	return merged.MarshalJSON()
}
