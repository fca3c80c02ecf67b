// Package quota is the arithmetic of a rate limit: pure functions on two
// instants per account. It has no goroutine, no lock and no clock of its own.
//
// A [Limit] of 1 request per 1s with a burst of 5 is a bucket that holds 5
// requests and gets one back each second. The bucket is described by the instant
// at which it will be full again. A full bucket lets 5 requests go at once; that
// instant is then 5 s ahead, and the sixth request has to wait until it is no
// more than 4 s ahead: 1 s.
//
// In any window of length w an account sends at most burst + w×requests/per
// requests. Whoever sends must do so right after [Limit.Take]: a request that is
// taken now and sent later could meet others in a window that it was not counted
// in.
package quota

import "time"

// MaxBlock bounds how long an account can be held by one answer.
const MaxBlock = time.Hour

// Limit is a rate limit. The zero value is no valid limit.
type Limit struct {
	Requests int           // requests that come back in each Per; at least 1
	Per      time.Duration // more than 0
	Burst    int           // requests that may go at once; at least 1
}

// PerSecond returns the sustained rate in requests per second.
func (l Limit) PerSecond() float64 { return float64(l.Requests) / l.Per.Seconds() }

// interval is the time in which one request comes back, rounded up so that
// rounding never favours the exporter.
func (l Limit) interval() time.Duration {
	n := time.Duration(l.Requests)
	return (l.Per + n - 1) / n
}

// capacity is the time in which an empty bucket becomes full.
func (l Limit) capacity() time.Duration {
	return l.interval() * time.Duration(l.Burst)
}

// State is what is known of an account's quota. The zero value is a full bucket
// that is not blocked.
type State struct {
	FullAt       time.Time // when the bucket will be full again
	BlockedUntil time.Time // nothing may be sent before
}

// Take takes one request from the bucket at now. It returns the state after it
// and 0, or the unchanged state and how long to wait before asking again.
func (l Limit) Take(s State, now time.Time) (State, time.Duration) {
	s = l.sane(s, now)
	if wait := s.BlockedUntil.Sub(now); wait > 0 {
		return s, wait
	}
	fullAt := s.FullAt
	if fullAt.Before(now) {
		fullAt = now
	}
	fullAt = fullAt.Add(l.interval())
	if wait := fullAt.Sub(now) - l.capacity(); wait > 0 {
		return s, wait
	}
	s.FullAt = fullAt
	return s, 0
}

// GiveBack puts a request back that was taken and will not be sent.
func (l Limit) GiveBack(s State) State {
	s.FullAt = s.FullAt.Add(-l.interval())
	return s
}

// Used returns how many of the burst's requests are spent at now, from 0 to
// Burst.
func (l Limit) Used(s State, now time.Time) float64 {
	s = l.sane(s, now)
	ahead := s.FullAt.Sub(now)
	if ahead <= 0 {
		return 0
	}
	return float64(ahead) / float64(l.interval())
}

// sane mends a state from before a clock step: a bucket cannot be more than
// empty, and no block is longer than MaxBlock.
func (l Limit) sane(s State, now time.Time) State {
	if latest := now.Add(l.capacity()); s.FullAt.After(latest) {
		s.FullAt = latest
	}
	if latest := now.Add(MaxBlock); s.BlockedUntil.After(latest) {
		s.BlockedUntil = latest
	}
	return s
}

// Block returns s blocked for d, at most MaxBlock. A later end that is already
// in force stays.
func Block(s State, now time.Time, d time.Duration) State {
	until := now.Add(min(d, MaxBlock))
	if until.After(s.BlockedUntil) {
		s.BlockedUntil = until
	}
	return s
}
