package statetest

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers"
)

// start is the time at which everything in the suite happens.
var start = time.Date(2026, time.March, 29, 0, 59, 59, 123456789, time.UTC)

// suite is the suite for one kind of store.
type suite struct {
	open   func(t *testing.T) state.Store
	reopen func(t *testing.T, s state.Store) state.Store
}

// Run checks that a store keeps the contract of [state.Store]. open returns a new
// and empty store. reopen closes a store that open or reopen returned, and opens
// what it has kept as another process would; nil if the store keeps nothing.
// Whoever opens a store closes it at the end of the test.
func Run(t *testing.T, open func(t *testing.T) state.Store, reopen func(t *testing.T, s state.Store) state.Store) {
	s := suite{open: open, reopen: reopen}
	t.Run("what was never saved is empty", s.empty)
	t.Run("an account comes back", s.account)
	t.Run("every field of a snapshot comes back", s.fields)
	t.Run("a number comes back bit by bit", s.numbers)
	t.Run("times in other zones are the same instants", s.zones)
	t.Run("text comes back", s.text)
	t.Run("names come back", s.names)
	t.Run("a roster is not kept", s.roster)
	t.Run("the last write wins", s.lastWins)
	t.Run("50 000 prices come back", s.manyPrices)
	t.Run("10 000 sources come back", s.manySources)
	t.Run("dropped sources are gone", s.drop)
	t.Run("only named accounts are retained", s.retain)
	t.Run("a snapshot that cannot be kept costs no other", s.unkeepable)
	t.Run("the function that is given sources may use the store", s.reentrant)
	t.Run("many may use it at once", s.concurrent)
	t.Run("closing twice is harmless", s.closeTwice)
}

// each calls check for the store as it is and, if it keeps anything, as it is
// after a restart.
func (s suite) each(t *testing.T, store state.Store, check func(t *testing.T, store state.Store)) {
	t.Helper()
	check(t, store)
	if s.reopen != nil {
		check(t, s.reopen(t, store))
	}
}

// load returns the kept snapshots of an account.
func load(t *testing.T, store state.Store, id string) map[string]*snapshot.Snapshot {
	t.Helper()
	got := make(map[string]*snapshot.Snapshot)
	err := store.LoadSources(id, func(key string, s *snapshot.Snapshot) {
		if got[key] != nil {
			t.Errorf("source %q comes twice", key)
		}
		got[key] = s
	})
	require.NoError(t, err)
	return got
}

// balance returns a snapshot of a balance.
func balance(amount float64) *snapshot.Snapshot {
	return &snapshot.Snapshot{
		Reading:   providers.Reading{Balance: &providers.Balance{Amount: amount, Currency: "USD"}},
		FetchedAt: start,
		TriedAt:   start,
		DueAt:     start.Add(time.Minute),
	}
}

func (s suite) empty(t *testing.T) {
	s.each(t, s.open(t), func(t *testing.T, store state.Store) {
		got, err := store.LoadAccount("unknown")
		require.NoError(t, err)
		require.Zero(t, got)
		require.Empty(t, load(t, store, "unknown"))
		store.DropSources("unknown", []string{"a"})
		require.NoError(t, store.Retain(nil))
		require.Empty(t, load(t, store, "unknown"))
	})
}

func (s suite) account(t *testing.T) {
	want := state.Account{
		Quota:     quota.State{FullAt: start.Add(5 * time.Second), BlockedUntil: start.Add(time.Hour)},
		Reason:    providers.ReasonRateLimited,
		Limited:   math.MaxInt,
		Refused:   2,
		LimitedAt: start,
	}
	store := s.open(t)
	require.NoError(t, store.SaveAccount("a", want))
	require.NoError(t, store.SaveAccount("zero", state.Account{}))
	s.each(t, store, func(t *testing.T, store state.Store) {
		got, err := store.LoadAccount("a")
		require.NoError(t, err)
		require.Equal(t, want, got)
		got, err = store.LoadAccount("zero")
		require.NoError(t, err)
		require.Zero(t, got)
	})
}

