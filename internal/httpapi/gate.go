package httpapi

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers"
)

// Back-off after an answer that names no time: from the first value, doubling to
// the last, each lengthened by up to a fifth so that exporters do not march in
// step.
const (
	limitedBackOff = time.Second
	failureBackOff = 5 * time.Second
	maxBackOff     = 5 * time.Minute
)

// BackOff returns how long to wait after n failures in a row that named no time.
func BackOff(n int) time.Duration { return backOff(failureBackOff, n) }

func backOff(first time.Duration, n int) time.Duration {
	d := first
	for ; n > 1 && d < maxBackOff; n-- {
		d *= 2
	}
	d = min(d, maxBackOff)
	return d + rand.N(d/5+1)
}

// Gate lets the requests of one account through, as its quota allows and never
// during a cool-down. Of several that wait, the one goes first whose source is
// the latest relative to its interval.
type Gate struct {
	save    func(state.Account)
	secrets []*secret.Value

	mu      sync.Mutex
	limit   quota.Limit
	account state.Account
	asked   []uint64 // generations of secrets at the last request
	refused []uint64 // those that were refused
	waiting []*waiter
	paused  int         // answers "too many requests" that are being read
	timer   *time.Timer // runs grant when the next request is allowed; nil if none waits
}

// waiter is a request at the gate.
type waiter struct {
	turn  Turn
	ready chan error // buffered; gets one value
}

// Turn is a source's claim to be asked: it orders the requests at a gate.
type Turn struct {
	DueAt    time.Time
	Interval time.Duration
}

// lateness is how late the source is at now, in units of its interval.
func (t Turn) lateness(now time.Time) float64 {
	if t.Interval <= 0 {
		return 0
	}
	return float64(now.Sub(t.DueAt)) / float64(t.Interval)
}

type turnKey struct{}

// WithTurn returns a context whose requests wait at the gate in t's name.
func WithTurn(ctx context.Context, t Turn) context.Context {
	return context.WithValue(ctx, turnKey{}, t)
}

// NewGate returns the gate of an account that has sent nothing yet. A change of
// one of the secrets ends the hold of a refused account.
func NewGate(limit quota.Limit, secrets ...*secret.Value) *Gate {
	now := generationsOf(secrets)
	return &Gate{limit: limit, secrets: secrets, asked: now, refused: now}
}

// Resume lets the gate go on from kept. From now on save is called with each
// change, and before a request is let through. It has no error, for an exporter that
// cannot write its state is still worth having.
func (g *Gate) Resume(kept state.Account, save func(state.Account)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.account, g.save = kept, save
}

// Wait returns nil when one request may be sent, which must then be done at once.
// It returns an error that wraps [providers.ErrNotAsked] if the account is held,
// or if ctx ends first.
func (g *Gate) Wait(ctx context.Context) error {
	w := &waiter{ready: make(chan error, 1)}
	w.turn, _ = ctx.Value(turnKey{}).(Turn)
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	g.grant()
	g.mu.Unlock()
	select {
	case err := <-w.ready:
		return err
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting, w); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	return fmt.Errorf("%w: %w", providers.ErrNotAsked, context.Cause(ctx))
}

// grant lets through what may go now, and sets the timer for the next.
func (g *Gate) grant() {
	for len(g.waiting) > 0 && g.paused == 0 {
		now := time.Now()
		if g.account.Quota.BlockedUntil.After(now) {
			err := fmt.Errorf("%w until %s", providers.ErrNotAsked, g.account.Quota.BlockedUntil.UTC().Format(time.RFC3339))
			for _, w := range g.waiting {
				w.ready <- err
			}
			g.waiting = nil
			return
		}
		next, wait := g.limit.Take(g.account.Quota, now)
		// Also what was refused is kept: it is mended where the clock was set back,
		// and mended anew at each look it would never become less.
		g.account.Quota = next
		if wait > 0 {
			if g.timer == nil {
				g.timer = time.AfterFunc(wait, g.timeUp)
			}
			return
		}
		g.keep()
		g.asked = generationsOf(g.secrets)
		i := g.latest(now)
		w := g.waiting[i]
		g.waiting = slices.Delete(g.waiting, i, i+1)
		w.ready <- nil
	}
}

// GiveBack is called instead of sending the request that [Gate.Wait] has let
// through. Another one may go in its place.
func (g *Gate) GiveBack() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.account.Quota = g.limit.GiveBack(g.account.Quota)
	g.keep()
	g.grant()
}

func (g *Gate) timeUp() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timer = nil
	g.grant()
}

// latest returns the index of the waiter to go first. The waiters are as few as
// an account has fetches under way, so looking at each is cheap.
func (g *Gate) latest(now time.Time) int {
	best := 0
	for i, w := range g.waiting {
		if w.turn.lateness(now) > g.waiting[best].turn.lateness(now) {
			best = i
		}
	}
	return best
}

