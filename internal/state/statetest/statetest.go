package statetest

import (
	"context"
	"fmt"
	"hash/crc32"
	"math"
	"reflect"
	"slices"
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

// Start is the instant of every time in the suite.
var Start = time.Date(2026, time.March, 29, 0, 59, 59, 123456789, time.UTC)

// Handles are the ways in which the suite reaches one store.
type Handles struct {
	// Open returns a handle on a new and empty store.
	Open func(t *testing.T) state.Store
	// Other returns another handle on the store of a handle, as another process
	// would have it: a second connection to a shared store, or the store reopened
	// after Close. Nil if the store ends with its handle.
	Other func(t *testing.T, s state.Store) state.Store
	// QuotaOnly is set for a store that stores no snapshots.
	QuotaOnly bool
	// Unknown is the quota record of an account that the store does not know.
	Unknown quota.Account
}

// Run checks that a store fulfils the contract of [state.Store]. The functions of
// h close what they open at the end of the test.
func Run(t *testing.T, h Handles) {
	for name, test := range map[string]func(*testing.T, Handles){
		"a quota record survives":               quotaRecord,
		"updates of one record do not get lost": atomic,
		"closing twice is harmless":             closeTwice,
	} {
		t.Run(name, func(t *testing.T) { test(t, h) })
	}
	if h.QuotaOnly {
		t.Run("no snapshot is stored", func(t *testing.T) {
			s := h.Open(t)
			Publish(t, s, "a", map[string]*snapshot.Snapshot{"k": Balance(1)})
			require.Empty(t, Snapshots(t, s, "a"))
			require.Empty(t, Snapshots(t, s, "a", "k"))
		})
		return
	}
	for name, test := range map[string]func(*testing.T, Handles){
		"an unknown account is empty":               empty,
		"every field of a snapshot survives":        fields,
		"a number survives bit by bit":              numbers,
		"times in other zones are the same instant": zones,
		"text survives":                             text,
		"names are not confused":                    names,
		"the roster is not stored":                  roster,
		"the last write wins":                       lastWins,
		"50 000 prices survive":                     manyPrices,
		"10 000 sources survive":                    manySources,
		"a nil snapshot forgets the source":         forget,
		"an abandoned claim changes nothing":        abandoned,
		"the function of Load may use the store":    reentrant,
		"all methods may be called concurrently":    concurrent,
		"some sources are loaded":                   someKeys,
	} {
		t.Run(name, func(t *testing.T) { test(t, h) })
	}
	if h.Other == nil || !h.Open(t).Shared() {
		return
	}
	for name, test := range map[string]func(*testing.T, Handles){
		"a source is claimed once":                       claimedOnce,
		"what another process has read is shared":        shares,
		"newer snapshots are loaded":                     newer,
		"an account is claimed as a whole":               claimedWhole,
		"an outcome needs a claim":                       unclaimed,
		"updates of several processes do not get lost":   atomicOverHandles,
		"a closed handle releases its claims":            closeReleases,
		"a shared store is ready when it can be reached": ready,
	} {
		t.Run(name, func(t *testing.T) { test(t, h) })
	}
}

// each calls check with the handle, and with another one.
func (h Handles) each(t *testing.T, s state.Store, check func(t *testing.T, s state.Store)) {
	t.Helper()
	check(t, s)
	if h.Other != nil {
		check(t, h.Other(t, s))
	}
}

// Snapshots returns the stored snapshots of an account, or those of some keys.
func Snapshots(t testing.TB, s state.Store, id string, keys ...string) map[string]*snapshot.Snapshot {
	t.Helper()
	got := make(map[string]*snapshot.Snapshot)
	versions := make(map[string]uint64)
	require.NoError(t, s.Load(context.Background(), id, keys, func(key string, shot *snapshot.Snapshot, version uint64) {
		if got[key] != nil && (!s.Shared() || version < versions[key]) {
			t.Errorf("source %q is loaded twice", key)
		}
		got[key], versions[key] = shot, version
	}))
	return got
}

// Quota returns the quota record of an account.
func Quota(t testing.TB, s state.Store, id string) quota.Account {
	t.Helper()
	record, err := s.Update(context.Background(), id, func(a quota.Account, _ time.Time) quota.Account { return a })
	require.NoError(t, err)
	return record
}

// SetQuota replaces the quota record of an account.
func SetQuota(t testing.TB, s state.Store, id string, a quota.Account) {
	t.Helper()
	record, err := s.Update(context.Background(), id, func(quota.Account, time.Time) quota.Account { return a })
	require.NoError(t, err)
	require.Equal(t, a, record)
}

// Publish claims sources and publishes a snapshot for each; nil forgets.
func Publish(t testing.TB, s state.Store, id string, snapshots map[string]*snapshot.Snapshot) {
	t.Helper()
	sources := make([]state.Source, 0, len(snapshots))
	for key := range snapshots {
		// As if the newest one were known: then no claim is shared.
		sources = append(sources, state.Source{Key: key, Version: uint64(time.Now().UnixMicro())}) //nolint:gosec // a time
	}
	claims, err := s.Claim(context.Background(), id, false, sources)
	require.NoError(t, err)
	require.Len(t, claims, len(sources))
	var outcomes []state.Outcome
	for i, source := range sources {
		require.Equal(t, state.Granted, claims[i].Result)
		outcomes = append(outcomes, state.Outcome{Key: source.Key, Token: claims[i].Token, Snapshot: snapshots[source.Key]})
	}
	accepted, err := s.Publish(context.Background(), id, outcomes)
	require.NoError(t, err)
	require.Len(t, accepted, len(sources))
	require.NotContains(t, accepted, false)
}

// Balance returns a snapshot of one balance.
func Balance(amount float64) *snapshot.Snapshot {
	return &snapshot.Snapshot{
		Reading:   providers.Reading{Balances: []providers.Balance{{Amount: amount, Currency: "USD"}}},
		FetchedAt: Start, TriedAt: Start, DueAt: Start.Add(time.Minute),
	}
}

// Prices returns a snapshot of a price list of n rows.
func Prices(n int) *snapshot.Snapshot {
	s := &snapshot.Snapshot{FetchedAt: Start, TriedAt: Start, DueAt: Start.Add(time.Hour)}
	for i := range n {
		s.Reading.Prices = append(s.Reading.Prices, providers.Price{
			SubAccount: "marketing", Country: "US", MCC: fmt.Sprintf("%03d", i%1000), MNC: fmt.Sprintf("%02d", i/1000),
			Operator: fmt.Sprintf("Operator %d", i), Direction: providers.Outbound, Amount: float64(i) / 7, Currency: "USD",
		})
	}
	return s
}

// Fill sets every field that v, a pointer to a struct, reaches to a value that is
// not zero and depends on the path of the field only.
func Fill(v any) { fill(reflect.ValueOf(v).Elem(), "") }

func fill(v reflect.Value, path string) {
	n := int64(crc32.ChecksumIEEE([]byte(path))%250 + 1)
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(Start.Add(time.Duration(n) * time.Second)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), path)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), fmt.Sprint(path, i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, path+" key")
		fill(value, path+" value")
		v.SetMapIndex(key, value)
	case reflect.Interface:
		v.Set(reflect.ValueOf(providers.List{})) // a Roster; an empty one will do
	case reflect.String:
		v.SetString(path)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(n)
	case reflect.Uint8:
		v.SetUint(uint64(n))
	case reflect.Float64:
		v.SetFloat(float64(n) / 7)
	default:
		panic("a field of a new kind: " + v.Type().String())
	}
}

