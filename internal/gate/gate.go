// Package gate decides which request of an account goes next under the account's
// quota. It is a queue and a timer; the arithmetic is in internal/quota.
package gate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/providers"
)

// Updater stores quota records: a consumer contract for state.Store.
type Updater interface {
	// Update replaces the record of account id by change(record, now) in one
	// atomic step and returns the new one. change may run more than once. An error
	// means that the quota is not known.
	Update(ctx context.Context, id string, change func(record quota.Account, now time.Time) quota.Account) (quota.Account, error)
}

// Gate lets the requests of one account through as its quota allows, and none
// while the account is blocked. Of several that wait, the one goes first whose
// source is the latest relative to its interval. A Gate is safe for concurrent
// use, and any number of gates may share a record.
type Gate struct {
	id    string
	limit quota.Limit
	store Updater

	// updating has room for one update at a time, so that the records arrive in
	// order. Neither Wait nor Record needs it.
	updating chan struct{}

	mu     sync.Mutex // never held during an update
	record quota.Account
	// own is what this process knows without the store: the requests that it has
	// sent, at the time when they left, and the answers that it has received. It
	// holds the quota and the blocks while the store is slow or fails.
	own     quota.Account
	queue   []*waiter
	taking  bool        // take runs, or timer will start it
	stale   int         // updates in a row that took too long for their grant
	timer   *time.Timer // starts take when the next request is allowed; may be nil
	reading int         // answers "too many requests" that are being read
	lifted  time.Time   // when the credentials last changed
}

// waiter is a request in the queue. It gets grant or err, and then ready is closed.
type waiter struct {
	turn  Turn
	ready chan struct{}
	grant *Grant
	err   error
}

const (
	// grantLife is how long a grant of this process can be used.
	grantLife = 50 * time.Millisecond
	// maxStale is how many updates in a row may take too long for their grant. Then
	// the store is too slow.
	maxStale = 3
	// maxTogether is how many requests one update takes at most: enough for 10 000 a second
	// from a store that answers in 3 ms, and few enough that all are sent while their
	// grants are fresh.
	maxTogether = 32
)

// Grant is the right to send one request. It must be sent while the grant is fresh, or
// GiveBack called instead.
type Grant struct {
	gate    *Gate
	since   time.Time // not after the grant
	takenAt time.Time // by the clock of the store
	ownAt   time.Time // taken from the gate's own record
}

// Fresh reports whether the request may still be sent, which must be done at once.
func (g *Grant) Fresh() bool { return time.Since(g.since) <= g.gate.grantLife() }

// GiveBack returns the request to the quota, because it is not sent.
func (g *Grant) GiveBack() {
	g.gate.mu.Lock()
	g.gate.own = g.gate.limit.GiveBack(g.gate.own, g.ownAt, time.Now())
	g.gate.mu.Unlock()
	g.gate.change(func(a quota.Account, now time.Time) quota.Account { return g.gate.limit.GiveBack(a, g.takenAt, now) })
}

// grantLife is how long a grant can be used: half of the delay that the limit allows,
// so that the request has as much time again to leave.
func (g *Gate) grantLife() time.Duration {
	if g.limit.Delay > 0 {
		return g.limit.Delay / 2
	}
	return grantLife
}

// Turn is the claim of a source to be fetched. It orders the requests at a gate.
type Turn struct {
	DueAt    time.Time
	Interval time.Duration
}

// lateness returns how late the source is at now, in units of its interval.
func (t Turn) lateness(now time.Time) float64 {
	if t.Interval <= 0 {
		return 0
	}
	return float64(now.Sub(t.DueAt)) / float64(t.Interval)
}

type turnKey struct{}

// WithTurn returns a context whose requests queue with turn t. It is a context
// value because it passes through the code of a provider, which knows no turns.
func WithTurn(ctx context.Context, t Turn) context.Context {
	return context.WithValue(ctx, turnKey{}, t)
}

// New returns the gate of the account that is stored as id. It does not read the
// record yet; see [Gate.Load].
func New(id string, limit quota.Limit, store Updater) *Gate {
	return &Gate{id: id, limit: limit, store: store, updating: make(chan struct{}, 1)}
}

