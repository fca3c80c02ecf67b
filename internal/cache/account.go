package cache

import (
	"context"
	"iter"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/balance-exporter/balance_exporter/internal/portions"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers"
)

// account reads the sources of one account with a few workers, which live only
// while a source is due.
type account struct {
	Account
	cache  *Cache
	logger log.Logger

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	listing sync.Mutex // held while the sources change; locked before mu

	mu      sync.Mutex // not held during I/O, nor for anything that takes long in a fleet
	workers int
	seq     uint32
	parts   []*part
	index   *index           // of all entries; changes only while listing is held, too
	listed  map[*entry]*list // what each lister has listed last
	gone    []*entry         // that are to be forgotten
	billing providers.Billing
	dropped map[providers.DropReason]uint64
	// refused is the generations of the secrets that were refused last.
	refused []uint64
	// rechecking is set while checkSecrets runs.
	rechecking bool
	// unreachable is set after a claim has failed, until the next scrape.
	unreachable bool
	// held is set while another process has the account as a whole. Then one worker asks
	// for it.
	held bool
	// caught is closed when catchUp ends; nil unless it runs.
	caught chan struct{}
}

func newAccount(c *Cache, spec Account) *account {
	a := &account{
		Account: spec,
		cache:   c,
		logger:  log.With(c.opts.Logger, "provider", spec.Provider, "account", spec.Name),
		index:   newIndex(0),
		listed:  map[*entry]*list{},
		billing: providers.BillingUnknown,
		dropped: map[providers.DropReason]uint64{},
		refused: generations(spec),
	}
	a.ctx, a.cancel = context.WithCancel(c.ctx)
	for _, settings := range spec.Parts {
		a.parts = append(a.parts, newPart(settings, c.epoch))
	}
	return a
}

func (a *account) name() snapshot.Name { return snapshot.Name{Provider: a.Provider, Account: a.Name} }

// open restores the account from the store, and continues the counters of the
// account that it replaces, if any.
func (a *account) open(before *account) {
	// A shared store reports that it is out of reach, and catchUp loads what it has.
	shared := a.cache.opts.Store.Shared()
	if err := a.Gate.Load(a.ctx); err != nil && !shared {
		_ = level.Warn(a.logger).Log("msg", "starting without the stored quota of the account", "err", err)
	}
	if before != nil {
		a.Gate.Lift() // the credentials may be what has changed
		// before may still be shown: its maps stay its own.
		a.billing, a.dropped = before.billing, maps.Clone(before.dropped)
		for _, p := range a.parts {
			if old := before.part(p.Kind); old != nil {
				p.refreshes, p.failures = old.refreshes, maps.Clone(old.failures)
				p.history, p.past = old.history, old.past
			}
		}
	}
	a.read(before)
}

// read brings in the sources and what is known of them: from the account that this one
// replaces, or from the store.
func (a *account) read(before *account) {
	var lists []string
	for _, source := range a.Sources {
		if d := source.Describe(); d.Lists {
			lists = append(lists, d.Key)
		}
	}
	stored := map[string]version{}
	if len(lists) > 0 {
		a.load(before, lists, func(key string, s *snapshot.Snapshot, number uint64) { stored[key] = version{s, number} })
	}
	for i, source := range a.Sources {
		a.addSource(source, len(a.Sources)-i, stored)
	}
	a.load(before, nil, func(key string, s *snapshot.Snapshot, number uint64) {
		e := a.index.get(key)
		again := e != nil && number > 0 && number <= e.version
		if e != nil && !e.list.one.Lists && !again {
			n := e.requests
			if len(s.Reading.Kept) > 0 {
				source := e.source()
				if _, err := a.restore(source.Describe(), s); err != nil {
					return
				}
				n = requests(source.Describe())
			}
			now := time.Now()
			a.put(e, mend(s, now, e.list.queue.interval), number, n, now)
		}
	})
	for _, p := range a.parts {
		for _, q := range p.queues {
			q.order()
		}
	}
}

// version is a snapshot with its version in the store.
type version struct {
	*snapshot.Snapshot
	number uint64
}