func empty(t *testing.T, h Handles) {
	h.each(t, h.Open(t), func(t *testing.T, s state.Store) {
		require.Equal(t, h.Unknown, Quota(t, s, "unknown"))
		require.Empty(t, Snapshots(t, s, "unknown"))
		Publish(t, s, "unknown", map[string]*snapshot.Snapshot{"a": nil})
		require.Empty(t, Snapshots(t, s, "unknown"))
	})
}

func quotaRecord(t *testing.T, h Handles) {
	var want quota.Account
	Fill(&want)
	want.Limited = math.MaxInt
	s := h.Open(t)
	before := time.Now()
	_, err := s.Update(t.Context(), "a", func(_ quota.Account, now time.Time) quota.Account {
		// A shared store estimates its clock, and is rather behind than ahead.
		require.WithinRange(t, now, before.Add(-time.Second), time.Now())
		return want
	})
	require.NoError(t, err)
	SetQuota(t, s, "zero", quota.Account{Limited: 1})
	SetQuota(t, s, "zero", quota.Account{})
	h.each(t, s, func(t *testing.T, s state.Store) {
		require.Equal(t, want, Quota(t, s, "a"))
		require.Zero(t, Quota(t, s, "zero"))
	})
}

func fields(t *testing.T, h Handles) {
	want := map[string]*snapshot.Snapshot{"never tried": {}, "filled": {}, "failed": Balance(1)}
	Fill(want["filled"])
	want["filled"].Reading.Roster = nil
	want["failed"].Failure = &snapshot.Failure{Reason: providers.ReasonNotFound, Message: "it is gone", ID: "err-1", Count: 7}
	s := h.Open(t)
	Publish(t, s, "a", want)
	h.each(t, s, func(t *testing.T, s state.Store) {
		require.Equal(t, want, Snapshots(t, s, "a"))
	})
}

