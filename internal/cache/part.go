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

	tally   tally
	summary *snapshot.Group       // the totals of a fleet; nil if it must be rebuilt
	history []snapshot.Point      // of a balance, the newest last
	past    []snapshot.Subscriber // failures, the newest last
}

// shard is a run of shardSize entries of part.order.
type shard struct {
	group   *snapshot.Group // nil if it must be rebuilt
	low     int             // balances below their threshold
	failing int             // sources whose last try failed
	until   time.Time       // no value ends before; zero for none
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
	p.count(e, time.Now())
}

func (p *part) removeGone() {
	gone := func(e *entry) bool {
		if e.gone {
			e.queue.requests -= e.requests
			if e.position >= 0 {
				p.uncount(e)
			}
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
	p.summary = nil
	for i, e := range p.order {
		p.shards[i/shardSize].note(p, e, 1)
	}
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

// groups adds the groups of the part to into: of a fleet its totals, and its sources
// unless none of them has series of its own.
func (p *part) groups(a *account, into []*snapshot.Group, now time.Time) []*snapshot.Group {
	if p.Fleet {
		p.expire(now)
		if p.summary == nil {
			p.summary = &snapshot.Group{Provider: a.Provider, Account: a.Name, Part: p.Part, Shard: -1, Totals: p.totals()}
		}
		into = append(into, p.summary)
	}
	for i := range p.shards {
		if p.Series != providers.SeriesNone {
			into = append(into, p.group(a, i))
		}
	}
	return into
}

// serves reports whether the part has anything to serve.
func (p *part) serves(now time.Time) bool {
	p.expire(now)
	return p.tally.serving > 0
}

func (p *part) status(a *account, now time.Time) snapshot.Source {
	s := snapshot.Source{
		Part: p.Part, LastSuccess: p.lastSuccess, LastTry: p.lastTry,
		Refreshing: p.inFlight > 0, Refreshes: p.refreshes, Failures: maps.Clone(p.failures),
		History: p.history, Past: p.past,
	}
	p.expire(now)
	fleet := p.tally.fleet
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
		s.Fleet, s.Totals = &fleet, p.totals()
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