// load calls fn for each snapshot that before has or, if there is no such account or it
// lacks a part, the store; keys are those that are wanted, nil for all.
func (a *account) load(before *account, keys []string, fn func(key string, s *snapshot.Snapshot, version uint64)) {
	if before == nil || slices.ContainsFunc(a.parts, func(p *part) bool { return before.part(p.Kind) == nil }) {
		err := a.cache.opts.Store.Load(a.ctx, a.ID, keys, func(key string, s *snapshot.Snapshot, version uint64) {
			if before == nil || before.index.get(key) == nil {
				fn(key, s, version)
			}
		})
		if err != nil && !a.cache.opts.Store.Shared() { // a shared one reports it, and catchUp loads what it has
			_ = level.Warn(a.logger).Log("msg", "starting without the stored values of the account", "err", err)
		}
	}
	if before == nil {
		return
	}
	for e := range before.index.all() {
		if key := e.key(); keys == nil || slices.Contains(keys, key) {
			fn(key, e.snapshot(), e.version)
		}
	}
}

// addSource brings in a source that is known from the start, and what it lists. A source
// of a kind that is turned off is left out. wanted is how many will come, this one
// included.
func (a *account) addSource(source providers.Source, wanted int, stored map[string]version) {
	d := source.Describe()
	p := a.part(d.Kind)
	if p == nil || a.index.get(d.Key) != nil {
		return
	}
	a.index = a.index.roomFor(1)
	e := a.add(&list{part: p, queue: p.queueOf(d.Interval), roster: providers.List{source}, one: d}, 0, wanted, d)
	roster := d.Known
	if s, ok := stored[d.Key]; ok {
		listed, err := a.restore(d, s.Snapshot)
		if err == nil {
			a.show(e, mend(s.Snapshot, time.Now(), d.Interval), s.number, requests(source.Describe()))
		}
		if listed != nil {
			roster = listed
		}
	}
	if roster != nil {
		a.setRoster(e, roster)
	}
}

// add brings in source row of l. wanted is how many will come, this one included.
func (a *account) add(l *list, row, wanted int, d providers.Description) *entry {
	e := l.part.entry(l.one.Lists, wanted)
	a.seq++
	*e = entry{
		list: l, row: uint32(row), shard: e.shard, seq: a.seq, requests: requests(d), due: a.cache.now(), //nolint:gosec // an index
	}
	if l.part.horizon >= 0 {
		e.due = l.part.horizon // the scrape that caused the listing also reads what it found
	}
	a.index.add(d.Key, e)
	l.part.insert(e)
	l.queue.push(e)
	return e
}

func requests(d providers.Description) uint16 { return uint16(min(d.Requests, math.MaxUint16)) } //nolint:gosec // bounded

// restore passes the persisted part of a snapshot to its source, and returns the
// roster that belongs to it; nil for none.
func (a *account) restore(d providers.Description, s *snapshot.Snapshot) (providers.Roster, error) {
	if d.Restore == nil || len(s.Reading.Kept) == 0 {
		return nil, nil
	}
	roster, err := d.Restore(s.Reading.Kept)
	if err != nil {
		_ = level.Warn(a.logger).Log("msg", "ignoring the stored form of a source that cannot be read", "source", string(d.Kind), "err", err)
		return nil, err
	}
	return roster, nil
}

// show makes s the snapshot of e; n is how many requests the next fetch sends.
func (a *account) show(e *entry, s *snapshot.Snapshot, version uint64, n uint16) {
	a.put(e, s, version, n, time.Now())
	e.list.queue.reorder(e)
}

// put is show without the order of the queue, which costs most for many entries.
func (a *account) put(e *entry, s *snapshot.Snapshot, version uint64, n uint16, now time.Time) {
	p := e.part()
	p.replace(e, s, now)
	p.note(s)
	p.remember(e, s)
	e.version = version
	e.due = now.Sub(a.cache.epoch) + s.DueAt.Sub(now)
	e.list.queue.requests += int(n) - int(e.requests)
	e.requests = n
	if s.Reading.Billing != "" {
		a.billing = s.Reading.Billing
	}
}

