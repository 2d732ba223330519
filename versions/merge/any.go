package merge

import "bytes"

// Any merges by what the contents are: JSON on one line, as programs write it, with [JSON], and all
// else with [Text]. JSON on several lines is a text that a person may have laid out: it is merged
// line by line, which keeps its form. So a file and an item of an app can both be merged by it, by
// whoever knows nothing of what the contents mean.
func Any(base, local, remote []byte) ([]byte, error) {
	for _, side := range [][]byte{base, local, remote} {
		if side != nil && !isLineOfJSON(side) {
			return Text(base, local, remote)
		}
	}
	return JSON(base, local, remote)
}

// isLineOfJSON says if a content is JSON without line ends, other than one at its end.
func isLineOfJSON(content []byte) bool {
	line := bytes.TrimRight(content, "\r\n")
	return len(content) <= MaxSize && bytes.IndexByte(line, '\n') < 0 && validJSON(string(line))
}

// Keyed is f for whoever merges the contents of all keys alike: its method value is what package
// versions takes as Merge.
func (f Func) Keyed(_, base, local, remote []byte) ([]byte, error) {
	return f(base, local, remote)
}
