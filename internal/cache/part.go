package cache

import (
	"iter"
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
	shards  []*shard // all others, in the order of their arrival, which is that of polling
	free    []*entry // of the shards
	size    int      // sources in the shards
	pack    packer
	whole   map[*entry]*snapshot.Snapshot // those that are not packed

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

// shard is entries that share a group.
type shard struct {
	entries []entry         // at most shardSize; one without a list is free
	group   *snapshot.Group // nil if it must be rebuilt
	low     int             // sources with a balance below its threshold
	failing int             // sources whose last try failed
	until   time.Time       // no value ends before; zero for none
}

func newPart(settings providers.Part, epoch time.Time) *part {
	return &part{
		Part: settings, horizon: -1, failures: map[providers.Reason]uint64{}, whole: map[*entry]*snapshot.Snapshot{},
		pack: packer{epoch: epoch, index: map[amount]int{}}, tally: tally{totals: map[amount]*total{}},
	}
}

// entry returns an entry that is not in use, of a shard unless the source lists others.
// wanted is how many entries are wanted, this one included.
func (p *part) entry(lists bool, wanted int) *entry {
	if lists {
		return &entry{}
	}
	if len(p.free) == 0 {
		if p.size > 0 {
			wanted = max(wanted, shardSize/10) // a fleet that grows again will grow on
		}
		s := &shard{entries: make([]entry, min(wanted, shardSize))}
		for i := range s.entries {
			s.entries[i].shard = uint32(len(p.shards)) //nolint:gosec // an index
		}
		p.shards = append(p.shards, s)
		for i := range s.entries {
			p.free = append(p.free, &s.entries[len(s.entries)-1-i]) // the first is the next
		}
	}
	e := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	return e
}

// insert brings e in: what it serves counts from now on.
func (p *part) insert(e *entry) {
	e.list.queue.requests += int(e.requests)
	if e.list.one.Lists {
		p.listers = append(p.listers, e)
		return
	}
	p.size++
	p.count(e, e.unnamed(), time.Now())
	p.changed(e)
}

// takeOut is the opposite of insert.
func (p *part) takeOut(e *entry) {
	e.list.queue.requests -= int(e.requests)
	if e.list.one.Lists {
		p.listers = slices.DeleteFunc(p.listers, func(l *entry) bool { return l == e })
		return
	}
	p.size--
	p.uncount(e, e.unnamed())
	p.changed(e)
}

// release frees an entry that is out and not in flight.
func (p *part) release(e *entry) {
	lists := e.list.one.Lists
	p.pack.forget(e.packed)
	delete(p.whole, e)
	*e = entry{shard: e.shard}
	if !lists {
		p.free = append(p.free, e)
	}
}

// changed notes that the group of e, and the totals, must be rebuilt.
func (p *part) changed(e *entry) { p.shards[e.shard].group, p.summary = nil, nil }

// each returns the entries of a shard that are in use and listed.
func (s *shard) each() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for i := range s.entries {
			if e := &s.entries[i]; e.list != nil && !e.gone && !yield(e) {
				return
			}
		}
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

// group returns the group of a shard.
func (p *part) group(a *account, i int) *snapshot.Group {
	s := p.shards[i]
	if s.group == nil {
		s.group = &snapshot.Group{Provider: a.Provider, Account: a.Name, Part: p.Part, Shard: i}
		if p.Fleet {
			s.group.Fleet = p.fleetOf(s)
		} else {
			for e := range s.each() {
				s.group.Snapshots = append(s.group.Snapshots, e.snapshot())
			}
		}
	}
	return s.group
}

// fleetOf returns the snapshots of a shard as they are now. They are unpacked when the
// group is rendered.
func (p *part) fleetOf(s *shard) iter.Seq[*snapshot.Snapshot] {
	type shown struct {
		list   *list
		packed packed
		row    uint32
	}
	var all []shown
	whole := map[int]*snapshot.Snapshot{}
	for e := range s.each() {
		if p.Series == providers.SeriesLow && !e.low {
			continue
		}
		if w := p.whole[e]; w != nil {
			whole[len(all)] = w
		}
		all = append(all, shown{e.list, e.packed, e.row})
	}
	pack := p.pack
	return func(yield func(*snapshot.Snapshot) bool) {
		for i, x := range all {
			shot := whole[i]
			if shot == nil {
				shot = x.list.unpack(&pack, x.row, x.packed)
			}
			if !yield(shot) {
				return
			}
		}
	}
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
	for i, s := range p.shards {
		if p.Series == providers.SeriesNone || p.Series == providers.SeriesLow && s.low == 0 {
			continue
		}
		into = append(into, p.group(a, i))
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
		switch shot := e.unnamed(); {
		case shot.TriedAt.IsZero():
		case shot.Failure == nil:
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
		for _, shard := range p.shards {
			for e := range shard.each() {
				shot := e.unnamed()
				s.Part.Interval = max(s.Part.Interval, shot.Reading.AskAfter)
				if shot.Serves(now, p.MaxAge) {
					s.Balances = append(s.Balances, shot.Reading.Balances...)
					s.Prices += len(shot.Reading.Prices)
				}
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
