package simulate

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Quota is a rate that a simulated provider enforces: in any window at most Burst +
// window × Requests / Per. Over a real network, where requests may arrive closer
// together than they were sent, set Burst one higher than the client's. The zero
// value allows everything.
type Quota struct {
	Requests int
	Per      time.Duration
	Burst    int
	// Hint is how a 429 says how long to wait.
	Hint Hint
}

// Meter counts requests against a quota. The zero value has used nothing. It is not
// safe for concurrent use.
type Meter struct {
	// Violations is how many requests went beyond the quota.
	Violations int

	quota  Quota
	bucket *Bucket
}

// Take takes one request at now and returns 0, or takes nothing and returns how
// much too early the request is. A changed quota starts with nothing used.
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

// Hint is how an answer says how long to wait.
type Hint int

// The hints that providers document or send. All of them round up to whole
// seconds, at least one.
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
		// A date has no fraction of a second, and must not be too early.
		at := now.Add(max(wait, time.Second) + time.Second - 1)
		return at.UTC().Format(http.TimeFormat)
	default:
		return ""
	}
}

// Sentence is the hint in a body.
func Sentence(wait time.Duration) string {
	return fmt.Sprintf("Please try again in %d second(s).", wholeSeconds(wait))
}

func wholeSeconds(d time.Duration) int64 {
	return max(1, int64((d+time.Second-1)/time.Second))
}
