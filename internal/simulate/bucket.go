package simulate

import (
	"math"
	"time"
)

// Bucket decides whether requests stay within a rate: in any window, ends
// included, at most burst + window × requests / per. It computes in integers
// and is exact. It is not safe for concurrent use.
//
// Every request pours in per units and every nanosecond drains as many units
// as there are requests; more than burst × per units do not fit.
type Bucket struct {
	requests, per, capacity int64
	level                   int64
	at                      time.Time
}

// NewBucket returns an empty bucket. All three arguments must be positive.
func NewBucket(requests int, per time.Duration, burst int) *Bucket {
	if requests <= 0 || per <= 0 || burst <= 0 || int64(burst) >= math.MaxInt64/int64(per) {
		panic("simulate: invalid rate")
	}
	return &Bucket{requests: int64(requests), per: int64(per), capacity: int64(burst) * int64(per)}
}

// Take takes one request at now and returns 0, or takes nothing and returns how
// long to wait for one.
func (b *Bucket) Take(now time.Time) (wait time.Duration) {
	b.drain(now)
	if excess := b.level + b.per - b.capacity; excess > 0 {
		return time.Duration((excess + b.requests - 1) / b.requests)
	}
	b.level += b.per
	return 0
}

// drain brings the level to now, and reports whether the bucket is dry.
func (b *Bucket) drain(now time.Time) (dry bool) {
	elapsed := max(int64(now.Sub(b.at)), 0)
	b.at = now
	// This comparison avoids an overflow.
	if elapsed > b.level/b.requests {
		b.level = 0
	} else {
		b.level -= elapsed * b.requests
	}
	return b.level == 0
}
