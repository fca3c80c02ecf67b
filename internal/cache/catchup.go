package cache

import (
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
	lost, asked := false, map[*entry]bool{}
	for first := true; err == nil; first = false {
		sources := a.unchecked(asked)
		if len(sources) == 0 && !first {
			break
		}
		// A list that is taken over has new sources, which the next round asks for.
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

// unchecked returns the due sources that are not in asked, and adds them to it.
func (a *account) unchecked(asked map[*entry]bool) []state.Source {
	a.mu.Lock()
	defer a.mu.Unlock()
	var sources []state.Source
	now := a.cache.now()
	for _, p := range a.parts {
		for _, q := range p.queues {
			for e := range q.due(now) {
				if !asked[e] && e.requests > 0 {
					asked[e] = true
					sources = append(sources, state.Source{Key: e.key(), Version: e.version})
				}
			}
		}
	}
	return sources
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
		a.show(e, mend(s, time.Now(), d.Interval), version, source)
	}
}
