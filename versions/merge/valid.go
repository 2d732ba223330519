package merge

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

// validJSON says if a text is JSON.
func validJSON(text string) bool { return json.Valid([]byte(text)) }

// distinctJSON says if a text is JSON whose objects have no member twice. Two sides that each add
// the same member in another line would make such a text; which of the two counts depends on who
// reads it.
func distinctJSON(text string) bool {
	_, err := (&values{}).parse([]byte(text))
	return err == nil
}

// validXML says if a text is an XML document: one element, all closed, no attribute twice.
func validXML(text string) bool {
	if !strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "<") {
		return false
	}
	d := xml.NewDecoder(strings.NewReader(text))
	// The text is in UTF-8 here, whatever its first line says.
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	depth, roots := 0, 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return roots == 1
		}
		if err != nil {
			return false
		}
		switch token := token.(type) {
		case xml.StartElement:
			if depth == 0 {
				roots++
			}
			depth++
			if repeats(token.Attr) {
				return false
			}
		case xml.EndElement:
			depth--
		case xml.CharData:
			if depth == 0 && strings.TrimSpace(string(token)) != "" {
				return false
			}
		}
	}
}

func repeats(attrs []xml.Attr) bool {
	names := make(map[xml.Name]bool, len(attrs))
	for _, a := range attrs {
		names[a.Name] = true
	}
	return len(names) != len(attrs)
}
