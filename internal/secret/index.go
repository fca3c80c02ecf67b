package secret

import (
	"encoding/binary"
	"strings"
	"sync"
)

// keyLength is the number of bytes of a pattern's key. No pattern is shorter,
// because no secret is.
const keyLength = minLength

// index finds any number of patterns in a text in one pass. At each place the next
// 4 bytes are the key of the shapes of all patterns that start with them, and one
// look-up per shape finds out whether such a pattern is there. So neither many
// patterns nor many with the same start, such as the tokens of all accounts, make
// it slow.
type index struct {
	mu sync.RWMutex
	// fmt shows unexported fields with a wrong verb, but not through two pointers.
	*counts
}

type counts struct {
	patterns map[pattern]int // each with the number of its uses
	shapes   map[uint32]map[shape]int
}

// shape is a pattern without its text.
type shape struct {
	length        int
	before, after bool
}

func newIndex() *index {
	return &index{counts: &counts{map[pattern]int{}, map[uint32]map[shape]int{}}}
}

func key(s string) uint32 { return binary.LittleEndian.Uint32([]byte(s[:keyLength])) }

// count adds n to the uses of each of patterns. One without a use is not found.
func (x *index) count(patterns []pattern, n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, p := range patterns {
		k := key(p.text)
		if x.shapes[k] == nil {
			x.shapes[k] = map[shape]int{}
		}
		count(x.patterns, p, n)
		if count(x.shapes[k], shape{len(p.text), p.before, p.after}, n); len(x.shapes[k]) == 0 {
			delete(x.shapes, k)
		}
	}
}

// count adds n to the count of k, and removes a count of 0.
func count[K comparable](counts map[K]int, k K, n int) {
	if counts[k] += n; counts[k] == 0 {
		delete(counts, k)
	}
}

// mask returns s with every pattern replaced, overlapping ones by one <secret>.
func (x *index) mask(s string) string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var b strings.Builder
	done := 0
	for i := 0; i+keyLength <= len(s); i++ {
		start, end := i, i // of all patterns here
		for l := range x.shapes[key(s[i:])] {
			if i+l.length <= len(s) {
				if p := (pattern{s[i : i+l.length], l.before, l.after}); x.patterns[p] > 0 {
					from, to := p.at(s, i)
					start, end = min(start, from), max(end, to)
				}
			}
		}
		if end > i && start >= done {
			b.WriteString(s[done:start])
			b.WriteString(hidden)
		}
		if end > i {
			done = max(done, end)
		}
	}
	if done == 0 {
		return s
	}
	b.WriteString(s[done:])
	return b.String()
}