func (s suite) fields(t *testing.T) {
	want := map[string]*snapshot.Snapshot{
		"never tried": {},
		"prices": {
			Reading: providers.Reading{
				Prices: []providers.Price{{
					SubAccount: "marketing", Country: "SG", MCC: "525", MNC: "01", Operator: "Singtel",
					Direction: providers.Outbound, Amount: 0.0412, Currency: "EUR",
				}, {
					SubAccount: "marketing", Country: "US", NumberType: "TEN_DLC",
					Direction: providers.Inbound, Currency: "USD",
				}},
				Dropped: map[providers.DropReason]int{providers.DropDuplicate: 3, providers.DropMaxSeries: 1},
			},
			FetchedAt: start, TriedAt: start, DueAt: start.Add(time.Hour),
		},
		"subscriber": {
			Reading: providers.Reading{
				Subscriber: "truck-12",
				Balances: []providers.SubscriberBalance{
					{ID: "e7fcef24", Currency: "USD", Value: -3.5},
					{ID: "b6d32b31", Unit: "MB", Value: 1024},
				},
				Kept: []byte{0, 1, 2, 0xFE, 0xFF},
			},
			FetchedAt: start, TriedAt: start.Add(time.Minute), DueAt: start.Add(time.Hour),
		},
		"failed": {
			Reading: providers.Reading{
				Billing: providers.BillingPostpaid, Balance: &providers.Balance{Currency: "GBP"}, AskAfter: time.Hour,
			},
			FetchedAt: start, TriedAt: start.Add(time.Hour), DueAt: start.Add(2 * time.Hour),
			Failure: &snapshot.Failure{Reason: providers.ReasonNotFound, Message: "it is gone", ID: "err-1", Count: 7},
			Ended:   true,
		},
	}
	store := s.open(t)
	for key, v := range want {
		store.SaveSource("a", key, v)
	}
	s.each(t, store, func(t *testing.T, store state.Store) {
		require.Equal(t, want, load(t, store, "a"))
	})
}

func (s suite) numbers(t *testing.T) {
	want := map[string]float64{
		"zero": 0, "minus zero": math.Copysign(0, -1), "0.1": 0.1, "a third": 1.0 / 3,
		"1e308": 1e308, "largest": math.MaxFloat64, "smallest": math.SmallestNonzeroFloat64,
		"2^53": 1 << 53, "2^53+2": 1<<53 + 2, "1e21": 1e21, "1e-7": 1e-7, "-1234.56": -1234.56,
	}
	store := s.open(t)
	for key, v := range want {
		store.SaveSource("a", key, balance(v))
	}
	s.each(t, store, func(t *testing.T, store state.Store) {
		got := load(t, store, "a")
		require.Len(t, got, len(want))
		for key, v := range want {
			require.Equal(t, math.Float64bits(v), math.Float64bits(got[key].Reading.Balance.Amount), key)
		}
	})
}

func (s suite) zones(t *testing.T) {
	at := start.In(time.FixedZone("", 5*3600+45*60))
	store := s.open(t)
	require.NoError(t, store.SaveAccount("a", state.Account{Quota: quota.State{FullAt: at}}))
	store.SaveSource("a", "k", &snapshot.Snapshot{FetchedAt: at})
	s.each(t, store, func(t *testing.T, store state.Store) {
		account, err := store.LoadAccount("a")
		require.NoError(t, err)
		require.True(t, account.Quota.FullAt.Equal(start))
		require.True(t, load(t, store, "a")["k"].FetchedAt.Equal(start))
	})
}

func (s suite) text(t *testing.T) {
	want := map[string]*snapshot.Snapshot{}
	for key, text := range map[string]string{
		"unicode": "Zürich 東京 🛰 \u2028", "controls": "\x00\x01\t\r\n\x7f", "markup": `<a href="x">&\</a>`, "long": strings.Repeat("x", 1<<16),
	} {
		v := balance(1)
		v.Reading.Subscriber = text
		v.Failure = &snapshot.Failure{Message: text}
		want[key] = v
	}
	store := s.open(t)
	for key, v := range want {
		store.SaveSource("a", key, v)
	}
	s.each(t, store, func(t *testing.T, store state.Store) {
		require.Equal(t, want, load(t, store, "a"))
	})
}

