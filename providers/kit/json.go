package kit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Text is a JSON string.
type Text struct {
	// Value has U+FFFD in place of invalid UTF-8. It is empty unless OK.
	Value string
	// Present reports a value other than null.
	Present bool
	// OK reports a string.
	OK bool
}

// UnmarshalJSON never fails: a value of another type is not OK.
func (t *Text) UnmarshalJSON(b []byte) error {
	*t = Text{Present: string(b) != "null"}
	if len(b) < 2 || b[0] != '"' {
		return nil
	}
	if bytes.IndexByte(b, '\\') < 0 && utf8.Valid(b) {
		t.Value, t.OK = string(b[1:len(b)-1]), true
		return nil
	}
	t.OK = json.Unmarshal(b, &t.Value) == nil
	return nil
}

// Digits is a string that the API may also send as a JSON number, such as an id.
// Its digits stay as they are, leading zeros included.
type Digits struct{ Text }

// UnmarshalJSON takes a string, and the digits of a whole number from 0. It never
// fails: any other value is not OK.
func (d *Digits) UnmarshalJSON(b []byte) error {
	if IsDigits(string(b)) {
		d.Text = Text{Value: string(b), Present: true, OK: true}
		return nil
	}
	return d.Text.UnmarshalJSON(b)
}

// IsDigits reports whether s consists of decimal digits, at least one.
func IsDigits(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// Number is a JSON number that a float64 can hold.
type Number struct {
	// Value is 0 unless OK.
	Value float64
	// Present reports a value other than null.
	Present bool
	// OK reports a number within the range of a float64: 1e400 is not OK.
	OK bool
}

// UnmarshalJSON never fails: a value of another type, such as a number in quotes,
// is not OK.
func (n *Number) UnmarshalJSON(b []byte) error {
	*n = Number{Present: string(b) != "null"}
	if len(b) == 0 || b[0] != '-' && (b[0] < '0' || b[0] > '9') {
		return nil
	}
	if value, err := strconv.ParseFloat(string(b), 64); err == nil {
		n.Value, n.OK = value, true
	}
	return nil
}

// Count returns n as a whole number from 0 to 2 147 483 647; ok is false for any
// other number.
func (n Number) Count() (count int, ok bool) {
	if !n.OK || n.Value < 0 || n.Value > math.MaxInt32 || n.Value != math.Trunc(n.Value) {
		return 0, false
	}
	return int(n.Value), true
}

// QuotedNumber is a JSON number, or a string that holds one.
type QuotedNumber struct{ Number }

// UnmarshalJSON never fails: any other value is not OK.
func (q *QuotedNumber) UnmarshalJSON(b []byte) error {
	var t Text
	if _ = t.UnmarshalJSON(b); !t.OK {
		return q.Number.UnmarshalJSON(b)
	}
	q.Number = Number{Present: true}
	// strconv alone would also take hexadecimal digits, infinities and names.
	if b = []byte(strings.TrimSpace(t.Value)); json.Valid(b) {
		_ = q.Number.UnmarshalJSON(b)
		q.Present = true
	}
	return nil
}

// True is true for the JSON value true and false for any other value.
type True bool

// UnmarshalJSON never fails.
func (t *True) UnmarshalJSON(b []byte) error {
	*t = string(b) == "true"
	return nil
}

// Raw is a JSON value inside the data that were given to [Unmarshal]. It shares
// their memory; [json.RawMessage] is a copy. It is nil if the key is missing.
type Raw []byte

// UnmarshalJSON takes any value.
func (r *Raw) UnmarshalJSON(b []byte) error {
	*r = b
	return nil
}

// Null reports that the key is missing or its value is null.
func (r Raw) Null() bool { return len(r) == 0 || string(r) == "null" }

// Elements returns the elements of a list. For any other value there are none, and
// ok is false.
func (r Raw) Elements() (elements iter.Seq[Raw], ok bool) {
	isList := len(r) > 0 && r[0] == '['
	return func(yield func(Raw) bool) {
		s := scanner{data: r, at: 1}
		for isList && s.more(']') && yield(s.value()) {
		}
	}, isList
}

// Members returns the keys and values of an object, in its order. For any other value
// there are none.
func (r Raw) Members() iter.Seq2[string, Raw] {
	return func(yield func(string, Raw) bool) {
		s := scanner{data: bytes.TrimLeft(r, " \t\r\n")}
		for s.at = 1; len(s.data) > 0 && s.data[0] == '{' && s.more('}'); {
			if key := string(s.key()); !yield(key, s.value()) {
				return
			}
		}
	}
}

// Unmarshal decodes JSON into dst, a pointer to a struct, to a slice or to a type
// with an UnmarshalJSON. Fields are such types too, and need a json tag.
//
// It differs from [json.Unmarshal] in three ways. A key that is spelled exactly
// like the tag wins over keys that differ in case, wherever it stands: a provider
// that adds "BALANCE" does not change "balance". Of equal keys the last one wins
// as a whole, without a merge of their values. And a struct or a slice inside dst
// stays zero if the value has another type, so that it costs no more than its row.
// Wrong syntax, data after the value and a wrong type of the whole are errors.
func Unmarshal(data []byte, dst any) error {
	if !json.Valid(data) {
		return json.Unmarshal(data, new(json.RawMessage)) // the error names the place
	}
	value, v := (&scanner{data: data}).value(), reflect.ValueOf(dst).Elem()
	_, leaf := dst.(json.Unmarshaler)
	switch {
	case leaf:
	case v.Kind() == reflect.Struct && value[0] != '{':
		return fmt.Errorf("%s instead of an object", KindOf(value[0]))
	case v.Kind() == reflect.Slice && value[0] != '[':
		return fmt.Errorf("%s instead of a list", KindOf(value[0]))
	}
	return unmarshal(value, v)
}

// KindOf names the type of a JSON value, for an error, by its first character.
func KindOf(first byte) string {
	switch first {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// unmarshal sets v from a valid value.
func unmarshal(value Raw, v reflect.Value) error {
	if leaf, ok := v.Addr().Interface().(json.Unmarshaler); ok {
		return leaf.UnmarshalJSON(value)
	}
	v.SetZero()
	switch {
	case v.Kind() == reflect.Struct && value[0] == '{':
		return unmarshalStruct(value, v)
	case v.Kind() == reflect.Slice && value[0] == '[':
		return unmarshalSlice(value, v)
	case v.Kind() != reflect.Struct && v.Kind() != reflect.Slice:
		panic(fmt.Sprintf("kit.Unmarshal cannot set a %s", v.Type()))
	}
	return nil
}

func unmarshalSlice(value Raw, v reflect.Value) error {
	v.Set(reflect.MakeSlice(v.Type(), 0, 0)) // an empty list is not nil
	for s := (scanner{data: value, at: 1}); s.more(']'); {
		v.Grow(1)
		v.SetLen(v.Len() + 1)
		if err := unmarshal(s.value(), v.Index(v.Len()-1)); err != nil {
			return err
		}
	}
	return nil
}

func unmarshalStruct(value Raw, v reflect.Value) error {
	fields := fieldsOf(v.Type())
	var exact uint64 // bit i: fields[i] is set from a key that is spelled exactly
	s := scanner{data: value, at: 1}
	for s.more('}') {
		key := s.key()
		value := s.value()
		i := match(key, fields)
		if i < 0 {
			continue
		}
		if string(key) == string(fields[i].key) {
			exact |= 1 << i
		} else if exact&(1<<i) != 0 {
			continue
		}
		if err := unmarshal(value, v.Field(fields[i].index)); err != nil {
			return err
		}
	}
	return nil
}

// match returns the number of the field that a key sets; -1 for none.
func match(key []byte, fields []field) int {
	folded := -1
	for i, f := range fields {
		if string(f.key) == string(key) {
			return i
		}
		if folded < 0 && bytes.EqualFold(f.key, key) {
			folded = i
		}
	}
	return folded
}

// field is a field of a struct that a JSON object sets.
type field struct {
	key   []byte
	index int
}

// structs caches the fields of each struct type.
var structs sync.Map // reflect.Type → []field

func fieldsOf(t reflect.Type) []field {
	if cached, ok := structs.Load(t); ok {
		return cached.([]field)
	}
	var fields []field
	for i := range t.NumField() {
		if key, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); key != "" && key != "-" {
			fields = append(fields, field{[]byte(key), i})
		}
	}
	if len(fields) == 0 || len(fields) > 64 {
		panic(fmt.Sprintf("kit.Unmarshal needs 1 to 64 fields with a json tag in %s", t))
	}
	structs.Store(t, fields)
	return fields
}

// Decoder decodes JSON of any form. It takes half of the memory of [json.Decoder], which
// makes a copy of the data and of each key. The zero Decoder is ready; it keeps the keys.
type Decoder struct{ keys map[string]string }

// Decode returns a valid value as [json.Unmarshal] does, with numbers as [json.Number].
// Invalid UTF-8 becomes U+FFFD.
func (d *Decoder) Decode(value Raw) any { return d.next(&scanner{data: value}) }

func (d *Decoder) next(s *scanner) any {
	s.space()
	switch s.data[s.at] {
	case '{':
		object := map[string]any{}
		for s.at++; s.more('}'); {
			key := d.key(s.key())
			object[key] = d.next(s)
		}
		s.at++
		return object
	case '[':
		list := []any{}
		for s.at++; s.more(']'); {
			list = append(list, d.next(s))
		}
		s.at++
		return list
	}
	switch value := s.value(); value[0] {
	case '"':
		var t Text
		_ = t.UnmarshalJSON(value)
		return t.Value
	case 't', 'f':
		return value[0] == 't'
	case 'n':
		return nil
	default:
		return json.Number(value)
	}
}

func (d *Decoder) key(text []byte) string {
	key, known := d.keys[string(text)]
	if !known {
		if d.keys == nil {
			d.keys = map[string]string{}
		}
		key = string([]rune(string(text))) // valid UTF-8
		d.keys[string(text)] = key
	}
	return key
}

// scanner reads data that are known to be valid JSON.
type scanner struct {
	data []byte
	at   int
}

// more reports whether another element or member follows in the list or object
// that ends with end.
func (s *scanner) more(end byte) bool {
	s.space()
	if s.data[s.at] == ',' {
		s.at++
		s.space()
	}
	return s.data[s.at] != end
}

// key reads a key and the colon after it.
func (s *scanner) key() []byte {
	key := s.value()
	s.space()
	s.at++
	if bytes.IndexByte(key, '\\') < 0 {
		return key[1 : len(key)-1]
	}
	var t Text
	_ = t.UnmarshalJSON(key)
	return []byte(t.Value)
}

// value reads the next value.
func (s *scanner) value() Raw {
	s.space()
	start := s.at
	for depth := 0; s.at < len(s.data); {
		first := s.data[s.at]
		s.at++
		switch first {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			for ; s.data[s.at] != '"'; s.at++ {
				if s.data[s.at] == '\\' {
					s.at++
				}
			}
			s.at++
		case ',', ':', ' ', '\t', '\r', '\n': // inside a list or an object
		default: // a number, true, false or null
			for s.at < len(s.data) && strings.IndexByte(",:]} \t\r\n", s.data[s.at]) < 0 {
				s.at++
			}
		}
		if depth == 0 {
			break
		}
	}
	return s.data[start:s.at:s.at]
}

func (s *scanner) space() {
	for s.at < len(s.data) && strings.IndexByte(" \t\r\n", s.data[s.at]) >= 0 {
		s.at++
	}
}
