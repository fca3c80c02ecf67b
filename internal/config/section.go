package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/balance-exporter/balance_exporter/internal/secret"
)

// Section is the part of an account that its provider decodes: every key but
// the common ones. It is not safe for concurrent use.
type Section struct {
	source  *source
	account *node // with the common keys
	own     *node // without them
}

// source is what the sections of one file share.
type source struct {
	file     string
	dir      string
	result   *File
	secrets  []*secret.Value
	replaced map[string]string // text from the environment, and what is written for it
}

// Decode fills dst, a pointer to a struct that may hold defaults, from the
// section. It is strict: a key that dst has no field for is an error, and so is
// a value of another type. The error is one line with file, line and path.
//
// Fields are found by their yaml tags. Beyond the plain types it knows pointers,
// slices, maps, nested and inlined structs, [Duration], yaml.Unmarshaler in its
// new and old form, and encoding.TextUnmarshaler. A *secret.Value field X is
// given by the key X, or by X_file as a path; that file must be readable now. A
// key without a value leaves the default; a list or map replaces it.
func (s *Section) Decode(dst any) error {
	d := s.source.decoder()
	err := d.into(s.own, reflect.ValueOf(dst).Elem(), commonKeys())
	s.source.secrets = append(s.source.secrets, d.secrets...)
	return err
}

// Errorf returns an error about the value at path, such as
// "prices.networks[0].mnc" or "" for the account: one line with file, line and
// whole path. A value that is missing gets the line of what should hold it.
// Secrets, and text from the environment, are not shown.
func (s *Section) Errorf(path, format string, args ...any) error {
	n, whole := s.account.find(path)
	message := s.source.withoutSecrets(fmt.Sprintf(format, args...))
	if whole && n.expanded {
		// However short it is, this is what the message is about.
		message = replaceWord(message, n.text, n.written)
	}
	full := s.account.path()
	if path != "" && path[0] != '[' {
		full += "."
	}
	return &fault{s.source.file, n.line, full + path, message}
}

// Warnf adds a line to [File.Warnings], made as that of Errorf.
func (s *Section) Warnf(path, format string, args ...any) {
	s.source.result.Warnings = append(s.source.result.Warnings, s.Errorf(path, format, args...).Error())
}

// Path returns p as seen from the configuration file; "" stays "".
func (s *Section) Path(p string) string { return s.source.path(p) }

// Has tells whether the account has a value at path. A key with nothing after it
// has none.
func (s *Section) Has(path string) bool {
	n, whole := s.account.find(path)
	return whole && n.kind != null
}

func (s *source) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(s.dir, p)
}

func (s *source) decoder() *decoder { return &decoder{file: s.file, path: s.path} }

// withoutSecrets returns message with secrets masked and text from the
// environment as it is written. Short texts are left: they turn up by chance.
func (s *source) withoutSecrets(message string) string {
	message = secret.NewMask(s.secrets...).String(message)
	var texts []string
	for text := range s.replaced {
		if len(text) >= 4 {
			texts = append(texts, text)
		}
	}
	slices.SortFunc(texts, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) // a part after the whole
	})
	var pairs []string
	for _, text := range texts {
		quoted := strconv.Quote(text)
		pairs = append(pairs, text, s.replaced[text], quoted[1:len(quoted)-1], s.replaced[text])
	}
	return strings.NewReplacer(pairs...).Replace(message)
}

// replaceWord replaces word where it is no part of a longer word.
func replaceWord(s, word, by string) string {
	if strings.TrimSpace(word) == "" {
		return s
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, word)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		last, _ := utf8.DecodeLastRuneInString(before)
		next, _ := utf8.DecodeRuneInString(after)
		if isWord(last) || isWord(next) {
			b.WriteString(word)
		} else {
			b.WriteString(by)
		}
		s = after
	}
}

func isWord(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r))
}
