package cache

import (
	"context"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers"
)

// account reads the sources of one account with a few workers, which live only
// while something is due.
type account struct {
	Account
	cache  *Cache
	logger log.Logger
	before *account // whose values open takes over; nil afterwards

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	workers int
	seq     uint64
	parts   []*part
	entries map[string]*entry
	billing providers.Billing
	dropped map[providers.DropReason]uint64
}

// entry is one source and what is known of it.
type entry struct {
	source   providers.Source
	part     *part
	snapshot *snapshot.Snapshot
	due      time.Duration // since the cache's epoch
	seq      uint64        // order of arrival, for entries due together
	position int           // in part.order; -1 for a lister
	lister   *entry        // whose roster it came from; nil for none
	gone     bool
}

var untried = &snapshot.Snapshot{}

func newAccount(c *Cache, spec Account) *account {
	a := &account{
		Account: spec,
		cache:   c,
		logger:  log.With(c.opts.Logger, "provider", spec.Provider, "account", spec.Name),
		entries: map[string]*entry{},
		billing: providers.BillingUnknown,
		dropped: map[providers.DropReason]uint64{},
	}
	a.ctx, a.cancel = context.WithCancel(c.ctx)
	for _, settings := range spec.Parts {
		a.parts = append(a.parts, &part{Part: settings, horizon: -1, failures: map[providers.Reason]uint64{}})
	}
	return a
}

