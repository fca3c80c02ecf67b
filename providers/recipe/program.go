package recipe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/itchyny/gojq"
)

// Bounds of one evaluation; those of time and memory grow with the size of the input.
// The library has none on memory (https://github.com/itchyny/gojq/issues/298).
const (
	maxProgram  = 1 << 10 // bytes of an expression
	maxSteps    = 250_000 // instructions, each of which allocates less than 400 bytes
	maxText     = 4 << 20 // bytes of text that functions read and make
	maxDuration = time.Second
	maxOutputs  = 1_000_000
)

var errBounds = errors.New("it takes too many steps, too much text or too long; make it simpler")

// program is a compiled expression. It is safe for concurrent use: each evaluation has
// a [meter] of its own.
type program struct {
	code *gojq.Code
	// iterates is set if the expression goes through lists.
	iterates bool
}

// newProgram checks and compiles an expression. Its error says what is wrong with the
// expression and what to do.
func newProgram(source string) (*program, error) {
	if len(source) > maxProgram {
		return nil, fmt.Errorf("the expression has %d bytes, more than %d; make it simpler", len(source), maxProgram)
	}
	query, err := gojq.Parse(source)
	if err != nil {
		return nil, syntaxError(source, err)
	}
	c := checker{used: map[string]function{}}
	if err := c.query(query, nil); err != nil {
		return nil, err
	}
	code, err := gojq.Compile(query, c.options()...)
	if err != nil {
		return nil, fmt.Errorf("the expression does not compile: %w; correct it", err)
	}
	return &program{code, c.iterates}, nil
}

// listProgram is an expression for a long list. If it begins with the path of the list,
// as in ".a[] | .b[] | …", the list can be read a few elements at a time.
type listProgram struct {
	*program
	path []pathStep // ".a[].b[]"; nil if the expression does not begin with a path
	// one is "…", for one element, and each ".[] | …", for several at once.
	one, each *program
}

func newListProgram(source string) (*listProgram, error) {
	whole, err := newProgram(source)
	if err != nil {
		return nil, err
	}
	p := &listProgram{program: whole}
	query, err := gojq.Parse(source)
	for err == nil && query.Op == gojq.OpPipe && len(query.Patterns) == 0 {
		path := leadingPath(query.Left)
		if path == nil {
			break
		}
		p.path, query = append(p.path, path...), query.Right
	}
	if p.path == nil {
		return p, err
	}
	if p.one, err = newProgram(query.String()); err == nil {
		p.each, err = newProgram(".[]|" + query.String())
	}
	return p, err
}

// syntaxError says where in an expression the parser stopped.
func syntaxError(source string, err error) error {
	var at *gojq.ParseError
	if errors.As(err, &at) && at.Token != "" {
		before := source[:max(0, min(at.Offset, len(source))-len(at.Token))]
		return fmt.Errorf("not a jq expression: %w after %q; correct it", err, before[max(0, len(before)-30):])
	}
	return fmt.Errorf("not a jq expression: %w; correct it", err)
}

// meterVariable passes the meter of an evaluation to its functions.
const meterVariable = "$__meter"

// options declare the functions that the expression uses. All of them would cost more
// than the expression itself.
func (c *checker) options() []gojq.CompilerOption {
	options := []gojq.CompilerOption{gojq.WithVariables([]string{meterVariable})}
	for name, f := range c.used {
		options = append(options, gojq.WithFunction(functionPrefix+name, f.arity+1, f.arity+1, f.metered))
	}
	return options
}

// outputs evaluates p for an input of size bytes. It returns an error if the expression
// fails, exceeds a bound or has more than limit outputs. An error does not show values of
// the input.
func (p *program) outputs(input any, size, limit int) ([]any, error) {
	m := newMeter(size)
	var all []any
	for results := p.code.RunWithContext(m, input, m); ; {
		value, ok := results.Next()
		if !ok {
			return all, nil
		}
		if err, failed := value.(error); failed {
			if m.exceeded {
				return nil, errBounds
			}
			return nil, errors.New(withoutValues(err))
		}
		if len(all) == limit {
			return nil, fmt.Errorf("more than %d outputs", limit)
		}
		all = append(all, value)
	}
}

// withoutValues returns the text of an error of the library without the values in it,
// such as `expected an object but got: string`.
func withoutValues(err error) string {
	var own functionError
	if errors.As(err, &own) {
		return err.Error()
	}
	text, _, _ := strings.Cut(err.Error(), " (")
	return text
}

// meter bounds one evaluation. The library asks the context before each instruction.
type meter struct {
	context.Context
	steps, text int // left
	end         time.Time
	exceeded    bool
}

func newMeter(size int) *meter {
	end := time.Now().Add(maxDuration * time.Duration(1+size>>22))
	return &meter{Context: context.Background(), steps: maxSteps + size, text: maxText + 2*size, end: end}
}

var closed = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Done implements [context.Context]: it is closed once a bound is exceeded.
func (m *meter) Done() <-chan struct{} {
	m.steps--
	if m.steps < 0 || m.text < 0 || m.steps%64 == 0 && time.Now().After(m.end) {
		m.exceeded = true
		return closed
	}
	return nil
}

// Err implements [context.Context].
func (m *meter) Err() error {
	if m.exceeded {
		return errBounds
	}
	return nil
}

// take accounts for bytes of text, and reports whether they are within the bound.
func (m *meter) take(bytes int) bool {
	m.text -= bytes
	return m.text >= 0
}

// scalarText returns a text, number, truth value or null as text.
func scalarText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case nil:
		return "null", true
	case bool, int:
		return fmt.Sprint(v), true
	}
	return "", false
}
