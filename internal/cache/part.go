package cache

import (
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
	queues  []*queue // one for each interval among the sources
	listers []*entry
	order   []*entry // all others, in the order in which they came, which is that of polling
	shards  []shard

	horizon  time.Duration // what is due by then may be asked: the time of the last scrape; -1 for none yet
	inFlight int
	idle     chan struct{} // closed when nothing is due or under way; nil if so already
	planned  float64       // requests per second

	refreshes   uint64
	failures    map[providers.Reason]uint64
	lastSuccess time.Time
	lastTry     time.Time
	failure     *snapshot.Failure // the newest; of a source that may work again by now
	down        bool              // the log has told that most of the fleet fails
}

// shard caches what is derived from a run of shardSize entries of part.order.
type shard struct {
	group *snapshot.Group // nil if it must be made anew

	fleet   snapshot.Fleet
	serves  bool      // something is served
	counted bool      // fleet and serves are current, until
	until   time.Time // then a value ends; zero for never
}

// countFrom goes on with the counters of the part that p replaces; nil is none.
func (p *part) countFrom(before *part) {
	if before != nil {
		p.refreshes, p.failures = before.refreshes, before.failures
	}
}

func (p *part) insert(e *entry) {
	if isLister(e) {
		e.position = -1
		p.listers = append(p.listers, e)
		return
	}
	e.position = len(p.order)
	p.order = append(p.order, e)
}

func (p *part) removeGone() {
	gone := func(e *entry) bool { return e.gone }
	p.listers = slices.DeleteFunc(p.listers, gone)
	p.order = slices.DeleteFunc(p.order, gone)
	for i, e := range p.order {
		e.position = i
	}
	for _, q := range p.queues {
		q.remove(gone)
	}
}

// reshard makes every shard anew after sources have come or gone.
func (p *part) reshard() {
	p.shards = make([]shard, (len(p.order)+shardSize-1)/shardSize)
	p.planned = 0
	for _, entries := range [][]*entry{p.listers, p.order} {
		for _, e := range entries {
			p.planned += float64(e.source.Requests()) / e.source.Interval().Seconds()
		}
	}
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

// settle opens or closes idle. A held account does not make anybody wait.
func (p *part) settle(held bool) {
	busy := p.inFlight > 0 || !held && p.due()
	switch {
	case busy && p.idle == nil:
		p.idle = make(chan struct{})
	case !busy && p.idle != nil:
		close(p.idle)
		p.idle = nil
	}
}

// changed notes that e has a new snapshot.
func (p *part) changed(e *entry) {
	if e.position >= 0 {
		p.shards[e.position/shardSize] = shard{}
	}
}

// note takes the times of a snapshot into the part's own.
func (p *part) note(s *snapshot.Snapshot) {
	if s.FetchedAt.After(p.lastSuccess) {
		p.lastSuccess = s.FetchedAt
	}
	if s.TriedAt.After(p.lastTry) {
		p.lastTry = s.TriedAt
		p.failure = s.Failure
	}
}

// tellsEach reports whether each source of the part is worth a line in the log. A
// fleet's are told by its counts.
func (p *part) tellsEach() bool { return p.Kind != providers.KindSubscribers }

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
		Refreshing: p.inFlight > 0, Refreshes: p.refreshes,
		Failures: make(map[providers.Reason]uint64, len(p.failures)),
	}
	for reason, n := range p.failures {
		s.Failures[reason] = n
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
	if p.Kind == providers.KindSubscribers {
		s.Fleet = &fleet
	} else {
		for _, e := range p.order {
			if e.snapshot.Serves(now, p.MaxAge) {
				s.Balance = e.snapshot.Reading.Balance
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
