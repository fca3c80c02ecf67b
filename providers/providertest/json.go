package providertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

// decimal matches a number in a text.
var decimal = regexp.MustCompile(`-?[0-9]+(\.[0-9]+)?`)

// numbers adds the numbers of a body to sent: those of a JSON text, in strings too, and
// those anywhere in another text.
func numbers(body []byte, sent map[float64]bool) {
	found := leaves(decode(body))
	if decode(body) == nil {
		for i, text := range decimal.FindAllString(string(body), -1) {
			found[strconv.Itoa(i)] = text
		}
	}
	for _, text := range found {
		if f, err := strconv.ParseFloat(strings.TrimSpace(text), 64); err == nil {
			sent[f] = true
		}
	}
}

// decode returns the nodes of a JSON text; nil if it is none.
func decode(body []byte) any {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var root any
	if d.Decode(&root) != nil {
		return nil
	}
	return root
}

// walk visits the nodes of a tree with their paths, such as ".content[0].value".
func walk(node any, visit func(path string, node any)) {
	edit(node, "", func(path string, node any) any {
		visit(path, node)
		return node
	})
}

// absent stands for a node that is left out.
var absent any = struct{}{}

// edit returns a copy of the tree with each node replaced by what change returns.
// Nodes are visited in a fixed order, children after their parents were changed.
func edit(node any, path string, change func(path string, node any) any) any {
	switch node := change(path, node).(type) {
	case []any:
		edited := make([]any, 0, len(node))
		for i, child := range node {
			if child = edit(child, fmt.Sprintf("%s[%d]", path, i), change); child != absent {
				edited = append(edited, child)
			}
		}
		return edited
	case map[string]any:
		edited := make(map[string]any, len(node))
		for _, key := range keys(node) {
			if child := edit(node[key], path+"."+key, change); child != absent {
				edited[key] = child
			}
		}
		return edited
	default:
		return node
	}
}

func keys(object map[string]any) []string {
	all := make([]string, 0, len(object))
	for key := range object {
		all = append(all, key)
	}
	slices.Sort(all)
	return all
}

// encode is the opposite of decode. The text invalid becomes bytes that are no
// UTF-8.
func encode(t *T, root any) []byte {
	t.Helper()
	body, err := json.Marshal(root)
	require.NoError(t, err)
	return bytes.ReplaceAll(body, []byte(invalid), []byte("\xff\xc0\xaf"))
}

const invalid = "invalid-UTF-8-goes-here"

// leaves returns the texts and numbers of a JSON tree by their path.
func leaves(root any) map[string]string {
	found := map[string]string{}
	walk(root, func(path string, node any) {
		switch node := node.(type) {
		case string:
			found[path] = node
		case json.Number:
			found[path] = node.String()
		}
	})
	return found
}

// list is an array in a JSON tree.
type list struct {
	path     string
	elements int
}

// lists returns the arrays of a JSON tree.
func lists(root any) []list {
	var found []list
	walk(root, func(path string, node any) {
		if elements, ok := node.([]any); ok {
			found = append(found, list{path, len(elements)})
		}
	})
	return found
}

// replaceAt returns a fault that puts value, or nothing if it is absent, at a path
// of a good answer.
func replaceAt(t *T, path string, value any) simulate.Fault {
	return rewriting(func(body []byte) []byte {
		return encode(t, edit(decode(body), "", func(at string, node any) any {
			if at == path {
				return value
			}
			return node
		}))
	})
}

// at returns the node at a path; nil if there is none.
func at(root any, path string) (found any) {
	walk(root, func(p string, node any) {
		if p == path {
			found = node
		}
	})
	return found
}

func title(key string) string {
	if key == "" {
		return key
	}
	return strings.ToUpper(key[:1]) + key[1:]
}

// encodeWithDecoys writes a tree as JSON. Beside each key stands the same in
// another case, with a value of the same type.
func encodeWithDecoys(b *bytes.Buffer, node any, first bool, spell func(string) string) {
	separator := byte('{')
	switch node := node.(type) {
	case map[string]any:
		if len(node) == 0 {
			b.WriteByte('{')
		}
		for _, key := range keys(node) {
			member := func() {
				b.WriteByte(separator)
				separator = ','
				b.WriteString(simulate.Quote(key) + ":")
				encodeWithDecoys(b, node[key], first, spell)
			}
			decoy := func() {
				if other := spell(key); other != key {
					b.WriteByte(separator)
					separator = ','
					b.WriteString(simulate.Quote(other) + ":" + decoyOf(node[key]))
				}
			}
			if first {
				decoy()
				member()
			} else {
				member()
				decoy()
			}
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, child := range node {
			if i > 0 {
				b.WriteByte(',')
			}
			encodeWithDecoys(b, child, first, spell)
		}
		b.WriteByte(']')
	default:
		text, err := json.Marshal(node)
		if err != nil {
			panic(err) // It was decoded from JSON.
		}
		b.Write(text)
	}
}

func decoyOf(node any) string {
	switch node.(type) {
	case json.Number:
		return "987654.5"
	case string:
		return `"decoy"`
	case bool:
		return "false"
	case []any:
		return "[]"
	case map[string]any:
		return "{}"
	}
	return "null"
}
