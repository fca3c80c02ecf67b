package exposition

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// segment is what one group contributes to one family, in the forms that scrapes
// have asked for.
type segment struct {
	family string
	group  *snapshot.Group

	forms [formats]atomic.Pointer[form]    // nil where nobody asked, or dropped
	used  [formats][encodings]atomic.Int64 // last asked for, Unix time in nanoseconds
	// changing is held while a form is made or dropped. Scrapers that wait for it
	// find what the first of them has made.
	changing sync.Mutex
}

// form is a segment in a format. It is never changed.
type form struct {
	head, body block // see render; they have the same encodings
}

// block is a run of bytes of an answer, in the encodings that are kept.
type block struct {
	size int // not encoded
	sum  sum
	data [encodings][]byte // nil where not kept
}

func newBlock(plain []byte, enc encoding) block {
	b := block{size: len(plain), sum: sumOf(plain)}
	if enc == gzipped {
		plain = thorough.deflate(plain)
	}
	b.data[enc] = exact(plain)
	return b
}

// with returns b with an encoding added, made from the other one.
func (b block) with(enc encoding) block {
	if enc == gzipped {
		b.data[gzipped] = exact(thorough.deflate(b.data[identity]))
	} else {
		b.data[identity] = inflate(b.data[gzipped], b.size)
	}
	return b
}

// exact returns a copy of p without room to grow. It is never nil.
func exact(p []byte) []byte {
	q := make([]byte, len(p))
	copy(q, p)
	return q
}

func (f *form) has(enc encoding) bool { return f != nil && f.body.data[enc] != nil }

// kept returns the number of bytes in an encoding.
func (f *form) kept(enc encoding) int {
	if f == nil {
		return 0
	}
	return len(f.head.data[enc]) + len(f.body.data[enc])
}

// with returns f with an encoding added, made from the other one.
func (f *form) with(enc encoding) *form {
	return &form{head: f.head.with(enc), body: f.body.with(enc)}
}

// without returns f less an encoding; nil if that was all.
func (f *form) without(enc encoding) *form {
	g := *f
	g.head.data[enc], g.body.data[enc] = nil, nil
	if !g.has(identity) && !g.has(gzipped) {
		return nil
	}
	return &g
}

// form returns s as a request wants it, making it if need be.
func (e *Exposition) form(s *segment, c choice) *form {
	s.used[c.format][c.encoding].Store(time.Now().UnixNano())
	if f := s.forms[c.format].Load(); f.has(c.encoding) {
		return f
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	f := s.forms[c.format].Load()
	switch {
	case f.has(c.encoding):
		return f
	case f != nil:
		f = f.with(c.encoding)
	default:
		head, body, err := render(s.family, s.group, c.format)
		if err != nil {
			e.report(err)
		}
		e.rendered(s.family, c.format)
		e.release.note(len(head) + len(body))
		f = &form{head: newBlock(head, c.encoding), body: newBlock(body, c.encoding)}
	}
	s.forms[c.format].Store(f)
	return f
}

// drop forgets the forms that were not asked for since a time. It reports whether
// any are left.
func (s *segment) drop(since time.Time) (left bool) {
	s.changing.Lock()
	defer s.changing.Unlock()
	for i := range s.forms {
		f := s.forms[i].Load()
		for enc := range encodings {
			if f.has(enc) && s.used[i][enc].Load() < since.UnixNano() {
				f = f.without(enc)
			}
		}
		s.forms[i].Store(f)
		left = left || f != nil
	}
	return left
}
