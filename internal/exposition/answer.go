package exposition

import (
	"context"
	"errors"
	"fmt"
	"sync"

	dto "github.com/prometheus/client_model/go"
)

// contribution is the part of an answer that belongs to one family.
type contribution struct {
	name  string
	forms []*form // none of them empty
	size  int     // not encoded
}

// contributions returns the families that have any series.
func (e *Exposition) contributions(ctx context.Context, c choice, parts Parts) []contribution {
	var out []contribution
	for _, family := range e.current().families {
		if !parts.has(family.kind) {
			continue
		}
		next := contribution{name: family.name}
		for _, s := range family.segments {
			if !parts.shows(s.group.Provider, s.group.Account) {
				continue
			}
			f := e.form(ctx, s, c)
			if f == nil || f.body.size == 0 {
				continue
			}
			if len(next.forms) == 0 {
				next.size = f.head.size
			}
			next.forms = append(next.forms, f)
			next.size += f.body.size
		}
		if len(next.forms) > 0 {
			out = append(out, next)
		}
	}
	return out
}

// flight is one answer for all requests that join it before it begins.
type flight struct {
	once   sync.Once
	answer *answer
	ok     bool
}

// join returns the answer to a request, which it shares with equal requests that come
// before it is assembled: many scrapes at a time cost little more than one. It returns
// false if there is only an error, which promhttp can report.
func (e *Exposition) join(c choice, parts Parts) (*answer, bool) {
	key := fmt.Sprint(c.contentType, c.encoding, parts)
	e.mu.Lock()
	f := e.joinable[key]
	if f == nil {
		f = &flight{}
		e.joinable[key] = f
	}
	e.mu.Unlock()
	f.once.Do(func() {
		e.assembling.Lock() // meanwhile others join
		defer e.assembling.Unlock()
		e.mu.Lock()
		delete(e.joinable, key)
		e.mu.Unlock()
		f.answer, f.ok = e.answer(c, parts)
	})
	return f.answer, f.ok
}

// atOnce is the context of what must not wait.
var atOnce = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// answer assembles an answer of what is rendered; see join.
func (e *Exposition) answer(c choice, parts Parts) (*answer, bool) {
	data := e.contributions(atOnce, c, parts)
	var own []*dto.MetricFamily // sorted by name
	if parts.Own {
		var err error
		if own, err = e.own(parts); err != nil {
			if len(own)+len(data) == 0 {
				return nil, false
			}
			e.report(err)
		}
	}
	a := newAnswer(c)
	var errs []error
	for _, d := range data {
		for len(own) > 0 && own[0].GetName() < d.name {
			errs = append(errs, a.addOwn(own[0]))
			own = own[1:]
		}
		a.addCached(d)
	}
	for _, f := range own {
		errs = append(errs, a.addOwn(f))
	}
	errs = append(errs, a.finish())
	if err := errors.Join(errs...); err != nil {
		e.report(err)
	}
	return a, true
}
