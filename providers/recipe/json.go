package recipe

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// decodeJSON keeps the digits of numbers.
func decodeJSON(body []byte) (any, error) {
	if !json.Valid(body) {
		return nil, json.Unmarshal(body, new(json.RawMessage)) // the error names the place
	}
	return (&jsonReader{data: body}).value(), nil
}

// jsonReader reads data that are known to be valid JSON. It takes half of the memory of
// [json.Decoder], which makes a copy of the data and of each key.
type jsonReader struct {
	data []byte
	at   int
	keys map[string]string // each once
}

// next returns the next character that is no white space.
func (r *jsonReader) next() byte {
	for strings.IndexByte(" \t\r\n", r.data[r.at]) >= 0 {
		r.at++
	}
	return r.data[r.at]
}

func (r *jsonReader) value() any {
	switch r.next() {
	case '{':
		object := map[string]any{}
		for r.more('}') {
			key := r.key()
			r.next() // the colon
			r.at++
			object[key] = r.value()
		}
		return object
	case '[':
		list := []any{}
		for r.more(']') {
			list = append(list, r.value())
		}
		return list
	case '"':
		return text(r.quoted())
	case 't':
		r.at += len("true")
		return true
	case 'f':
		r.at += len("false")
		return false
	case 'n':
		r.at += len("null")
		return nil
	}
	start := r.at
	for r.at < len(r.data) && strings.IndexByte(",]} \t\r\n", r.data[r.at]) < 0 {
		r.at++
	}
	return json.Number(r.data[start:r.at])
}

// more steps over an opening bracket or a comma, and reports whether an element or a
// member follows; if not, over the bracket that ends them.
func (r *jsonReader) more(end byte) bool {
	if r.next() != end {
		r.at++
	}
	if r.next() != end {
		return true
	}
	r.at++
	return false
}

// quoted returns a string with its quotes.
func (r *jsonReader) quoted() []byte {
	start := r.at
	for r.at++; r.data[r.at] != '"'; r.at++ {
		if r.data[r.at] == '\\' {
			r.at++
		}
	}
	r.at++
	return r.data[start:r.at]
}

func (r *jsonReader) key() string {
	quoted := r.quoted()
	key, known := r.keys[string(quoted)]
	if !known {
		if r.keys == nil {
			r.keys = map[string]string{}
		}
		key = text(quoted)
		r.keys[string(quoted)] = key
	}
	return key
}

// text returns the value of a string with its quotes. Invalid UTF-8 becomes U+FFFD.
func text(quoted []byte) (value string) {
	if inner := quoted[1 : len(quoted)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner)
	}
	_ = json.Unmarshal(quoted, &value) // it is valid
	return value
}
