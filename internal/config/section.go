package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/balance-exporter/balance_exporter/internal/secret"
)

// Section is the part of an account that its provider decodes: every key but
// the common ones. It is not safe for concurrent use.
type Section struct {
	doc  *document
	path string // in the file; "" for all of it
	node *yaml.Node
	skip []string // the common keys

	common map[string]reflect.Value // where the common keys are decoded to
	keys   []string                 // all that Decode knows at path

	secrets []*secret.Value // decoded so far
	mask    *secret.Mask    // of secrets; nil before it is needed
}

// Decode fills dst, a pointer to a struct that may hold defaults, from the
// section. It is strict: a key that dst has no field for is a fault, and so is
// a value of another type. The error has a line with file, line and path for each
// fault. What has no fault is decoded all the same, so that the caller can check it
// and add further faults with [errors.Join].
//
// Fields are found by their yaml tags. Beyond text, numbers and truth values it
// accepts pointers, slices, maps with text keys, nested and inlined structs, a
// *yaml.Node, and the types of prometheus/common such as model.Duration. A
// *secret.Value field X is given by the key X, or by X_file as a path; that file
// must be readable now. A key without a value leaves the default; a list or map
// replaces it.
func (s *Section) Decode(dst any) error {
	if isNull(s.node) {
		return nil
	}
	return s.structure(s.node, s.path, reflect.ValueOf(dst).Elem(), s.skip)
}

// Errorf returns an error about the value at path, such as
// "prices.networks[0].mnc" or "" for the account: one line with file, line and
// whole path. A value that is missing gets the line of what should hold it.
// Secrets, and text from the environment, are not shown.
func (s *Section) Errorf(path, format string, args ...any) error {
	n, _ := find(s.node, path)
	return s.fault(n, join(s.path, path), format, args...)
}

var word = regexp.MustCompile(`[^\s",;:()]+`)

// fault is that of the document without secrets and text from the environment. What is
// common to the file is masked at once and what belongs to this account here, so that
// messages about many accounts take linear time.
func (s *Section) fault(n *yaml.Node, path, format string, args ...any) *fault {
	if s.mask == nil {
		s.mask = secret.NewMask(s.secrets...)
	}
	message := s.doc.unexpand.Replace(s.mask.String(fmt.Sprintf(format, args...)))
	return s.doc.fault(n, path, "%s", word.ReplaceAllStringFunc(message, func(w string) string {
		if w == n.Value { // however short it is, this is what the message is about
			return written(n)
		}
		return w
	}))
}

// Warnf adds a line to [File.Warnings], made as that of Errorf.
func (s *Section) Warnf(path, format string, args ...any) {
	s.doc.warn(s.Errorf(path, format, args...))
}

// Place names the section, such as "recipes[1] (line 12)".
func (s *Section) Place() string { return fmt.Sprintf("%s (line %d)", s.path, s.node.Line) }

// Path returns p relative to the configuration file; "" stays "".
func (s *Section) Path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(s.doc.dir, p)
}

// Has reports whether the account has a value at path. A key with nothing after it
// has none.
func (s *Section) Has(path string) bool {
	n, found := find(s.node, path)
	return found && !isNull(n)
}

// written returns the text at path as it is written.
func (s *Section) written(path string) string {
	n, _ := find(s.node, path)
	return written(n)
}

// Digest returns a text that changes with anything written about the account,
// common keys and text from the environment included. Nothing of that can be
// recognised in it.
func (s *Section) Digest() string {
	sum := sha256.New()
	digest(sum, s.node)
	return hex.EncodeToString(sum.Sum(nil))
}

func digest(w io.Writer, n *yaml.Node) {
	_, _ = fmt.Fprintf(w, "%d %s %q %d\n", n.Kind, n.Tag, n.Value, len(n.Content)) // a hash accepts everything
	for _, c := range n.Content {
		digest(w, c)
	}
}

var firstStep = regexp.MustCompile(`^(\[\d+\]|"(\\.|[^"\\])*"|[^.\["]+)`)

// find returns the deepest node on path below n, and whether that is all of path.
func find(n *yaml.Node, path string) (_ *yaml.Node, found bool) {
	if path = strings.TrimPrefix(path, "."); path == "" {
		return n, true
	}
	step := firstStep.FindString(path)
	if i, err := strconv.Atoi(strings.Trim(step, "[]")); n.Kind == yaml.SequenceNode && err == nil && i < len(n.Content) {
		return find(n.Content[i], path[len(step):])
	}
	for i := 1; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		if keyStep(n.Content[i-1].Value) == step {
			return find(n.Content[i], path[len(step):])
		}
	}
	return n, false
}
