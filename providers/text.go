package providers

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// OneLine returns what a provider says as one line of at most limit characters,
// without what cannot be printed.
func OneLine(s string, limit int) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return r == ' ' || r == utf8.RuneError || !unicode.IsPrint(r)
	}), " ")
	n := 0
	for i := range s {
		if n == limit {
			return s[:i] + "…"
		}
		n++
	}
	return s
}
