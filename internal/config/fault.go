package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// fault is an error of the configuration: one line that says where and what.
type fault struct {
	file    string
	line    int    // 0 for the whole file
	path    string // "" for the whole file
	message string
}

// Error returns "config.yml:12: accounts[0].name: message".
func (f *fault) Error() string {
	where := f.file
	if f.line > 0 {
		where += ":" + strconv.Itoa(f.line)
	}
	if f.path != "" {
		where += ": " + f.path
	}
	return where + ": " + oneLine(f.message)
}

func isFault(err error) bool {
	var f *fault
	return errors.As(err, &f)
}

// oneLine returns s with everything that would end a line or move the cursor
// escaped.
func oneLine(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unprintable(r) {
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// quote returns text in quotes, shortened if it is long.
func quote(text string) string {
	const longest = 60
	if runes := []rune(text); len(runes) > longest {
		text = string(runes[:longest]) + "…"
	}
	return strconv.Quote(text)
}

// keyInPath returns a key as it is shown in a path.
func keyInPath(key string) string {
	plain := func(r rune) bool {
		return r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	if key == "" || len(key) > 60 || strings.ContainsFunc(key, func(r rune) bool { return !plain(r) }) {
		return quote(key)
	}
	return key
}

// didYouMean returns what to do about an unknown word: the nearest known one, or
// all of them.
func didYouMean(word string, known []string) string {
	best, distance := "", 1+len(word)/3
	for _, k := range known {
		if d := edits(word, k); d <= distance && (best == "" || d < distance) {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %s?", best)
	}
	return "known here: " + strings.Join(known, ", ")
}

// edits returns the Levenshtein distance of a and b. Words that are too long to
// be a misspelt key are infinitely far.
func edits(a, b string) int {
	if len(a) > 60 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