// mend corrects the times of a snapshot from before the clock was set back. After a
// success, the interval that is configured now counts.
func mend(s *snapshot.Snapshot, now time.Time, interval time.Duration) *snapshot.Snapshot {
	fetched, tried, due := s.FetchedAt, s.TriedAt, s.DueAt
	if fetched.After(now) {
		fetched = now
	}
	if tried.After(now) {
		tried = now
	}
	longest := max(interval, s.Reading.AskAfter)
	if s.Failure == nil && !fetched.IsZero() {
		due = fetched.Add(longest)
	}
	if s.Failure != nil {
		longest = quota.MaxBlock // no back-off is longer, though an interval may be
	}
	if latest := now.Add(longest); due.After(latest) {
		due = latest
	}
	if fetched.Equal(s.FetchedAt) && tried.Equal(s.TriedAt) && due.Equal(s.DueAt) {
		return s
	}
	mended := *s
	mended.FetchedAt, mended.TriedAt, mended.DueAt = fetched, tried, due
	return &mended
}

func (a *account) part(kind providers.Kind) *part {
	for _, p := range a.parts {
		if p.Kind == kind {
			return p
		}
	}
	return nil
}

// start lets workers fetch every source that is due now.
func (a *account) start(kinds []providers.Kind) []wait {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ctx.Err() != nil {
		return nil
	}
	now, wall := a.cache.now(), time.Now()
	for _, p := range a.parts {
		if slices.Contains(kinds, p.Kind) {
			p.horizon = now
		}
	}
	if record := a.Gate.Record(); record.Blocked(wall) && record.Cause == quota.CauseRefused && !a.rechecking {
		a.rechecking = true
		a.work.Go(a.checkSecrets)
	}
	a.unreachable = false
	if a.cache.opts.Store.Shared() && a.caught == nil {
		a.caught = make(chan struct{})
		a.work.Go(a.catchUp)
	}
	a.proceed()
	var waits []wait
	if a.caught != nil {
		// It causes no requests, and fails at once while the store is out of reach.
		waits = append(waits, wait{idle: a.caught, urgent: true})
	}
	for _, p := range a.parts {
		a.logFleet(p, wall)
		if slices.Contains(kinds, p.Kind) && p.idle != nil {
			waits = append(waits, wait{idle: p.idle, urgent: !p.Fleet && !p.serves(wall)})
		}
	}
	return waits
}

// logFleet logs when most of a fleet begins to fail, and when it has recovered.
func (a *account) logFleet(p *part, now time.Time) {
	if !p.Fleet {
		return
	}
	s := p.status(a, now)
	failing := s.Failure != nil && !s.Up
	if failing == p.failing {
		return
	}
	p.failing = failing
	if !failing {
		_ = level.Info(a.logger).Log("msg", "most sources have recovered", "source", string(p.Kind), "fresh", s.Fleet.Fresh)
		return
	}
	_ = level.Warn(a.logger).Log("msg", "most sources fail", "source", string(p.Kind), "reason", string(s.Failure.Reason), "err", s.Failure.Message, "stale", s.Fleet.Stale, "failed", s.Fleet.Failed)
}

// portion is how many sources of a fleet change while the lock is held.
const portion = 1000

// setRoster makes roster the sources that lister lists. A source that stays keeps its
// snapshot.
func (a *account) setRoster(lister *entry, roster providers.Roster) {
	a.listing.Lock()
	defer a.listing.Unlock()
	before := a.listed[lister]
	delete(a.listed, lister)
	from, size := 0, roster.Len()
	for described := range portions.Ahead(describe(roster), portion) {
		p := a.part(described[0].Kind)
		if p == nil {
			break
		}
		if a.ctx.Err() != nil {
			return // nothing is served any more
		}
		room := a.index.roomFor(max(size-a.index.used, len(described)))
		a.mu.Lock()
		a.index = room
		l := a.listed[lister]
		if l == nil {
			l = &list{part: p, queue: p.queueOf(described[0].Interval), roster: roster, lister: lister}
			a.listed[lister] = l
			if a.index.used < size { // most are new
				l.queue.grow(size)
			}
		}
		for _, d := range described {
			a.list(l, from, size-from, d)
			from++
		}
		a.mu.Unlock()
	}
	if before != nil {
		a.sweep(before)
	}
}

// describe returns the descriptions of the sources of a roster.
func describe(roster providers.Roster) iter.Seq[providers.Description] {
	return func(yield func(providers.Description) bool) {
		for row := range roster.Len() {
			if !yield(roster.Source(row).Describe()) {
				return
			}
		}
	}
}