func numbers(t *testing.T, h Handles) {
	want := map[string]float64{
		"zero": 0, "minus zero": math.Copysign(0, -1), "0.1": 0.1, "a third": 1.0 / 3,
		"1e308": 1e308, "largest": math.MaxFloat64, "smallest": math.SmallestNonzeroFloat64,
		"2^53": 1 << 53, "2^53+2": 1<<53 + 2, "1e21": 1e21, "1e-7": 1e-7, "-1234.56": -1234.56,
		"0.0357": 0.0357, "0.123456789": 0.123456789, "1e15+0.1": 1e15 + 0.1,
		"infinity": math.Inf(1), "minus infinity": math.Inf(-1), "not a number": math.NaN(),
	}
	snapshots := make(map[string]*snapshot.Snapshot)
	for key, v := range want {
		snapshots[key] = Balance(v)
		snapshots[key].Reading.Prices = []providers.Price{{Amount: v}}
		snapshots[key].Reading.SubscriberBalances = []providers.SubscriberBalance{{Value: v}}
	}
	s := h.Open(t)
	Publish(t, s, "a", snapshots)
	h.each(t, s, func(t *testing.T, s state.Store) {
		got := Snapshots(t, s, "a")
		require.Len(t, got, len(want))
		for key, v := range want {
			r := got[key].Reading
			for _, amount := range []float64{r.Balances[0].Amount, r.Prices[0].Amount, r.SubscriberBalances[0].Value} {
				require.Equal(t, math.Float64bits(v), math.Float64bits(amount), key)
			}
		}
	})
}

func zones(t *testing.T, h Handles) {
	at := Start.In(time.FixedZone("", 5*3600+45*60))
	s := h.Open(t)
	SetQuota(t, s, "a", quota.Account{FullAt: at})
	Publish(t, s, "a", map[string]*snapshot.Snapshot{"k": {FetchedAt: at}})
	h.each(t, s, func(t *testing.T, s state.Store) {
		require.True(t, Quota(t, s, "a").FullAt.Equal(Start))
		require.True(t, Snapshots(t, s, "a")["k"].FetchedAt.Equal(Start))
	})
}

func text(t *testing.T, h Handles) {
	want := make(map[string]*snapshot.Snapshot)
	for key, text := range map[string]string{
		"unicode": "Zürich 東京 🛰 \u2028", "controls": "\x00\x01\t\r\n\x7f", "markup": `<a href="x">&\</a>`, "long": strings.Repeat("x", 1<<16),
	} {
		want[key] = Balance(1)
		want[key].Reading.Subscriber = text
		want[key].Failure = &snapshot.Failure{Message: text}
	}
	s := h.Open(t)
	Publish(t, s, "a", want)
	h.each(t, s, func(t *testing.T, s state.Store) {
		require.Equal(t, want, Snapshots(t, s, "a"))
	})
}

func names(t *testing.T, h Handles) {
	// Names that could be taken for something else, or for one another.
	all := []string{"", "a", "a/b", "a\x00b", "a\x00", "records", "ключ", "\xff\xfe", "1", strings.Repeat("n", 5000)}
	s := h.Open(t)
	want := make(map[string]map[string]*snapshot.Snapshot)
	for i, id := range all {
		SetQuota(t, s, id, quota.Account{Limited: i + 1})
		want[id] = make(map[string]*snapshot.Snapshot)
		for j, key := range all {
			want[id][key] = Balance(float64(100*i + j))
		}
		Publish(t, s, id, want[id])
	}
	h.each(t, s, func(t *testing.T, s state.Store) {
		for i, id := range all {
			require.Equal(t, i+1, Quota(t, s, id).Limited)
			require.Equal(t, want[id], Snapshots(t, s, id))
		}
	})
}

