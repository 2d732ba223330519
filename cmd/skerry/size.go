package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/skerry-sync/skerry/api"
)

// byteSize is a flag of so many bytes: a number, with or without a unit.
type byteSize uint64

var units = []struct {
	suffix string
	factor float64
}{
	{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40},
	{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12},
	{"k", 1 << 10}, {"m", 1 << 20}, {"g", 1 << 30}, {"t", 1 << 40}, {"b", 1},
}

// Set implements pflag.Value.
func (b *byteSize) Set(text string) error {
	number, factor := strings.ToLower(strings.TrimSpace(text)), 1.0
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	if n, err := strconv.ParseUint(number, 10, 62); err == nil && factor == 1 {
		*b = byteSize(n)
		return nil
	}
	x, err := strconv.ParseFloat(number, 64)
	if err != nil || x < 0 || x*factor >= 1<<62 || math.IsNaN(x) {
		return api.UsageErrorf(
			"%q is not a size: expected a number of bytes, or one with a unit such as 10MiB", text,
		)
	}
	*b = byteSize(x * factor)
	return nil
}

// String implements pflag.Value.
func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	for _, u := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if factor := unitFactor(u); uint64(*b)%factor == 0 {
			return fmt.Sprint(uint64(*b)/factor) + u
		}
	}
	return fmt.Sprint(uint64(*b))
}

// Type implements pflag.Value.
func (*byteSize) Type() string { return "size" }

func unitFactor(unit string) uint64 {
	for _, u := range units {
		if u.suffix == strings.ToLower(unit) {
			return uint64(u.factor)
		}
	}
	return 1
}