func (s suite) names(t *testing.T) {
	// Names that could be taken for something else, or for one another.
	names := []string{"a", "a/b", "a\x00b", "meta", "sources", "format", "ключ", "\xff\xfe", strings.Repeat("n", 1000)}
	store := s.open(t)
	for i, id := range names {
		require.NoError(t, store.SaveAccount(id, state.Account{Limited: i}))
		for j, key := range names {
			store.SaveSource(id, key, balance(float64(100*i+j)))
		}
	}
	s.each(t, store, func(t *testing.T, store state.Store) {
		for i, id := range names {
			account, err := store.LoadAccount(id)
			require.NoError(t, err)
			require.Equal(t, i, account.Limited)
			want := make(map[string]*snapshot.Snapshot)
			for j, key := range names {
				want[key] = balance(float64(100*i + j))
			}
			require.Equal(t, want, load(t, store, id))
		}
	})
}

func (s suite) roster(t *testing.T) {
	v := balance(1)
	v.Reading.Roster = []providers.Source{nil}
	store := s.open(t)
	store.SaveSource("a", "k", v)
	require.Len(t, v.Reading.Roster, 1, "a snapshot is never changed")
	if s.reopen != nil {
		store = s.reopen(t, store)
	}
	require.Nil(t, load(t, store, "a")["k"].Reading.Roster)
}

func (s suite) lastWins(t *testing.T) {
	store := s.open(t)
	save := func(round int) {
		require.NoError(t, store.SaveAccount("a", state.Account{Limited: round}))
		store.SaveSource("a", "k", balance(float64(round)))
	}
	check := func(t *testing.T, round int, store state.Store) {
		account, err := store.LoadAccount("a")
		require.NoError(t, err)
		require.Equal(t, round, account.Limited)
		require.Equal(t, map[string]*snapshot.Snapshot{"k": balance(float64(round))}, load(t, store, "a"))
	}
	for round := range 7 {
		save(2 * round)
		check(t, 2*round, store)
		save(2*round + 1)
		if s.reopen != nil {
			store = s.reopen(t, store)
		}
		check(t, 2*round+1, store)
	}
}

func (s suite) manyPrices(t *testing.T) {
	want := balance(0)
	for i := range 50_000 {
		want.Reading.Prices = append(want.Reading.Prices, providers.Price{
			SubAccount: "marketing", Country: "US", MCC: fmt.Sprintf("%03d", i%1000), MNC: fmt.Sprintf("%02d", i/1000),
			Operator: fmt.Sprintf("Operator %d", i), Direction: providers.Outbound, Amount: float64(i) / 7, Currency: "USD",
		})
	}
	store := s.open(t)
	for range 2 { // the second one is written beside the first
		store.SaveSource("a", "prices", want)
		store.SaveSource("a", "balance", balance(1))
		s.each(t, store, func(t *testing.T, reopened state.Store) {
			got := load(t, reopened, "a")
			require.Len(t, got, 2)
			require.Equal(t, want.Reading.Prices, got["prices"].Reading.Prices)
			store = reopened
		})
	}
}

func (s suite) manySources(t *testing.T) {
	const n = 10_000
	key := func(i int) string { return fmt.Sprintf("subscriber-%d", i) }
	want := make(map[string]*snapshot.Snapshot, n)
	store := s.open(t)
	for i := range n {
		want[key(i)] = balance(float64(i))
		store.SaveSource("a", key(i), want[key(i)])
	}
	s.each(t, store, func(t *testing.T, reopened state.Store) {
		require.Equal(t, want, load(t, reopened, "a"))
		store = reopened
	})

	// A few of them change.
	for i := 0; i < n; i += 97 {
		want[key(i)] = balance(-float64(i))
		store.SaveSource("a", key(i), want[key(i)])
	}
	s.each(t, store, func(t *testing.T, store state.Store) {
		require.Equal(t, want, load(t, store, "a"))
	})
}

func (s suite) drop(t *testing.T) {
	store := s.open(t)
	for _, key := range []string{"a", "b", "c", "d"} {
		store.SaveSource("1", key, balance(1))
		store.SaveSource("2", key, balance(2))
	}
	store.DropSources("1", []string{"a", "b", "unknown"})
	store.SaveSource("1", "b", balance(3))
	if s.reopen != nil {
		store = s.reopen(t, store)
	}
	store.DropSources("1", []string{"c"}) // now it is in the file
	s.each(t, store, func(t *testing.T, store state.Store) {
		require.Equal(t, map[string]*snapshot.Snapshot{"b": balance(3), "d": balance(1)}, load(t, store, "1"))
		require.Len(t, load(t, store, "2"), 4)
	})
}

