package cache

import (
	"iter"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers"
)

// catchUp takes over what other processes have learned since the last scrape: the
// quota record, and the snapshots of all sources that are due here. No other source has
// a newer snapshot, because no process may fetch it before it is due. Workers wait, so
// that a scrape serves the newest values even if the quota lets few sources be fetched.
func (a *account) catchUp() {
	err := a.Gate.Load(a.ctx)
	lost := false
	// Lists come first: one that is taken over has new sources.
	for sources := range a.unchecked() {
		if err != nil {
			break
		}
		var some bool
		some, err = a.cache.opts.Store.Newer(a.ctx, a.ID, sources, a.takeOver)
		lost = lost || some
	}
	if lost {
		a.publishAgain()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unreachable = err != nil
	close(a.caught)
	a.caught = nil
	a.proceed()
}

// publishAgain publishes all snapshots, because the store has lost some. A replica that
// starts later could not fetch them while their sources are not due here.
func (a *account) publishAgain() {
	a.listing.Lock() // the index stays as it is
	defer a.listing.Unlock()
	var outcomes []state.Outcome
	publish := func() {
		a.mu.Unlock()
		a.publish(outcomes...)
		outcomes = outcomes[:0]
		a.mu.Lock()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for e := range a.index.all() {
		if e.version == 0 || e.gone {
			continue
		}
		outcomes = append(outcomes, state.Outcome{Key: e.key(), Token: e.version, Snapshot: e.snapshot(), Again: true})
		if len(outcomes) == portion {
			publish()
		}
	}
	publish()
}

// unchecked returns the due sources in portions: first those that list others, which may
// be none, then the others, a shard at a time.
func (a *account) unchecked() iter.Seq[[]state.Source] {
	due := func(sources []state.Source, e *entry) []state.Source {
		if e.queued() && e.due <= a.cache.now() && e.requests > 0 {
			sources = append(sources, state.Source{Key: e.key(), Version: e.version})
		}
		return sources
	}
	return func(yield func([]state.Source) bool) {
		var lists []state.Source
		a.mu.Lock()
		for _, p := range a.parts {
			for _, e := range p.listers {
				lists = due(lists, e)
			}
		}
		a.mu.Unlock()
		more := yield(lists)
		for _, p := range a.parts {
			for i := 0; more; i++ {
				a.mu.Lock()
				if i == len(p.shards) {
					a.mu.Unlock()
					break
				}
				var sources []state.Source
				for e := range p.shards[i].each() {
					sources = due(sources, e)
				}
				a.mu.Unlock()
				more = len(sources) == 0 || yield(sources)
			}
		}
	}
}

// takeOver serves what another process has fetched of a source that waits here.
func (a *account) takeOver(key string, s *snapshot.Snapshot, version uint64) {
	a.mu.Lock()
	e := a.index.get(key)
	waits := e != nil && !e.inFlight && !e.gone && version > e.version
	var source providers.Source
	if waits {
		source = e.source()
	}
	a.mu.Unlock()
	if !waits {
		return
	}
	d := source.Describe()
	if roster, _ := a.restore(d, s); roster != nil { // an error is logged; then the earlier roster stays
		a.setRoster(e, roster)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !e.inFlight && !e.gone {
		a.show(e, mend(s, time.Now(), d.Interval), version, requests(source.Describe()))
	}
}
