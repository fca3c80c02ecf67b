package recipe

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// formats are how a body is read, by the value of `format`.
var formats = map[string]func(body []byte) (any, error){"json": decodeJSON, "text": decodeText, "xml": decodeXML}

// decodeJSON keeps the digits of numbers.
func decodeJSON(body []byte) (any, error) {
	if !json.Valid(body) {
		return nil, json.Unmarshal(body, new(json.RawMessage)) // the error names the place
	}
	return new(kit.Decoder).Decode(body), nil
}

// decodeText returns the body as one text without the white space around it.
func decodeText(body []byte) (any, error) {
	text := strings.TrimSpace(strings.ToValidUTF8(string(body), "�"))
	if text == "" {
		return nil, errors.New("the text is empty")
	}
	return text, nil
}

// maxDepth bounds the nesting of XML.
const maxDepth = 100

// decodeXML returns an object with the root element. An element with neither
// attributes nor elements is its text; any other is an object of its elements, its
// attributes as "@name", and its text, if any, as "#text". Elements of one name become
// a list. Prefixes of names are left out.
func decodeXML(body []byte) (any, error) {
	d := xml.NewDecoder(bytes.NewReader(body))
	top := &element{}
	open := []*element{top}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && len(open) == 1 && len(top.children) == 1 {
			return top.value(), nil
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil, errors.New("the text has no root element")
		case err != nil:
			return nil, err
		}
		in := open[len(open)-1]
		switch token := token.(type) {
		case xml.StartElement:
			if len(open) > maxDepth || len(open) == 1 && len(top.children) > 0 {
				return nil, errors.New("nested too deep, or more than one root element")
			}
			e := &element{}
			for _, a := range token.Attr {
				if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" {
					e.add("@"+a.Name.Local, a.Value)
				}
			}
			in.children = append(in.children, child{token.Name.Local, e})
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) == 1 && len(bytes.TrimSpace(token)) > 0 {
				return nil, errors.New("text outside of the root element")
			}
			in.text.Write(token)
		case xml.Directive:
			return nil, errors.New("it has a document type, which is not read")
		}
	}
}

// element is an element of XML that is being read.
type element struct {
	children []child // a value is an *element or the text of an attribute
	text     strings.Builder
}

type child struct {
	name  string
	value any
}

func (e *element) add(name string, value any) { e.children = append(e.children, child{name, value}) }

func (e *element) value() any {
	text := strings.TrimSpace(e.text.String())
	if len(e.children) == 0 {
		return text
	}
	object := map[string]any{}
	if text != "" {
		object["#text"] = text
	}
	repeated := map[string]bool{}
	for _, c := range e.children {
		value := c.value
		if inner, ok := value.(*element); ok {
			value = inner.value()
		}
		switch first, again := object[c.name]; {
		case !again:
			object[c.name] = value
		case repeated[c.name]:
			object[c.name] = append(first.([]any), value)
		default:
			repeated[c.name] = true
			object[c.name] = []any{first, value}
		}
	}
	return object
}

// kindOf names the type of a value.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a text"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "a number"
}

// Bounds of a [shape].
const (
	maxShapeDepth = 4
	maxShapeKeys  = 12
	maxShapeKey   = 40 // characters
)

// shape describes a decoded body without its values, such as
// "{balance: text, items: [{id: number}]}". Its keys are masked.
func shape(v any, a providers.Answer, depth int) string {
	switch v := v.(type) {
	case map[string]any:
		if len(v) > 0 && depth == maxShapeDepth {
			return "{…}"
		}
		var parts []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if len(parts) == maxShapeKeys {
				parts = append(parts, fmt.Sprintf("and %d more", len(v)-maxShapeKeys))
				break
			}
			parts = append(parts, a.Quote(key, maxShapeKey)+": "+shape(v[key], a, depth+1))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		switch {
		case len(v) == 0:
			return "[]"
		case depth == maxShapeDepth:
			return "[…]"
		}
		return fmt.Sprintf("[%d × %s]", len(v), shape(v[0], a, depth+1))
	}
	_, kind, found := strings.Cut(kindOf(v), " ")
	if !found {
		return "null"
	}
	return kind
}
