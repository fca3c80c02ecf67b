package cache_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/cache"
	"github.com/balance-exporter/balance_exporter/internal/gate"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/internal/state/statetest"
	"github.com/balance-exporter/balance_exporter/providers"
)

// TestSourcesInRandomWorlds lets random scrapes and reloads meet random sources and a
// random store. Whatever they do: no source is fetched twice at once, or again within
// its interval or its back-off; a scrape ends by its deadline; no loop turns at a clock
// that stands still; Close ends everything. When the world has become calm, every
// source is read and nothing waits for ever. BALANCE_EXPORTER_CASES sets how many
// worlds there are.
func TestSourcesInRandomWorlds(t *testing.T) {
	cases := 150
	if n, err := strconv.Atoi(os.Getenv("BALANCE_EXPORTER_CASES")); err == nil {
		cases = n
	}
	for seed := range cases {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newChaos(t, uint64(seed)).run() })
		})
	}
}

// chaos is a world: a cache on a random store, with random sources. It implements
// [state.Store].
type chaos struct {
	state.Store
	t     *testing.T
	cache *cache.Cache
	gates map[string]*gate.Gate // by account
	spec  []cache.Account

	mu     sync.Mutex
	rng    *rand.Rand
	calm   bool
	closed bool
	claims map[string]claimsAt
	models map[string]*model // by key; keys are unique in the world
	roster map[string]providers.List
}

// lockedSource is a source of random numbers for several goroutines.
type lockedSource struct {
	mu     sync.Mutex
	source rand.Source
}

func (l *lockedSource) Uint64() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.source.Uint64()
}

// claimsAt is how often a source was claimed at one instant.
type claimsAt struct {
	at time.Time
	n  int
}

// model is what must hold of one source. It implements [providers.Source].
type model struct {
	w        *chaos
	account  string
	key      string
	kind     providers.Kind
	interval time.Duration
	lists    bool
	pool     providers.List // of which a list names some

	listedBefore providers.List // of a list, before its last fetch

	inFlight  int
	notBefore time.Time // the earliest time of the next fetch
	stored    bool      // so that a restart knows notBefore
	fetches   int       // since the world is calm
}

func newChaos(t *testing.T, seed uint64) *chaos {
	w := &chaos{
		Store: statetest.NewDurable(), t: t, rng: rand.New(&lockedSource{source: rand.NewPCG(seed, 9)}), //nolint:gosec // a test
		gates: map[string]*gate.Gate{}, claims: map[string]claimsAt{}, models: map[string]*model{},
		roster: map[string]providers.List{},
	}
	for i := range 1 + w.rng.IntN(3) {
		w.addAccount(fmt.Sprint("account", i))
	}
	w.cache = newCache(t, w, w.spec...)
	return w
}

func (w *chaos) addAccount(name string) {
	add := func(key string, kind providers.Kind) *model {
		m := &model{w: w, account: name, key: name + "/" + key, kind: kind, interval: time.Second + time.Duration(w.rng.Int64N(int64(30*time.Minute)))}
		w.models[m.key] = m
		return m
	}
	a := account(w, name, "0", add("balance", providers.KindBalance))
	a.Gate = gate.New(name, quota.Limit{Requests: 1 + w.rng.IntN(5), Per: time.Second, Burst: 1 + w.rng.IntN(5)}, w)
	w.gates[name] = a.Gate
	interval := time.Minute + time.Duration(w.rng.Int64N(int64(time.Hour)))
	subscriber := func(key string) *model {
		m := add(key, providers.KindSubscribers)
		m.interval = interval
		return m
	}
	for i := range w.rng.IntN(5) {
		a.Sources = append(a.Sources, subscriber(fmt.Sprint("configured", i)))
	}
	if w.rng.IntN(2) == 0 {
		list := add("list", providers.KindSubscribers)
		list.lists = true
		for i := range w.rng.IntN(8) {
			list.pool = append(list.pool, subscriber(fmt.Sprint("listed", i)))
		}
		a.Sources = append(a.Sources, list)
	}
	w.spec = append(w.spec, a)
}

// chance returns true in one of n cases, and never when the world is calm. The caller
// holds the lock.
func (w *chaos) chance(n int) bool { return !w.calm && w.rng.IntN(n) == 0 }

