package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/balance-exporter/balance_exporter/internal/secret"
)

// Duration is a duration written as in Prometheus: 90s, 1h, 1d.
type Duration time.Duration

// UnmarshalText parses a duration such as 90s, 1h or 1d.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := model.ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = Duration(parsed)
	return nil
}

// String returns the duration as it would be written in a configuration.
func (d Duration) String() string { return model.Duration(d).String() }

var (
	nodeType     = reflect.TypeFor[*node]()
	secretType   = reflect.TypeFor[*secret.Value]()
	durationType = reflect.TypeFor[Duration]()
	timeType     = reflect.TypeFor[time.Duration]()
)

// oldUnmarshaler is what prometheus/common implements.
type oldUnmarshaler interface {
	UnmarshalYAML(unmarshal func(any) error) error
}

// decoder fills Go values from nodes, strictly. A key without a value leaves
// what was there; lists and maps replace it.
//
// The YAML library's own decoder is not used because that of a node accepts
// unknown keys, and its errors know no path.
type decoder struct {
	file    string
	path    func(string) string // makes a path relative to the configuration file
	secrets []*secret.Value     // met so far
}

func (d *decoder) fault(n *node, format string, args ...any) error {
	return &fault{d.file, n.line, n.path(), fmt.Sprintf(format, args...)}
}

func (d *decoder) wrongType(n *node, expected string) error {
	return d.fault(n, "expected %s, got %s", expected, n.describe())
}

// into fills the struct v from the mapping n. extra are keys that are right there
// but not for v: they go into the advice on an unknown one.
func (d *decoder) into(n *node, v reflect.Value, extra []string) error {
	if n.kind == null {
		return nil
	}
	return d.structure(n, v, extra)
}

// value fills v, which must be settable, from n.
func (d *decoder) value(n *node, v reflect.Value) error {
	if n.kind == null {
		return nil
	}
	switch v.Type() {
	case nodeType:
		v.Set(reflect.ValueOf(n))
		return nil
	case secretType:
		return d.secret(n, v)
	case durationType, timeType:
		return d.duration(n, v)
	}
	switch u := v.Addr().Interface().(type) {
	case yaml.Unmarshaler:
		return d.foreign(n, u.UnmarshalYAML(n.yaml()))
	case oldUnmarshaler:
		return d.foreign(n, u.UnmarshalYAML(func(dst any) error { return d.value(n, reflect.ValueOf(dst).Elem()) }))
	case encoding.TextUnmarshaler:
		if n.kind != scalar {
			return d.wrongType(n, "a text")
		}
		return d.foreign(n, u.UnmarshalText([]byte(n.text)))
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return d.value(n, v.Elem())
	case reflect.Struct:
		return d.structure(n, v, nil)
	case reflect.Slice:
		return d.list(n, v)
	case reflect.Map:
		return d.table(n, v)
	default:
		return d.scalar(n, v)
	}
}

// foreign gives an error of an Unmarshaler its place. Such an error may quote
// the value, so it is not shown if that came from the environment or can hold a
// password.
func (d *decoder) foreign(n *node, err error) error {
	var badURL *url.Error
	switch {
	case err == nil || isFault(err):
		return err
	case errors.As(err, &badURL):
		return d.fault(n, "not a valid URL; write one such as http://host:port")
	case n.anyExpanded():
		return d.fault(n, "the value is not valid here, and not shown because it has text from the environment")
	}
	return d.fault(n, "%s", err)
}

func (d *decoder) secret(n *node, v reflect.Value) error {
	switch {
	case n.kind != scalar:
		return d.wrongType(n, "a text")
	case n.text == "":
		return d.fault(n, "the secret is empty; write it here or name its file in %s_file", keyInPath(n.key))
	}
	d.setSecret(v, secret.Inline(n.text))
	return nil
}

func (d *decoder) secretFile(n *node, v reflect.Value) error {
	switch {
	case n.kind != scalar:
		return d.wrongType(n, "the path of a file")
	case n.text == "":
		return d.fault(n, "the path is empty; name a file that holds the secret")
	}
	value := secret.File(d.path(n.text))
	if _, err := value.Get(); err != nil {
		return d.fault(n, "%s", strings.ReplaceAll(err.Error(), n.text, n.written))
	}
	d.setSecret(v, value)
	return nil
}

func (d *decoder) setSecret(v reflect.Value, value *secret.Value) {
	d.secrets = append(d.secrets, value)
	v.Set(reflect.ValueOf(value))
}

