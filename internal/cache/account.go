package cache

import (
	"context"
	"maps"
	"slices"
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
// while a source is due.
type account struct {
	Account
	cache  *Cache
	logger log.Logger

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex // not held during I/O
	workers int
	seq     uint64
	parts   []*part
	entries map[string]*entry
	removed []string // keys of sources that the store must forget
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
	caught   chan struct{}
	catchUps uint64
}

// entry is one source and its newest snapshot.
type entry struct {
	source   providers.Source // only its worker uses it while inFlight
	part     *part
	queue    *queue
	snapshot *snapshot.Snapshot
	due      time.Duration // since the cache's epoch
	seq      uint64        // order of arrival, for entries due together
	requests int           // of one fetch; 0 for a source that sends nothing
	position int           // in part.order; -1 for a source that lists others
	lister   *entry        // the source that listed it; nil for none
	inFlight bool
	gone     bool   // no longer listed
	serves   bool   // has a value that counts in the tally of its part
	version  uint64 // of snapshot, in the store
	checked  uint64 // the last catchUp that has asked for a newer one
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
		refused: generations(spec),
	}
	a.ctx, a.cancel = context.WithCancel(c.ctx)
	for _, settings := range spec.Parts {
		a.parts = append(a.parts, &part{
			Part: settings, horizon: -1, failures: map[providers.Reason]uint64{}, tally: tally{totals: map[amount]*total{}},
		})
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
	stored := map[string]storedSnapshot{}
	err := a.cache.opts.Store.Load(a.ctx, a.ID, nil, func(key string, s *snapshot.Snapshot, version uint64) {
		stored[key] = storedSnapshot{s, version}
	})
	if err != nil && !shared {
		_ = level.Warn(a.logger).Log("msg", "starting without the stored values of the account", "err", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.add(providers.List(a.Sources), nil, stored)
	for _, p := range a.parts {
		p.reshard()
	}
}

type storedSnapshot struct {
	*snapshot.Snapshot
	version uint64
}

// add brings sources in, with their stored snapshots by key. Sources of a kind that
// is turned off are left out.
func (a *account) add(sources providers.Roster, lister *entry, stored map[string]storedSnapshot) {
	for source := range providers.Sources(sources) {
		d := source.Describe()
		p := a.part(d.Kind)
		if p == nil {
			continue
		}
		if e := a.entries[d.Key]; e != nil {
			if e.gone { // it comes back before its fetch has ended
				e.gone, e.lister = false, lister
				p.insert(e, d.Lists)
			}
			continue
		}
		a.seq++
		e := &entry{
			source: source, part: p, queue: p.queueOf(d.Interval), snapshot: untried,
			seq: a.seq, requests: d.Requests, position: -1, lister: lister, due: a.cache.now(),
		}
		if p.horizon >= 0 {
			e.due = p.horizon // the scrape that caused the listing also reads what it found
		}
		a.entries[d.Key] = e
		roster := d.Known
		if s, ok := stored[d.Key]; ok {
			listed, err := a.restore(d, s.Snapshot)
			if err == nil {
				a.serve(e, mend(s.Snapshot, time.Now(), d.Interval), s.version)
			}
			if listed != nil {
				roster = listed
			}
		}
		p.insert(e, d.Lists)
		e.queue.push(e)
		a.add(roster, e, stored)
	}
}

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

// serve makes s the snapshot of e.
func (a *account) serve(e *entry, s *snapshot.Snapshot, version uint64) {
	e.part.replace(e, s, time.Now())
	e.version = version
	e.due = a.cache.now() + time.Until(s.DueAt)
	e.part.note(s)
	e.part.remember(e, s)
	if s.Reading.Billing != "" {
		a.billing = s.Reading.Billing
	}
}

// mend corrects the times of a snapshot from before the clock was set back. After a
// success, the interval that is configured now counts.
func mend(s *snapshot.Snapshot, now time.Time, interval time.Duration) *snapshot.Snapshot {
	mended := *s
	if mended.FetchedAt.After(now) {
		mended.FetchedAt = now
	}
	if mended.TriedAt.After(now) {
		mended.TriedAt = now
	}
	longest := max(interval, s.Reading.AskAfter)
	if mended.Failure == nil && !mended.FetchedAt.IsZero() {
		mended.DueAt = mended.FetchedAt.Add(longest)
	}
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

// replaceRoster makes roster the sources that lister has found. A source that stays
// keeps its snapshot.
func (a *account) replaceRoster(lister *entry, roster providers.Roster) {
	stays := make(map[string]bool, roster.Len())
	for i := range roster.Len() {
		stays[roster.Key(i)] = true
	}
	for key, e := range a.entries {
		if e.lister == lister && !stays[key] {
			e.gone = true
			if !e.inFlight {
				a.remove(key)
			}
		}
	}
	for _, p := range a.parts {
		p.removeGone()
	}
	a.add(roster, lister, nil)
	for _, p := range a.parts {
		p.reshard()
	}
}

func (a *account) remove(key string) {
	delete(a.entries, key)
	a.removed = append(a.removed, key)
}

// forget deletes the stored snapshots of sources that no longer exist.
func (a *account) forget() {
	a.mu.Lock()
	keys := a.removed
	a.removed = nil
	a.mu.Unlock()
	if len(keys) == 0 {
		return
	}
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
	a.removed = slices.Collect(maps.Keys(a.entries))
	a.forget()
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