// Load reads the stored record, for [Gate.Record] before the first request.
func (g *Gate) Load(ctx context.Context) error {
	_, err := g.update(ctx, g.limit.Mend)
	return err
}

// Limit returns the account's rate limit.
func (g *Gate) Limit() quota.Limit { return g.limit }

// Record returns the last known record. It does no I/O.
func (g *Gate) Record() quota.Account {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.record = g.limit.Mend(g.record, now)
	if own := g.own; own.Blocked(now) && own.BlockedUntil.After(g.record.BlockedUntil) {
		record := g.record
		record.BlockedUntil, record.Cause = own.BlockedUntil, own.Cause
		return record
	}
	return g.record
}

// Wait returns when one request may be sent. Its error wraps [providers.ErrNotAsked]
// if the account is blocked, if ctx ends first, or if the store fails.
func (g *Gate) Wait(ctx context.Context) (*Grant, error) {
	w := &waiter{ready: make(chan struct{})}
	w.turn, _ = ctx.Value(turnKey{}).(Turn)
	g.mu.Lock()
	g.queue = append(g.queue, w)
	g.wake()
	g.mu.Unlock()
	select {
	case <-w.ready:
		return w.grant, w.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.queue, w); i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
	} else if w.err == nil {
		go w.grant.GiveBack() // granted at the moment at which ctx ended
	}
	return nil, fmt.Errorf("%w: %w", providers.ErrNotAsked, context.Cause(ctx))
}

// wake starts take unless it is active. The caller holds the lock.
func (g *Gate) wake() {
	if !g.taking {
		g.taking = true
		go g.take()
	}
}

// take takes requests from the quota, some at a time, and grants them to the queue,
// until the queue is empty or has to wait.
func (g *Gate) take() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		now := time.Now()
		if g.own.Blocked(now) {
			g.reject(blockedError(g.own))
		}
		if len(g.queue) == 0 || g.reading > 0 {
			g.taking = false
			return
		}
		_, most, wait := g.limit.TakeSome(g.own, now, min(len(g.queue), maxTogether))
		if most == 0 {
			g.timer = time.AfterFunc(wait, g.take)
			return
		}
		var taken int
		var blocked bool
		var takenAt time.Time // by the clock of the store
		asked := time.Now()
		g.mu.Unlock()
		record, err := g.update(context.Background(), func(a quota.Account, now time.Time) quota.Account {
			blocked, takenAt = a.Blocked(now), now
			a, taken, wait = g.limit.TakeSome(a, now, most)
			return a
		})
		g.mu.Lock()
		switch {
		case err != nil:
			g.reject(fmt.Errorf("%w: the state cannot be reached: %w", providers.ErrNotAsked, err))
		case blocked:
			g.reject(blockedError(record))
		case taken == 0:
			g.timer = time.AfterFunc(wait, g.take)
			return
		case g.limit.Delay > 0:
			g.grant(taken, takenAt, asked) // the store may have granted them at once, and answered late
		default:
			g.grant(taken, takenAt, time.Now())
		}
	}
}

// grant lets the requests of the n latest sources go. It gives back those that may not go
// any more. The caller holds the lock, which is released for the update.
func (g *Gate) grant(n int, takenAt, since time.Time) {
	now := time.Now()
	stale := now.Sub(since) > g.grantLife()
	if g.stale++; !stale {
		g.stale = 0
	}
	if !stale && g.reading == 0 && !g.own.Blocked(now) {
		for ; n > 0 && len(g.queue) > 0; n-- {
			g.grantNext(now, takenAt, since)
		}
	}
	if n == 0 {
		return
	}
	g.mu.Unlock()
	_, _ = g.update(context.Background(), func(a quota.Account, now time.Time) quota.Account {
		for range n {
			a = g.limit.GiveBack(a, takenAt, now)
		}
		return a
	})
	g.mu.Lock()
	if g.stale >= maxStale {
		g.reject(fmt.Errorf("%w: the state answers too slowly: after %s, and a request must be sent within %s", providers.ErrNotAsked, now.Sub(since), g.grantLife()))
	}
}

