package providertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// T collects the failures of a check. It stands in for a [testing.T], so that the
// suite's own tests can see that a check fails.
type T struct {
	ctx    context.Context
	report strings.Builder
	worlds []*world // that are open
}

// stopped is the panic of [T.FailNow].
type stopped struct{}

// Errorf adds a failure.
func (t *T) Errorf(format string, args ...any) { fmt.Fprintf(&t.report, format, args...) }

// FailNow ends the check. It must be called on the goroutine of the check.
func (t *T) FailNow() { panic(stopped{}) }

// Helper does nothing.
func (t *T) Helper() {}

// Context returns a context that ends with the check.
func (t *T) Context() context.Context { return t.ctx }

// close ends all worlds.
func (t *T) close() {
	for _, w := range t.worlds {
		w.close()
	}
	t.worlds = nil
}

// bubble runs f in a synctest bubble and returns the failures as an error, with
// the exchanges of the newest world.
func bubble(t *testing.T, f func(t *T)) (err error) {
	t.Helper()
	synctest.Test(t, func(bubble *testing.T) {
		t := &T{ctx: bubble.Context()}
		defer t.close()
		defer func() {
			v := recover()
			if _, ok := v.(stopped); v != nil && !ok {
				panic(v)
			}
			if t.report.Len() > 0 {
				if n := len(t.worlds); n > 0 {
					t.Errorf("\nthe account has sent:\n%s", t.worlds[n-1].story())
				}
				err = errors.New(t.report.String())
			}
		}()
		f(t)
	})
	return err
}
