package simulate

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Quota is a rate that a simulated provider enforces: in any window at most Burst +
// window × Requests / Per. Over a real network, where requests may arrive closer
// together than they were sent, give one more Burst than the client has. The zero
// value allows everything.
type Quota struct {
	Requests int
	Per      time.Duration
	Burst    int
	// Hint is how an answer 429 says when to come again.
	Hint Hint
}

// Meter counts requests against a quota. The zero value has used nothing; it is not
// safe for concurrent use.
type Meter struct {
	// Violations is how many requests went beyond the quota.
	Violations int

	quota  Quota
	bucket *Bucket
}

// Take takes one request at now. It returns 0, or how long the request came too
// early; then it uses nothing. Another quota than that of the last call starts anew.
func (m *Meter) Take(q Quota, now time.Time) (wait time.Duration) {
	if q.Requests == 0 {
		return 0
	}
	if m.bucket == nil || q != m.quota {
		m.quota, m.bucket = q, NewBucket(q.Requests, q.Per, q.Burst)
	}
	if wait = m.bucket.Take(now); wait > 0 {
		m.Violations++
	}
	return wait
}

// Hint is how an answer says when to come again.
type Hint int

// The hints that are documented of any provider, or seen. All of them round up to
// whole seconds, to one at least.
const (
	// HintSeconds is a Retry-After header with a number of seconds.
	HintSeconds Hint = iota
	// HintDate is a Retry-After header with an HTTP date.
	HintDate
	// HintBody is a sentence in the body, without a header.
	HintBody
	// HintNone is no hint at all.
	HintNone
)

// Header returns the Retry-After header for a wait from now on; empty for none.
func (h Hint) Header(wait time.Duration, now time.Time) string {
	switch h {
	case HintSeconds:
		return strconv.FormatInt(wholeSeconds(wait), 10)
	case HintDate:
		// A date drops the fraction of its second, and must not be too early.
		at := now.Add(max(wait, time.Second) + time.Second - 1)
		return at.UTC().Format(http.TimeFormat)
	default:
		return ""
	}
}

// Sentence is how a body says it, whatever the hint.
func Sentence(wait time.Duration) string {
	return fmt.Sprintf("Please try again in %d second(s).", wholeSeconds(wait))
}

func wholeSeconds(d time.Duration) int64 {
	return max(1, int64((d+time.Second-1)/time.Second))
}
