package cache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/balance-exporter/balance_exporter/internal/gate"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	minFetchTime = 5 * time.Minute // a fetch ends after its interval or this, whichever is longer
	// maxWorkers is enough for 10 000 answers a second that take 100 ms each.
	maxWorkers = 1000
	// untilNextScrape delays a source past the horizon of the scrapes so far.
	untilNextScrape = time.Nanosecond
	// minRetry is the shortest time between two claims by one worker of what another
	// process is fetching.
	minRetry = 100 * time.Millisecond
)

// proceed starts workers for the sources that are due, and wakes the scrapes of a
// part that has none left. It is called after each change of what is due, blocked or
// in flight.
func (a *account) proceed() {
	stopped := a.stopped()
	if !stopped && a.caught == nil {
		due, limit := 0, a.parallel()
		if a.held {
			limit = 1
		}
		for _, p := range a.parts {
			due += p.dueUpTo(limit)
		}
		for free := a.workers - a.inFlight(); a.workers < limit && due > free; free++ {
			a.workers++
			a.work.Go(a.worker)
		}
	}
	for _, p := range a.parts {
		p.settle(stopped && !a.rechecking)
	}
}

// stopped reports whether nothing may be fetched: the account is closed or blocked, or
// the store cannot be reached.
func (a *account) stopped() bool { return a.ctx.Err() != nil || a.unreachable || a.blocked() }

func (a *account) blocked() bool { return a.Gate.Record().Blocked(time.Now()) }

func (a *account) inFlight() int {
	n := 0
	for _, p := range a.parts {
		n += p.inFlight
	}
	return n
}

// parallel is how many sources are fetched at a time: enough to use the quota at a
// response time of a second, and one for each part, so that none waits for another.
func (a *account) parallel() int {
	limit := a.Gate.Limit()
	wanted := max(limit.Burst, int(math.Ceil(limit.PerSecond())), len(a.parts))
	return min(wanted, maxWorkers)
}

// worker fetches one source after the other until none is due or the account is
// blocked.
func (a *account) worker() {
	for f := a.take(); f != nil; f = a.take() {
		claim, err := a.claim(f.Description, f.version)
		switch {
		case err != nil:
			a.giveUp(f.entry)
		case claim.Result == state.Held:
			a.retry(f.entry, claim.Retry)
		case claim.Result == state.Shared:
			a.adopt(f, claim)
		default:
			a.refresh(f, claim)
		}
		a.forget()
	}
}

// flight is a source that is fetched. The lists of the account may change meanwhile.
type flight struct {
	*entry
	providers.Description
	source providers.Source
	before *snapshot.Snapshot
}