// open takes over what is known of the account, from the account that it replaces
// or else from the store.
func (a *account) open() {
	store := a.cache.opts.Store
	kept, err := store.LoadAccount(a.ID)
	if err != nil {
		_ = level.Warn(a.logger).Log("msg", "starting without the kept quota of the account", "err", err)
	}
	if a.before != nil && kept.Reason == providers.ReasonAuth {
		kept.Quota.BlockedUntil = time.Time{} // the credentials may be what has changed
	}
	a.Gate.Resume(kept, a.saver())

	known := map[string]*snapshot.Snapshot{}
	if a.before != nil {
		for key, e := range a.before.entries {
			known[key] = e.snapshot
		}
		a.billing, a.dropped = a.before.billing, a.before.dropped
		for _, p := range a.parts {
			p.countFrom(a.before.part(p.Kind))
		}
		a.before = nil
	} else if err := store.LoadSources(a.ID, func(key string, s *snapshot.Snapshot) { known[key] = s }); err != nil {
		_ = level.Warn(a.logger).Log("msg", "starting without the kept values of the account", "err", err)
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	a.add(a.Sources, nil, known)
	for _, p := range a.parts {
		p.reshard()
	}
	var stale []string
	for key := range known {
		if a.entries[key] == nil {
			stale = append(stale, key)
		}
	}
	if len(stale) > 0 {
		store.DropSources(a.ID, stale)
	}
}

// saver returns what keeps the account's quota. That it does not work is told once,
// and again when it has worked in between; the gate calls it under its lock.
func (a *account) saver() func(state.Account) {
	failing := false
	return func(now state.Account) {
		err := a.cache.opts.Store.SaveAccount(a.ID, now)
		if err != nil && !failing {
			_ = level.Error(a.logger).Log("msg", "cannot keep the quota: a restart would spend it again", "err", err)
		}
		failing = err != nil
	}
}

// add brings sources in, with what is known of them by key. Sources of a kind that
// the account has not got are left out.
func (a *account) add(sources []providers.Source, lister *entry, known map[string]*snapshot.Snapshot) {
	now := time.Now()
	for _, source := range sources {
		p := a.part(source.Kind())
		if p == nil || a.entries[source.Key()] != nil {
			continue
		}
		a.seq++
		e := &entry{source: source, part: p, snapshot: untried, seq: a.seq, lister: lister, due: a.cache.now()}
		if p.horizon >= 0 {
			e.due = p.horizon // what a scrape has started brought it in, and reads it too
		}
		a.entries[source.Key()] = e
		if s := known[source.Key()]; s != nil {
			a.restore(e, s, now, known)
		}
		p.insert(e)
		p.queueOf(source.Interval()).push(e)
		if l, ok := source.(providers.Lister); ok {
			a.add(l.Known(), e, known)
		}
	}
}

// restore takes over a kept snapshot. Times are mended where the clock was set
// back in between: nothing was read in the future. After a success the interval
// counts that is configured now.
func (a *account) restore(e *entry, s *snapshot.Snapshot, now time.Time, known map[string]*snapshot.Snapshot) {
	s = sane(s, now, e.source.Interval())
	e.snapshot = s
	e.due = a.cache.now() + s.DueAt.Sub(now)
	if s.Reading.Billing != "" {
		a.billing = s.Reading.Billing
	}
	e.part.note(s)
	keeper, ok := e.source.(providers.Keeper)
	if !ok || len(s.Reading.Kept) == 0 {
		return
	}
	roster, err := keeper.Restore(s.Reading.Kept)
	if err != nil {
		_ = level.Warn(a.logger).Log("msg", "starting afresh with a source whose kept form is not understood", "source", string(e.part.Kind), "err", err)
		e.snapshot, e.due = untried, a.cache.now()
		return
	}
	a.add(roster, e, known)
}

func sane(s *snapshot.Snapshot, now time.Time, interval time.Duration) *snapshot.Snapshot {
	mended := *s
	if mended.FetchedAt.After(now) {
		mended.FetchedAt = now
	}
	if mended.TriedAt.After(now) {
		mended.TriedAt = now
	}
	if mended.Failure == nil && !mended.FetchedAt.IsZero() {
		mended.DueAt = mended.FetchedAt.Add(max(interval, s.Reading.AskAfter))
	}
	longest := max(interval, s.Reading.AskAfter)
	if mended.Failure != nil {
		longest = quota.MaxBlock // no back-off is longer, though an interval may be
	}
	if latest := now.Add(longest); mended.DueAt.After(latest) {
		mended.DueAt = latest
	}
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

// start makes everything due that falls due by now, and sees that it is worked on.
func (a *account) start(kinds []providers.Kind) []wait {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	now := a.cache.now()
	for _, p := range a.parts {
		if has(kinds, p.Kind) {
			p.horizon = now
		}
	}
	a.proceed()
	var waits []wait
	wall := time.Now()
	for _, p := range a.parts {
		a.tellFleet(p, wall)
		if has(kinds, p.Kind) && p.idle != nil {
			waits = append(waits, wait{idle: p.idle, empty: !p.serves(wall)})
		}
	}
	return waits
}

// tellFleet logs when most of a fleet begins to fail, and when it works again.
func (a *account) tellFleet(p *part, now time.Time) {
	if p.tellsEach() {
		return
	}
	s := p.status(a, now)
	down := s.Failure != nil && !s.Up
	if down == p.down {
		return
	}
	p.down = down
	if !down {
		_ = level.Info(a.logger).Log("msg", "most subscribers work again", "source", string(p.Kind), "fresh", s.Fleet.Fresh)
		return
	}
	_ = level.Warn(a.logger).Log("msg", "most subscribers fail", "source", string(p.Kind), "reason", string(s.Failure.Reason), "err", s.Failure.Message, "stale", s.Fleet.Stale, "failed", s.Fleet.Failed)
}

func isLister(e *entry) bool {
	_, ok := e.source.(providers.Lister)
	return ok
}

// replaceRoster makes roster the sources that came from lister. A source that
// stays keeps what is known of it.
func (a *account) replaceRoster(lister *entry, roster []providers.Source) {
	stays := make(map[string]bool, len(roster))
	for _, source := range roster {
		stays[source.Key()] = true
	}
	var dropped []string
	for key, e := range a.entries {
		if e.lister == lister && !stays[key] {
			e.gone = true
			delete(a.entries, key)
			dropped = append(dropped, key)
		}
	}
	if len(dropped) > 0 {
		for _, p := range a.parts {
			p.removeGone()
		}
		a.cache.opts.Store.DropSources(a.ID, dropped)
	}
	a.add(roster, lister, nil)
	for _, p := range a.parts {
		p.reshard()
	}
}

// close ends the account's fetches and waits for them.
func (a *account) close() {
	a.mu.Lock()
	a.closed = true
	a.cancel()
	a.proceed()
	a.mu.Unlock()
	a.work.Wait()
}

func (a *account) groups(into []*snapshot.Group) []*snapshot.Group {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.parts {
		for i := range p.shards {
			into = append(into, p.group(a, i))
		}
	}
	return into
}

func (a *account) status() snapshot.Account {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	s := snapshot.Account{
		Provider: a.Provider, Account: a.Name, Billing: a.billing,
		Dropped: make(map[providers.DropReason]uint64, len(a.dropped)),
	}
	s.Limit, s.QuotaUsed = a.Gate.Used()
	s.CooldownUntil, s.CooldownReason = a.Gate.Hold()
	for reason, n := range a.dropped {
		s.Dropped[reason] = n
	}
	for _, p := range a.parts {
		s.PlannedPerSecond += p.planned
		s.Sources = append(s.Sources, p.status(a, now))
	}
	return s
}
