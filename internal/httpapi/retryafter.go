package httpapi

import (
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/quota"
)

// tryAgain is how 8x8 says it in a body:
// https://developer.8x8.com/connect/reference/get-account-balance
var tryAgain = regexp.MustCompile(`(?i)try again in (\d+(?:\.\d+)?) ?s(?:ec|\b)`)

// RetryAfter returns how long an answer asks to wait: by the header Retry-After in
// seconds or as a date, else by a body that says "try again in N second(s)". It
// returns 0 if the answer does not say, says it in a way that cannot be read, or
// names a time that is over; at most [quota.MaxBlock] otherwise.
func RetryAfter(header http.Header, body []byte, now time.Time) time.Duration {
	if text := strings.TrimSpace(header.Get("Retry-After")); text != "" {
		if d, ok := seconds(text); ok {
			return d
		}
		if at, err := http.ParseTime(text); err == nil {
			// The provider's clock made this date, so it is read by that clock.
			if date, err := http.ParseTime(header.Get("Date")); err == nil {
				now = date
			}
			return bounded(at.Sub(now))
		}
	}
	if m := tryAgain.FindSubmatch(body); m != nil {
		d, _ := seconds(string(m[1]))
		return d
	}
	return 0
}

func seconds(text string) (time.Duration, bool) {
	s, err := strconv.ParseFloat(text, 64)
	if math.IsInf(s, 1) {
		return quota.MaxBlock, true
	}
	if err != nil || math.IsNaN(s) {
		return 0, false
	}
	if s > quota.MaxBlock.Seconds() {
		return quota.MaxBlock, true
	}
	return bounded(time.Duration(math.Ceil(s * float64(time.Second)))), true
}

func bounded(d time.Duration) time.Duration {
	return min(max(d, 0), quota.MaxBlock)
}
