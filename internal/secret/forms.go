package secret

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// minLength is the length in characters of the shortest secret to hide. Shorter ones
// occur by chance everywhere.
const minLength = 4

// pattern is one form of a secret in a text.
type pattern struct {
	text string
	// before and after are set if the secret shares a base64 character with what
	// comes before or after it.
	before, after bool
}

// base64Chars are those of both alphabets of base64.
const base64Chars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"

// at returns which part of s to hide if the text of p is at i.
func (p pattern) at(s string, i int) (start, end int) {
	isBase64 := func(i int) bool { return i >= 0 && i < len(s) && strings.IndexByte(base64Chars, s[i]) >= 0 }
	start, end = i, i+len(p.text)
	if p.before && isBase64(start-1) {
		start--
	}
	if p.after && isBase64(end) {
		for end++; end < len(s) && s[end] == '='; end++ {
		}
	}
	return start, end
}

// forms returns the forms of secret, some of which may be equal; none if it is too
// short to hide.
func forms(secret string) []pattern {
	if utf8.RuneCountInString(secret) < minLength {
		return nil
	}
	// Requests contain secrets in these forms, and a server may return a request in
	// any other form.
	sent := unique([]string{secret, url.QueryEscape(secret), quoteJSON(secret), quoteHTML(secret)})
	var texts []string
	var patterns []pattern
	for _, text := range sent {
		query := url.QueryEscape(text)
		texts = append(texts,
			text,
			query,
			strings.ReplaceAll(query, "+", "%20"), // as other languages escape a query
			url.PathEscape(text),
			url.User(text).String(),
		)
		patterns = append(patterns, base64Forms(text)...)
	}
	for _, text := range unique(texts) {
		if text != secret {
			texts = append(texts, lowerHex(text))
		}
	}
	for range 2 { // a message may quote a text, and a log line quotes the message
		for _, text := range unique(texts) {
			texts = append(texts, quotes(text)...)
		}
	}
	for _, text := range unique(texts) {
		patterns = append(patterns, pattern{text: text})
	}
	return patterns
}

func unique(texts []string) []string { return slices.Compact(slices.Sorted(slices.Values(texts))) }

// quotes returns text as it is between the quotes of JSON, Go and logfmt.
func quotes(text string) []string {
	plain := quoteJSON(text)
	quoted := []string{plain, strings.ReplaceAll(plain, "/", `\/`), logfmtQuotes.Replace(plain)}
	for _, q := range []string{strconv.Quote(text), strconv.QuoteToASCII(text)} {
		quoted = append(quoted, q[1:len(q)-1])
	}
	return append(quoted, quoteHTML(text))
}

// logfmtQuotes turns a JSON string into one of logfmt. Its first pair skips escaped
// backslashes.
var logfmtQuotes = strings.NewReplacer(`\\`, `\\`,
	`\b`, `\u0008`, `\f`, `\u000c`, "\x7f", `\u007f`, `\u2028`, "\u2028", `\u2029`, "\u2029")

func quoteJSON(text string) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // encoding a string does not fail
	return b.String()[1 : b.Len()-len("\"\n")]
}

// quoteHTML is quoteJSON with <, > and & escaped, as json.Marshal does.
func quoteHTML(text string) string {
	quoted, _ := json.Marshal(text) // marshalling a string does not fail
	return string(quoted[1 : len(quoted)-1])
}

var upperHex = regexp.MustCompile("%[0-9A-F]{2}")

// lowerHex returns the URL-encoded text with its escapes in lower case.
func lowerHex(text string) string { return upperHex.ReplaceAllStringFunc(text, strings.ToLower) }

// base64Forms returns what all base64 texts with secret in them have in common.
//
// Base64 encodes 3 bytes as 4 characters of 6 bits. A secret that starts 0, 1 or
// 2 bytes into such a group, as in "user:secret", has three encodings. In each of
// them the characters with only bits of the secret are always the same: these are
// the pattern. A character at either end may have bits of both the secret and its
// neighbour; it is hidden with the pattern.
func base64Forms(secret string) []pattern {
	var patterns []pattern
	for offset := range 3 {
		from, to := 8*offset, 8*(offset+len(secret)) // in bits
		first, last := (from+5)/6, to/6
		in := append(make([]byte, offset), secret...)
		standard := base64.StdEncoding.EncodeToString(in)[first:last]
		forURLs := base64.URLEncoding.EncodeToString(in)[first:last]
		query := url.QueryEscape(standard)
		for _, text := range []string{
			standard, forURLs, query, lowerHex(query), strings.ReplaceAll(standard, "/", `\/`), strings.ReplaceAll(standard, "/", `\\/`),
		} {
			patterns = append(patterns, pattern{text, from%6 != 0, to%6 != 0})
		}
	}
	return patterns
}
