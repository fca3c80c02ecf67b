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

// count adds what e contributes with its snapshot s, as of now, to the tally and to its
// shard.
func (p *part) count(e *entry, s *snapshot.Snapshot, now time.Time) {
	e.serves, e.failing = s.Serves(now, p.MaxAge), s.Failure != nil
	e.low = e.serves && slices.ContainsFunc(s.Reading.SubscriberBalances, p.IsLow)
	p.add(e, s, 1)
	if e.serves {
		p.shards[e.shard].endsAt(s.FetchedAt.Add(p.MaxAge))
	}
}

// uncount takes away what e contributes.
func (p *part) uncount(e *entry, s *snapshot.Snapshot) { p.add(e, s, -1) }

// endsAt notes that a value ends at t.
func (s *shard) endsAt(t time.Time) {
	if s.until.IsZero() || t.Before(s.until) {
		s.until = t
	}
}

func (p *part) add(e *entry, s *snapshot.Snapshot, n int) {
	shard := p.shards[e.shard]
	if e.low {
		shard.low += n
	}
	if e.failing {
		shard.failing += n
	}
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

// replace makes next the snapshot of e.
func (p *part) replace(e *entry, next *snapshot.Snapshot, now time.Time) {
	if e.list.one.Lists {
		e.set(next)
		return
	}
	shown := e.low
	p.uncount(e, e.unnamed())
	e.set(next)
	p.count(e, next, now)
	p.summary = nil
	if p.Series != providers.SeriesLow || shown || e.low {
		p.shards[e.shard].group = nil
	}
}

// expire takes the values out of the tally that have ended.
func (p *part) expire(now time.Time) {
	for _, s := range p.shards {
		if s.until.IsZero() || now.Before(s.until) {
			continue
		}
		s.until, p.summary = time.Time{}, nil
		for e := range s.each() {
			if !e.serves {
				continue
			}
			if end := e.fetchedAt().Add(p.MaxAge); now.Before(end) {
				s.endsAt(end)
				continue
			}
			shot := e.unnamed()
			p.uncount(e, shot)
			p.count(e, shot, now)
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

// subscribers adds to lowest and failing the balances of a shard that are low, and its
// sources that fail, and keeps the most that are lowest relative to their thresholds.
func (p *part) subscribers(s *shard, most int, lowest, failing []snapshot.Subscriber) (_, _ []snapshot.Subscriber) {
	if s.low == 0 && s.failing == 0 {
		return lowest, failing
	}
	for e := range s.each() {
		if e.failing && len(failing) < most {
			shot := e.unnamed()
			failing = append(failing, snapshot.Subscriber{Name: e.name(), Failure: shot.Failure, TriedAt: shot.TriedAt})
		}
		if !e.low {
			continue
		}
		shot := e.snapshot()
		for _, b := range shot.Reading.SubscriberBalances {
			if p.IsLow(b) {
				lowest = append(lowest, snapshot.Subscriber{
					Name: shot.Reading.Subscriber, Balance: b, Threshold: p.LowThresholds[b.Label()], TriedAt: shot.TriedAt,
				})
			}
		}
	}
	ratio := func(s snapshot.Subscriber) float64 {
		return (s.Balance.Value - s.Threshold) / max(s.Threshold, -s.Threshold, 1e-300)
	}
	slices.SortStableFunc(lowest, func(a, b snapshot.Subscriber) int { return cmp.Compare(ratio(a), ratio(b)) })
	return slices.Clip(lowest[:min(most, len(lowest))]), failing
}

// remember adds s, of the source e, to what the status page shows of the past.
func (p *part) remember(e *entry, s *snapshot.Snapshot) {
	if n := len(p.history); len(s.Reading.Balances) > 0 && (n == 0 || s.FetchedAt.After(p.history[n-1].At)) {
		p.history = newest(p.history, snapshot.Point{At: s.FetchedAt, Balances: s.Reading.Balances}, maxHistory)
	}
	if n := len(p.past); s.Failure != nil && (n == 0 || s.TriedAt.After(p.past[n-1].TriedAt)) {
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
