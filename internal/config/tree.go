package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxAliased bounds the values that aliases may stand for in one file, so that a
// few lines of aliases of aliases cannot fill the memory.
const maxAliased = 100_000

type kind int

const (
	null kind = iota
	scalar
	list
	mapping
)

// node is a value of the configuration file with aliases, merge keys and
// environment variables resolved, that knows its place in the file.
type node struct {
	parent *node
	key    string // in a mapping
	index  int    // in a list
	line   int    // of the key, if it has one

	kind     kind
	items    []*node // of a list or mapping, in the order of the file
	tag      string  // of a scalar: !!str, !!int, !!float, !!bool, !!timestamp
	text     string  // of a scalar
	written  string  // of a scalar: as in the file, where text has the environment's
	expanded bool    // text is not as written
}

// path returns where n is: accounts[0].prices.networks[0].mnc.
func (n *node) path() string {
	switch {
	case n.parent == nil:
		return ""
	case n.parent.kind == list:
		return n.parent.path() + "[" + strconv.Itoa(n.index) + "]"
	default:
		return joinPath(n.parent.path(), keyInPath(n.key))
	}
}

func joinPath(parent, key string) string {
	if parent == "" || key == "" {
		return parent + key
	}
	return parent + "." + key
}

// child returns the value of key in a mapping; nil if there is none.
func (n *node) child(key string) *node {
	if n.kind != mapping {
		return nil
	}
	for _, c := range n.items {
		if c.key == key {
			return c
		}
	}
	return nil
}

// find returns the deepest node on path, such as prices.networks[0].mnc, and
// whether that is the whole path.
func (n *node) find(path string) (deepest *node, whole bool) {
	for _, step := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' }) {
		var next *node
		if index, isIndex := strings.CutSuffix(step, "]"); !isIndex {
			next = n.child(step)
		} else if i, err := strconv.Atoi(index); err == nil && n.kind == list && 0 <= i && i < len(n.items) {
			next = n.items[i]
		}
		if next == nil {
			return n, false
		}
		n = next
	}
	return n, true
}

// anyExpanded tells whether n or a value in it has text from the environment.
func (n *node) anyExpanded() bool {
	return n.expanded || slices.ContainsFunc(n.items, (*node).anyExpanded)
}

// describe says what n is, as the end of "expected a number, got …". Text from
// the environment is shown as it is written.
func (n *node) describe() string {
	switch {
	case n.kind == list:
		return "a list"
	case n.kind == mapping:
		return "a mapping"
	case n.kind == null:
		return "nothing"
	case n.expanded:
		return "the value of " + quote(n.written)
	case n.tag == "!!str":
		return "the text " + quote(n.written)
	}
	return quote(n.written)
}

// yaml returns n for an Unmarshaler of the YAML library.
func (n *node) yaml() *yaml.Node {
	y := &yaml.Node{Line: n.line, Column: 1}
	switch n.kind {
	case null:
		y.Kind, y.Tag = yaml.ScalarNode, "!!null"
	case scalar:
		y.Kind, y.Tag, y.Value = yaml.ScalarNode, n.tag, n.text
	case list:
		y.Kind, y.Tag = yaml.SequenceNode, "!!seq"
	case mapping:
		y.Kind, y.Tag = yaml.MappingNode, "!!map"
	}
	for _, item := range n.items {
		if n.kind == mapping {
			y.Content = append(y.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: item.key, Line: item.line, Column: 1})
		}
		y.Content = append(y.Content, item.yaml())
	}
	return y
}

// builder turns the nodes of the YAML library into ours.
type builder struct {
	file string
	env  func(string) (string, bool)

	open    map[*yaml.Node]bool // aliased values that are being built
	aliased int                 // values built on behalf of aliases
	// known keeps the expansion of a scalar that aliases bring here many times.
	known map[*yaml.Node]string
	// replaced lists what was put in and what was written for it.
	replaced map[string]string
}

func newBuilder(file string, env func(string) (string, bool)) *builder {
	return &builder{
		file: file, env: env,
		open:     make(map[*yaml.Node]bool),
		known:    make(map[*yaml.Node]string),
		replaced: make(map[string]string),
	}
}

// parse returns the only document of text.
func (b *builder) parse(text []byte) (*node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, b.whole("the file is empty; add a list of accounts")
	case err != nil:
		return nil, b.syntax(text, err)
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, &fault{file: b.file, line: second.Line, message: "a second document starts here; put all accounts into one document, without ---"}
	case !errors.Is(err, io.EOF):
		return nil, b.syntax(text, err)
	}
	root := &node{}
	if len(document.Content) > 0 {
		root.line = document.Content[0].Line
		if err := b.build(document.Content[0], root); err != nil {
			return nil, err
		}
	}
	return root, nil
}

func (b *builder) whole(message string) error { return &fault{file: b.file, message: message} }

// syntax turns "yaml: line 3: problem" into a fault.
func (b *builder) syntax(text []byte, err error) error {
	f := &fault{file: b.file}
	problem := strings.TrimPrefix(err.Error(), "yaml: ")
	if after, ok := strings.CutPrefix(problem, "line "); ok {
		number, rest, _ := strings.Cut(after, ": ")
		if line, err := strconv.Atoi(number); err == nil {
			f.line, problem = line, rest
			// The library counts from 0 in what its parser finds, as opposed to
			// its scanner.
			for _, expected := range []string{"key", "node content", "'-' indicator", "',' or ']'", "',' or '}'", "<document start>"} {
				if problem == "did not find expected "+expected {
					f.line++
				}
			}
		}
	}
	advice := "check indentation and quotes around here"
	lines := bytes.Split(text, []byte("\n"))
	if 0 < f.line && f.line <= len(lines) && bytes.Contains(lines[f.line-1], []byte("${")) {
		advice = "between [] or {}, put ${…} in quotes; a number needs a line of its own"
	}
	f.message = fmt.Sprintf("not valid YAML: %s; %s", problem, advice)
	return f
}

