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
		Help:   "1 if the last refresh worked, 0 if it failed or there was none yet; for subscribers, 1 unless more than half of the tried ones failed at their last try.",
		Series: "1 per source",
	}, func(s source, send func(float64, ...string)) {
		up := 0.0
		if s.Up {
			up = 1
		}
		send(up, s.labels()...)
	}),
	newRow(Family{
		Name: "balance_exporter_last_success_timestamp_seconds",
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "source"},
		Help:   "Unix time of the last refresh that worked, in seconds; for subscribers, of the newest. 0 before the first.",
		Series: "1 per source",
	}, func(s source, send func(float64, ...string)) { send(unix(s.LastSuccess), s.labels()...) }),
	newRow(Family{
		Name: "balance_exporter_refresh_interval_seconds",
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "source"},
		Help:   "Shortest time between two refreshes, in seconds, as configured by refresh_interval. A refresh happens at the first scrape after it.",
		Series: "1 per source",
	}, func(s source, send func(float64, ...string)) { send(s.Part.Interval.Seconds(), s.labels()...) }),
	newRow(Family{
		Name: "balance_exporter_refreshes_total",
		Type: prometheus.CounterValue, Labels: []string{"provider", "account", "source"},
		Help:   "Refreshes tried since the start, those that failed included.",
		Series: "1 per source",
	}, func(s source, send func(float64, ...string)) { send(float64(s.Refreshes), s.labels()...) }),
	newRow(Family{
		Name: "balance_exporter_refresh_failures_total",
		Type: prometheus.CounterValue, Labels: []string{"provider", "account", "source", "reason"},
		Help:   "Refreshes that failed since the start, by reason.",
		Series: "10 per source",
	}, func(s source, send func(float64, ...string)) {
		for _, reason := range providers.Reasons() {
			send(float64(s.Failures[reason]), s.labels(string(reason))...)
		}
	}),
	newRow(Family{
		Name: "balance_exporter_subscribers",
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "state"},
		Help:   "Number of subscribers by state: pending was never tried, fresh worked at its last try, stale failed at its last try and its value is still served, failed is not served.",
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
		Help:   "Always 1. billing is prepaid or postpaid once the provider has told, else unknown; a postpaid account has no balance.",
		Series: "1 per account",
	}, func(a snapshot.Account, send func(float64, ...string)) {
		send(1, a.Provider, a.Account, string(a.Billing))
	}),
	newRow(Family{
		Name: "balance_exporter_cooldown_until_timestamp_seconds",
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account"},
		Help:   "Unix time at which the account may be asked again, in seconds, after its provider refused the credentials or the request rate. 0 if it may be asked now.",
		Series: "1 per account",
	}, func(a snapshot.Account, send func(float64, ...string)) {
		send(unix(a.CooldownUntil), a.Provider, a.Account)
	}),
	newRow(Family{
		Name: "balance_exporter_planned_requests_per_second",
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account"},
		Help:   "Requests per second that the configuration demands when every source is refreshed at its interval, logins not counted. Above balance_exporter_rate_limit_requests_per_second values get older than their interval.",
		Series: "1 per account",
	}, func(a snapshot.Account, send func(float64, ...string)) {
		send(a.PlannedPerSecond, a.Provider, a.Account)
	}),
	newRow(Family{
		Name: "balance_exporter_rate_limit_requests_per_second",
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account"},
		Help:   "Requests per second that the exporter allows itself, as configured by rate_limit.",
		Series: "1 per account",
	}, func(a snapshot.Account, send func(float64, ...string)) {
		send(a.Limit.PerSecond(), a.Provider, a.Account)
	}),
	newRow(Family{
		Name: "balance_exporter_dropped_rows_total",
		Type: prometheus.CounterValue, Labels: []string{"provider", "account", "reason"},
		Help:   "Series left out since the start, counted at every refresh: a duplicate of another, incomplete in the answer, or beyond max_series.",
		Series: "3 per account",
	}, func(a snapshot.Account, send func(float64, ...string)) {
		for _, reason := range providers.DropReasons() {
			send(float64(a.Dropped[reason]), a.Provider, a.Account, string(reason))
		}
	}),
}

// unix returns t as a Unix time in seconds; 0 for the zero time.
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
	for _, r := range accountRows {
		ch <- r.desc
	}
	for _, r := range sourceRows {
		ch <- r.desc
	}
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