// list brings in source row of l, or lets it stay. One that another source lists, too, is
// the other one's.
func (a *account) list(l *list, row, wanted int, d providers.Description) {
	e := a.index.get(d.Key)
	switch {
	case e == nil:
		a.add(l, row, wanted, d)
	case e.gone: // it comes back before its fetch has ended, or has been forgotten
		e.list, e.row, e.gone = l, uint32(row), false //nolint:gosec // an index
		l.part.insert(e)
		if !e.inFlight {
			l.queue.push(e)
		}
	case e.list.lister == l.lister:
		e.list, e.row = l, uint32(row) //nolint:gosec // an index
	}
}

// sweep takes out the sources that only an earlier list has.
func (a *account) sweep(before *list) {
	for i := 0; ; i++ {
		a.mu.Lock()
		if i == len(before.part.shards) {
			a.mu.Unlock()
			return
		}
		for e := range before.part.shards[i].each() {
			if e.list == before {
				before.part.takeOut(e)
				e.gone = true
				before.queue.remove(e)
				if !e.inFlight {
					a.gone = append(a.gone, e)
				}
			}
		}
		a.mu.Unlock()
	}
}

// forget forgets the sources that are no longer listed, here and in the store.
func (a *account) forget() {
	a.mu.Lock()
	none := len(a.gone) == 0
	a.mu.Unlock()
	if none {
		return
	}
	a.listing.Lock()
	a.mu.Lock()
	gone := a.gone
	a.gone = nil
	a.mu.Unlock()
	for some := range slices.Chunk(gone, portion) {
		a.mu.Lock()
		var keys []string
		for _, e := range some {
			if e.gone && !e.inFlight { // it has not come back
				keys = append(keys, e.key())
				a.index.remove(keys[len(keys)-1])
				e.part().release(e)
			}
		}
		a.mu.Unlock()
		a.unpublish(keys)
	}
	a.listing.Unlock()
}

// unpublish deletes snapshots from the store.
func (a *account) unpublish(keys []string) {
	outcomes := make([]state.Outcome, len(keys))
	for i, key := range keys {
		outcomes[i] = state.Outcome{Key: key}
	}
	a.publish(outcomes...)
}

// publish stores outcomes, and reports whether the first was accepted. The store
// reports its own failures; a value that could not be stored is served all the same.
func (a *account) publish(outcomes ...state.Outcome) bool {
	if len(outcomes) == 0 {
		return true
	}
	accepted, err := a.cache.opts.Store.Publish(context.WithoutCancel(a.ctx), a.ID, outcomes)
	if err != nil {
		_ = level.Debug(a.logger).Log("msg", "cannot store the outcome of a refresh", "err", err)
	}
	return err != nil || accepted[0]
}

// close ends the account's fetches and waits for them.
func (a *account) close() {
	a.cancel()
	a.mu.Lock()
	a.proceed()
	a.mu.Unlock()
	a.work.Wait()
}

// drop forgets a closed account, except for its quota.
func (a *account) drop() {
	var keys []string
	for e := range a.index.all() {
		if keys = append(keys, e.key()); len(keys) == portion {
			a.unpublish(keys)
			keys = keys[:0]
		}
	}
	a.unpublish(keys)
}

func (a *account) groups(into []*snapshot.Group) []*snapshot.Group {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.parts {
		into = p.groups(a, into, time.Now())
	}
	return into
}

func (a *account) status() snapshot.Account {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	record := a.Gate.Record()
	s := snapshot.Account{
		Provider: a.Provider, Account: a.Name, Billing: a.billing, Limit: a.Gate.Limit(),
		Dropped: maps.Clone(a.dropped),
	}
	s.QuotaUsed = s.Limit.Used(record, now)
	if record.Blocked(now) {
		s.CooldownUntil, s.CooldownReason = record.BlockedUntil, record.Cause
	}
	for _, p := range a.parts {
		s.PlannedPerSecond += p.planned()
		s.Sources = append(s.Sources, p.status(a, now))
	}
	return s
}

// subscribers implements [Cache.Subscribers]. It holds the lock for one shard at a time.
func (a *account) subscribers(most int) (lowest, failing []snapshot.Subscriber) {
	for _, p := range a.parts {
		for i, more := 0, p.Fleet; more; i++ {
			a.mu.Lock()
			if more = i < len(p.shards); more {
				lowest, failing = p.subscribers(p.shards[i], most, lowest, failing)
			}
			a.mu.Unlock()
		}
	}
	return lowest, failing
}
