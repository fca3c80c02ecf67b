package recipe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/itchyny/gojq"
)

// checker refuses what is not on the allow-list, and replaces operators and functions
// by metered ones. What the library adds in a new version is refused, too.
type checker struct {
	iterates bool
	used     map[string]function
}

func refused(what string) error {
	return fmt.Errorf("%s is not allowed; docs/recipes.md lists what is", what)
}

// comparisons are the functions for operators.
var comparisons = map[gojq.Operator]string{
	gojq.OpEq: "_eq", gojq.OpNe: "_ne", gojq.OpLt: "_lt", gojq.OpLe: "_le", gojq.OpGt: "_gt", gojq.OpGe: "_ge",
}

// query checks q, in which the variables scope are known.
func (c *checker) query(q *gojq.Query, scope []string) error {
	switch {
	case len(q.FuncDefs) > 0:
		return refused("def")
	case q.Meta != nil || len(q.Imports) > 0:
		return refused("import")
	case q.Term != nil:
		return c.term(q.Term, scope)
	case q.Left == nil || q.Right == nil:
		return fmt.Errorf("the expression is empty; write one such as .balance")
	}
	if err := c.query(q.Left, scope); err != nil {
		return err
	}
	if len(q.Patterns) > 1 {
		return refused("?//")
	}
	for _, p := range q.Patterns {
		if p.Name == "" || strings.HasPrefix(p.Name, "$__") {
			return refused("as with anything but a variable such as $name")
		}
		scope = append(slices.Clone(scope), p.Name)
	}
	if err := c.query(q.Right, scope); err != nil {
		return err
	}
	switch name, compared := comparisons[q.Op]; {
	case compared:
		*q = gojq.Query{Term: c.call(name, functions[name], q.Left, q.Right)}
	case !slices.Contains([]gojq.Operator{gojq.OpPipe, gojq.OpComma, gojq.OpAnd, gojq.OpOr, gojq.OpAlt}, q.Op):
		return refused("the operator " + q.Op.String())
	}
	return nil
}

// call returns a call of f.
func (c *checker) call(name string, f function, args ...*gojq.Query) *gojq.Term {
	c.used[name] = f
	meter := &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeFunc, Func: &gojq.Func{Name: meterVariable}}}
	return &gojq.Term{Type: gojq.TermTypeFunc, Func: &gojq.Func{
		Name: functionPrefix + name, Args: append([]*gojq.Query{meter}, args...),
	}}
}

// refusedTerms are the names of what may not stand in an expression.
var refusedTerms = map[gojq.TermType]string{
	gojq.TermTypeRecurse: "..", gojq.TermTypeFormat: "@", gojq.TermTypeTry: "try", gojq.TermTypeReduce: "reduce",
	gojq.TermTypeForeach: "foreach", gojq.TermTypeLabel: "label", gojq.TermTypeBreak: "break",
}

func (c *checker) term(t *gojq.Term, scope []string) (err error) {
	suffixes := t.SuffixList
	switch t.Type {
	case gojq.TermTypeIdentity, gojq.TermTypeNull, gojq.TermTypeTrue, gojq.TermTypeFalse, gojq.TermTypeNumber:
	case gojq.TermTypeUnary:
		if t.Unary.Op != gojq.OpSub || t.Unary.Term.Type != gojq.TermTypeNumber || len(t.Unary.Term.SuffixList) > 0 {
			err = refused("a sign before anything but a number")
		}
	case gojq.TermTypeIndex:
		if start := t.Index.Start; start != nil && !t.Index.IsSlice && start.Term != nil && start.Term.Type == gojq.TermTypeFunc {
			if err = c.query(start, scope); err == nil {
				*t = *c.call("_index", functions["_index"], start)
				t.SuffixList = suffixes
			}
		} else {
			err = c.index(t.Index)
		}
	case gojq.TermTypeFunc:
		if err = c.function(t, scope); err == nil {
			t.SuffixList = suffixes
		}
	case gojq.TermTypeObject:
		err = c.object(t.Object, scope)
	case gojq.TermTypeArray:
		if t.Array.Query != nil {
			err = c.query(t.Array.Query, scope)
		}
	case gojq.TermTypeString:
		if err = c.text(t, scope); err == nil {
			t.SuffixList = suffixes
		}
	case gojq.TermTypeIf:
		err = c.condition(t.If, scope)
	case gojq.TermTypeQuery:
		err = c.query(t.Query, scope)
	default:
		err = refused(refusedTerms[t.Type])
	}
	for _, s := range suffixes {
		switch {
		case err != nil:
		case s.Index != nil:
			err = c.index(s.Index)
		case s.Iter:
			c.iterates = true
		}
	}
	return err
}

