package api

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// Package encoding/json replaces what is not UTF-8 by U+FFFD: two names become one, or a file gets
// another name. A client refuses requests with such text before they are sent.

// secretFields are the fields of requests whose values no message shows.
var secretFields = []string{"password", "keystore_password", "mnemonic", "secret"}

// checkStrings returns an error if a request holds text that is not UTF-8, which JSON cannot carry.
func checkStrings(v reflect.Value) error { return checkField(v, "") }

// checkField is checkStrings for what is in a field of that name.
func checkField(v reflect.Value, name string) error {
	switch v.Kind() {
	case reflect.String:
		s := v.String()
		switch {
		case utf8.ValidString(s):
		case slices.Contains(secretFields, name):
			return UsageErrorf("the %s is not UTF-8", strings.ReplaceAll(name, "_", " "))
		default:
			return UsageErrorf("%q is not UTF-8: names and paths must be (keys may be given as hex:…)",
				Brief(s))
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return checkField(v.Elem(), name)
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return nil
		}
		for i := range v.Len() {
			if err := checkField(v.Index(i), name); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if err := checkField(v.Field(i), name); err != nil {
					return err
				}
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if err := errors.Join(checkField(it.Key(), name), checkField(it.Value(), name)); err != nil {
				return err
			}
		}
	}
	return nil
}
