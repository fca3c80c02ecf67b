package cache

import (
	"maps"
	"slices"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// shardSize is how many sources share a group: few enough that one change costs
// little to render, many enough that a fleet has few groups.
const shardSize = 1000

// part is all sources of one kind of one account. The account's lock guards it.
type part struct {
	providers.Part
	queues  []*queue // one per interval among the sources
	listers []*entry // sources that list others
	order   []*entry // all others, in the order of their arrival, which is that of polling
	shards  []shard

	horizon  time.Duration // sources due until then may be fetched: the time of the last scrape; -1 before the first
	inFlight int
	idle     chan struct{} // closed when no source is due or in flight; nil if so already

	refreshes   uint64
	failures    map[providers.Reason]uint64
	lastSuccess time.Time
	lastTry     time.Time
	failure     *snapshot.Failure // the newest; its source may have recovered since
	failedAt    time.Time         // of failure
	failing     bool              // most of the fleet fails, which has been logged
}

// shard caches what is derived from a run of shardSize entries of part.order.
type shard struct {
	group *snapshot.Group // nil if it must be rebuilt

	fleet   snapshot.Fleet
	serves  bool      // something is served
	counted bool      // fleet and serves are current, until
	until   time.Time // then a value ends; zero for never
}

func (p *part) insert(e *entry, lists bool) {
	e.queue.requests += e.requests
	if lists {
		e.position = -1
		p.listers = append(p.listers, e)
		return
	}
	e.position = len(p.order)
	p.order = append(p.order, e)
}

func (p *part) removeGone() {
	gone := func(e *entry) bool {
		if e.gone {
			e.queue.requests -= e.requests
		}
		return e.gone
	}
	p.listers = slices.DeleteFunc(p.listers, gone)
	p.order = slices.DeleteFunc(p.order, gone)
	for i, e := range p.order {
		e.position = i
	}
	for _, q := range p.queues {
		q.removeGone()
	}
}

// reshard makes every shard anew after sources have come or gone.
func (p *part) reshard() {
	p.shards = make([]shard, (len(p.order)+shardSize-1)/shardSize)
}

// planned returns the demand in requests per second.
func (p *part) planned() float64 {
	sum := 0.0
	for _, q := range p.queues {
		sum += float64(q.requests) / q.interval.Seconds()
	}
	return sum
}

func (p *part) queueOf(interval time.Duration) *queue {
	for _, q := range p.queues {
		if q.interval == interval {
			return q
		}
	}
	q := &queue{interval: interval}
	p.queues = append(p.queues, q)
	return q
}

// due reports whether a source may be asked now.
func (p *part) due() bool {
	return slices.ContainsFunc(p.queues, func(q *queue) bool {
		e := q.head()
		return e != nil && e.due <= p.horizon
	})
}

// dueUpTo counts the sources that may be asked now, to no more than most.
func (p *part) dueUpTo(most int) int {
	n := 0
	for _, q := range p.queues {
		n += q.countDue(p.horizon, most-n)
	}
	return n
}

// settle opens or closes idle. stopped is set while nothing may be fetched: no scrape
// waits for a blocked account.
func (p *part) settle(stopped bool) {
	busy := p.inFlight > 0 || !stopped && p.due()
	switch {
	case busy && p.idle == nil:
		p.idle = make(chan struct{})
	case !busy && p.idle != nil:
		close(p.idle)
		p.idle = nil
	}
}

// changed drops what was derived from the old snapshot of e.
func (p *part) changed(e *entry) {
	if e.position >= 0 {
		p.shards[e.position/shardSize] = shard{}
	}
}

// note updates the times of the part with those of a snapshot.
func (p *part) note(s *snapshot.Snapshot) {
	if s.FetchedAt.After(p.lastSuccess) {
		p.lastSuccess = s.FetchedAt
	}
	if s.TriedAt.After(p.lastTry) {
		p.lastTry = s.TriedAt
	}
	if s.Failure != nil && !s.TriedAt.Before(p.failedAt) {
		p.failure, p.failedAt = s.Failure, s.TriedAt
	}
}

func (p *part) entriesOf(i int) []*entry {
	return p.order[i*shardSize : min((i+1)*shardSize, len(p.order))]
}

func (p *part) group(a *account, i int) *snapshot.Group {
	if p.shards[i].group == nil {
		entries := p.entriesOf(i)
		g := &snapshot.Group{
			Provider: a.Provider, Account: a.Name, Part: p.Part, Shard: i,
			Snapshots: make([]*snapshot.Snapshot, len(entries)),
		}
		for j, e := range entries {
			g.Snapshots[j] = e.snapshot
		}
		p.shards[i].group = g
	}
	return p.shards[i].group
}

// count brings the counts of shard i up to date.
func (p *part) count(i int, now time.Time) *shard {
	s := &p.shards[i]
	if s.counted && (s.until.IsZero() || now.Before(s.until)) {
		return s
	}
	s.fleet, s.serves, s.counted, s.until = snapshot.Fleet{}, false, true, time.Time{}
	for _, e := range p.entriesOf(i) {
		serves := e.snapshot.Serves(now, p.MaxAge)
		s.serves = s.serves || serves
		switch {
		case e.snapshot.TriedAt.IsZero():
			s.fleet.Pending++
		case e.snapshot.Failure == nil:
			s.fleet.Fresh++
		case serves:
			s.fleet.Stale++
		default:
			s.fleet.Failed++
		}
		if end := e.snapshot.FetchedAt.Add(p.MaxAge); serves && (s.until.IsZero() || end.Before(s.until)) {
			s.until = end
		}
	}
	return s
}

// serves reports whether the part has anything to serve.
func (p *part) serves(now time.Time) bool {
	for i := range p.shards {
		if p.count(i, now).serves {
			return true
		}
	}
	return false
}

func (p *part) status(a *account, now time.Time) snapshot.Source {
	s := snapshot.Source{
		Part: p.Part, LastSuccess: p.lastSuccess, LastTry: p.lastTry,
		Refreshing: p.inFlight > 0, Refreshes: p.refreshes, Failures: maps.Clone(p.failures),
	}
	var fleet snapshot.Fleet
	for i := range p.shards {
		f := p.count(i, now).fleet
		fleet.Fresh += f.Fresh
		fleet.Stale += f.Stale
		fleet.Failed += f.Failed
		fleet.Pending += f.Pending
	}
	worked, failed := fleet.Fresh, fleet.Stale+fleet.Failed
	for _, e := range p.listers {
		switch {
		case e.snapshot.TriedAt.IsZero():
		case e.snapshot.Failure == nil:
			worked++
		default:
			failed++
		}
	}
	s.Up = worked > 0 && failed <= worked
	if failed > 0 {
		s.Failure = p.failure
	}
	if p.Fleet {
		s.Fleet = &fleet
	} else {
		for _, e := range p.order {
			s.Part.Interval = max(s.Part.Interval, e.snapshot.Reading.AskAfter)
			if e.snapshot.Serves(now, p.MaxAge) {
				s.Balances = append(s.Balances, e.snapshot.Reading.Balances...)
				s.Prices += len(e.snapshot.Reading.Prices)
			}
		}
	}
	for _, q := range p.queues {
		if e := q.head(); e != nil {
			if due := a.cache.epoch.Add(e.due); s.NextDue.IsZero() || due.Before(s.NextDue) {
				s.NextDue = due
			}
		}
	}
	return s
}
