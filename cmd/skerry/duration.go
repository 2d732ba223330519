package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/skerry-sync/skerry/api"
)

// duration is a flag of a length of time. Beside the units of Go it takes days, as times do
// (parseTime).
type duration time.Duration

// durationVar adds a flag of a length of time.
func durationVar(
	f *pflag.FlagSet, to *time.Duration, name string, value time.Duration, usage string,
) {
	*to = value
	f.Var((*duration)(to), name, usage)
}

// parseDuration reads such as 90m, 36h or 7d.
func parseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil && n <= 36500 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	return time.ParseDuration(text)
}

// Set implements pflag.Value.
func (d *duration) Set(text string) error {
	x, err := parseDuration(text)
	if err != nil || x < 0 {
		return api.UsageErrorf("%q is not a length of time: expected such as 90m, 36h or 7d", text)
	}
	*d = duration(x)
	return nil
}

// String implements pflag.Value.
func (d *duration) String() string {
	const day = 24 * time.Hour
	x := time.Duration(*d)
	switch {
	case x == 0:
		return "0"
	case x%day == 0:
		return strconv.Itoa(int(x/day)) + "d"
	}
	return x.String()
}

// Type implements pflag.Value.
func (*duration) Type() string { return "duration" }
