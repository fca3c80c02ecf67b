package kit

import (
	"errors"
	"strings"

	"github.com/balance-exporter/balance_exporter/providers"
)

// Faults collects what is wrong with a section, so that all of it is reported at once.
type Faults struct {
	Section providers.Section
	found   []error
}

// If adds a fault about the value at path if bad.
func (f *Faults) If(bad bool, path, format string, args ...any) {
	if bad {
		f.found = append(f.found, f.Section.Errorf(path, format, args...))
	}
}

// Add adds err, which may be nil.
func (f *Faults) Add(err error) { f.found = append(f.found, err) }

// Err returns the faults as one error; nil for none.
func (f *Faults) Err() error { return errors.Join(f.found...) }

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
