package simulate

import "time"

// Meter is the use made of a quota so far, for a simulator that answers 429 by
// itself. What is refused uses nothing. The zero value has used nothing; it is not
// safe for concurrent use.
type Meter struct {
	full time.Time // when the whole burst is available again
	// Violations counts what was refused.
	Violations int
}

// Take takes one request of a quota that allows burst requests at once, at least
// one, and then requests in every per; without requests it allows everything. It
// returns how long a refused request came too early.
func (m *Meter) Take(requests int, per time.Duration, burst int, now time.Time) (wait time.Duration, ok bool) {
	if requests <= 0 {
		return 0, true
	}
	interval := per / time.Duration(requests)
	full := m.full
	if full.Before(now) {
		full = now
	}
	full = full.Add(interval)
	if wait := full.Sub(now) - time.Duration(max(1, burst))*interval; wait > 0 {
		m.Violations++
		return wait, false
	}
	m.full = full
	return 0, true
}
