package recipe

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/itchyny/gojq"
)

// functionPrefix keeps functions apart from those of the library.
const functionPrefix = "recipe_"

// function is a function of an expression that reads or makes text, which the library
// does not bound. It differs from the function of that name in jq only where that
// would lose digits or end values silently.
type function struct {
	arity int
	// literal is set if the arguments must be literal texts, pattern if the first one
	// is a regular expression.
	literal, pattern bool
	call             func(m *meter, v any, args []any) any
}

// functionError is an error of a function. It shows no value.
type functionError string

// Error implements error.
func (e functionError) Error() string { return string(e) }

// native are the functions of the library that are allowed, by their number of
// arguments. None has more output than instructions.
var native = map[string]int{"empty": 0, "map": 1, "not": 0, "select": 1, "to_entries": 0, "type": 0}

// functions are the others that are allowed. Those whose names start with an
// underscore stand for operators.
var functions = map[string]function{
	"ascii_downcase": {call: onText("ascii_downcase", strings.ToLower)},
	"ascii_upcase":   {call: onText("ascii_upcase", strings.ToUpper)},
	"capture":        {arity: 1, literal: true, pattern: true, call: capture},
	"endswith":       {arity: 1, call: onTexts("endswith", strings.HasSuffix)},
	"error":          {arity: 1, call: raise},
	"gsub":           {arity: 2, literal: true, pattern: true, call: replaceAll},
	"has":            {arity: 1, call: has},
	"join":           {arity: 1, call: join},
	"keys":           {call: keys},
	"length":         {call: length},
	"ltrimstr":       {arity: 1, call: onTexts("ltrimstr", strings.TrimPrefix)},
	"rtrimstr":       {arity: 1, call: onTexts("rtrimstr", strings.TrimSuffix)},
	"split":          {arity: 1, call: split},
	"startswith":     {arity: 1, call: onTexts("startswith", strings.HasPrefix)},
	"sub":            {arity: 2, literal: true, pattern: true, call: replaceFirst},
	"test":           {arity: 1, literal: true, pattern: true, call: matches},
	"tonumber":       {call: toNumber},
	"tostring":       {call: toString},
	"trim":           {call: onText("trim", strings.TrimSpace)},

	"_index": {arity: 1, call: index},
	"_eq":    {arity: 2, call: compare(func(c int) bool { return c == 0 })},
	"_ne":    {arity: 2, call: compare(func(c int) bool { return c != 0 })},
	"_lt":    {arity: 2, call: compare(func(c int) bool { return c < 0 })},
	"_le":    {arity: 2, call: compare(func(c int) bool { return c <= 0 })},
	"_gt":    {arity: 2, call: compare(func(c int) bool { return c > 0 })},
	"_ge":    {arity: 2, call: compare(func(c int) bool { return c >= 0 })},
}

// concat is the function that a text with \(…) stands for.
const concat = "_concat"

// maxParts bounds the parts of a text with \(…), whose functions the library bounds.
const maxParts = 20

// metered is f as the library calls it: the meter comes first.
func (f function) metered(v any, args []any) any {
	m, ok := args[0].(*meter)
	size := sizeOf(v)
	for _, arg := range args[1:] {
		size += sizeOf(arg)
	}
	if !ok || !m.take(size) {
		return errBounds
	}
	result := f.call(m, v, args[1:])
	if !m.take(sizeOf(result)) {
		return errBounds
	}
	return result
}

// sizeOf returns the bytes of a text; few for anything else, whose size is that of its
// instructions.
func sizeOf(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case json.Number:
		return len(v)
	}
	return 1
}

func wrongType(name string, v any) functionError {
	return functionError(fmt.Sprintf("%s cannot be applied to: %s", name, gojq.TypeOf(v)))
}

func onText(name string, f func(string) string) func(*meter, any, []any) any {
	return func(_ *meter, v any, _ []any) any {
		if text, ok := v.(string); ok {
			return f(text)
		}
		return wrongType(name, v)
	}
}

func onTexts[Result any](name string, f func(text, arg string) Result) func(*meter, any, []any) any {
	return func(_ *meter, v any, args []any) any {
		text, ok := v.(string)
		arg, argOK := args[0].(string)
		switch {
		case !ok:
			return wrongType(name, v)
		case !argOK:
			return wrongType(name, args[0])
		}
		return f(text, arg)
	}
}

// raise fails the evaluation: the answer does not have the documented form.
func raise(_ *meter, _ any, args []any) any {
	text, ok := scalarText(args[0])
	if !ok {
		return wrongType("error", args[0])
	}
	return functionError(text)
}

// toNumber returns a numeric text with its digits.
func toNumber(_ *meter, v any, _ []any) any {
	switch v := v.(type) {
	case json.Number:
		return v
	case string:
		if isNumber(v) {
			return json.Number(v)
		}
		return functionError("tonumber: the text is not a number")
	}
	return wrongType("tonumber", v)
}

func toString(_ *meter, v any, _ []any) any {
	if text, ok := scalarText(v); ok {
		return text
	}
	return wrongType("tostring", v)
}

func length(_ *meter, v any, _ []any) any {
	switch v := v.(type) {
	case nil:
		return 0
	case string:
		return utf8.RuneCountInString(v)
	case []any:
		return len(v)
	case map[string]any:
		return len(v)
	}
	return wrongType("length", v)
}

