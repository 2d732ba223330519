package merge

import (
	"fmt"
	"slices"
	"strings"
)

// Text merges texts line by line. All inputs have to be valid in the same encoding (UTF-8 with or
// without a byte order mark, or UTF-16 with one) and without NUL. Edits of neighbouring lines
// overlap, and overlapping edits are a conflict unless both sides made the same.
//
// Line ends are no part of the lines. A text whose lines all end alike keeps that: if one side
// changed all line ends, the result has that side's, also in lines of the other side. Where a text
// has both kinds, each line keeps its own. So it is with the newline at the end of the file.
//
// If all inputs are valid JSON or XML and the result is not, it is a conflict. No base is like an
// empty one: different texts without a base conflict unless one is empty.
func Text(base, local, remote []byte) ([]byte, error) {
	if merged, ok := settled(base, local, remote); ok {
		return merged, nil
	}
	if tooLarge(base, local, remote) {
		return nil, conflict(TooLarge)
	}
	sides, is, err := decodeAll(base, local, remote)
	if err != nil {
		return nil, err
	}
	m := textMerge{numbers: make(map[string]int32, countLines(sides[0]))}
	for i, s := range sides {
		if m.sides[i], err = m.split(s); err != nil {
			return nil, err
		}
	}
	merged, err := m.merge()
	if err != nil {
		return nil, err
	}
	for _, valid := range []func(string) bool{validJSON, distinctJSON, validXML} {
		all := !slices.ContainsFunc(sides[:], func(s string) bool { return !valid(s) })
		if all && !valid(string(merged)) {
			return nil, conflict(Broken)
		}
	}
	return is.encode(merged), nil
}

// decodeAll returns the characters of the inputs, and the encoding that all have that are not
// empty.
func decodeAll(inputs ...[]byte) (sides [3]string, is encoding, err error) {
	var encodings []encoding
	for i, input := range inputs {
		s, e, ok := decode(input)
		if !ok {
			return sides, is, conflict(NotText)
		}
		if len(input) > 0 {
			encodings = append(encodings, e)
		}
		sides[i] = s
	}
	for _, e := range encodings {
		if is = encodings[0]; e != is {
			return sides, is, conflict(Encodings)
		}
	}
	for _, s := range sides {
		if countLines(s) > MaxParts {
			return sides, is, conflict(TooLarge)
		}
	}
	return sides, is, nil
}

func countLines(s string) int {
	n := strings.Count(s, "\n")
	if s != "" && !strings.HasSuffix(s, "\n") {
		n++
	}
	return n
}

// ends is how the lines of a text end.
type ends uint8

const (
	noEnds ends = iota // there is no line end
	lf
	crlf
	mixed
)

// lines are the lines of a text.
type lines struct {
	text    []string // without line ends
	numbers sequence // equal for equal lines of all three texts
	crlf    []bool   // that the line ends with CR and LF
	ends    ends
	open    bool // that there is no line end after the last line
}

type textMerge struct {
	sides   [3]lines // base, local, remote
	numbers map[string]int32
}

func (m *textMerge) split(s string) (lines, error) {
	n := countLines(s)
	l := lines{text: make([]string, 0, n), numbers: make(sequence, 0, n), crlf: make([]bool, 0, n)}
	for s != "" {
		line, rest, ended := strings.Cut(s, "\n")
		s, l.open = rest, !ended
		line, cr := strings.CutSuffix(line, "\r")
		if l.open && cr || strings.HasSuffix(line, "\r") {
			// With another line end it would read as another line.
			return lines{}, conflict(NotText)
		}
		is := lf
		if cr {
			is = crlf
		}
		switch {
		case l.open:
			cr = l.ends == crlf || l.ends == mixed && l.crlf[len(l.crlf)-1]
		case l.ends == noEnds:
			l.ends = is
		case l.ends != is:
			l.ends = mixed
		}
		number, known := m.numbers[line]
		if !known {
			number = int32(len(m.numbers))
			m.numbers[line] = number
		}
		l.text, l.numbers, l.crlf = append(l.text, line), append(l.numbers, number), append(l.crlf, cr)
	}
	return l, nil
}

func (m *textMerge) merge() ([]byte, error) {
	base, local, remote := &m.sides[0], &m.sides[1], &m.sides[2]
	pieces, clash, ok := threeWay(base.numbers, local.numbers, remote.numbers, len(m.numbers))
	if !ok {
		return nil, &Conflict{BothChanged, inLines(clash)}
	}
	end, ok := mergeEnds(base.ends, local.ends, remote.ends)
	if !ok {
		return nil, conflict(LineEnds)
	}
	size := 0
	for _, side := range m.sides {
		for _, line := range side.text {
			size += len(line) + 2
		}
	}
	out := make([]byte, 0, size/2)
	last := "" // line of the result
	for _, p := range pieces {
		side, at := remote, p.remote
		if p.from == fromLocal {
			side, at = local, p.local
		}
		for i := range at.to - at.from {
			last = side.text[at.from+i]
			out = append(out, last...)
			cr := end == crlf
			if end == mixed {
				cr = m.endsInCRLF(p, i)
			}
			if cr {
				out = append(out, '\r')
			}
			out = append(out, '\n')
		}
	}
	// An empty line at the end is one only if it ends.
	if m.open() && last != "" {
		out = out[:len(out)-1]
		if out[len(out)-1] == '\r' {
			out = out[:len(out)-1]
		}
	}
	return out, nil
}

// endsInCRLF says how line i of the piece ends, where line ends are mixed.
func (m *textMerge) endsInCRLF(p piece, i int) bool {
	local, remote := &m.sides[1], &m.sides[2]
	switch p.from {
	case fromLocal:
		return local.crlf[p.local.from+i]
	case fromRemote:
		return remote.crlf[p.remote.from+i]
	}
	l, r := local.crlf[p.local.from+i], remote.crlf[p.remote.from+i]
	if p.from == fromBoth {
		return l && r
	}
	return threeWayBool(m.sides[0].crlf[p.base.from+i], l, r)
}

// open says if there is no line end after the last line of the result. A side without lines says
// nothing about it.
func (m *textMerge) open() bool {
	base, local, remote := m.sides[0], m.sides[1], m.sides[2]
	switch {
	case len(local.text) == 0:
		return remote.open
	case len(remote.text) == 0:
		return local.open
	case len(base.text) == 0:
		return local.open && remote.open
	}
	return threeWayBool(base.open, local.open, remote.open)
}

// threeWayBool returns the value that a side changed to: if both did, they have the same.
func threeWayBool(base, local, remote bool) bool {
	if local == base {
		return remote
	}
	return local
}

// mergeEnds returns the line ends of the result. It reports false if both sides changed theirs, in
// different ways; if one of them has mixed ends, the other's stand.
func mergeEnds(base, local, remote ends) (ends, bool) {
	if local == noEnds {
		local = base
	}
	if remote == noEnds {
		remote = base
	}
	switch {
	case local == remote, remote == base, remote == mixed && local != base:
		return local, true
	case local == base, local == mixed:
		return remote, true
	}
	return mixed, false
}

// inLines names a part of the base for people, who count lines from 1.
func inLines(clash span) string {
	switch clash.to - clash.from {
	case 0:
		return fmt.Sprintf("after line %d", clash.from)
	case 1:
		return fmt.Sprintf("line %d", clash.to)
	}
	return fmt.Sprintf("lines %d to %d", clash.from+1, clash.to)
}
