package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Package encoding/json replaces what is not UTF-8, and halves of surrogate pairs, by U+FFFD: two
// names become one, or a file gets another name. The server rejects requests with such text.

// checkText returns an error if JSON text holds bytes that are not UTF-8, or an escape such as
// \ud800 that stands for no character.
func checkText(b []byte) error {
	if !utf8.Valid(b) {
		return errors.New("it holds bytes that are not UTF-8; write keys that are not text as \"hex:…\"")
	}
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			continue
		}
		i++
		if i >= len(b) || b[i] != 'u' {
			continue
		}
		unit, ok := escaped(b[i:])
		if !ok {
			return nil // no JSON, which the parser tells better
		}
		i += 4
		switch {
		case unit >= 0xdc00 && unit < 0xe000:
			return fmt.Errorf("\\u%04x is half a character", unit)
		case unit >= 0xd800 && unit < 0xdc00:
			if i+1 >= len(b) || b[i+1] != '\\' {
				return fmt.Errorf("\\u%04x is half a character", unit)
			}
			low, ok := escaped(b[i+2:])
			if !ok || low < 0xdc00 || low >= 0xe000 {
				return fmt.Errorf("\\u%04x is half a character", unit)
			}
			i += 6
		}
	}
	return nil
}

// escaped reads the four digits after a u.
func escaped(b []byte) (unit uint64, ok bool) {
	if len(b) < 5 || b[0] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(b[1:5]), 16, 16)
	return unit, err == nil
}

// decodeStrict reads one JSON value of which all must be known.
func decodeStrict(b []byte, to any) error {
	if err := checkText(b); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(to); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more follows on the first value")
	}
	return nil
}

// jsonProblem says what is wrong with JSON, in words for people.
func jsonProblem(err error, expected string) error {
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	field, unknown := strings.CutPrefix(err.Error(), "json: unknown field ") // which has no type
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("it is not JSON: expected %s", expected)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("it ends too early: expected %s", expected)
	case unknown:
		return fmt.Errorf("the field %s is not known: expected %s", field, expected)
	case !errors.As(err, &kind):
		return err
	}
	if kind.Field == "" {
		return fmt.Errorf("expected %s, found %s", expected, article(kind.Value))
	}
	return fmt.Errorf("%q must not be %s: expected %s", kind.Field, article(kind.Value), expected)
}

func article(kind string) string {
	if kind == "array" || kind == "object" {
		return "an " + kind
	}
	return "a " + kind
}

// maxQuoted is how many characters of a name a message shows.
const maxQuoted = 100
