// Package quota is the arithmetic of an account's rate limit, cool-downs and
// refused credentials: pure functions of one record and an instant. It has no
// goroutine, no lock, no clock and no disk format.
//
// A [Limit] of 1 request per 1s with a burst of 5 is a bucket that holds 5
// requests and gets one back each second. The bucket is described by the instant
// at which it will be full again. A full bucket lets 5 requests go at once; that
// instant is then 5 s ahead, and the sixth request has to wait until it is no
// more than 4 s ahead: 1 s.
//
// In any window of length w an account sends at most burst + w×requests/per
// requests, provided that each request is sent within [Limit.Delay] of [Limit.Take].
package quota

import "time"

// MaxBlock is the longest time for which one answer can block an account.
const MaxBlock = time.Hour

// Back-off after an answer that names no time: from the first value, doubling to
// the last, each lengthened by up to a fifth so that exporters do not retry in
// step. The caller supplies that jitter, a random number from 0 to 1, because a
// function of this package must give the same result when it runs again.
const (
	limitedBackOff = time.Second
	failureBackOff = 5 * time.Second
	maxBackOff     = 5 * time.Minute
)

// Limit is a rate limit. The zero value is no valid limit.
type Limit struct {
	Requests int           // requests that come back in each Per; at least 1
	Per      time.Duration // more than 0
	Burst    int           // requests that may go at once; at least 1
	// Delay is how long after Take a request may be sent; 0 for at once.
	Delay time.Duration
}

// Bounds of the delay that [Limit.Shared] allows.
const (
	maxDelay = 100 * time.Millisecond
	minDelay = 10 * time.Millisecond
)

// Shared returns the limit for a record that is on another machine, with a tenth of
// the capacity as its delay, from 10 to 100 ms. A bucket for several requests holds
// that much less, and its rate stays. A bucket for one request would never have room,
// so there the requests are further apart by the delay: by a tenth, or more if they
// come back in less than 100 ms.
func (l Limit) Shared() Limit {
	delay := min(max(l.capacity()/10, minDelay), maxDelay)
	if l.Burst > 1 {
		delay = min(delay, l.capacity()-l.interval()) // one request must fit
	}
	l.Delay = delay
	return l
}

// PerSecond returns the sustained rate in requests per second.
func (l Limit) PerSecond() float64 { return float64(l.Requests) / l.Per.Seconds() }

// interval is the time in which one request comes back, rounded up so that
// rounding never favours the exporter.
func (l Limit) interval() time.Duration {
	n := time.Duration(l.Requests)
	interval := (l.Per + n - 1) / n
	if l.Burst == 1 {
		interval += l.Delay
	}
	return interval
}

// capacity is the time in which an empty bucket becomes full. Of requests that were
// taken in a window that is longer by the delay, all may be sent in the window, so
// the bucket holds less by what comes back in the delay.
func (l Limit) capacity() time.Duration {
	if l.Burst == 1 {
		return l.interval()
	}
	return l.interval()*time.Duration(l.Burst) - l.Delay
}

// Cause is why an account is blocked.
type Cause string

// The causes of a blocked account.
const (
	CauseNone        Cause = ""
	CauseRateLimited Cause = "rate_limited" // the provider answered "too many requests"
	CauseRefused     Cause = "auth"         // the provider refused the credentials
)

// Account is the quota record of one account. The zero value is a full bucket
// that is not blocked.
type Account struct {
	FullAt       time.Time // when the bucket will be full again
	BlockedUntil time.Time // nothing may be sent before
	Cause        Cause     // of BlockedUntil
	Limited      int       // answers "too many requests" in a row
	Refused      int       // answers "unauthorized" in a row
	LimitedAt    time.Time // when the last "too many requests" arrived
}

// Blocked reports whether nothing may be sent at now.
func (a Account) Blocked(now time.Time) bool { return a.BlockedUntil.After(now) }

// lostUntil is FullAt of a bucket of which it is not known what was spent. It is empty
// under any limit, and [Limit.Mend] lets it fill from then on.
var lostUntil = time.Date(9999, time.January, 1, 0, 0, 0, 0, time.UTC)

// Lost returns a with an empty bucket, because some updates of a are not known.
func Lost(a Account) Account {
	a.FullAt = lostUntil
	return a
}

// Recover returns a, with the block of known if a is lost.
func Recover(a, known Account) Account {
	if a.FullAt.Equal(lostUntil) && known.BlockedUntil.After(a.BlockedUntil) {
		known.FullAt = a.FullAt
		return known
	}
	return a
}

// Take takes one request from the bucket. It returns the record after it and 0,
// or the record without it and how long to wait before the next try.
func (l Limit) Take(a Account, now time.Time) (Account, time.Duration) {
	a = l.Mend(a, now)
	if wait := a.BlockedUntil.Sub(now); wait > 0 {
		return a, wait
	}
	fullAt := a.FullAt
	if fullAt.Before(now) {
		fullAt = now
	}
	fullAt = fullAt.Add(l.interval())
	if wait := fullAt.Sub(now) - l.capacity(); wait > 0 {
		return a, wait
	}
	a.FullAt = fullAt
	return a, 0
}

