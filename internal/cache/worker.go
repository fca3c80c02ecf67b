package cache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	minFetchTime = 5 * time.Minute // a fetch ends after its interval or this, whichever is longer
	maxWorkers   = 64
)

// proceed starts workers for what is due, and tells who waits when nothing is
// left. It is called after each change of what is due, held or under way.
func (a *account) proceed() {
	until, _ := a.Gate.Hold()
	held := !until.IsZero()
	if !held && !a.closed {
		due := 0
		limit := a.parallel()
		for _, p := range a.parts {
			due += p.dueUpTo(limit)
		}
		for idle := a.workers - a.inFlight(); a.workers < limit && due > idle; idle++ {
			a.workers++
			a.work.Go(a.worker)
		}
	}
	for _, p := range a.parts {
		p.settle(held || a.closed)
	}
}

func (a *account) inFlight() int {
	n := 0
	for _, p := range a.parts {
		n += p.inFlight
	}
	return n
}

// parallel is how many sources are asked at a time: enough to use the quota at an
// answer time of a second, and one for each part, so that none waits for another.
func (a *account) parallel() int {
	limit, _ := a.Gate.Used()
	wanted := max(limit.Burst, int(math.Ceil(limit.PerSecond())), len(a.parts))
	return min(wanted, maxWorkers)
}

// worker asks one source after the other until nothing is due or the account is
// held.
func (a *account) worker() {
	for {
		e := a.take()
		if e == nil {
			return
		}
		reading, err := a.fetch(e)
		a.finish(e, reading, err)
	}
}

// take returns the due source that is the latest relative to its interval, and
// marks it as under way. It returns nil, and the worker must end, if there is
// none.
func (a *account) take() *entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	if q := a.latest(); q != nil {
		e := q.pop()
		e.part.inFlight++
		return e
	}
	a.workers--
	a.proceed()
	return nil
}

func (a *account) latest() *queue {
	if until, _ := a.Gate.Hold(); a.closed || !until.IsZero() {
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

func (a *account) fetch(e *entry) (reading providers.Reading, err error) {
	interval := e.source.Interval()
	ctx, cancel := context.WithTimeout(a.ctx, max(interval, minFetchTime))
	defer cancel()
	ctx = httpapi.WithTurn(ctx, httpapi.Turn{DueAt: a.cache.epoch.Add(e.due), Interval: interval})
	defer func() {
		if p := recover(); p != nil {
			// One account's fault must not end the process that watches the others.
			_ = level.Error(a.logger).Log("msg", "panic in a provider", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = providers.Errorf(providers.ReasonInternal, "panic: %v", p)
		}
	}()
	return e.source.Fetch(ctx)
}

// finish publishes the outcome of a fetch and lines the source up again.
func (a *account) finish(e *entry, reading providers.Reading, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := e.part
	p.inFlight--
	defer a.proceed()
	if e.gone {
		return
	}
	defer func() { p.queueOf(e.source.Interval()).push(e) }()
	now := time.Now()
	switch {
	case err == nil:
		a.succeeded(e, reading, now)
	case errors.Is(err, providers.ErrNotAsked), a.ctx.Err() != nil:
		return // nothing was tried; the source stays due
	default:
		a.failed(e, providers.AsError(err), now)
	}
	e.due = a.cache.now() + e.snapshot.DueAt.Sub(now)
	p.changed(e)
	a.cache.opts.Store.SaveSource(a.ID, e.source.Key(), e.snapshot)
}

func (a *account) succeeded(e *entry, reading providers.Reading, now time.Time) {
	p := e.part
	p.refreshes++
	recovered := e.snapshot.Failure
	roster := reading.Roster
	reading.Roster = nil
	e.snapshot = &snapshot.Snapshot{
		Reading: reading, FetchedAt: now, TriedAt: now,
		DueAt: now.Add(max(e.source.Interval(), reading.AskAfter)),
	}
	if reading.Billing != "" {
		a.billing = reading.Billing
	}
	for reason, n := range reading.Dropped {
		a.dropped[reason] += uint64(n)
	}
	p.note(e.snapshot)
	if recovered != nil && (p.tellsEach() || isLister(e)) {
		_ = level.Info(a.logger).Log("msg", "works again", "source", string(p.Kind), "failed", recovered.Count)
	}
	if roster != nil {
		a.replaceRoster(e, roster)
	}
}

func (a *account) failed(e *entry, failure *providers.Error, now time.Time) {
	p := e.part
	p.refreshes++
	p.failures[failure.Reason]++
	before := e.snapshot.Failure
	next := *e.snapshot
	next.TriedAt = now
	next.Ended = e.snapshot.Ended || failure.Gone
	next.Failure = &snapshot.Failure{Reason: failure.Reason, Message: failure.Message, ID: failure.ID, Count: 1}
	if before != nil {
		next.Failure.Count = before.Count + 1
	}
	if failure.Reason == providers.ReasonAuth {
		a.Gate.Refused()
	}
	next.DueAt = now.Add(a.backOff(failure, next.Failure.Count))
	e.snapshot = &next
	p.lastTry, p.failure = now, next.Failure

	logger := level.Debug(a.logger)
	if (before == nil || before.Reason != failure.Reason) && (p.tellsEach() || failure.Gone || isLister(e)) {
		logger = level.Warn(a.logger)
	}
	if failure.ID != "" {
		logger = log.With(logger, "id", failure.ID) // for the provider's support
	}
	_ = logger.Log("msg", "refresh failed", "source", string(p.Kind), "reason", string(failure.Reason), "err", failure.Message, "failures", next.Failure.Count, "next", next.DueAt.Sub(now))
}

// backOff returns how long a source is left alone after a failure. What holds the
// whole account does not hold the source as well.
func (a *account) backOff(failure *providers.Error, count int) time.Duration {
	if failure.Reason == providers.ReasonAuth || failure.Reason == providers.ReasonRateLimited {
		if until, _ := a.Gate.Hold(); !until.IsZero() {
			return 0
		}
	}
	switch {
	case failure.RetryAfter > 0:
		return min(failure.RetryAfter, quota.MaxBlock)
	case failure.AskAfter > 0:
		return failure.AskAfter
	}
	return httpapi.BackOff(count)
}
