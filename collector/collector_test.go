package collector_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/collector"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

var update = flag.Bool("update", false, "write the golden files and docs/metrics.md anew")

func ptr[T any](v T) *T { return &v }

// groups is one account of each kind, read at now.
func groups(now time.Time) []*snapshot.Group {
	read := func(r providers.Reading) *snapshot.Snapshot {
		return &snapshot.Snapshot{Reading: r, FetchedAt: now, TriedAt: now}
	}
	return []*snapshot.Group{{
		Provider: "8x8", Account: "messaging",
		Part: providers.Part{Kind: providers.KindBalance, Interval: time.Minute, MaxAge: time.Hour, LowThreshold: ptr(500.0), TopupLead: 24 * time.Hour},
		Snapshots: []*snapshot.Snapshot{read(providers.Reading{Balances: []providers.Balance{
			{Amount: -149309.7985931, Currency: "USD"},
			{Amount: 3, Currency: "USD", Wallet: "promo", Expires: time.Unix(1_900_000_000, 0)},
		}})},
	}, {
		Provider: "8x8", Account: "messaging",
		Part: providers.Part{Kind: providers.KindPrices, Interval: time.Hour, MaxAge: 24 * time.Hour},
		Snapshots: []*snapshot.Snapshot{read(providers.Reading{Prices: []providers.Price{
			{SubAccount: "m", Country: "SG", MCC: "525", MNC: "01", Operator: "Sing\"Tel\\\n", Direction: providers.Outbound, Amount: 0.0520648, Currency: "SGD"},
			{SubAccount: "m", Country: "SG", NumberType: "tollfree", Direction: providers.Inbound, Amount: 0.01, Currency: "SGD"},
		}})},
	}, {
		Provider: "flolive", Account: "fleet",
		Part: providers.Part{Kind: providers.KindSubscribers, Interval: 15 * time.Minute, MaxAge: 6 * time.Hour},
		Snapshots: []*snapshot.Snapshot{
			{},
			read(providers.Reading{Subscriber: "truck-12", SubscriberBalances: []providers.SubscriberBalance{
				{ID: "a", Currency: "USD", Value: 12.75}, {ID: "b", Unit: "KB", Value: 50.3},
			}}),
			{Reading: providers.Reading{Subscriber: "gone", SubscriberBalances: []providers.SubscriberBalance{{ID: "c", Unit: "SMS", Value: 1}}}, FetchedAt: now, TriedAt: now, Ended: true},
		},
	}, {
		Provider: "flolive", Account: "fleet", Shard: -1,
		Part: providers.Part{
			Kind: providers.KindSubscribers, Interval: 15 * time.Minute, MaxAge: 6 * time.Hour, LowThresholds: map[string]float64{"USD": 20, "KB": 50},
		},
		Totals: []snapshot.Total{
			{Currency: "EUR", Sum: 5, Count: 2},
			{Currency: "USD", Sum: 12.75, Count: 1, Low: 1, HasThreshold: true},
			{Unit: "KB", Sum: 50.3, Count: 1, HasThreshold: true},
		},
	}}
}

// Of a fleet with series: low, only what is below its threshold has series.
func TestSeriesOfLowSubscribersOnly(t *testing.T) {
	now := time.Now()
	fleet := groups(now)[2]
	fleet.Part.Series, fleet.Part.LowThresholds = providers.SeriesLow, map[string]float64{"USD": 20, "KB": 50}
	data := collector.NewData(func() []*snapshot.Group { return []*snapshot.Group{fleet} }, providers.Kinds())
	assert.Equal(t, 1, testutil.CollectAndCount(data, "subscriber_balance"), "12.75 USD is below 20")
	assert.Equal(t, 0, testutil.CollectAndCount(data, "subscriber_allowance"), "50.3 KB is not below 50")
}

func accounts(now time.Time) []snapshot.Account {
	return []snapshot.Account{{
		Provider: "8x8", Account: "messaging", Billing: providers.BillingPrepaid,
		Limit: quota.Limit{Requests: 1, Per: time.Second, Burst: 5}, PlannedPerSecond: 0.5,
		CooldownUntil: now.Add(time.Minute), CooldownReason: quota.CauseRateLimited,
		Dropped: map[providers.DropReason]uint64{providers.DropDuplicate: 3},
		Sources: []snapshot.Source{{
			Part: providers.Part{Kind: providers.KindBalance, Interval: time.Minute, MaxAge: time.Hour},
			Up:   true, LastSuccess: now, LastTry: now, Refreshes: 7,
			Failures: map[providers.Reason]uint64{providers.ReasonTimeout: 2},
		}},
	}, {
		Provider: "flolive", Account: "fleet", Billing: providers.BillingUnknown,
		Limit: quota.Limit{Requests: 2, Per: time.Second, Burst: 2},
		Sources: []snapshot.Source{{
			Part:  providers.Part{Kind: providers.KindSubscribers, Interval: 15 * time.Minute, MaxAge: 6 * time.Hour},
			Fleet: &snapshot.Fleet{Fresh: 1, Failed: 1, Pending: 1},
		}},
	}}
}

