package collector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// source is one part of an account.
type source struct {
	account snapshot.Account
	snapshot.Source
}

func (s source) labels(more ...string) []string {
	return append([]string{s.account.Provider, s.account.Account, string(s.Part.Kind)}, more...)
}

var sourceRows = []row[source]{
	newRow(Family{
		Name: "balance_exporter_up",
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "source"},
		Help:   "Whether the last refresh succeeded (1) or failed or has not happened yet (0). For subscribers, 1 unless more than half of them failed at their last try; those that were never tried do not count.",
		Series: "1 per source",
	}, func(s source, send func(float64, ...string)) { send(number(s.Up), s.labels()...) }),
	newRow(Family{
		Name: "balance_exporter_last_success_timestamp_seconds",
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "source"},
		Help:   "Unix time of the last successful refresh, in seconds; for subscribers, of the newest. 0 before the first.",
		Series: "1 per source",
	}, func(s source, send func(float64, ...string)) { send(unix(s.LastSuccess), s.labels()...) }),
	newRow(Family{
		Name: "balance_exporter_refresh_interval_seconds",
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "source"},
		Help:   "Configured refresh_interval: the shortest time between two refreshes, in seconds; 3600 while an account is postpaid. A refresh happens at the first scrape after it.",
		Series: "1 per source",
	}, func(s source, send func(float64, ...string)) { send(s.Part.Interval.Seconds(), s.labels()...) }),
	newRow(Family{
		Name: "balance_exporter_refreshes_total",
		Type: prometheus.CounterValue, Labels: []string{"provider", "account", "source"},
		Help:   "Refreshes since the start, including failed ones.",
		Series: "1 per source",
	}, func(s source, send func(float64, ...string)) { send(float64(s.Refreshes), s.labels()...) }),
	newRow(Family{
		Name: "balance_exporter_refresh_failures_total",
		Type: prometheus.CounterValue, Labels: []string{"provider", "account", "source", "reason"},
		Help:   "Failed refreshes since the start, by reason.",
		Series: "10 per source",
	}, func(s source, send func(float64, ...string)) {
		for _, reason := range providers.Reasons() {
			send(float64(s.Failures[reason]), s.labels(string(reason))...)
		}
	}),
	newRow(Family{
		Name: "balance_exporter_subscribers",
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "state"},
		Help:   "Number of subscribers by state: pending was never tried; the last try of fresh succeeded; the last try of stale failed and a value is still served; failed has no value.",
		Series: "4 per account with subscribers",
	}, func(s source, send func(float64, ...string)) {
		if s.Fleet == nil {
			return
		}
		for _, state := range []struct {
			name  string
			count int
		}{{"fresh", s.Fleet.Fresh}, {"stale", s.Fleet.Stale}, {"failed", s.Fleet.Failed}, {"pending", s.Fleet.Pending}} {
			send(float64(state.count), s.account.Provider, s.account.Account, state.name)
		}
	}),
}

var accountRows = []row[snapshot.Account]{
	newRow(Family{
		Name: "balance_exporter_account_info",
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "billing"},
		Help:   "Always 1. billing is prepaid or postpaid once the provider has answered, else unknown. A postpaid account has no balance.",
		Series: "1 per account",
	}, func(a snapshot.Account, send func(float64, ...string)) {
		send(1, a.Provider, a.Account, string(a.Billing))
	}),
	newRow(Family{
		Name: "balance_exporter_cooldown_until_timestamp_seconds",
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account"},
		Help:   "Unix time until which no request is sent for the account, in seconds, because the provider refused its credentials or its request rate. 0 if requests may be sent now.",
		Series: "1 per account",
	}, func(a snapshot.Account, send func(float64, ...string)) {
		send(unix(a.CooldownUntil), a.Provider, a.Account)
	}),
	newRow(Family{
		Name: "balance_exporter_planned_requests_per_second",
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account"},
		Help:   "Requests per second that the configuration demands if every source is refreshed once per interval, without logins. If this is above balance_exporter_rate_limit_requests_per_second, values become older than their interval.",
		Series: "1 per account",
	}, func(a snapshot.Account, send func(float64, ...string)) {
		send(a.PlannedPerSecond, a.Provider, a.Account)
	}),
	newRow(Family{
		Name: "balance_exporter_rate_limit_requests_per_second",
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account"},
		Help:   "Configured rate_limit, in requests per second.",
		Series: "1 per account",
	}, func(a snapshot.Account, send func(float64, ...string)) {
		send(a.Limit.PerSecond(), a.Provider, a.Account)
	}),
	newRow(Family{
		Name: "balance_exporter_dropped_rows_total",
		Type: prometheus.CounterValue, Labels: []string{"provider", "account", "reason"},
		Help:   "Series left out since the start, counted at every refresh, by reason: a duplicate of another series, incomplete in the answer, or beyond max_series.",
		Series: "3 per account",
	}, func(a snapshot.Account, send func(float64, ...string)) {
		for _, reason := range providers.DropReasons() {
			send(float64(a.Dropped[reason]), a.Provider, a.Account, string(reason))
		}
	}),
}

// unix returns t as a Unix time in seconds, 0 for the zero time.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// Status collects the exporter's own metrics about accounts and their sources. It
// is a [prometheus.Collector].
type Status struct {
	accounts func() []snapshot.Account
}

// NewStatus returns the collector of what accounts returns.
func NewStatus(accounts func() []snapshot.Account) *Status {
	return &Status{accounts: accounts}
}

// Describe sends the descriptors of all families.
func (s *Status) Describe(ch chan<- *prometheus.Desc) {
	describe(accountRows, ch)
	describe(sourceRows, ch)
}

// Collect sends the metrics of all families.
func (s *Status) Collect(ch chan<- prometheus.Metric) {
	for _, a := range s.accounts() {
		for _, r := range accountRows {
			r.collect(a, ch)
		}
		for _, src := range a.Sources {
			for _, r := range sourceRows {
				r.collect(source{account: a, Source: src}, ch)
			}
		}
	}
}
