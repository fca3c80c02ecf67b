package flolivesim

import "time"

// Quota allows Burst requests at once and then Requests in every Per. Over a
// real network, where requests may arrive closer together than they were sent,
// give one more Burst than the client has. A quota without Requests allows
// everything.
type Quota struct {
	Requests int
	Per      time.Duration
	Burst    int // less than one is one
	Hint     Hint
}

// meter is the use made of a quota so far. What is refused uses nothing.
type meter struct {
	full       time.Time // when the whole burst is available again
	violations int
}

// take takes one request, or returns how long it came too early.
func (m *meter) take(q Quota, now time.Time) (wait time.Duration, ok bool) {
	if q.Requests <= 0 {
		return 0, true
	}
	interval := q.Per / time.Duration(q.Requests)
	full := m.full
	if full.Before(now) {
		full = now
	}
	full = full.Add(interval)
	if wait := full.Sub(now) - time.Duration(max(1, q.Burst))*interval; wait > 0 {
		m.violations++
		return wait, false
	}
	m.full = full
	return 0, true
}