func registry(t *testing.T) *prometheus.Registry {
	t.Helper()
	now := time.Now()
	requests := collector.NewRequests()
	requests.Expect("8x8", "messaging")
	requests.Request("8x8", "messaging", "200", 30*time.Millisecond)
	process := collector.NewProcess(func() []collector.CachedBytes {
		return []collector.CachedBytes{{Format: "text", Encoding: "gzip", Bytes: 1234}}
	})
	process.Reloaded(true)
	state := collector.NewState()
	state.Operation("update", 100*time.Microsecond, nil)
	state.Operation("publish", time.Second, os.ErrPermission)
	state.Claimed("granted")
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(
		collector.NewData(func() []*snapshot.Group { return groups(now) }, providers.Kinds()),
		collector.NewStatus(func() []snapshot.Account { return accounts(now) }),
		requests, process, state,
	)
	return r
}

func TestExposition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		families, err := registry(t).Gather()
		require.NoError(t, err)
		var got bytes.Buffer
		for _, f := range families {
			_, err := expfmt.MetricFamilyToText(&got, f)
			require.NoError(t, err)
		}
		golden(t, filepath.Join("testdata", "exposition.prom"), got.String())
	})
}

func TestLint(t *testing.T) {
	families, err := registry(t).Gather()
	require.NoError(t, err)
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	require.NoError(t, err)
	assert.Empty(t, problems)
	assert.Len(t, families, len(collector.Families()), "every family of the table is in the example")
}

func TestValuesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := time.Now()
		data := collector.NewData(func() []*snapshot.Group { return groups(read) }, providers.Kinds())
		count := func() string {
			var out []string
			for _, name := range []string{"account_balance", "account_balance_low_threshold", "account_topup_lead_seconds", "sms_price", "subscriber_balance", "subscriber_allowance"} {
				out = append(out, fmt.Sprint(testutil.CollectAndCount(data, name)))
			}
			return strings.Join(out, " ")
		}
		assert.Equal(t, "2 1 1 2 1 1", count())
		time.Sleep(time.Hour - 1)
		assert.Equal(t, "2 1 1 2 1 1", count())
		time.Sleep(time.Nanosecond)
		assert.Equal(t, "0 1 1 2 1 1", count(), "the balance expires at max_age, its threshold stays")
		time.Sleep(23 * time.Hour)
		assert.Equal(t, "0 1 1 0 0 0", count())
	})
}

func TestFamilyOfAGroup(t *testing.T) {
	now := time.Now()
	for _, group := range groups(now) {
		for _, f := range collector.DataFamilies(group.Part.Kind, group.Totals != nil) {
			one := collector.NewFamily(f.Name, group)
			all := collector.NewData(func() []*snapshot.Group { return groups(now) }, providers.Kinds())
			assert.Equal(t, testutil.CollectAndCount(all, f.Name), testutil.CollectAndCount(one), f.Name)
		}
	}
	assert.Nil(t, collector.NewFamily("sms_price", groups(now)[0]))
}

// docs/metrics.md and docs/metrics.json are made from the table; go test ./collector
// -update writes them.
func TestDocumentation(t *testing.T) {
	var doc strings.Builder
	doc.WriteString("# Metrics\n\nGenerated from the table in `collector/` by `go test ./collector -update`; do not edit.\n\n")
	doc.WriteString("Counters start at 0 with the process. Values of providers are exposed as they were sent: never converted or rounded. Only `fleet_balance` and `fleet_allowance` are sums, and these are exact.\n")
	doc.WriteString("In addition there are `balance_exporter_build_info`, `go_*` (without memstats), `process_*` and `promhttp_*` as usual.\n")
	type metric struct {
		Name   string   `json:"name"`
		Type   string   `json:"type"`
		Labels []string `json:"labels"`
		Help   string   `json:"help"`
		Series string   `json:"series"`
	}
	var metrics []metric
	for _, f := range collector.Families() {
		kind := "gauge"
		switch f.Type {
		case prometheus.CounterValue:
			kind = "counter"
		case prometheus.UntypedValue:
			kind = "histogram"
		}
		labels := "none"
		if len(f.Labels) > 0 {
			labels = "`" + strings.Join(f.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&doc, "\n## `%s`\n\n%s\n\n| type | labels | series |\n|---|---|---|\n| %s | %s | %s |\n", f.Name, f.Help, kind, labels, f.Series)
		metrics = append(metrics, metric{f.Name, kind, append([]string{}, f.Labels...), f.Help, f.Series})
	}
	golden(t, filepath.Join("..", "docs", "metrics.md"), doc.String())
	table, err := json.MarshalIndent(map[string]any{"metrics": metrics}, "", "  ")
	require.NoError(t, err)
	golden(t, filepath.Join("..", "docs", "metrics.json"), string(table)+"\n")
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the test with -update")
	assert.Equal(t, string(want), got)
}

func TestLabelsAreBounded(t *testing.T) {
	group := &snapshot.Group{
		Provider: "8x8", Account: "a", Part: providers.Part{Kind: providers.KindBalance, MaxAge: time.Hour},
		Snapshots: []*snapshot.Snapshot{{FetchedAt: time.Now(), Reading: providers.Reading{Balances: []providers.Balance{
			{Currency: "U\x00S\nD", Wallet: strings.Repeat("ä", 200), Amount: 1},
		}}}},
	}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(collector.NewFamily("account_balance", group))
	families, err := r.Gather()
	require.NoError(t, err)
	labels := families[0].GetMetric()[0].GetLabel()
	assert.Equal(t, "U S D", labels[1].GetValue())
	assert.Equal(t, strings.Repeat("ä", 128), labels[3].GetValue())
}