// grantNext lets the request of the latest source go. The caller holds the lock.
func (g *Gate) grantNext(now, takenAt, since time.Time) {
	// There are as few waiters as an account has fetches under way.
	best := 0
	for i, w := range g.queue {
		if w.turn.lateness(now) > g.queue[best].turn.lateness(now) {
			best = i
		}
	}
	w := g.queue[best]
	g.queue = slices.Delete(g.queue, best, best+1)
	g.own, _ = g.limit.Take(g.own, now)
	w.grant = &Grant{gate: g, since: since, takenAt: takenAt, ownAt: now}
	close(w.ready)
}

// reject ends the wait of the whole queue. The caller holds the lock.
func (g *Gate) reject(err error) {
	for _, w := range g.queue {
		w.err = err
		close(w.ready)
	}
	g.queue = nil
}

func blockedError(a quota.Account) error {
	return fmt.Errorf("%w until %s", providers.ErrNotAsked, a.BlockedUntil.UTC().Format(time.RFC3339))
}

// BeginRateLimit blocks the account at the first byte of an answer "too many
// requests", for retryAfter, which is 0 if the header names no time. Nothing is
// sent until end is called with the time that the whole answer names, 0 for none;
// see [quota.EndRateLimit]. end must be called once.
func (g *Gate) BeginRateLimit(retryAfter time.Duration) (end func(retryAfter time.Duration)) {
	g.mu.Lock()
	g.reading++
	g.mu.Unlock()
	g.learn(func(a quota.Account, now time.Time) quota.Account {
		return quota.BeginRateLimit(a, now, retryAfter)
	})
	return func(retryAfter time.Duration) {
		jitter := rand.Float64()
		g.learn(func(a quota.Account, now time.Time) quota.Account {
			return quota.EndRateLimit(a, now, retryAfter, jitter)
		})
		g.mu.Lock()
		defer g.mu.Unlock()
		g.reading--
		g.wake()
	}
}

// Refuse blocks the account after the credentials of a request that was sent at
// sentAt were refused, unless they have changed since.
func (g *Gate) Refuse(sentAt time.Time) {
	g.mu.Lock()
	changed := g.lifted.After(sentAt)
	g.mu.Unlock()
	if changed {
		return
	}
	jitter := rand.Float64()
	g.learn(func(a quota.Account, now time.Time) quota.Account { return quota.Refuse(a, now, jitter) })
}

// Lift ends a block for refused credentials, because they have changed.
func (g *Gate) Lift() {
	g.mu.Lock()
	g.lifted = time.Now()
	g.mu.Unlock()
	g.learn(func(a quota.Account, _ time.Time) quota.Account { return quota.Lift(a) })
}

// Answer resets the back-offs after a good answer to a request that was sent at
// sentAt.
func (g *Gate) Answer(sentAt time.Time) {
	g.mu.Lock()
	failures := g.record.Limited + g.record.Refused + g.own.Limited + g.own.Refused
	g.mu.Unlock()
	if failures > 0 {
		g.learn(func(a quota.Account, _ time.Time) quota.Account { return quota.Answer(a, sentAt) })
	}
}

// learn applies what an answer says to what this process knows, and to the store.
func (g *Gate) learn(change func(quota.Account, time.Time) quota.Account) {
	g.mu.Lock()
	g.own = change(g.own, time.Now())
	g.mu.Unlock()
	g.change(change)
}

// change changes the stored record and looks at the queue again. An error needs no
// action here: the store reports it, and own has what matters.
func (g *Gate) change(change func(quota.Account, time.Time) quota.Account) {
	_, _ = g.update(context.Background(), change)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.timer != nil && g.timer.Stop() {
		g.taking = false
	}
	g.wake()
}

// update changes the stored record. If the store has lost it, it puts back what this
// process remembers.
func (g *Gate) update(ctx context.Context, change func(quota.Account, time.Time) quota.Account) (quota.Account, error) {
	g.updating <- struct{}{}
	defer func() { <-g.updating }()
	known := g.Record()
	record, err := g.store.Update(ctx, g.id, func(a quota.Account, now time.Time) quota.Account {
		return change(quota.Recover(a, known), now)
	})
	if err != nil {
		return quota.Account{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.record = record
	return record, nil
}
