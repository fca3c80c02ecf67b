package recipe

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
)

var placeholder = regexp.MustCompile(`\{[A-Za-z_][A-Za-z0-9_]*\}`)

// placeholders returns the names in text.
func placeholders(text string) []string {
	names := placeholder.FindAllString(text, -1)
	for i, name := range names {
		names[i] = name[1 : len(name)-1]
	}
	return names
}

// values are what placeholders stand for, by name.
type values map[string]string

// valueError is a value that cannot stand where its placeholder does.
type valueError struct{ name, problem string }

// Error implements error.
func (e *valueError) Error() string { return e.name + ": " + e.problem }

// fill replaces the placeholders of text. escape makes a value fit its place; an error
// of it is that of the placeholder.
func (v values) fill(text string, escape func(string) (string, error)) (filled string, err error) {
	filled = placeholder.ReplaceAllStringFunc(text, func(found string) string {
		name := found[1 : len(found)-1]
		escaped, escapeErr := escape(v[name])
		if escapeErr != nil && err == nil {
			err = &valueError{name, escapeErr.Error()}
		}
		return escaped
	})
	return filled, err
}

// plain is for places where the whole text is escaped afterwards.
func plain(value string) (string, error) { return value, nil }

func inHeader(value string) (string, error) {
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", errors.New("has a line break or another character that cannot be sent in a header; correct it")
	}
	return value, nil
}

// inPath keeps a value within its segment of a path.
func inPath(value string) (string, error) {
	if value == "" || strings.Trim(value, ".") == "" {
		return "", errors.New("is empty or consists of dots, which would change the path; correct it")
	}
	return url.PathEscape(value), nil
}

// userName is the part before the colon of basic authentication.
func userName(value string) (string, error) {
	if strings.Contains(value, ":") {
		return "", errors.New("has a colon, which a user name cannot have; correct it")
	}
	return value, nil
}
