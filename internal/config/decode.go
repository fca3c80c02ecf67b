package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/balance-exporter/balance_exporter/internal/secret"
)

var secretType = reflect.TypeFor[*secret.Value]()

// grouped matches a number whose digits are in groups, as people write large ones.
var grouped = regexp.MustCompile(`^[+-]?\d+([,' \x{a0}\x{2009}]\d+)+(\.\d+)?$`)

func (s *Section) wrongType(n *yaml.Node, path, expected string) error {
	if strings.Contains(path, ".proxy_connect_header") { // credentials
		return s.doc.fault(n, path, "expected %s, got another type", expected)
	}
	hint := ""
	if expected == "a list" && n.Kind == yaml.MappingNode {
		hint = "; put - before each item"
	}
	if strings.HasSuffix(expected, " number") && grouped.MatchString(n.Value) {
		hint = "; write only digits and a decimal point, such as 1500 or 0.5"
	}
	return s.doc.fault(n, path, "expected %s, got %s%s", expected, describe(n), hint)
}

// expected returns what v takes. It panics on a type that [Section.Decode] does not
// know.
func expected(v reflect.Value) string {
	switch v.Interface().(type) {
	case model.Duration:
		return "a duration such as 90s, 1h or 1d"
	case promconfig.URL, promconfig.TLSVersion:
		return "a text"
	}
	switch kind := v.Kind(); {
	case v.CanInt():
		return "a whole number"
	case v.CanFloat():
		return "a number"
	case kind == reflect.Bool:
		return "true or false"
	case kind == reflect.String:
		return "a text"
	case kind == reflect.Slice:
		return "a list"
	case kind == reflect.Struct, kind == reflect.Map:
		return "a mapping"
	}
	panic(fmt.Sprintf("config: cannot decode into a field of type %s", v.Type()))
}

// value fills v, which must be settable, from n. A null leaves v as it is. It walks
// mappings and lists itself, because [yaml.Node.Decode] accepts unknown keys and its
// errors have no path.
func (s *Section) value(n *yaml.Node, path string, v reflect.Value) error {
	if isNull(n) {
		return nil
	}
	switch u := v.Addr().Interface().(type) {
	case **yaml.Node:
		*u = n
		return nil
	case **secret.Value:
		return s.secret(n, path, u)
	case *time.Duration: // the library knows no days
		return s.value(n, path, reflect.ValueOf((*model.Duration)(u)).Elem())
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return s.value(n, path, v.Elem())
	}
	want := expected(v)
	switch kind := v.Kind(); {
	case n.Kind == yaml.MappingNode && want == "a mapping" && kind == reflect.Struct:
		return s.structure(n, path, v, nil)
	case n.Kind == yaml.MappingNode && kind == reflect.Map:
		return s.table(n, path, v)
	case n.Kind == yaml.SequenceNode && kind == reflect.Slice:
		return s.list(n, path, v)
	case want == "a whole number" && n.Tag != "!!int": // the library would cut off a fraction
		return s.wrongType(n, path, want)
	}
	err := n.Decode(v.Addr().Interface())
	var wrongType *yaml.TypeError
	var badURL *url.Error
	switch {
	case err == nil && v.CanFloat() && (math.IsNaN(v.Float()) || math.IsInf(v.Float(), 0)):
		return s.wrongType(n, path, "a finite number")
	case err == nil:
		return nil
	case errors.As(err, &badURL):
		return s.doc.fault(n, path, "not a valid URL; write one such as http://host:port")
	case errors.As(err, &wrongType) && want == "a whole number":
		return s.doc.fault(n, path, "the number is too large or too small")
	case errors.As(err, &wrongType) || strings.HasPrefix(want, "a duration"):
		return s.wrongType(n, path, want)
	}
	return s.fault(n, path, "%s", err)
}

// assignment matches a secret that was pasted with its name. A base64 text that
// ends in = is none.
var assignment = regexp.MustCompile(`^(export\s+)?[A-Za-z_]\w*\s*=[^=]`)

// secret sets dst to the text n or, under a key X_file, to the file that it names.
func (s *Section) secret(n *yaml.Node, path string, dst **secret.Value) (err error) {
	text := secret.Trim(n.Value)
	*dst = secret.Inline(text)
	switch {
	case n.Kind != yaml.ScalarNode:
		return s.wrongType(n, path, "a text")
	case text == "":
		key := strings.TrimSuffix(path[strings.LastIndex(path, ".")+1:], "_file")
		return s.doc.fault(n, path, "the value is empty; write the secret in %[1]s or the path of its file in %[1]s_file", key)
	case strings.HasSuffix(path, "_file"):
		file := s.Path(text)
		*dst = secret.File(file)
		if text, err = (*dst).Get(); err != nil {
			return s.doc.fault(n, path, "%s", strings.ReplaceAll(err.Error(), file, s.Path(written(n))))
		}
	}
	s.secrets, s.mask = append(s.secrets, *dst), nil
	if len(text) > 1 && (text[0] == '"' || text[0] == '\'') && text[0] == text[len(text)-1] {
		s.doc.warn(s.doc.fault(n, path, "the secret is in quotes, which are sent as part of it; remove them if the provider did not issue them"))
	} else if assignment.MatchString(text) {
		s.doc.warn(s.doc.fault(n, path, "the secret looks like NAME=value, and all of it is sent; remove the name if the provider did not issue it"))
	}
	return nil
}