func (w *chaos) duration(most time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calm {
		return 0
	}
	return time.Duration(w.rng.Int64N(int64(most))) // to the nanosecond, so that no two events coincide
}

var (
	errStore = errors.New("connection refused")
	errPanic = errors.New("a provider's fault")
)

// Claim implements [state.Store].
func (w *chaos) Claim(_ context.Context, _ string, _ bool, sources []state.Source) ([]state.Claim, error) {
	key := sources[0].Key
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	c := w.claims[key]
	if !c.at.Equal(now) {
		c = claimsAt{at: now}
	}
	if c.n++; c.n > 3 {
		panic(key + " is claimed in a loop")
	}
	w.claims[key] = c
	switch {
	case w.chance(10):
		return nil, errStore
	case w.chance(10):
		return []state.Claim{{Result: state.Held, Retry: time.Duration(w.rng.IntN(3)) * time.Second}}, nil
	case w.chance(10):
		s := &snapshot.Snapshot{TriedAt: now, FetchedAt: now, DueAt: now.Add(time.Duration(w.rng.IntN(60)) * time.Second)}
		return []state.Claim{{Result: state.Shared, Snapshot: s}}, nil
	}
	return []state.Claim{{}}, nil
}

// Publish implements [state.Store].
func (w *chaos) Publish(ctx context.Context, id string, outcomes []state.Outcome) ([]bool, error) {
	w.mu.Lock()
	lost, failed := w.chance(10), w.chance(10)
	for _, o := range outcomes {
		m := w.models[o.Key]
		m.stored = !lost && !failed && o.Snapshot != nil
		if lost && !failed {
			m.notBefore = time.Time{} // the outcome is dropped, and a claim decides
			if m.lists && o.Snapshot != nil {
				w.roster[m.account] = m.listedBefore
			}
		}
	}
	w.mu.Unlock()
	switch {
	case failed:
		return nil, errStore
	case lost:
		return make([]bool, len(outcomes)), nil
	}
	return w.Store.Publish(ctx, id, outcomes)
}

// Describe implements [providers.Source].
func (m *model) Describe() providers.Description {
	return providers.Description{Key: m.key, Kind: m.kind, Interval: m.interval, Requests: 1, Lists: m.lists}
}

// Fetch implements [providers.Source].
func (m *model) Fetch(ctx context.Context) (providers.Reading, error) {
	w := m.w
	w.mu.Lock()
	m.inFlight++
	assert.Equal(w.t, 1, m.inFlight, "%s is fetched twice at once", m.key)
	assert.False(w.t, time.Now().Before(m.notBefore), "%s is fetched %s too early", m.key, time.Until(m.notBefore))
	assert.False(w.t, w.closed, "%s is fetched after Close", m.key)
	took := 30 * time.Second
	if w.chance(20) {
		took = time.Hour // until the cache ends it
	}
	w.mu.Unlock()
	reading, err := m.fetch(ctx, w.duration(took))

	w.mu.Lock()
	defer w.mu.Unlock()
	m.inFlight--
	m.stored = false
	if w.calm {
		m.fetches++
	}
	switch failure := (*providers.Error)(nil); {
	case err == nil:
		m.notBefore = time.Now().Add(m.interval)
	case errors.As(err, &failure) && failure.Reason == providers.ReasonUnavailable:
		m.notBefore = time.Now().Add(5 * time.Second)
	}
	if m.lists && err == nil {
		m.listedBefore = w.roster[m.account]
		roster, _ := reading.Roster.(providers.List)
		w.list(m, roster)
	}
	if listed := w.roster[m.account]; m.kind == providers.KindSubscribers && listed != nil && !m.named(listed) {
		m.notBefore = time.Time{} // it is forgotten
	}
	if errors.Is(err, errPanic) {
		panic(err)
	}
	return reading, err
}

// named reports whether m is no listed source, or listed now.
func (m *model) named(listed providers.List) bool {
	for _, s := range m.w.models[m.account+"/list"].pool {
		if s == providers.Source(m) {
			for _, l := range listed {
				if l == s {
					return true
				}
			}
			return false
		}
	}
	return true
}