func roster(t *testing.T, h Handles) {
	published := Balance(1)
	published.Reading.Roster, published.Reading.Kept = providers.List{nil}, []byte("roster")
	s := h.Open(t)
	Publish(t, s, "a", map[string]*snapshot.Snapshot{"k": published})
	require.Len(t, published.Reading.Roster, 1, "a snapshot is never changed")
	h.each(t, s, func(t *testing.T, s state.Store) {
		want := Balance(1)
		want.Reading.Kept = []byte("roster")
		require.Equal(t, map[string]*snapshot.Snapshot{"k": want}, Snapshots(t, s, "a"))
	})
}

func lastWins(t *testing.T, h Handles) {
	s := h.Open(t)
	for round := range 8 {
		SetQuota(t, s, "a", quota.Account{Limited: round + 1})
		Publish(t, s, "a", map[string]*snapshot.Snapshot{"k": Balance(float64(round))})
		if h.Other != nil && round%2 == 1 {
			s = h.Other(t, s)
		}
		require.Equal(t, quota.Account{Limited: round + 1}, Quota(t, s, "a"))
		require.Equal(t, map[string]*snapshot.Snapshot{"k": Balance(float64(round))}, Snapshots(t, s, "a"))
	}
}

func manyPrices(t *testing.T, h Handles) {
	want := map[string]*snapshot.Snapshot{"prices": Prices(50_000), "balance": Balance(1)}
	s := h.Open(t)
	Publish(t, s, "a", map[string]*snapshot.Snapshot{"prices": Prices(1000)}) // is replaced
	Publish(t, s, "a", want)
	if h.Other != nil {
		s = h.Other(t, s)
	}
	require.True(t, reflect.DeepEqual(want, Snapshots(t, s, "a")), "prices differ")
}

func manySources(t *testing.T, h Handles) {
	const n = 10_000
	want := make(map[string]*snapshot.Snapshot, n)
	for i := range n {
		want[fmt.Sprintf("subscriber-%d", i)] = Balance(float64(i))
	}
	s := h.Open(t)
	Publish(t, s, "a", want)
	some := make(map[string]*snapshot.Snapshot)
	for i := 0; i < n; i += 97 {
		key := fmt.Sprintf("subscriber-%d", i)
		some[key] = Balance(-float64(i))
		want[key] = some[key]
	}
	Publish(t, s, "a", some)
	h.each(t, s, func(t *testing.T, s state.Store) {
		require.True(t, reflect.DeepEqual(want, Snapshots(t, s, "a")), "snapshots differ")
	})
}

func forget(t *testing.T, h Handles) {
	s := h.Open(t)
	all := map[string]*snapshot.Snapshot{"a": Balance(1), "b": Balance(1), "c": Balance(1), "d": Balance(1)}
	Publish(t, s, "1", all)
	Publish(t, s, "2", all)
	Publish(t, s, "1", map[string]*snapshot.Snapshot{"a": nil, "b": nil, "unknown": nil})
	Publish(t, s, "1", map[string]*snapshot.Snapshot{"b": Balance(3)})
	if h.Other != nil {
		s = h.Other(t, s)
	}
	Publish(t, s, "1", map[string]*snapshot.Snapshot{"c": nil})
	h.each(t, s, func(t *testing.T, s state.Store) {
		require.Equal(t, map[string]*snapshot.Snapshot{"b": Balance(3), "d": Balance(1)}, Snapshots(t, s, "1"))
		require.Equal(t, all, Snapshots(t, s, "2"))
	})
}

func abandoned(t *testing.T, h Handles) {
	s := h.Open(t)
	Publish(t, s, "a", map[string]*snapshot.Snapshot{"k": Balance(1)})
	for range 2 { // the claim is released, so it is granted again
		claims, err := s.Claim(t.Context(), "a", false, []state.Source{{Key: "k", Version: math.MaxInt32 << 20}, {Key: "new"}})
		require.NoError(t, err)
		require.Len(t, claims, 2)
		accepted, err := s.Publish(t.Context(), "a", []state.Outcome{
			{Key: "k", Token: claims[0].Token, Abandoned: true}, {Key: "new", Token: claims[1].Token, Abandoned: true},
		})
		require.NoError(t, err)
		require.Equal(t, []bool{true, true}, accepted)
	}
	h.each(t, s, func(t *testing.T, s state.Store) {
		require.Equal(t, map[string]*snapshot.Snapshot{"k": Balance(1)}, Snapshots(t, s, "a"))
	})
}