// fields returns the keys of the struct v in the order of its fields, and adds the
// fields to targets. A secret has two keys: X and X_file.
func fields(v reflect.Value, targets map[string]reflect.Value) (keys []string) {
	for i := range v.NumField() {
		f, target := v.Type().Field(i), v.Field(i)
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		key = cmp.Or(key, strings.ToLower(f.Name))
		switch {
		case !f.IsExported() || key == "-":
		case options == "inline":
			keys = append(keys, fields(target, targets)...)
		default:
			keys, targets[key] = append(keys, key), target
			if f.Type == secretType {
				keys, targets[key+"_file"] = append(keys, key+"_file"), target
			}
		}
	}
	return keys
}

// structure fills the struct v from n, all but the keys in skip.
func (s *Section) structure(n *yaml.Node, path string, v reflect.Value, skip []string) error {
	if n.Kind != yaml.MappingNode {
		return s.wrongType(n, path, "a mapping")
	}
	targets := make(map[string]reflect.Value)
	keys := fields(v, targets)
	if path == s.path {
		maps.Copy(targets, s.common)
		s.keys = slices.Concat(s.skip, keys)
	}
	var faults []error
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i].Value, n.Content[i+1]
		at := join(path, keyStep(key))
		target, known := targets[key]
		switch {
		case slices.Contains(skip, key) || known && isNull(value):
		case !known:
			faults = append(faults, s.unknownKey(n, i, path, targets, slices.Concat(skip, keys)))
		case target.Type() == secretType && !target.IsNil():
			faults = append(faults, s.doc.fault(value, at, "%[1]s and %[1]s_file are both set; remove one of them", strings.TrimSuffix(key, "_file")))
		default:
			faults = append(faults, s.value(value, at, target))
		}
	}
	return errors.Join(faults...)
}

// unknownKey returns a fault about the key n.Content[i] of a mapping at path: where it
// belongs, if that can be guessed.
func (s *Section) unknownKey(n *yaml.Node, i int, path string, targets map[string]reflect.Value, keys []string) error {
	key, value := n.Content[i].Value, n.Content[i+1]
	f := func(meant, format string, args ...any) *fault {
		f := s.doc.fault(value, join(path, keyStep(key)), "unknown key; "+format, args...)
		if !s.Has(strings.TrimPrefix(meant, s.path)) {
			f.meant = meant
		}
		return f
	}
	if i > 0 && isNull(value) && grouped.MatchString(n.Content[i-1].Value+","+key) {
		return f("", "between {} a comma ends a value: write numbers without it, such as 1500 or 0.5")
	}
	if best := Nearest(key, keys); best != "" {
		return f(join(path, best), "did you mean %s?", best)
	}
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		if t := targets[name]; t.Kind() == reflect.Struct && slices.Contains(fields(t, map[string]reflect.Value{}), key) {
			return f(join(join(path, name), key), "it belongs below %[1]s: indent it more than %[1]s", name)
		}
	}
	if path != s.path && slices.Contains(s.keys, key) {
		return f(join(s.path, key), "it does not belong below %s: indent it less", path[strings.LastIndex(path, ".")+1:])
	}
	return f("", "%s", didYouMean(key, keys))
}

func (s *Section) list(n *yaml.Node, path string, v reflect.Value) error {
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	var faults []error
	for i, item := range n.Content {
		if isNull(item) {
			faults = append(faults, s.doc.fault(item, path+indexStep(i), "the item is empty; write a value or remove the item"))
		} else if err := s.value(item, path+indexStep(i), v.Index(i)); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func (s *Section) table(n *yaml.Node, path string, v reflect.Value) error {
	v.Set(reflect.MakeMap(v.Type()))
	var faults []error
	for i := 0; i < len(n.Content); i += 2 {
		key, value, item := n.Content[i].Value, n.Content[i+1], reflect.New(v.Type().Elem()).Elem()
		if isNull(value) {
			continue
		}
		faults = append(faults, s.value(value, join(path, keyStep(key)), item))
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), item)
	}
	return errors.Join(faults...)
}
