package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/balance-exporter/balance_exporter/internal/secret"
)

// maxAliased bounds the values that aliases may stand for in one file, so that a
// few lines of aliases of aliases cannot take for ever.
const maxAliased = 100_000

// document is a configuration file whose aliases, merge keys and environment
// variables are resolved in its nodes. The line of a value is that of its key, if
// it has one.
type document struct {
	file     string
	dir      string
	env      func(string) (string, bool)
	result   *File
	faults   []error            // after which the rest could be read all the same
	values   map[string]string  // of the environment variables in use
	sizes    map[*yaml.Node]int // values in each resolved node with an anchor
	size     int                // values so far
	aliased  int                // those of them that aliases stand for
	unexpand *strings.Replacer  // replaces the values of variables by their names
}

// parse returns the resolved root of the only YAML document in text.
func (d *document) parse(text []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var first, second yaml.Node
	err := decoder.Decode(&first)
	if errors.Is(err, io.EOF) {
		return nil, d.fault(&first, "", "the file is empty; add a list of accounts")
	}
	if err == nil {
		err = decoder.Decode(&second)
	}
	switch {
	case err == nil:
		return nil, d.fault(&second, "", "a second document starts here; put all accounts into one document, without ---")
	case !errors.Is(err, io.EOF):
		return nil, d.syntaxFault(text, err)
	}
	root, err := d.resolve(first.Content[0], first.Content[0].Line, "")
	d.unexpand = d.newUnexpand()
	return root, err
}

