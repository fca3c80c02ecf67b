package secret

import (
	"cmp"
	"slices"
)

// keyLength is how many bytes of a pattern find it in an index. Every pattern is
// at least that long because every secret is.
const keyLength = minLength

type key [keyLength]byte

// index finds many patterns in a text in one pass. It is immutable.
type index struct {
	// starts holds the first two bytes of every pattern, one bit each. It
	// dismisses nearly every place of an ordinary text without a look-up.
	starts   [1 << 16 / 64]uint64
	patterns map[key][]pattern
}

// span is a part of a text, from start to before end.
type span struct{ start, end int }

func newIndex(texts []string) *index {
	x := &index{patterns: make(map[key][]pattern)}
	seen := make(map[pattern]bool)
	for _, text := range texts {
		if tooShort(text) {
			continue
		}
		for _, p := range forms(text) {
			if seen[p] {
				continue
			}
			seen[p] = true
			k := key([]byte(p.text[:keyLength]))
			x.patterns[k] = append(x.patterns[k], p)
			word, bit := place(p.text[0], p.text[1])
			x.starts[word] |= bit
		}
	}
	return x
}

func place(first, second byte) (word int, bit uint64) {
	n := int(first)<<8 | int(second)
	return n / 64, 1 << (n % 64)
}

// find returns where patterns are in s, in order, overlapping ones joined.
func (x *index) find(s string) []span {
	var found []span
	for i := 0; i+keyLength <= len(s); i++ {
		word, bit := place(s[i], s[i+1])
		if x.starts[word]&bit == 0 {
			continue
		}
		for _, p := range x.patterns[key([]byte(s[i:i+keyLength]))] {
			if f, ok := p.at(s, i); ok {
				found = append(found, f)
			}
		}
	}
	// A pattern can reach back to before an earlier one.
	slices.SortFunc(found, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	joined := found[:0]
	for _, f := range found {
		if n := len(joined); n > 0 && f.start < joined[n-1].end {
			joined[n-1].end = max(joined[n-1].end, f.end)
			continue
		}
		joined = append(joined, f)
	}
	return joined
}