func (b *builder) fault(n *node, format string, args ...any) error {
	return &fault{b.file, n.line, n.path(), fmt.Sprintf(format, args...)}
}

// build fills n, whose place is known, from y.
func (b *builder) build(y *yaml.Node, n *node) error {
	if len(b.open) > 0 {
		if b.aliased++; b.aliased > maxAliased {
			return b.fault(n, "the aliases of this file stand for more than %d values; write out less by alias", maxAliased)
		}
	}
	if y.Kind == yaml.AliasNode {
		if b.open[y.Alias] {
			return b.fault(n, "the alias *%s stands for something that it is part of; write the value out", oneLine(y.Value))
		}
		b.open[y.Alias] = true
		defer delete(b.open, y.Alias)
		return b.build(y.Alias, n)
	}
	switch tag := y.ShortTag(); tag {
	case "!!null":
		return nil
	case "!!str", "!!int", "!!float", "!!bool", "!!timestamp", "!!seq", "!!map":
		n.tag = tag
	case "!!merge": // an ordinary text where it is no key
		n.tag = "!!str"
	default:
		return b.fault(n, "the tag %s is not known; leave it out", quote(tag))
	}
	switch y.Kind {
	case yaml.SequenceNode:
		n.kind = list
		for i, item := range y.Content {
			c := &node{parent: n, index: i, line: item.Line}
			if err := b.build(item, c); err != nil {
				return err
			}
			n.items = append(n.items, c)
		}
		return nil
	case yaml.MappingNode:
		n.kind = mapping
		return b.mapping(y, n)
	default:
		n.kind = scalar
		return b.scalar(y, n)
	}
}

func (b *builder) mapping(y *yaml.Node, n *node) error {
	seen := make(map[string]int) // line by key
	var merged []*node
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			return b.fault(&node{parent: n.parent, key: n.key, index: n.index, line: key.Line}, "a key must be a word, got a list or mapping")
		}
		if key.ShortTag() == "!!merge" {
			// The merged values have the same path as their new owner.
			m := &node{parent: n.parent, key: n.key, index: n.index, line: key.Line}
			if err := b.build(value, m); err != nil {
				return err
			}
			merged = append(merged, m)
			continue
		}
		c := &node{parent: n, key: key.Value, line: y.Content[i].Line}
		if line, twice := seen[c.key]; twice {
			return b.fault(c, "this key is already in line %d; remove one of them", line)
		}
		seen[c.key] = c.line
		if err := b.build(value, c); err != nil {
			return err
		}
		n.items = append(n.items, c)
	}
	return b.merge(n, seen, merged)
}

// merge adds to n what "<<" brings: mappings or lists of them, of which the
// first has precedence, and over which a key that is written out has it.
func (b *builder) merge(n *node, seen map[string]int, merged []*node) error {
	for len(merged) > 0 {
		m := merged[0]
		merged = merged[1:]
		switch m.kind {
		case mapping:
			for _, c := range m.items {
				if _, ok := seen[c.key]; !ok {
					seen[c.key] = c.line
					c.parent = n
					n.items = append(n.items, c)
				}
			}
		case list:
			if i := slices.IndexFunc(m.items, func(c *node) bool { return c.kind != mapping }); i >= 0 {
				return b.fault(m, "<< takes mappings, got a list with %s", m.items[i].describe())
			}
			merged = append(slices.Clone(m.items), merged...)
		default:
			return b.fault(m, "<< takes a mapping, got %s", m.describe())
		}
	}
	return nil
}

func (b *builder) scalar(y *yaml.Node, n *node) error {
	n.text, n.written = y.Value, y.Value
	if !strings.Contains(y.Value, "${") {
		return nil
	}
	n.expanded = true
	text, ok := b.known[y]
	if !ok {
		var problem string
		if text, problem = b.expand(y.Value); problem != "" {
			return b.fault(n, "%s", problem)
		}
		b.known[y] = text
		b.replaced[text] = y.Value
	}
	n.text = text
	// What is written plainly can be a number or truth value, as if it had been
	// in the file; but never nothing, or an empty variable would go unnoticed.
	if plain := y.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0; plain {
		n.tag = (&yaml.Node{Kind: yaml.ScalarNode, Value: text}).ShortTag()
		if n.tag == "!!null" || n.tag == "!!merge" {
			n.tag = "!!str"
		}
	}
	return nil
}

// expand replaces ${NAME} by the environment's and $${ by ${. The problem, if
// any, shows nothing else of text, which may be a secret.
func (b *builder) expand(text string) (expanded, problem string) {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, "${")
		if !found {
			out.WriteString(text)
			return out.String(), ""
		}
		if literal, escaped := strings.CutSuffix(before, "$"); escaped {
			out.WriteString(literal + "${")
			text = after
			continue
		}
		name, rest, closed := strings.Cut(after, "}")
		if !closed || !isVariable(name) {
			return "", "${ must be followed by the name of an environment variable and }; write $${ for a literal ${"
		}
		value, set := b.env(name)
		if !set {
			return "", fmt.Sprintf("the environment variable %s is not set; set it, or write $${ for a literal ${", name)
		}
		out.WriteString(before + value)
		b.replaced[value] = "${" + name + "}"
		text = rest
	}
}

func isVariable(name string) bool {
	for i, r := range name {
		letter := r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}