func someKeys(t *testing.T, h Handles) {
	const n = 2500 // more than are read at a time
	all := make(map[string]*snapshot.Snapshot, n)
	want := make(map[string]*snapshot.Snapshot)
	keys := []string{"unknown", ""}
	for i := range n {
		key := fmt.Sprint("k", i)
		all[key] = Balance(float64(i))
		if i%2 == 0 {
			want[key], keys = all[key], append(keys, key)
		}
	}
	s := h.Open(t)
	Publish(t, s, "a", all)
	Publish(t, s, "another", map[string]*snapshot.Snapshot{"unknown": Balance(1)})
	h.each(t, s, func(t *testing.T, s state.Store) {
		require.Equal(t, want, Snapshots(t, s, "a", keys...))
		require.Equal(t, map[string]*snapshot.Snapshot{"k7": all["k7"]}, Snapshots(t, s, "a", "k7"))
		require.NoError(t, s.Load(t.Context(), "a", []string{}, func(string, *snapshot.Snapshot, uint64) {
			t.Error("no key is not every key")
		}))
	})
}

func reentrant(t *testing.T, h Handles) {
	s := h.Open(t)
	Publish(t, s, "a", map[string]*snapshot.Snapshot{"k": Balance(1)})
	if h.Other != nil {
		s = h.Other(t, s)
	}
	require.NoError(t, s.Load(t.Context(), "a", nil, func(key string, _ *snapshot.Snapshot, _ uint64) {
		SetQuota(t, s, "a", quota.Account{Limited: 1})
		Publish(t, s, "a", map[string]*snapshot.Snapshot{"an earlier one": Balance(2), key: nil})
	}))
	require.Equal(t, map[string]*snapshot.Snapshot{"an earlier one": Balance(2)}, Snapshots(t, s, "a"))
}

func atomic(t *testing.T, h Handles) {
	const workers, rounds = 8, 50
	s := h.Open(t)
	countTogether(t, slices.Repeat([]state.Store{s}, workers), rounds)
	h.each(t, s, func(t *testing.T, s state.Store) {
		require.Equal(t, workers*rounds, Quota(t, s, "a").Limited)
	})
}

// countTogether adds 1 to the record of account a, rounds times through each of handles
// at the same time.
func countTogether(t *testing.T, handles []state.Store, rounds int) {
	var wg sync.WaitGroup
	for _, s := range handles {
		wg.Go(func() {
			for range rounds {
				_, err := s.Update(t.Context(), "a", func(a quota.Account, _ time.Time) quota.Account {
					a.Limited++
					return a
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func concurrent(t *testing.T, h Handles) {
	const workers, rounds = 8, 30
	s := h.Open(t)
	var wg sync.WaitGroup
	for w := range workers {
		id := fmt.Sprint(w % 4) // two workers for each account
		wg.Go(func() {
			for i := range rounds {
				Publish(t, s, id, map[string]*snapshot.Snapshot{fmt.Sprint(w): Balance(float64(i)), fmt.Sprint("gone", w): Balance(0)})
				Publish(t, s, id, map[string]*snapshot.Snapshot{fmt.Sprint("gone", w): nil})
				SetQuota(t, s, fmt.Sprint("q", w), quota.Account{Limited: i})
				if i%10 == 0 {
					Snapshots(t, s, id)
				}
			}
		})
	}
	wg.Wait()
	h.each(t, s, func(t *testing.T, s state.Store) {
		for w := range 4 {
			require.Equal(t, rounds-1, Quota(t, s, fmt.Sprint("q", w)).Limited)
			require.Equal(t, map[string]*snapshot.Snapshot{
				fmt.Sprint(w): Balance(rounds - 1), fmt.Sprint(w + 4): Balance(rounds - 1),
			}, Snapshots(t, s, fmt.Sprint(w)))
		}
	})
}

func closeTwice(t *testing.T, h Handles) {
	s := h.Open(t)
	SetQuota(t, s, "a", quota.Account{Limited: 1})
	Publish(t, s, "a", map[string]*snapshot.Snapshot{"k": Balance(1)})
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
}
