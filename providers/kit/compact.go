package kit

import (
	"encoding/binary"
	"strings"

	"github.com/google/uuid"
)

// A compact text is a header and a body. The header is a uvarint: the length of the
// text times four, plus the form of the body; that of a UUID has no length.
const (
	plainForm  = 0
	digitsForm = 1 // two digits per byte; half a byte that is left over is 0
	uuidForm   = 2 // 16 bytes
)

const uuidLength = 36 // characters

// AppendText appends s to b in a compact form: an identifier of 20 digits takes 11
// bytes, a UUID in small letters 17, another text of less than 32 bytes one more than
// its length. Equal texts have equal forms.
func AppendText(b []byte, s string) []byte {
	if len(s) == uuidLength && s == strings.ToLower(s) {
		if id, err := uuid.Parse(s); err == nil {
			return append(append(b, uuidForm), id[:]...)
		}
	}
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' }) {
		return append(binary.AppendUvarint(b, uint64(len(s))<<2|plainForm), s...)
	}
	b = binary.AppendUvarint(b, uint64(len(s))<<2|digitsForm)
	for ; len(s) > 1; s = s[2:] {
		b = append(b, (s[0]-'0')<<4|(s[1]-'0'))
	}
	if s != "" {
		b = append(b, (s[0]-'0')<<4)
	}
	return b
}

// SplitText returns the compact text that b starts with, and what follows it. ok is
// false if there is none.
func SplitText(b []byte) (text, rest []byte, ok bool) {
	header, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, nil, false
	}
	length := header >> 2
	var body uint64
	switch {
	case header&3 == plainForm:
		body = length
	case header&3 == digitsForm:
		body = length/2 + length%2
	case header == uuidForm:
		body = uint64(len(uuid.UUID{}))
	default:
		return nil, nil, false
	}
	if body > uint64(len(b)-n) {
		return nil, nil, false
	}
	end := n + int(body) //nolint:gosec // at most the length of b
	return b[:end:end], b[end:], true
}

// CutText is like [SplitText] and returns the text as it was.
func CutText(b []byte) (s string, rest []byte, ok bool) {
	text, rest, ok := SplitText(b)
	if !ok {
		return "", nil, false
	}
	header, n := binary.Uvarint(text)
	body := text[n:]
	switch header & 3 {
	case plainForm:
		return string(body), rest, true
	case uuidForm:
		return uuid.UUID(body).String(), rest, true
	}
	digits := make([]byte, 0, 2*len(body))
	for _, b := range body {
		if b>>4 > 9 || b&15 > 9 {
			return "", nil, false
		}
		digits = append(digits, '0'+b>>4, '0'+b&15)
	}
	return string(digits[:header>>2]), rest, true
}