// TakeSome takes as many requests from the bucket as it has, at most most. It returns the
// record after it, and their number; if that is less than most, wait is how long to wait
// before the next try.
func (l Limit) TakeSome(a Account, now time.Time, most int) (after Account, n int, wait time.Duration) {
	for after = a; n < most; n++ {
		if after, wait = l.Take(after, now); wait > 0 {
			break
		}
	}
	return after, n, wait
}

// GiveBack returns a request to the bucket that was taken at takenAt and will not
// be sent. What came back to the bucket since then is not returned twice: a bucket
// that was full meanwhile would otherwise hold more than the burst.
func (l Limit) GiveBack(a Account, takenAt, now time.Time) Account {
	if left := l.interval() - max(now.Sub(takenAt), 0); left > 0 {
		a.FullAt = a.FullAt.Add(-left)
	}
	return a
}

// Used returns how many requests of the burst are spent, from 0 to Burst.
func (l Limit) Used(a Account, now time.Time) float64 {
	ahead := l.Mend(a, now).FullAt.Sub(now)
	if ahead <= 0 {
		return 0
	}
	return float64(ahead) / float64(l.interval())
}

// Mend corrects a record from before the clock was set back: a bucket cannot be
// more than empty, and no block is longer than MaxBlock.
func (l Limit) Mend(a Account, now time.Time) Account {
	if latest := now.Add(l.capacity()); a.FullAt.After(latest) {
		a.FullAt = latest
	}
	if latest := now.Add(MaxBlock); a.BlockedUntil.After(latest) {
		a.BlockedUntil = latest
	}
	return a
}

// BeginRateLimit blocks the account at the first byte of an answer "too many
// requests", for retryAfter or at least a second: the process may end before the
// rest of the answer is read. Requests that were under way together are limited
// together, and count once.
func BeginRateLimit(a Account, now time.Time, retryAfter time.Duration) Account {
	if !a.Blocked(now) || a.Cause != CauseRateLimited {
		a.Limited++
	}
	a.LimitedAt = now
	return block(a, now, max(retryAfter, limitedBackOff), CauseRateLimited)
}

// EndRateLimit blocks the account after the last byte of that answer: for
// retryAfter, or for a time that doubles with each such answer in a row if
// retryAfter is 0.
func EndRateLimit(a Account, now time.Time, retryAfter time.Duration, jitter float64) Account {
	if retryAfter <= 0 {
		retryAfter = backOff(limitedBackOff, a.Limited, jitter)
	}
	return block(a, now, retryAfter, CauseRateLimited)
}

// Refuse blocks the account after its credentials were refused, for a time that
// doubles with each refusal in a row. Refusals that arrive while the account is
// blocked for the same cause count once.
func Refuse(a Account, now time.Time, jitter float64) Account {
	if a.Cause == CauseRefused && a.Blocked(now) {
		return a
	}
	a.Refused++
	return block(a, now, backOff(failureBackOff, a.Refused, jitter), CauseRefused)
}

// Lift ends a block for refused credentials, because they have changed.
func Lift(a Account) Account {
	if a.Cause == CauseRefused {
		a.BlockedUntil, a.Cause, a.Refused = time.Time{}, CauseNone, 0
	}
	return a
}

// Answer resets the back-offs after a good answer to a request that was sent at
// sentAt. An answer to a request from before the last "too many requests" says
// nothing about that.
func Answer(a Account, sentAt time.Time) Account {
	if sentAt.After(a.LimitedAt) {
		a.Limited, a.Refused = 0, 0
	}
	return a
}

// BackOff returns how long to wait after n failures in a row that named no time.
func BackOff(n int, jitter float64) time.Duration { return backOff(failureBackOff, n, jitter) }

// block blocks the account for d, at most MaxBlock. A later end that is already
// set stays. Of two causes at a time, "too many requests" counts until both have
// passed: changed credentials must not end it.
func block(a Account, now time.Time, d time.Duration, cause Cause) Account {
	limited := a.Cause == CauseRateLimited && a.Blocked(now)
	until := now.Add(min(d, MaxBlock))
	later := until.After(a.BlockedUntil)
	if later {
		a.BlockedUntil = until
	}
	if cause == CauseRateLimited || later && !limited {
		a.Cause = cause
	}
	return a
}

func backOff(first time.Duration, n int, jitter float64) time.Duration {
	d := first
	for ; n > 1 && d < maxBackOff; n-- {
		d *= 2
	}
	d = min(d, maxBackOff)
	return d + time.Duration(jitter*float64(d/5))
}
