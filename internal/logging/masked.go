package logging

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// Masked returns a logger that passes every key and value that shows as text
// through mask before logger sees it. It is the last line of defence: a secret
// should not get here.
func Masked(logger log.Logger, mask func(string) string) log.Logger {
	return &masked{logger, mask}
}

type masked struct {
	next log.Logger
	mask func(string) string
}

// Log masks keyvals, without changing the slice of the caller.
func (m *masked) Log(keyvals ...any) error {
	clean := make([]any, len(keyvals))
	for i, v := range keyvals {
		clean[i] = m.value(v)
	}
	return m.next.Log(clean...)
}

// value returns v if mask finds nothing in any of the ways in which a logger may
// show it, else the masked text.
func (m *masked) value(v any) any {
	switch v := v.(type) {
	case nil, bool, level.Value: // a filter needs the level as it is
		return v
	case string:
		return m.mask(v)
	}
	switch reflect.TypeOf(v).Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64:
		if _, ok := v.(fmt.Stringer); !ok {
			return v
		}
	}
	for _, show := range []func(any) string{asText, asError, asString, asJSON} {
		if text := safely(show, v); text != "" {
			if clean := m.mask(text); clean != text {
				return clean
			}
		}
	}
	return v
}

// safely returns "" if show panics, as a method of a nil pointer may. The logger
// below meets the same panic and knows what to write.
func safely(show func(any) string, v any) (text string) {
	defer func() {
		if recover() != nil {
			text = ""
		}
	}()
	return show(v)
}

func asText(v any) string {
	if t, ok := v.(encoding.TextMarshaler); ok {
		text, _ := t.MarshalText() // no text, nothing to mask
		return string(text)
	}
	return ""
}

func asError(v any) string {
	if err, ok := v.(error); ok {
		return err.Error()
	}
	return ""
}

func asString(v any) string {
	switch v := v.(type) {
	case fmt.Stringer:
		return v.String()
	case []byte:
		return string(v)
	}
	return ""
}

// asJSON covers what has no method: named strings, pointers, structs, maps.
func asJSON(v any) string {
	encoded, _ := json.Marshal(v) // no JSON, nothing to mask
	var text string
	if json.Unmarshal(encoded, &text) == nil {
		return text
	}
	return string(encoded)
}
