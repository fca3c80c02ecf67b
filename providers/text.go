package providers

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// OneLine returns what a provider says as one line of at most limit characters,
// without what cannot be printed. It is cut between words: a part of a secret would
// be recognised by nobody who masks the whole one.
func OneLine(s string, limit int) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return r == ' ' || r == utf8.RuneError || !unicode.IsPrint(r)
	}), " ")
	n := 0
	for i := range s {
		if n == limit {
			return strings.TrimRight(s[:strings.LastIndexByte(s[:i], ' ')+1], " ") + "…"
		}
		n++
	}
	return s
}
