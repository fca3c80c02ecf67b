package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFaults bounds the lines of an error.
const maxFaults = 20

// fault is one thing that is wrong with the file.
type fault struct {
	line int    // 0 for the whole file
	path string // of the value
	// meant is the path of the key that a misspelled one stands for; "" for none.
	meant string
	text  string
}

// Error returns one line that says where and what.
func (f *fault) Error() string { return f.text }

// fault returns an error about n at path, in one line that says where and what, such
// as "config.yml:12: accounts[0].name: message". Without a line and a path it is about
// the whole file. It escapes what would end the line or move the cursor.
func (d *document) fault(n *yaml.Node, path, format string, args ...any) *fault {
	where := d.file
	if n.Line > 0 {
		where += ":" + strconv.Itoa(n.Line)
	}
	if path != "" {
		where += ": " + path
	}
	escaped := strconv.Quote(fmt.Sprintf(format, args...))
	text := where + ": " + strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(escaped[1:len(escaped)-1])
	return &fault{line: n.Line, path: path, text: text}
}

func (d *document) warn(fault error) {
	d.result.Warnings = append(d.result.Warnings, fault.Error())
}

// Join returns faults, which may be joined errors, as one error with a line for each
// in the order of the file: at most 20, and the number of those left out. Of several
// faults of one value it keeps the first; a misspelled key is not missing as well. It returns nil if there are none.
func Join(faults ...error) error {
	all, kept := flatten(faults), []error(nil)
	seen := make(map[string]bool)
	for _, err := range all {
		if f, ok := err.(*fault); ok { //nolint:errorlint // not wrapped
			seen[f.meant] = true
		}
	}
	for _, err := range all {
		if f, ok := err.(*fault); ok && f.path != "" { //nolint:errorlint // not wrapped
			if seen[f.path] {
				continue
			}
			seen[f.path] = true
		}
		kept = append(kept, err)
	}
	slices.SortStableFunc(kept, func(a, b error) int { return cmp.Compare(lineOf(a), lineOf(b)) })
	if more := len(kept) - maxFaults; more > 0 {
		kept = append(kept[:maxFaults], fmt.Errorf("and %d more", more))
	}
	return errors.Join(kept...)
}

// flatten returns the errors that were joined, however deeply.
func flatten(errs []error) (flat []error) {
	for _, err := range errs {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			flat = append(flat, flatten(joined.Unwrap())...)
		} else if err != nil {
			flat = append(flat, err)
		}
	}
	return flat
}

// lineOf returns the line of a fault; 0 for another error.
func lineOf(err error) int {
	if f, ok := err.(*fault); ok { //nolint:errorlint // not wrapped
		return f.line
	}
	return 0
}

var plainKey = regexp.MustCompile(`^[\w-]{1,60}$`)

// join returns the path of what step leads to: a key or, in brackets, an index.
func join(path, step string) string {
	switch {
	case step == "" || strings.HasPrefix(step, "["):
		return path + step
	case path == "":
		return step
	}
	return path + "." + step
}

// keyStep returns a key as a step of a path.
func keyStep(key string) string {
	if plainKey.MatchString(key) {
		return key
	}
	return fmt.Sprintf("%.60q", key)
}

func indexStep(i int) string { return "[" + strconv.Itoa(i) + "]" }

// didYouMean returns what to do about an unknown word: the nearest known one, or
// all of them.
func didYouMean(word string, known []string) string {
	if len(known) == 0 {
		return "none is known here, remove it"
	}
	if best := Nearest(word, known); best != "" {
		return fmt.Sprintf("did you mean %s?", best)
	}
	return "known here: " + strings.Join(known, ", ")
}

// Nearest returns the word of known that word is probably a misspelling of; "" for
// none. Case makes no difference.
func Nearest(word string, known []string) (best string) {
	word = strings.ToLower(word[:min(len(word), 60)])
	distance := 2 + len(word)/3
	for _, k := range known {
		if d := edits(word, strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	return best
}

// edits returns the Levenshtein distance of a and b.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0]++
		for j := range len(b) {
			if a[i] != b[j] {
				diagonal++
			}
			diagonal, row[j+1] = row[j+1], min(diagonal, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