// index checks .name, ."name", .["name"] and .[0].
func (c *checker) index(i *gojq.Index) error {
	switch {
	case i.IsSlice:
		return refused("a slice such as .[1:2]")
	case i.Name != "" || i.Str != nil && i.Str.Queries == nil:
		return nil
	case i.Start != nil && i.Start.Term != nil && len(i.Start.Term.SuffixList) == 0:
		switch t := i.Start.Term; {
		case t.Type == gojq.TermTypeNumber, t.Type == gojq.TermTypeString && t.Str.Queries == nil,
			t.Type == gojq.TermTypeUnary && t.Unary.Term.Type == gojq.TermTypeNumber:
			return nil
		}
	}
	return refused("an index that is neither a literal nor, as in .a | .[$k], a variable,")
}

func (c *checker) function(t *gojq.Term, scope []string) error {
	f := t.Func
	if strings.HasPrefix(f.Name, "$") {
		if !slices.Contains(scope, f.Name) {
			return fmt.Errorf("the variable %s is not known; bind it with … as %s | …", f.Name, f.Name)
		}
		return nil
	}
	for _, arg := range f.Args {
		if err := c.query(arg, scope); err != nil {
			return err
		}
	}
	if arity, ok := native[f.Name]; ok && arity == len(f.Args) {
		c.iterates = c.iterates || f.Name == "map" || f.Name == "to_entries"
		return nil
	}
	known, ok := functions[f.Name]
	if !ok || strings.HasPrefix(f.Name, "_") || known.arity != len(f.Args) {
		return refused(fmt.Sprintf("the function %s/%d", f.Name, len(f.Args)))
	}
	for _, arg := range f.Args {
		if known.literal && !isLiteral(arg) {
			return fmt.Errorf("the arguments of %s must be literal texts; write them out", f.Name)
		}
	}
	if known.pattern {
		if _, err := pattern(f.Args[0].Term.Str.Str); err != nil {
			return fmt.Errorf("%s: %w; correct it", f.Name, err)
		}
	}
	*t = *c.call(f.Name, known, f.Args...)
	return nil
}

func isLiteral(q *gojq.Query) bool {
	return q.Term != nil && q.Term.Type == gojq.TermTypeString && q.Term.Str.Queries == nil && len(q.Term.SuffixList) == 0
}

func (c *checker) object(o *gojq.Object, scope []string) error {
	for _, kv := range o.KeyVals {
		switch {
		case kv.KeyQuery != nil || kv.KeyString != nil && kv.KeyString.Queries != nil:
			return refused("a key that is calculated")
		case strings.HasPrefix(kv.Key, "$") && !slices.Contains(scope, kv.Key):
			return fmt.Errorf("the variable %s is not known; bind it with … as %s | …", kv.Key, kv.Key)
		}
		if kv.Val != nil {
			if err := c.query(kv.Val, scope); err != nil {
				return err
			}
		}
	}
	return nil
}

// text replaces a text with \(…) by a function.
func (c *checker) text(t *gojq.Term, scope []string) error {
	parts := t.Str.Queries
	if len(parts) >= maxParts {
		return refused(`a text with that many \(…)`)
	}
	for _, part := range parts {
		if err := c.query(part, scope); err != nil {
			return err
		}
	}
	if parts != nil {
		*t = *c.call(concat+strconv.Itoa(len(parts)), function{arity: len(parts), call: concatenate}, parts...)
	}
	return nil
}

func (c *checker) condition(i *gojq.If, scope []string) error {
	queries := []*gojq.Query{i.Cond, i.Then, i.Else}
	for _, e := range i.Elif {
		queries = append(queries, e.Cond, e.Then)
	}
	for _, q := range queries {
		if q != nil {
			if err := c.query(q, scope); err != nil {
				return err
			}
		}
	}
	return nil
}

// pathStep is a step of a path: into the value of a key or, if the key is empty, into each
// element.
type pathStep struct{ key string }

// leadingPath returns the steps of a query that is nothing but a path with a []; nil
// for any other.
func leadingPath(q *gojq.Query) []pathStep {
	t := q.Term
	if t == nil || t.Type != gojq.TermTypeIdentity && t.Type != gojq.TermTypeIndex {
		return nil
	}
	suffixes := t.SuffixList
	if t.Type == gojq.TermTypeIndex {
		suffixes = append([]*gojq.Suffix{{Index: t.Index}}, suffixes...)
	}
	var path []pathStep
	iterates := false
	for _, s := range suffixes {
		switch {
		case s.Iter:
			iterates = true
			path = append(path, pathStep{})
		case s.Index != nil && s.Index.Name != "":
			path = append(path, pathStep{s.Index.Name})
		default:
			return nil
		}
	}
	if !iterates {
		return nil
	}
	return path
}