func (d *decoder) duration(n *node, v reflect.Value) error {
	const expected = "a duration such as 90s, 1h or 1d"
	if n.kind != scalar {
		return d.wrongType(n, expected)
	}
	parsed, err := model.ParseDuration(n.text)
	if err != nil {
		return d.wrongType(n, expected)
	}
	v.SetInt(int64(parsed))
	return nil
}

// field is where a key of a mapping goes.
type field struct {
	key    string
	index  []int
	isFile bool // the key X_file of a secret X
}

// fields returns the keys of a struct type, in the order of its fields.
func fields(t reflect.Type) []field {
	var all []field
	for f := range t.Fields() {
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || key == "-":
			continue
		case options == "inline":
			for _, inner := range fields(f.Type) {
				inner.index = append([]int{f.Index[0]}, inner.index...)
				all = append(all, inner)
			}
			continue
		case key == "":
			key = strings.ToLower(f.Name)
		}
		all = append(all, field{key: key, index: f.Index})
		if f.Type == secretType {
			all = append(all, field{key: key + "_file", index: f.Index, isFile: true})
		}
	}
	return all
}

func (d *decoder) structure(n *node, v reflect.Value, extra []string) error {
	if n.kind != mapping {
		return d.wrongType(n, "a mapping")
	}
	known := fields(v.Type())
	givenBy := make(map[any]string) // the key that has set a secret
	for _, c := range n.items {
		i := slices.IndexFunc(known, func(f field) bool { return f.key == c.key })
		if i < 0 {
			keys := slices.Clone(extra)
			for _, f := range known {
				keys = append(keys, f.key)
			}
			return d.fault(c, "unknown key; %s", didYouMean(c.key, keys))
		}
		if c.kind == null {
			continue
		}
		target, decode := v.FieldByIndex(known[i].index), d.value
		if target.Type() == secretType {
			at := target.Addr().Interface()
			if other, twice := givenBy[at]; twice {
				return d.fault(c, "%s is set too; remove one of them", other)
			}
			givenBy[at] = c.key
		}
		if known[i].isFile {
			decode = d.secretFile
		}
		if err := decode(c, target); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) list(n *node, v reflect.Value) error {
	if n.kind != list {
		return d.wrongType(n, "a list")
	}
	items := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, c := range n.items {
		if c.kind == null {
			return d.fault(c, "the item is empty; write a value or remove the item")
		}
		if err := d.value(c, items.Index(i)); err != nil {
			return err
		}
	}
	v.Set(items)
	return nil
}

func (d *decoder) table(n *node, v reflect.Value) error {
	if n.kind != mapping {
		return d.wrongType(n, "a mapping")
	}
	table := reflect.MakeMapWithSize(v.Type(), len(n.items))
	for _, c := range n.items {
		value := reflect.New(v.Type().Elem()).Elem()
		if err := d.value(c, value); err != nil {
			return err
		}
		table.SetMapIndex(reflect.ValueOf(c.key).Convert(v.Type().Key()), value)
	}
	v.Set(table)
	return nil
}

func (d *decoder) scalar(n *node, v reflect.Value) error {
	switch v.Kind() {
	case reflect.String:
		// Numbers and the like are taken as they are written, so that a mobile
		// network code keeps its leading zeros without quotes.
		if n.kind != scalar {
			return d.wrongType(n, "a text")
		}
		v.SetString(n.text)
	case reflect.Bool:
		value, ok := truth(n)
		if !ok {
			return d.wrongType(n, "true or false")
		}
		v.SetBool(value)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		var value int64
		if n.kind != scalar || n.tag != "!!int" {
			return d.wrongType(n, "a whole number")
		}
		if err := n.yaml().Decode(&value); err != nil || v.OverflowInt(value) {
			return d.fault(n, "the number is too large or too small")
		}
		v.SetInt(value)
	case reflect.Float32, reflect.Float64:
		var value float64
		if n.kind != scalar || n.tag != "!!int" && n.tag != "!!float" {
			return d.wrongType(n, "a number")
		}
		if err := n.yaml().Decode(&value); err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
			return d.wrongType(n, "a finite number")
		}
		v.SetFloat(value)
	default:
		panic(fmt.Sprintf("config: cannot decode into a field of type %s", v.Type()))
	}
	return nil
}

// truth returns the truth value of n. It knows the words of YAML 1.1 too, which
// many still write.
func truth(n *node) (value, ok bool) {
	if n.kind != scalar || n.tag != "!!bool" && n.tag != "!!str" {
		return false, false
	}
	switch strings.ToLower(n.text) {
	case "true", "yes", "on":
		return true, true
	case "false", "no", "off":
		return false, true
	}
	return false, false
}
