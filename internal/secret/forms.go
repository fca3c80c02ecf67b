package secret

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
)

// pattern is one form in which a secret can stand in a text.
type pattern struct {
	text string
	// before and after tell that in this form some bits of the secret share a
	// base64 character with what comes before or after it.
	before, after bool
}

// at returns where p is in s if its text is at i.
func (p pattern) at(s string, i int) (span, bool) {
	if !strings.HasPrefix(s[i:], p.text) {
		return span{}, false
	}
	f := span{i, i + len(p.text)}
	if p.before && f.start > 0 && isBase64(s[f.start-1]) {
		f.start--
	}
	if p.after && f.end < len(s) && isBase64(s[f.end]) {
		f.end++
		for f.end < len(s) && s[f.end] == '=' {
			f.end++
		}
	}
	return f, true
}

func isBase64(c byte) bool {
	switch {
	case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("+/-_", c) >= 0
}

// forms returns the forms of secret; some may be equal.
func forms(secret string) []pattern {
	var patterns []pattern
	add := func(text string) {
		patterns = append(patterns, pattern{text: text})
		// Texts are often shown inside a JSON string or quoted by Go's %q.
		for _, escaped := range escapes(text) {
			patterns = append(patterns, pattern{text: escaped})
		}
	}
	add(secret)
	query := url.QueryEscape(secret)
	for _, encoded := range []string{
		query,
		strings.ReplaceAll(query, "+", "%20"), // as other languages escape a query
		url.PathEscape(secret),
		url.User(secret).String(),
	} {
		add(encoded)
		add(lowerHex(encoded))
	}
	return append(patterns, base64Forms(secret)...)
}

// escapes returns text as it stands between the quotes of JSON and of Go.
func escapes(text string) []string {
	var plain strings.Builder
	encoder := json.NewEncoder(&plain)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text)      // a string can always be encoded
	html, _ := json.Marshal(text) // so can it here
	quoted := []string{
		strings.TrimSuffix(plain.String(), "\n"),
		strings.ReplaceAll(strings.TrimSuffix(plain.String(), "\n"), "/", `\/`),
		string(html),
		strconv.Quote(text),
		strconv.QuoteToASCII(text),
	}
	for i, q := range quoted {
		quoted[i] = q[1 : len(q)-1]
	}
	return quoted
}

// lowerHex returns the URL-encoded text with its escapes in lower case.
func lowerHex(text string) string {
	b := []byte(text)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], strings.ToLower(text[i+1:i+3]))
			i += 2
		}
	}
	return string(b)
}

// base64Forms returns what every base64 text that holds secret has in common.
//
// Base64 writes 3 bytes as 4 characters of 6 bits. A secret that starts 0, 1 or
// 2 bytes into such a group, as it does in "user:secret", is written in three
// ways. In each of them the characters that hold nothing but bits of the secret
// are always the same: these are the pattern. A character at either end may hold
// bits of both the secret and its neighbour; it is hidden with the pattern.
func base64Forms(secret string) []pattern {
	var patterns []pattern
	for offset := range 3 {
		from, to := 8*offset, 8*(offset+len(secret)) // in bits
		first, last := (from+5)/6, to/6
		in := append(make([]byte, offset), secret...)
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString(in)[first:last]
			query := url.QueryEscape(text)
			for _, form := range []string{text, query, lowerHex(query), strings.ReplaceAll(text, "/", `\/`)} {
				patterns = append(patterns, pattern{form, from%6 != 0, to%6 != 0})
			}
		}
	}
	return patterns
}
