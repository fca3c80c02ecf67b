package config

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFaults bounds the lines of an error.
const maxFaults = 20

// fault returns an error about n at path, in one line that says where and what, such
// as "config.yml:12: accounts[0].name: message". Without a line and a path it is about
// the whole file. It escapes what would end the line or move the cursor.
func (d *document) fault(n *yaml.Node, path, format string, args ...any) error {
	where := d.file
	if n.Line > 0 {
		where += ":" + strconv.Itoa(n.Line)
	}
	if path != "" {
		where += ": " + path
	}
	escaped := strconv.Quote(fmt.Sprintf(format, args...))
	return errors.New(where + ": " + strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(escaped[1:len(escaped)-1]))
}

func (d *document) warn(fault error) {
	d.result.Warnings = append(d.result.Warnings, fault.Error())
}

// Join returns faults of several accounts as one error with a line for each, at
// most 20, and the number of those left out. It returns nil if there are none.
func Join(faults []error) error {
	if more := len(faults) - maxFaults; more > 0 {
		return errors.Join(errors.Join(faults[:maxFaults]...), fmt.Errorf("and %d more", more))
	}
	return errors.Join(faults...)
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
// all of them. Case makes no difference.
func didYouMean(word string, known []string) string {
	word = strings.ToLower(word[:min(len(word), 60)])
	if len(known) == 0 {
		return "none is known here, remove it"
	}
	best, distance := "", 2+len(word)/3
	for _, k := range known {
		if d := edits(word, strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %s?", best)
	}
	return "known here: " + strings.Join(known, ", ")
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