func has(_ *meter, v any, args []any) any {
	object, ok := v.(map[string]any)
	key, keyOK := args[0].(string)
	if !ok || !keyOK {
		return wrongType("has", v)
	}
	_, found := object[key]
	return found
}

func keys(m *meter, v any, _ []any) any {
	object, ok := v.(map[string]any)
	if !ok {
		return wrongType("keys", v)
	}
	if !m.take(elementSize * len(object)) {
		return errBounds
	}
	return anys(slices.Sorted(maps.Keys(object)))
}

// elementSize is what an element of a list takes, in bytes: a value, and a text.
const elementSize = 32

func anys(texts []string) []any {
	values := make([]any, len(texts))
	for i, text := range texts {
		values[i] = text
	}
	return values
}

func split(m *meter, v any, args []any) any {
	text, ok := v.(string)
	separator, separatorOK := args[0].(string)
	switch {
	case !ok:
		return wrongType("split", v)
	case !separatorOK:
		return wrongType("split", args[0])
	case text == "":
		return []any{}
	case !m.take(elementSize * (strings.Count(text, separator) + 1)):
		return errBounds
	}
	return anys(strings.Split(text, separator))
}

func join(m *meter, v any, args []any) any {
	list, ok := v.([]any)
	separator, separatorOK := args[0].(string)
	if !ok || !separatorOK {
		return wrongType("join", v)
	}
	var b strings.Builder
	for i, element := range list {
		text, ok := scalarText(element)
		switch {
		case !ok:
			return wrongType("join", element)
		case !m.take(len(text) + len(separator)):
			return errBounds
		case i > 0:
			b.WriteString(separator)
		}
		if element != nil {
			b.WriteString(text)
		}
	}
	return b.String()
}

func concatenate(m *meter, _ any, parts []any) any {
	var b strings.Builder
	for _, part := range parts {
		text, ok := scalarText(part)
		if !ok {
			return wrongType(`\(…)`, part)
		}
		if !m.take(len(text)) {
			return errBounds
		}
		b.WriteString(text)
	}
	return b.String()
}

func index(_ *meter, v any, args []any) any {
	switch key := args[0].(type) {
	case string:
		if object, ok := v.(map[string]any); ok || v == nil {
			return object[key]
		}
	case int:
		list, ok := v.([]any)
		if key < 0 {
			key += len(list)
		}
		switch {
		case v == nil || ok && (key < 0 || key >= len(list)):
			return nil
		case ok:
			return list[key]
		}
	}
	return wrongType(".[…]", v)
}

// compare compares two texts, numbers, truth values or nulls. Lists and objects would
// take time without bound.
func compare(is func(int) bool) func(*meter, any, []any) any {
	return func(_ *meter, _ any, args []any) any {
		for _, v := range args {
			switch v.(type) {
			case []any, map[string]any:
				return wrongType("a comparison", v)
			}
		}
		return is(gojq.Compare(args[0], args[1]))
	}
}

// patterns caches the regular expressions, which are literal texts of recipes.
var patterns sync.Map // text → *regexp.Regexp

func pattern(source string) (*regexp.Regexp, error) {
	if re, ok := patterns.Load(source); ok {
		return re.(*regexp.Regexp), nil
	}
	re, err := regexp.Compile(source)
	if err != nil {
		return nil, functionError(err.Error())
	}
	patterns.Store(source, re)
	return re, nil
}

func matches(_ *meter, v any, args []any) any {
	return withPattern("test", v, args, func(re *regexp.Regexp, text string) any { return re.MatchString(text) })
}

// capture returns an object of the named groups. A text that does not match is an
// error: in jq there would be no output, which a recipe takes for "no balance".
func capture(_ *meter, v any, args []any) any {
	return withPattern("capture", v, args, func(re *regexp.Regexp, text string) any {
		match := re.FindStringSubmatchIndex(text)
		if match == nil {
			return functionError("capture: the text does not match")
		}
		groups := map[string]any{}
		for i, name := range re.SubexpNames() {
			switch from := match[2*i]; {
			case name == "":
			case from < 0:
				groups[name] = nil
			default:
				groups[name] = text[from:match[2*i+1]]
			}
		}
		return groups
	})
}

func replaceAll(m *meter, v any, args []any) any   { return replace(m, "gsub", v, args, -1) }
func replaceFirst(m *meter, v any, args []any) any { return replace(m, "sub", v, args, 1) }

// replace replaces the first n matches, -1 for all.
func replace(m *meter, name string, v any, args []any, n int) any {
	return withPattern(name, v, args, func(re *regexp.Regexp, text string) any {
		replacement, _ := args[1].(string)
		found := re.FindAllStringIndex(text, n)
		if !m.take(len(found) * (elementSize + len(replacement))) {
			return errBounds
		}
		var b strings.Builder
		end := 0
		for _, match := range found {
			b.WriteString(text[end:match[0]])
			b.WriteString(replacement)
			end = match[1]
		}
		return b.String() + text[end:]
	})
}

// withPattern calls f with the regular expression in the first argument. Time is in
// proportion to the length of the text.
func withPattern(name string, v any, args []any, f func(re *regexp.Regexp, text string) any) any {
	text, ok := v.(string)
	if !ok {
		return wrongType(name, v)
	}
	source, _ := args[0].(string)
	re, err := pattern(source)
	if err != nil {
		return err
	}
	return f(re, text)
}
