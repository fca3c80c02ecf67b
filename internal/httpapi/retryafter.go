package httpapi

import (
	"math"
	"net/http"
	"net/mail"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/quota"
)

// retryAfter returns how long the header Retry-After asks to wait: seconds or a
// date by the standard (RFC 9110 section 10.2.3), or a text such as "120 seconds".
// Of several times the longest counts. It returns 0 if the header is missing, cannot
// be read, or names a time in the past; at most [quota.MaxBlock] otherwise.
func retryAfter(header http.Header, now time.Time) time.Duration {
	// The provider's clock made a date, so it is read by that clock.
	if date, err := parseDate(header.Get("Date")); err == nil {
		now = date
	}
	var longest time.Duration
	for _, line := range header.Values("Retry-After") {
		if at, err := parseDate(line); err == nil {
			longest = max(longest, at.Sub(now))
			continue
		}
		for part := range strings.SplitSeq(line, ",") {
			part = preposition.ReplaceAllString(strings.TrimSpace(part), "")
			if seconds, err := strconv.ParseFloat(part, 64); err == nil || math.IsInf(seconds, 1) {
				longest = max(longest, bounded(seconds, time.Second))
			} else {
				longest = max(longest, parseSpan(part))
			}
		}
	}
	return min(longest, quota.MaxBlock)
}

// retryAfterText returns how long the body of an answer asks to wait, such as "try
// again in 1 second(s)" of 8x8
// (https://developer.8x8.com/connect/reference/get-account-balance). It returns 0
// if it does not say within its first 64 KiB, which bounds the time to look for it; at
// most [quota.MaxBlock] otherwise.
func retryAfterText(body []byte) time.Duration {
	body = body[:min(len(body), 64<<10)]
	var longest time.Duration
	for _, at := range again.FindAllIndex(body, -1) {
		rest := body[at[1]-1:]
		longest = max(longest, parseSpan(string(rest[:min(len(rest), 100)])))
	}
	return longest
}

var (
	preposition = regexp.MustCompile(`(?i)^(?:in|after|for)\s+`)
	again       = regexp.MustCompile(`(?i)\b(?:again|back|retry|retrying|resets?|wait)\s+(?:(?:in|after|for)\s+)?(?:at least\s+)?\d`)
	spanPart    = regexp.MustCompile(`(?i)^(?:,?\s*and)?\s*(\d+(?:\.\d+)?)\s*([a-z]+)(?:\(s\))?`)
)

var units = map[string]time.Duration{
	"ms": time.Millisecond, "msec": time.Millisecond, "millisecond": time.Millisecond,
	"s": time.Second, "sec": time.Second, "second": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour,
}

// parseSpan returns the time at the start of text, such as "5 minutes", "1m30s" or
// "1 minute and 30 seconds"; 0 if there is none.
func parseSpan(text string) time.Duration {
	var sum time.Duration
	for {
		m := spanPart.FindStringSubmatch(text)
		if m == nil {
			return sum
		}
		name := strings.ToLower(m[2])
		unit, ok := units[name]
		if !ok {
			unit = units[strings.TrimSuffix(name, "s")]
		}
		n, _ := strconv.ParseFloat(m[1], 64) // beyond its range it is infinite
		sum = min(sum+bounded(n, unit), quota.MaxBlock)
		text = text[len(m[0]):]
	}
}

// bounded returns n units, from 0 to [quota.MaxBlock].
func bounded(n float64, unit time.Duration) time.Duration {
	d := math.Ceil(n * float64(unit))
	if d >= float64(quota.MaxBlock) {
		return quota.MaxBlock
	}
	return max(time.Duration(d), 0) // also for no number, which becomes the least
}

// parseDate reads the dates of HTTP, those with a numeric zone such as "-0000", and
// RFC 3339.
func parseDate(text string) (time.Time, error) {
	if at, err := http.ParseTime(text); err == nil {
		return at, nil
	}
	if at, err := mail.ParseDate(text); err == nil {
		return at, nil
	}
	return time.Parse(time.RFC3339, strings.TrimSpace(text))
}