// checkSecrets reads the secrets of an account that is blocked because they were
// refused, and ends the block if one has changed. A file may be slow.
func (a *account) checkSecrets() {
	for _, s := range a.Secrets {
		_ = s.Refresh() // the request for which it is needed reports the error
	}
	now := generations(a.Account)
	a.mu.Lock()
	changed := !slices.Equal(a.refused, now)
	a.refused = now
	a.mu.Unlock()
	if changed {
		a.Gate.Lift()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rechecking = false
	a.proceed()
}

func generations(a Account) []uint64 {
	out := make([]uint64, len(a.Secrets))
	for i, s := range a.Secrets {
		out[i] = s.Generation()
	}
	return out
}

// take returns the due source that is the latest relative to its interval, and
// counts it as in flight. It returns nil, and the worker must end, if there is none.
func (a *account) take() *flight {
	f, listed := a.pop()
	if f == nil {
		return nil
	}
	f.Description = f.source.Describe()
	if listed { // it is a new one that knows only what its list says
		if _, err := a.restore(f.Description, f.before); err == nil {
			f.Description = f.source.Describe()
		}
	}
	return f
}

func (a *account) pop() (f *flight, listed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if q := a.latest(); q != nil && (!a.held || a.workers == 1) {
		e := q.pop()
		e.inFlight = true
		e.part().inFlight++
		return &flight{entry: e, source: e.source(), before: e.snapshot()}, e.list.lister != nil
	}
	a.workers--
	a.proceed()
	return nil, false
}

func (a *account) latest() *queue {
	if a.stopped() || a.caught != nil {
		return nil
	}
	now := a.cache.now()
	var best *queue
	var most float64
	for _, p := range a.parts {
		for _, q := range p.queues {
			e := q.head()
			if e == nil || e.due > p.horizon {
				continue
			}
			if late := float64(now-e.due) / float64(q.interval); best == nil || late > most {
				best, most = q, late
			}
		}
	}
	return best
}

// claim asks for the right to fetch a source. One that sends nothing needs none.
func (a *account) claim(d providers.Description, version uint64) (state.Claim, error) {
	if d.Requests == 0 {
		return state.Claim{}, nil
	}
	claims, err := a.cache.opts.Store.Claim(a.ctx, a.ID, a.OneReader, []state.Source{{Key: d.Key, Version: version}})
	if err != nil {
		return state.Claim{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.OneReader && claims[0].Result != state.Shared {
		a.held = claims[0].Result == state.Held
		a.proceed() // the other workers end, or start again
	}
	return claims[0], nil
}

// giveUp ends the work of the account until the next scrape, because the store is out
// of reach. The sources stay as late as they are.
func (a *account) giveUp(e *entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unreachable = true
	a.land(e)
}

// retry puts a source that another process is fetching behind the others that are due,
// and lets the worker wait. A scrape waits for the source as for a fetch of its own.
func (a *account) retry(e *entry, after time.Duration) {
	a.mu.Lock()
	e.due = max(e.due, e.part().horizon)
	a.seq++
	e.seq = a.seq
	a.land(e)
	a.mu.Unlock()
	select {
	case <-time.After(max(after, minRetry)):
	case <-a.ctx.Done():
	}
}

// land ends the flight of a source and queues it again.
func (a *account) land(e *entry) {
	e.inFlight = false
	e.part().inFlight--
	if e.gone {
		a.gone = append(a.gone, e)
	} else {
		e.list.queue.push(e)
	}
	a.proceed()
}

// adopt serves what another process has fetched.
func (a *account) adopt(f *flight, c state.Claim) {
	roster, _ := a.restore(f.Description, c.Snapshot) // logged; without it, the earlier roster stays
	a.install(f, mend(c.Snapshot, time.Now(), f.Interval), c.Version, roster)
}

// refresh fetches a source, stores the outcome, and serves it. An outcome whose claim
// was lost is dropped: another process is fetching the source, or has.
func (a *account) refresh(f *flight, c state.Claim) {
	secrets := generations(a.Account)
	reading, err := a.fetch(f, c.Lost)
	now := time.Now()
	outcome := state.Outcome{Key: f.Key, Token: c.Token}
	switch {
	case err == nil:
		outcome.Snapshot = succeeded(f.Description, reading, now)
	case errors.Is(err, errLost):
		outcome.Abandoned = true
		a.publish(outcome)
		a.retry(f.entry, 0)
		return
	case errors.Is(err, providers.ErrNotAsked) || a.ctx.Err() != nil:
		outcome.Abandoned = true
		a.publish(outcome)
		a.mu.Lock()
		defer a.mu.Unlock()
		if !a.stopped() && !errors.Is(err, context.DeadlineExceeded) {
			f.due = a.cache.now() + untilNextScrape // the store is out of reach
		} // else it stays as late as it is
		a.land(f.entry)
		return
	default:
		failure := providers.AsError(err)
		if failure.Reason == providers.ReasonAuth {
			a.mu.Lock()
			a.refused = secrets
			a.mu.Unlock()
		}
		outcome.Snapshot = a.failed(f.before, failure, now)
	}
	// Before it is queued again: this process, too, needs a new claim then.
	if f.Requests > 0 && !a.publish(outcome) {
		a.retry(f.entry, 0)
		return
	}
	a.mu.Lock()
	a.count(f, outcome.Snapshot)
	a.mu.Unlock()
	a.install(f, outcome.Snapshot, c.Token, reading.Roster)
}

// errLost is the cause of a context that ended because the claim was lost.
var errLost = errors.New("another process has taken over")

// fetch fetches a source until lost is closed.
func (a *account) fetch(f *flight, lost <-chan struct{}) (reading providers.Reading, err error) {
	ctx, cancel := context.WithTimeout(a.ctx, max(f.Interval, minFetchTime))
	defer cancel()
	if lost != nil {
		claimed, end := context.WithCancelCause(ctx)
		defer end(nil)
		go func() {
			select {
			case <-lost:
				end(errLost)
			case <-claimed.Done():
			}
		}()
		defer func() {
			if errors.Is(context.Cause(claimed), errLost) {
				err = errLost
			}
		}()
		ctx = claimed
	}
	ctx = gate.WithTurn(ctx, gate.Turn{DueAt: a.cache.epoch.Add(f.due), Interval: f.Interval})
	defer func() {
		if p := recover(); p != nil {
			// One account's fault must not end the process that watches the others.
			_ = level.Error(a.logger).Log("msg", "panic in a provider", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = providers.Errorf(providers.ReasonInternal, "panic: %v", p)
		}
	}()
	return f.source.Fetch(ctx)
}

func succeeded(d providers.Description, reading providers.Reading, now time.Time) *snapshot.Snapshot {
	reading.Roster = nil
	return &snapshot.Snapshot{
		Reading: reading, FetchedAt: now, TriedAt: now,
		DueAt: now.Add(max(d.Interval, reading.AskAfter)),
	}
}

func (a *account) failed(before *snapshot.Snapshot, failure *providers.Error, now time.Time) *snapshot.Snapshot {
	next := *before
	next.TriedAt = now
	next.Ended = before.Ended || failure.Gone
	next.Failure = &snapshot.Failure{Reason: failure.Reason, Message: failure.Message, ID: failure.ID, Count: 1}
	if before.Failure != nil {
		next.Failure.Count = before.Failure.Count + 1
	}
	if failure.Forget {
		next.Reading.Kept = nil
	}
	next.DueAt = now.Add(a.backOff(failure, next.Failure.Count))
	return &next
}

// backOff returns how long a source waits after a failure. What blocks the whole
// account does not delay the source as well.
func (a *account) backOff(failure *providers.Error, count int) time.Duration {
	switch {
	case (failure.Reason == providers.ReasonAuth || failure.Reason == providers.ReasonRateLimited) && a.blocked():
		return 0
	case failure.RetryAfter > 0:
		return min(failure.RetryAfter, quota.MaxBlock)
	case failure.AskAfter > 0:
		return failure.AskAfter
	}
	return quota.BackOff(count, rand.Float64()) //nolint:gosec // jitter
}

// install makes s the snapshot that is served, roster what the source lists, if it is
// not nil, and ends the flight.
func (a *account) install(f *flight, s *snapshot.Snapshot, version uint64, roster providers.Roster) {
	if roster != nil {
		a.setRoster(f.entry, roster)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !f.gone {
		a.show(f.entry, s, version, requests(f.source.Describe()))
		f.due = max(f.due, a.cache.now()+untilNextScrape) // whatever DueAt is: no loop
	}
	a.land(f.entry)
}

// count counts and logs a refresh of a source with the outcome s.
func (a *account) count(f *flight, s *snapshot.Snapshot) {
	p, before := f.part(), f.before
	p.refreshes++
	each := !p.Fleet || f.Lists
	if s.Failure == nil {
		for reason, n := range s.Reading.Dropped {
			a.dropped[reason] += uint64(n) //nolint:gosec // a number of rows
		}
		if before.Failure != nil && each {
			_ = level.Info(a.logger).Log("msg", "recovered", "source", string(p.Kind), "failures", before.Failure.Count)
		}
		return
	}
	p.failures[s.Failure.Reason]++
	logger := level.Debug(a.logger)
	if (before.Failure == nil || before.Failure.Reason != s.Failure.Reason) && (each || s.Ended && !before.Ended) {
		logger = level.Warn(a.logger)
	}
	if s.Failure.ID != "" {
		logger = log.With(logger, "id", s.Failure.ID) // for the provider's support
	}
	_ = logger.Log("msg", "refresh failed", "source", string(p.Kind), "reason", string(s.Failure.Reason), "err", s.Failure.Message, "failures", s.Failure.Count, "next", s.DueAt.Sub(s.TriedAt))
}
