package providers

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// OneLine returns s as one line of at most limit characters, without what cannot
// be printed. It is cut between words: a part of a secret would not be recognised,
// and not be masked.
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

// maxLabel is below the label_value_length_limit that servers are likely to set:
// one long name must not cost the whole target.
const maxLabel = 256 // bytes

// Label returns s as a label value: valid UTF-8, at most 256 bytes, cut at a
// character, with a space for each control character.
func Label(s string) string {
	if len(s) <= maxLabel && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	// The result does not share the memory of s, which may be as long as a body.
	var label strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) {
			r = ' '
		}
		if label.Len()+utf8.RuneLen(r) > maxLabel {
			break
		}
		label.WriteRune(r)
	}
	return label.String()
}
