package kit

import "strings"

// Currency returns a currency code in upper case; ok is false if s does not have
// the form of ISO 4217, three letters.
func Currency(s string) (code string, ok bool) { return letters(s, 3) }

// Country returns a country code in upper case; ok is false if s does not have the
// form of ISO 3166-1 alpha-2, two letters.
func Country(s string) (code string, ok bool) { return letters(s, 2) }

func letters(s string, n int) (code string, ok bool) {
	if len(s) != n || strings.ContainsFunc(s, func(r rune) bool { return r|0x20 < 'a' || r|0x20 > 'z' }) {
		return "", false
	}
	return strings.ToUpper(s), true
}
