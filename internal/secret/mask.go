package secret

import (
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

const (
	// minLength is the length in characters below which a text is not hidden:
	// it would turn up by chance everywhere.
	minLength = 4
	// keptAdded bounds the texts of Add, which come and go with every login.
	keptAdded = 64
)

// Mask replaces secrets in texts by <secret>, whether they stand there raw,
// URL-encoded, JSON-escaped or in base64. It is safe for concurrent use; a nil
// *Mask replaces nothing.
//
// Of a secret in a file, earlier contents stay hidden too, the newest 64 of
// them. Texts shorter than 4 characters are not hidden.
type Mask struct {
	values []*Value

	mu          sync.Mutex
	generations []uint64 // of values, as they are in index
	added       []string // newest last
	index       *index   // nil: to be built
}

// NewMask returns a Mask that hides values and, when their files change, the new
// contents. Nil values are allowed.
func NewMask(values ...*Value) *Mask {
	return &Mask{values: slices.Clone(values), generations: make([]uint64, len(values))}
}

// Add hides text, such as a token received at run time. The newest 64 texts are
// kept.
func (m *Mask) Add(text string) {
	if m == nil || tooShort(text) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.added, text); i >= 0 {
		m.added = append(slices.Delete(m.added, i, i+1), text)
		return
	}
	if len(m.added) == keptAdded {
		m.added = slices.Delete(m.added, 0, 1)
	}
	m.added = append(m.added, text)
	m.index = nil
}

// String returns s with every secret replaced by <secret>. Secrets that overlap
// are replaced together.
func (m *Mask) String(s string) string {
	if m == nil || s == "" {
		return s
	}
	found := m.current().find(s)
	if len(found) == 0 {
		return s
	}
	var b strings.Builder
	end := 0
	for _, f := range found {
		b.WriteString(s[end:f.start])
		b.WriteString(hidden)
		end = f.end
	}
	b.WriteString(s[end:])
	return b.String()
}

// current returns the index of everything that is to be hidden now.
func (m *Mask) current() *index {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, v := range m.values {
		if generation, _ := v.history(); generation != m.generations[i] {
			m.index = nil
		}
	}
	if m.index != nil {
		return m.index
	}
	texts := slices.Clone(m.added)
	for i, v := range m.values {
		generation, contents := v.history()
		m.generations[i] = generation
		for _, content := range contents {
			texts = append(texts, *content)
		}
	}
	m.index = newIndex(texts)
	return m.index
}

func tooShort(text string) bool { return utf8.RuneCountInString(text) < minLength }