func (g *Gate) keep() {
	if g.save != nil {
		g.save(g.account)
	}
}

// Limiting is called with the first byte of an answer "too many requests" and with
// what its header says of how long, and its result with the last byte and with what
// all of the answer says: 0 if it does not say. In between nothing is sent, and the
// account is held already, for a process that is killed in between.
func (g *Gate) Limiting(atLeast time.Duration) (done func(retryAfter time.Duration)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	// Requests that were under way together are limited together: that is one
	// event, and counts once.
	if !g.account.Quota.BlockedUntil.After(now) || g.account.Reason != providers.ReasonRateLimited {
		g.account.Limited++
	}
	g.account.LimitedAt = now
	g.paused++
	g.hold(now, max(atLeast, limitedBackOff), providers.ReasonRateLimited)
	return func(retryAfter time.Duration) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if retryAfter <= 0 {
			retryAfter = backOff(limitedBackOff, g.account.Limited)
		}
		g.paused--
		g.hold(time.Now(), retryAfter, providers.ReasonRateLimited)
	}
}

// RateLimited holds the account after an answer "too many requests": for
// retryAfter, or for a time that doubles with each such answer in a row if
// retryAfter is 0. A hold that is in force is never shortened.
func (g *Gate) RateLimited(retryAfter time.Duration) { g.Limiting(retryAfter)(retryAfter) }

// Refused holds the account after its credentials were refused, for a time that
// doubles with each refusal in a row, or until a secret is another one than that of
// the last request.
func (g *Gate) Refused() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if g.account.Reason == providers.ReasonAuth && g.account.Quota.BlockedUntil.After(now) {
		return
	}
	g.account.Refused++
	g.refused = g.asked
	g.hold(now, backOff(failureBackOff, g.account.Refused), providers.ReasonAuth)
}

func (g *Gate) hold(now time.Time, d time.Duration, reason providers.Reason) {
	before := g.account.Quota.BlockedUntil
	// Two holds at a time are "too many requests" until both are over: a changed
	// secret must not end what it has nothing to do with.
	limited := before.After(now) && g.account.Reason == providers.ReasonRateLimited
	g.account.Quota = quota.Block(g.account.Quota, now, d)
	switch {
	case limited:
	case reason == providers.ReasonRateLimited, g.account.Quota.BlockedUntil != before:
		g.account.Reason = reason
	}
	g.keep()
	g.grant()
}

// Answered notes a good answer to a request that was sent at sentAt: the next
// back-off starts from the beginning. An answer to a request from before the last
// hold says nothing about it.
func (g *Gate) Answered(sentAt time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.account.Limited == 0 && g.account.Refused == 0 || !sentAt.After(g.account.LimitedAt) {
		return
	}
	g.account.Limited, g.account.Refused = 0, 0
	g.keep()
}

// Hold returns until when the account is held, and why; the zero time if it is
// not. A change of a secret ends the hold of refused credentials here.
func (g *Gate) Hold() (time.Time, providers.Reason) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if latest := now.Add(quota.MaxBlock); g.account.Quota.BlockedUntil.After(latest) {
		g.account.Quota.BlockedUntil = latest // the clock was set back
	}
	if !g.account.Quota.BlockedUntil.After(now) {
		return time.Time{}, ""
	}
	if g.account.Reason == providers.ReasonAuth && !slices.Equal(g.refused, generationsOf(g.secrets)) {
		g.account.Quota.BlockedUntil, g.account.Refused = time.Time{}, 0
		g.keep()
		return time.Time{}, ""
	}
	return g.account.Quota.BlockedUntil, g.account.Reason
}

// Idle reports that nothing of what the gate knows is in force any more: the
// account may send its whole burst.
func (g *Gate) Idle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	return !g.account.Quota.BlockedUntil.After(now) && g.limit.Used(g.account.Quota, now) == 0
}

// Used returns the limit and how many requests of its burst are spent.
func (g *Gate) Used() (quota.Limit, float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limit, g.limit.Used(g.account.Quota, time.Now())
}

func generationsOf(secrets []*secret.Value) []uint64 {
	out := make([]uint64, len(secrets))
	for i, s := range secrets {
		out[i] = s.Generation()
	}
	return out
}

// gated is the link of the chain that waits at the gate, and then authorizes the
// request.
type gated struct {
	gate *Gate
	next http.RoundTripper
}

// authorizeKey is that of [providers.Call.Authorize] in a request's context.
type authorizeKey struct{}

func (l gated) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := l.gate.Wait(req.Context()); err != nil {
		return nil, err
	}
	if authorize, ok := req.Context().Value(authorizeKey{}).(func() (http.Header, error)); ok {
		header, err := authorize()
		if err != nil {
			l.gate.GiveBack()
			return nil, err
		}
		req = req.Clone(req.Context())
		maps.Copy(req.Header, header)
	}
	return l.next.RoundTrip(req)
}
