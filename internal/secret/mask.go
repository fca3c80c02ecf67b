package secret

import "sync"

// Mask replaces secrets in texts by <secret>, whether they are raw, URL-encoded, in
// base64, or escaped for JSON, Go or a log line. There is one for each account, and
// one of them all for the log of the process. It does no I/O, is safe for concurrent
// use, and is never printed. A nil *Mask replaces nothing.
//
// It hides the newest 64 contents of each file and the newest 64 texts of Add,
// except texts shorter than 4 characters.
type Mask struct {
	unprintable
	index  *index
	added  *Value // its contents are the texts of Add
	mu     sync.Mutex
	values map[*Value]bool
}

// NewMask returns a Mask that hides the contents of values, also future ones. Nil
// values are allowed.
func NewMask(values ...*Value) *Mask {
	m := &Mask{index: newIndex(), added: &Value{}}
	m.hide(values)
	return m
}

// Replace hides what masks hide, now and later, instead of the values before. Nil
// masks are allowed.
func (m *Mask) Replace(masks ...*Mask) {
	var values []*Value
	for _, mask := range masks {
		if mask != nil {
			mask.mu.Lock()
			for v := range mask.values {
				values = append(values, v)
			}
			mask.mu.Unlock()
		}
	}
	m.hide(values)
}

// hide hides values and the texts of Add, and nothing else.
func (m *Mask) hide(values []*Value) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.values
	m.values = make(map[*Value]bool, len(values)+1)
	for _, v := range append(values, m.added) {
		if v != nil && !m.values[v] {
			if m.values[v] = true; !old[v] {
				v.hideIn(m.index, 1)
			}
		}
	}
	for v := range old {
		if !m.values[v] {
			v.hideIn(m.index, -1)
		}
	}
}

// Add hides text, such as a token received at run time.
func (m *Mask) Add(text string) {
	if m != nil {
		m.added.set(text)
	}
}

// String returns s with every secret replaced by <secret>, overlapping ones by one.
// It takes time in proportion to the length of s, however many secrets there are.
func (m *Mask) String(s string) string {
	if m == nil {
		return s
	}
	return m.index.mask(s)
}