func (m *model) fetch(ctx context.Context, d time.Duration) (providers.Reading, error) {
	w := m.w
	if _, err := w.gates[m.account].Wait(ctx); err != nil {
		return providers.Reading{}, &providers.Error{Reason: providers.ReasonUnavailable + "-", Err: err}
	}
	if err := simulate.Sleep(ctx, d); err != nil {
		return providers.Reading{}, providers.Errorf(providers.ReasonTimeout, "%w", err)
	}
	w.mu.Lock()
	outcome, retry := 9, time.Duration(w.rng.IntN(120))*time.Second
	if !w.calm {
		outcome = w.rng.IntN(10)
	}
	w.mu.Unlock()
	switch outcome {
	case 0:
		w.gates[m.account].BeginRateLimit(retry)(retry)
		return providers.Reading{}, &providers.Error{Reason: providers.ReasonRateLimited, RetryAfter: retry}
	case 1:
		w.gates[m.account].Refuse(time.Now())
		return providers.Reading{}, providers.Errorf(providers.ReasonAuth, "wrong key")
	case 2:
		return providers.Reading{}, providers.Errorf(providers.ReasonUnavailable, "down")
	case 3:
		return providers.Reading{}, errPanic
	}
	if m.lists {
		w.mu.Lock()
		defer w.mu.Unlock()
		roster := providers.List{}
		for _, s := range m.pool {
			if w.calm || w.rng.IntN(3) > 0 {
				roster = append(roster, s)
			}
		}
		return providers.Reading{Roster: roster}, nil
	}
	return balance(1)(ctx)
}

// list notes what a list names from now on. A source that it drops is forgotten,
// unless it is in flight.
func (w *chaos) list(list *model, roster providers.List) {
	w.roster[list.account] = roster
	for _, s := range list.pool {
		if m := s.(*model); m.inFlight == 0 && !m.named(roster) {
			m.notBefore = time.Time{}
		}
	}
}

func (w *chaos) run() {
	var scrapes sync.WaitGroup
	for range 60 {
		time.Sleep(w.duration(3 * time.Minute))
		if w.rng.IntN(10) == 0 {
			w.replace()
		}
		scrapes.Go(w.scrape)
	}
	scrapes.Wait()
	if w.rng.IntN(3) == 0 {
		w.close() // with fetches under way
		return
	}
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	for range 180 { // a block lasts at most an hour, and no interval longer
		w.scrape()
		time.Sleep(time.Minute)
	}
	w.mu.Lock()
	for key, m := range w.models {
		assert.Positive(w.t, m.fetches, "%s is starved", key)
	}
	w.mu.Unlock()
	w.cache.RefreshAll(w.t.Context())
	for _, a := range w.cache.Status() {
		for _, s := range a.Sources {
			assert.True(w.t, s.Up || s.Fleet != nil && s.Fleet.Total() == 0, "%s %s", a.Account, s.Part.Kind)
			assert.False(w.t, s.Refreshing)
		}
	}
	w.close()
}

// replace loads the configuration again, with some accounts changed.
func (w *chaos) replace() {
	for i := range w.spec {
		a := &w.spec[i]
		if w.rng.IntN(2) == 0 {
			continue
		}
		a.Digest += "+"
		defer func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, m := range w.models {
				if m.account == a.Name && (!m.stored || m.w.models[a.Name+"/list"] != nil) {
					m.notBefore = time.Time{}
				}
			}
		}()
	}
	w.cache.Replace(w.spec)
}

func (w *chaos) scrape() {
	deadline := time.Second + w.duration(9*time.Second)
	ctx, cancel := context.WithTimeout(w.t.Context(), deadline)
	defer cancel()
	kinds := providers.Kinds()
	w.mu.Lock()
	if w.chance(4) {
		kinds = kinds[:1]
	}
	w.mu.Unlock()
	start := time.Now()
	w.cache.Refresh(ctx, kinds, nil)
	assert.LessOrEqual(w.t, time.Since(start), deadline)
	w.cache.Groups()
	w.cache.Status()
}

func (w *chaos) close() {
	start := time.Now()
	w.cache.Close()
	require.Zero(w.t, time.Since(start), "Close waits for a fetch that ends with its context")
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.scrape()
	w.cache.RefreshAll(w.t.Context())
}
