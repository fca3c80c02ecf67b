package exposition

import (
	"bytes"
	"context"
	"io"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// segment is what one group contributes to one family, in the forms that scrapes have
// used.
type segment struct {
	family string
	group  *snapshot.Group
	// previous is the segment of the group before its last change, until this one
	// has a form.
	previous atomic.Pointer[segment]

	forms [formats]atomic.Pointer[form]    // nil if not rendered, or dropped
	used  [formats][encodings]atomic.Int64 // last use, Unix time in nanoseconds

	mu     sync.Mutex                        // guards making, and is held while a form is stored
	making [formats][encodings]chan struct{} // closed when the form is there; nil if none is made
}

// replaces makes s the successor of old, or of the one that old itself replaces if old
// was never rendered.
func (s *segment) replaces(old *segment) {
	for f := range formats {
		if old.forms[f].Load() != nil {
			s.previous.Store(old)
			return
		}
	}
	s.previous.Store(old.previous.Load())
}

// form is a segment in a format. It is never changed.
type form struct {
	head, body block // see render; they have the same encodings
}

// block is a run of bytes of an answer, in the encodings that are cached.
type block struct {
	size int // not encoded
	sum  sum
	data [encodings][]byte // nil if not cached
}

// newBlock returns the pieces of plain as one block.
func newBlock(enc encoding, plain iter.Seq[[]byte]) block {
	b := block{sum: emptySum}
	write := func(w io.Writer) {
		for p := range plain {
			_, _ = w.Write(p)
			b.size += len(p)
			b.sum = b.sum.followedBy(sumOf(p))
		}
	}
	if enc == gzipped {
		b.data[enc] = exact(thorough.deflated(write))
		return b
	}
	var out bytes.Buffer
	write(&out)
	b.data[enc] = exact(out.Bytes())
	return b
}

// with returns b with an encoding added, converted from the other one.
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

// cached returns the number of bytes in an encoding.
func (f *form) cached(enc encoding) int {
	if f == nil {
		return 0
	}
	return len(f.head.data[enc]) + len(f.body.data[enc])
}

// with returns f with an encoding added, converted from the other one.
func (f *form) with(enc encoding) *form {
	return &form{head: f.head.with(enc), body: f.body.with(enc)}
}

// without returns f without an encoding; nil if that was the only one.
func (f *form) without(enc encoding) *form {
	g := *f
	g.head.data[enc], g.body.data[enc] = nil, nil
	if !g.has(identity) && !g.has(gzipped) {
		return nil
	}
	return &g
}

// form returns s as a request wants it. If it is not ready by the deadline of ctx, it
// returns the previous segment, or nil if there is none, and s is rendered for the
// next scrape.
func (e *Exposition) form(ctx context.Context, s *segment, c choice) *form {
	s.used[c.format][c.encoding].Store(time.Now().UnixNano())
	if f := s.forms[c.format].Load(); f.has(c.encoding) {
		return f
	}
	s.mu.Lock()
	ready := s.making[c.format][c.encoding]
	if ready == nil && !s.forms[c.format].Load().has(c.encoding) {
		ready = make(chan struct{})
		s.making[c.format][c.encoding] = ready
		go e.make(s, c, ready)
	}
	s.mu.Unlock()
	if ready != nil {
		select {
		case <-ready:
		case <-ctx.Done():
		}
	}
	if f := s.forms[c.format].Load(); f.has(c.encoding) {
		return f
	}
	if old := s.previous.Load(); old != nil {
		if f := old.forms[c.format].Load(); f.has(c.encoding) {
			return f
		}
	}
	return nil
}

// make renders s, or encodes a form of it that there is, and closes ready.
func (e *Exposition) make(s *segment, c choice, ready chan struct{}) {
	e.renders <- struct{}{}
	defer func() { <-e.renders }()
	f := s.forms[c.format].Load()
	if f != nil {
		f = f.with(c.encoding)
	} else {
		var err error
		if f, err = render(s.family, s.group, c); err != nil {
			e.report(err)
		}
		e.rendered(s.family, c.format)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forms[c.format].Store(f)
	s.previous.Store(nil)
	s.making[c.format][c.encoding] = nil
	close(ready)
}

// drop removes the forms that were not used since a time. It reports whether any are
// left.
func (s *segment) drop(since time.Time) (left bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