func (s suite) retain(t *testing.T) {
	store := s.open(t)
	ids := []string{"a", "b", "c", "d"}
	for i, id := range ids {
		require.NoError(t, store.SaveAccount(id, state.Account{Limited: i + 1}))
		store.SaveSource(id, "k", balance(float64(i)))
	}
	if s.reopen != nil {
		store = s.reopen(t, store)
	}
	store.SaveSource("c", "late", balance(1))
	require.NoError(t, store.Retain([]string{"b", "d", "unknown"}))
	// Those that come afterwards take the places of those that went.
	require.NoError(t, store.SaveAccount("e", state.Account{Refused: 5}))
	s.each(t, store, func(t *testing.T, store state.Store) {
		want := map[string]state.Account{"b": {Limited: 2}, "d": {Limited: 4}, "e": {Refused: 5}}
		for _, id := range append(ids, "e") {
			account, err := store.LoadAccount(id)
			require.NoError(t, err)
			require.Equal(t, want[id], account, id)
		}
		require.Empty(t, load(t, store, "a"))
		require.Empty(t, load(t, store, "c"))
		require.Equal(t, map[string]*snapshot.Snapshot{"k": balance(1)}, load(t, store, "b"))
	})
}

func (s suite) unkeepable(t *testing.T) {
	if s.reopen == nil {
		t.Skip("the store keeps anything")
	}
	store := s.open(t)
	store.SaveSource("a", "bad", balance(math.NaN()))
	store.SaveSource("a", "", balance(1))
	store.SaveSource("a", strings.Repeat("x", 1<<17), balance(1))
	store.SaveSource("", "k", balance(1))
	store.SaveSource("a", "good", balance(1))
	require.Equal(t, map[string]*snapshot.Snapshot{"good": balance(1)}, load(t, s.reopen(t, store), "a"))
}

func (s suite) reentrant(t *testing.T) {
	store := s.open(t)
	store.SaveSource("a", "k", balance(1))
	if s.reopen != nil {
		store = s.reopen(t, store)
	}
	err := store.LoadSources("a", func(key string, _ *snapshot.Snapshot) {
		_, err := store.LoadAccount("a")
		require.NoError(t, err)
		require.NoError(t, store.SaveAccount("a", state.Account{}))
		store.SaveSource("a", "other", balance(2))
		store.DropSources("a", []string{key})
		require.NoError(t, store.Retain([]string{"a"}))
	})
	require.NoError(t, err)
	require.Equal(t, map[string]*snapshot.Snapshot{"other": balance(2)}, load(t, store, "a"))
}

func (s suite) concurrent(t *testing.T) {
	const workers, rounds = 8, 50
	store := s.open(t)
	var wg sync.WaitGroup
	for w := range workers {
		id := fmt.Sprint(w % 4) // two on each account
		wg.Go(func() {
			for i := range rounds {
				if err := store.SaveAccount(id, state.Account{Limited: i}); err != nil {
					t.Error(err)
				}
				store.SaveSource(id, fmt.Sprint(w), balance(float64(i)))
				store.SaveSource(id, "fleeting", balance(0))
				store.DropSources(id, []string{"fleeting"})
				if i%10 == 0 {
					if err := store.LoadSources(id, func(string, *snapshot.Snapshot) {}); err != nil {
						t.Error(err)
					}
					if err := store.Retain([]string{"0", "1", "2", "3"}); err != nil {
						t.Error(err)
					}
				}
				if _, err := store.LoadAccount(id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s.each(t, store, func(t *testing.T, store state.Store) {
		for w := range 4 {
			id := fmt.Sprint(w)
			account, err := store.LoadAccount(id)
			require.NoError(t, err)
			require.Equal(t, rounds-1, account.Limited)
			require.Equal(t, map[string]*snapshot.Snapshot{
				id: balance(rounds - 1), fmt.Sprint(w + 4): balance(rounds - 1),
			}, load(t, store, id))
		}
	})
}

func (s suite) closeTwice(t *testing.T) {
	store := s.open(t)
	require.NoError(t, store.SaveAccount("a", state.Account{}))
	store.SaveSource("a", "k", balance(1))
	require.NoError(t, store.Close())
	require.NoError(t, store.Close())
}
