package cache

import (
	"cmp"
	"slices"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// tally counts what the sources of a part serve. It changes with each snapshot that is
// replaced and each value that ends, so that no scrape walks a fleet.
type tally struct {
	fleet   snapshot.Fleet
	serving int // sources with a value
	totals  map[amount]*total
}

// amount is a currency or a unit; never both.
type amount struct{ currency, unit string }

type total struct {
	sum   sum
	count int
	low   int
}

// count adds what e contributes with its snapshot s, as of now, to the tally.
func (p *part) count(e *entry, s *snapshot.Snapshot, now time.Time) {
	e.serves = s.Serves(now, p.MaxAge)
	p.add(e, s, 1)
}

// uncount takes away what e contributes.
func (p *part) uncount(e *entry, s *snapshot.Snapshot) { p.add(e, s, -1) }

func (p *part) add(e *entry, s *snapshot.Snapshot, n int) {
	f := &p.tally.fleet
	switch {
	case s.TriedAt.IsZero():
		f.Pending += n
	case s.Failure == nil:
		f.Fresh += n
	case e.serves:
		f.Stale += n
	default:
		f.Failed += n
	}
	if !e.serves {
		return
	}
	p.tally.serving += n
	for _, b := range s.Reading.SubscriberBalances {
		key := amount{b.Currency, b.Unit}
		t := p.tally.totals[key]
		if t == nil {
			t = &total{}
			p.tally.totals[key] = t
		}
		t.sum.add(b.Value, int64(n))
		t.count += n
		if p.IsLow(b) {
			t.low += n
		}
		if t.count == 0 {
			delete(p.tally.totals, key)
		}
	}
}

// low counts the balances of e that are below their threshold.
func (p *part) low(e *entry, s *snapshot.Snapshot) (n int) {
	for _, b := range s.Reading.SubscriberBalances {
		if e.serves && p.IsLow(b) {
			n++
		}
	}
	return n
}

// note adds n times to the shard what it has to know of e.
func (s *shard) note(p *part, e *entry, shot *snapshot.Snapshot, n int) {
	s.low += n * p.low(e, shot)
	if shot.Failure != nil {
		s.failing += n
	}
	if end := shot.FetchedAt.Add(p.MaxAge); n > 0 && e.serves && (s.until.IsZero() || end.Before(s.until)) {
		s.until = end
	}
}

// replace makes next the snapshot of e.
func (p *part) replace(e *entry, next *snapshot.Snapshot, now time.Time) {
	if e.list.lists {
		e.set(next)
		return
	}
	s, before := p.shards[e.shard], e.unnamed()
	shown := p.low(e, before)
	s.note(p, e, before, -1)
	p.uncount(e, before)
	e.set(next)
	p.count(e, next, now)
	s.note(p, e, next, 1)
	p.summary = nil
	if p.Series != providers.SeriesLow || shown+p.low(e, next) > 0 {
		s.group = nil
	}
}

// expire takes the values out of the tally that have ended.
func (p *part) expire(now time.Time) {
	for _, s := range p.shards {
		if s.until.IsZero() || now.Before(s.until) {
			continue
		}
		p.summary = nil
		s.low, s.failing, s.until = 0, 0, time.Time{}
		for e := range s.each() {
			shot := e.unnamed()
			if e.serves && !shot.Serves(now, p.MaxAge) {
				p.uncount(e, shot)
				p.count(e, shot, now)
			}
			s.note(p, e, shot, 1)
		}
	}
}

// totals returns the totals of a fleet: money first, by currency and unit.
func (p *part) totals() []snapshot.Total {
	totals := []snapshot.Total{}
	for key, t := range p.tally.totals {
		next := snapshot.Total{Currency: key.currency, Unit: key.unit, Sum: t.sum.value(), Count: t.count, Low: t.low}
		_, next.HasThreshold = p.LowThresholds[cmp.Or(key.currency, key.unit)]
		totals = append(totals, next)
	}
	slices.SortFunc(totals, func(a, b snapshot.Total) int {
		return cmp.Or(cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.Currency, b.Currency))
	})
	return totals
}

// subscribers returns at most most of the lowest balances, relative to their
// thresholds, and of the sources that fail. It looks only at shards that have any.
func (p *part) subscribers(now time.Time, most int) (lowest, failing []snapshot.Subscriber) {
	p.expire(now)
	ratio := func(s snapshot.Subscriber) float64 {
		return (s.Balance.Value - s.Threshold) / max(s.Threshold, -s.Threshold, 1e-300)
	}
	for _, s := range p.shards {
		if s.low == 0 && (s.failing == 0 || len(failing) >= most) {
			continue
		}
		for e := range s.each() {
			shot := e.unnamed()
			if shot.Failure != nil && len(failing) < most {
				failing = append(failing, snapshot.Subscriber{Name: e.name(), Failure: shot.Failure, TriedAt: shot.TriedAt})
			}
			for _, b := range shot.Reading.SubscriberBalances {
				if e.serves && p.IsLow(b) {
					lowest = append(lowest, snapshot.Subscriber{
						Name: cmp.Or(shot.Reading.Subscriber, e.name()), Balance: b, Threshold: p.LowThresholds[b.Label()], TriedAt: shot.TriedAt,
					})
				}
			}
		}
		slices.SortStableFunc(lowest, func(a, b snapshot.Subscriber) int { return cmp.Compare(ratio(a), ratio(b)) })
		lowest = slices.Clip(lowest[:min(most, len(lowest))])
	}
	return lowest, failing
}

// remember adds s, of the source e, to what the status page shows of the past.
func (p *part) remember(e *entry, s *snapshot.Snapshot) {
	if n := len(p.history); len(s.Reading.Balances) > 0 && (n == 0 || s.FetchedAt.After(p.history[n-1].At)) {
		p.history = newest(p.history, snapshot.Point{At: s.FetchedAt, Balances: s.Reading.Balances}, maxHistory)
	}
	if s.Failure != nil {
		p.past = newest(p.past, snapshot.Subscriber{Name: e.name(), Failure: s.Failure, TriedAt: s.TriedAt}, maxFailures)
	}
}

const (
	maxHistory  = 120 // readings of a balance
	maxFailures = 10  // past failures of a part
)

// newest returns old with one more, in memory of its own: old may still be shown.
func newest[T any](old []T, next T, most int) []T {
	return append(slices.Clone(old[max(0, len(old)+1-most):]), next)
}
