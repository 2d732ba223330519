package merge

import (
	"fmt"
	"strings"
)

// around is how many equal lines Diff shows before and after a change.
const around = 3

// Diff returns for people which lines of side are not as in base, as Text compares them. Each part
// begins with "@@ line N", a line of side; each of its lines begins with a space if both have it,
// with "-" if only base has, and with "+" if only side has. It is empty for equal texts. The only
// error is a *Conflict: one of them is no text, or too large.
func Diff(base, side []byte) (string, error) {
	if tooLarge(base, side) {
		return "", conflict(TooLarge)
	}
	m := textMerge{numbers: map[string]int32{}}
	for i, content := range [][]byte{base, side} {
		s, _, ok := decode(content)
		if !ok {
			return "", conflict(NotText)
		}
		if countLines(s) > MaxParts {
			return "", conflict(TooLarge)
		}
		var err error
		if m.sides[i], err = m.split(s); err != nil {
			return "", err
		}
	}
	old, now := &m.sides[0], &m.sides[1]
	d := differ{base: old.numbers, side: now.numbers, seen: make([]seen, len(m.numbers))}
	d.gap(span{0, len(old.numbers)}, span{0, len(now.numbers)}, maxRounds)
	if len(d.hunks) == 0 && string(base) != string(side) {
		return "the lines are equal, and not their ends or how they are encoded\n", nil
	}
	var out strings.Builder
	write := func(mark string, text []string) {
		for _, line := range text {
			out.WriteString(mark + line + "\n")
		}
	}
	shown := 0 // lines of side that have been, or were left out
	for i, h := range d.hunks {
		from := max(shown, h.now.from-around)
		if i == 0 || from > shown {
			fmt.Fprintf(&out, "@@ line %d\n", from+1)
		}
		write(" ", now.text[from:h.now.from])
		write("-", old.text[h.was.from:h.was.to])
		write("+", now.text[h.now.from:h.now.to])
		next := len(now.text)
		if i+1 < len(d.hunks) {
			next = d.hunks[i+1].now.from
		}
		shown = min(h.now.to+around, next)
		write(" ", now.text[h.now.to:shown])
	}
	return out.String(), nil
}