var (
	syntaxError = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)`)
	// The library counts lines from 0 in these errors.
	fromZero = regexp.MustCompile(`^did not find expected (key|node content|'-' indicator|',' or '[\]}]'|<document start>)$`)
)

// syntaxFault returns an error of the YAML library with its place. Errors that name
// no line are about a character or an anchor.
func (d *document) syntaxFault(text []byte, err error) error {
	match := syntaxError.FindStringSubmatch(err.Error())
	line, _ := strconv.Atoi(match[1])
	at := bytes.IndexFunc(text, func(r rune) bool {
		return r == utf8.RuneError || unicode.IsControl(r) && !strings.ContainsRune("\t\n\r\u0085", r)
	})
	if name, ok := strings.CutPrefix(match[2], "unknown anchor '"); ok {
		name, _, _ = strings.Cut(name, "'")
		at = bytes.Index(text, []byte("*"+name))
	}
	switch {
	case fromZero.MatchString(match[2]):
		line++
	case line == 0 && at >= 0:
		line = 1 + bytes.Count(text[:at], []byte("\n"))
	}
	hint := "check indentation and quotes around here, and write ${…} on a line of its own, not between [] or {}"
	lines := strings.Split(string(text), "\n")
	switch odd := misindented(lines); {
	case line > 0 && line <= len(lines) && strings.HasPrefix(strings.TrimLeft(lines[line-1], " "), "\t"):
		hint = "indent the line with spaces instead of tabs"
	case odd > 0:
		line, hint = odd, fmt.Sprintf("the line is indented by %d, and no line that it can belong to is; indent it like its neighbours", indent(lines[odd-1]))
	case strings.HasPrefix(match[2], "mapping values are not allowed"):
		hint = "indent the line like the one above it; if it is a text with a colon, put that in quotes"
	}
	return d.fault(&yaml.Node{Line: line}, "", "not valid YAML: %s; %s", match[2], hint)
}

func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// misindented returns the number of the first line that ends the block of the lines
// above it and is not indented like any block around that; 0 if there is none.
func misindented(lines []string) int {
	open := []int{0} // the indentation of the blocks around a line
	for i, line := range lines {
		rest := strings.TrimLeft(line, " ")
		if trimmed := strings.TrimSpace(rest); trimmed == "" || trimmed[0] == '#' {
			continue
		}
		at := indent(line)
		closed := false
		for open[len(open)-1] > at {
			open, closed = open[:len(open)-1], true
		}
		if closed && open[len(open)-1] != at {
			return i + 1
		}
		for {
			if open[len(open)-1] != at {
				open = append(open, at)
			}
			item, ok := strings.CutPrefix(rest, "- ")
			if !ok {
				break
			}
			at += 2 + indent(item)
			rest = strings.TrimLeft(item, " ")
		}
	}
	return 0
}

// resolve returns n resolved; from then on its line is line. It follows the order
// of the file, so that what an alias stands for is resolved before the alias.
func (d *document) resolve(n *yaml.Node, line int, path string) (_ *yaml.Node, err error) {
	before := d.size
	d.size++
	if n.Kind == yaml.AliasNode {
		size, resolved := d.sizes[n.Alias]
		d.size, d.aliased = d.size+size, d.aliased+size
		shared := *n.Alias
		shared.Line = line
		switch {
		case !resolved:
			return nil, d.fault(&shared, path, "the alias *%s stands for a key or for something that it is part of; write the value out", n.Value)
		case d.aliased > maxAliased:
			return nil, d.fault(&shared, path, "the aliases of this file stand for more than %d values; write out less by alias", maxAliased)
		}
		return &shared, nil
	}
	n.Line, n.Tag, n.LineComment = line, n.ShortTag(), ""
	switch n.Tag {
	case "!!null":
		n.Kind, n.Content = yaml.ScalarNode, nil
	case "!!seq", "!!map", "!!str", "!!int", "!!float", "!!bool", "!!timestamp":
	case "!!merge": // an ordinary text where it is no key
		n.Tag = "!!str"
	default:
		return nil, d.fault(n, path, "the tag %.60q is not known; leave it out", n.Tag)
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, item := range n.Content {
			if n.Content[i], err = d.resolve(item, item.Line, path+indexStep(i)); err != nil {
				return nil, err
			}
		}
	case yaml.MappingNode:
		err = d.resolveMapping(n, path)
	default:
		err = d.expand(n, path)
	}
	if n.Anchor != "" {
		d.sizes[n] = d.size - before
	}
	return n, err
}

func (d *document) resolveMapping(n *yaml.Node, path string) error {
	lines := make(map[string]int) // of the keys
	var content, merged []*yaml.Node
	for i := 0; i < len(n.Content); i += 2 {
		key, at := n.Content[i], &yaml.Node{Line: n.Content[i].Line}
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		isMerge, step := key.ShortTag() == "!!merge", join(path, keyStep(key.Value))
		switch first, twice := lines[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			return d.fault(at, path, "a key must be a word, got a list or mapping")
		case isMerge:
			step = path
		case twice:
			d.faults = append(d.faults, d.fault(at, step, "this key is already in line %d; remove one of them", first))
			continue
		case strings.Contains(key.Value, "${"):
			return d.fault(at, step, "a key cannot come from the environment; write it out")
		}
		value, err := d.resolve(n.Content[i+1], at.Line, step)
		switch {
		case err != nil:
			return err
		case !isMerge:
			lines[key.Value], content = at.Line, append(content, key, value)
			continue
		case value.Kind == yaml.SequenceNode:
			merged = append(merged, value.Content...)
		default:
			merged = append(merged, value)
		}
		for _, m := range merged {
			if m.Kind != yaml.MappingNode {
				return d.fault(at, path, "<< takes a mapping or a list of them, got %s", describe(m))
			}
		}
	}
	// A key that is written out has precedence, then the first mapping that has it.
	for _, m := range merged {
		for i := 0; i < len(m.Content); i += 2 {
			if key := m.Content[i].Value; lines[key] == 0 {
				lines[key], content = m.Content[i+1].Line, append(content, m.Content[i:i+2]...)
			}
		}
	}
	n.Content = content
	return nil
}

// variable matches $${, ${NAME}, and ${ without a name and an end.
var variable = regexp.MustCompile(`\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{`)

const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle | yaml.TaggedStyle

// expand replaces ${NAME} in a scalar by the trimmed value of the environment
// variable, and $${ by ${. Its error shows nothing else of the text, which may be
// a secret.
func (d *document) expand(n *yaml.Node, path string) (err error) {
	if !strings.Contains(n.Value, "${") {
		return nil
	}
	n.LineComment = n.Value
	n.Value = variable.ReplaceAllStringFunc(n.Value, func(found string) string {
		switch found {
		case "$${":
			return "${"
		case "${":
			err = d.fault(n, path, "${ must be followed by the name of an environment variable and }; write $${ for a literal ${")
			return ""
		}
		name := found[2 : len(found)-1]
		if _, known := d.values[name]; !known {
			value, set := d.env(name)
			switch {
			case !set:
				d.faults = append(d.faults, d.fault(n, path, "the environment variable %s is not set; set it, or write $${ for a literal ${", name))
			case !utf8.ValidString(value): // half a character at the end of a secret would hide it from the mask
				d.faults = append(d.faults, d.fault(n, path, "the environment variable %s is not UTF-8; set it to a text in this encoding", name))
			}
			d.values[name] = secret.Trim(value)
		}
		return d.values[name]
	})
	// What is written without quotes can be a number or truth value, as if it
	// were in the file, but never nothing: an empty variable must be noticed.
	if n.Style&quoted == 0 {
		n.Tag = (&yaml.Node{Kind: yaml.ScalarNode, Value: n.Value}).ShortTag()
		if n.Tag == "!!null" || n.Tag == "!!merge" {
			n.Tag = "!!str"
		}
	}
	return err
}

// newUnexpand leaves short values: they turn up by chance.
func (d *document) newUnexpand() *strings.Replacer {
	longestFirst := func(a, b string) int { return len(d.values[b]) - len(d.values[a]) }
	var pairs []string
	for _, name := range slices.SortedFunc(maps.Keys(d.values), longestFirst) {
		if value := d.values[name]; len(value) >= 4 {
			escaped := strconv.Quote(value)
			pairs = append(pairs, value, "${"+name+"}", escaped[1:len(escaped)-1], "${"+name+"}")
		}
	}
	return strings.NewReplacer(pairs...)
}

// written returns a scalar as it is written, before variables were replaced. This is
// in its comment, which is not needed otherwise.
func written(n *yaml.Node) string { return cmp.Or(n.LineComment, n.Value) }

// describe returns what n is, for the end of "expected a number, got …". Text from
// the environment is shown as it is written.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.LineComment != "":
		return fmt.Sprintf("the value of %.60q", n.LineComment)
	case n.Tag == "!!str":
		return fmt.Sprintf("the text %.60q", n.Value)
	}
	return fmt.Sprintf("%.60q", n.Value)
}

func isNull(n *yaml.Node) bool { return n.Tag == "!!null" }
