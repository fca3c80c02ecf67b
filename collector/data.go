package collector

import (
	"math"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// reading is one snapshot of a group at a time.
type reading struct {
	group  *snapshot.Group
	last   providers.Reading // also after it has expired
	served providers.Reading // empty after it has expired
}

// cached ends the help text of every value that a provider sends.
const cached = " The value is cached: balance_exporter_refresh_interval_seconds is how often it is read, balance_exporter_last_success_timestamp_seconds when it was last read."

var dataRows = []row[reading]{
	newRow(Family{
		Name: "account_balance", Kind: providers.KindBalance,
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "currency", "wallet"},
		Help:   "Balance of the account, in units of the currency. wallet is empty unless the provider keeps several balances." + cached,
		Series: "1 per account, or 1 per wallet",
	}, func(r reading, send func(float64, ...string)) {
		for _, b := range r.served.Balances {
			send(b.Amount, r.group.Provider, r.group.Account, b.Currency, b.Wallet)
		}
	}),
	newRow(Family{
		Name: "account_balance_expires_timestamp_seconds", Kind: providers.KindBalance,
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "currency", "wallet"},
		Help:   "Unix time at which the prepaid credit lapses, in seconds. Absent if the provider does not return it." + cached,
		Series: "as account_balance, where the provider returns it",
	}, func(r reading, send func(float64, ...string)) {
		for _, b := range r.served.Balances {
			if !b.Expires.IsZero() {
				send(unix(b.Expires), r.group.Provider, r.group.Account, b.Currency, b.Wallet)
			}
		}
	}),
	newRow(Family{
		Name: "account_balance_low_threshold", Kind: providers.KindBalance,
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "currency"},
		Help:   "Configured low_threshold: the balance below which the account is low, in units of the currency. Present from the first reading on, also after the balance has expired.",
		Series: "1 per account with low_threshold",
	}, func(r reading, send func(float64, ...string)) {
		low := r.group.Part.LowThreshold
		if low == nil {
			return
		}
		var seen []string
		for _, b := range r.last.Balances {
			if !slices.Contains(seen, b.Currency) {
				seen = append(seen, b.Currency)
				send(*low, r.group.Provider, r.group.Account, b.Currency)
			}
		}
	}),
	newRow(Family{
		Name: "account_topup_lead_seconds", Kind: providers.KindBalance,
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account"},
		Help:   "Configured topup_lead: how long it takes to get money onto the account, in seconds. 0 if the account is not paged for running out.",
		Series: "1 per account with a balance",
	}, func(r reading, send func(float64, ...string)) {
		send(r.group.Part.TopupLead.Seconds(), r.group.Provider, r.group.Account)
	}),
	newRow(Family{
		Name: "sms_price", Kind: providers.KindPrices,
		Type:   prometheus.GaugeValue,
		Labels: []string{"provider", "account", "sub_account", "country", "mcc", "mnc", "operator", "number_type", "direction", "currency"},
		Help:   "Price of one SMS, in units of the currency." + cached,
		Series: "1 per network of each operator, number type and sub-account: thousands; filters and max_series bound it",
	}, func(r reading, send func(float64, ...string)) {
		for _, p := range r.served.Prices {
			send(p.Amount, r.group.Provider, r.group.Account, p.SubAccount, p.Country, p.MCC, p.MNC, p.Operator, p.NumberType, string(p.Direction), p.Currency)
		}
	}),
	newFleetRow(Family{
		Name: "fleet_balance", Labels: []string{"provider", "account", "currency"},
		Help:   "Money left on all subscribers that are served, in units of the currency." + cached,
		Series: "1 per account and currency",
	}, func(t snapshot.Total) float64 { return t.Sum }),
	newFleetRow(Family{
		Name: "fleet_balances", Labels: []string{"provider", "account", "currency"},
		Help:   "Number of money balances of subscribers that are served.",
		Series: "as fleet_balance",
	}, func(t snapshot.Total) float64 { return float64(t.Count) }),
	newFleetRow(Family{
		Name: "fleet_low_balances", Labels: []string{"provider", "account", "currency"},
		Help:   "Number of money balances of subscribers that are below subscriber_low_threshold. Absent without a threshold.",
		Series: "as fleet_balance, where there is a threshold",
	}, low),
	newFleetRow(Family{
		Name: "fleet_allowance", Labels: []string{"provider", "account", "unit"},
		Help:   "Allowances left on all subscribers that are served, in the unit that the provider returns: SMS, KB, MB or GB." + cached,
		Series: "1 per account and unit",
	}, func(t snapshot.Total) float64 { return t.Sum }),
	newFleetRow(Family{
		Name: "fleet_allowances", Labels: []string{"provider", "account", "unit"},
		Help:   "Number of allowances of subscribers that are served.",
		Series: "as fleet_allowance",
	}, func(t snapshot.Total) float64 { return float64(t.Count) }),
	newFleetRow(Family{
		Name: "fleet_low_allowances", Labels: []string{"provider", "account", "unit"},
		Help:   "Number of allowances of subscribers that are below subscriber_low_threshold. Absent without a threshold.",
		Series: "as fleet_allowance, where there is a threshold",
	}, low),
	newRow(Family{
		Name: "subscriber_low_threshold", Kind: providers.KindSubscribers, Fleet: true,
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "unit"},
		Help:   "Configured low_thresholds: the amount below which a balance of a subscriber is low, in the unit, which may be a currency.",
		Series: "1 per threshold",
	}, func(r reading, send func(float64, ...string)) {
		for unit, threshold := range r.group.Part.LowThresholds {
			send(threshold, r.group.Provider, r.group.Account, unit)
		}
	}),
	newRow(Family{
		Name: "subscriber_balance", Kind: providers.KindSubscribers,
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "subscriber", "balance_id", "currency"},
		Help:   "Money left on a balance of a subscriber, in units of the currency." + cached,
		Series: "1 per money balance of each subscriber that `series` selects",
	}, func(r reading, send func(float64, ...string)) {
		sendSubscriber(r, send, func(b providers.SubscriberBalance) string { return b.Currency })
	}),
	newRow(Family{
		Name: "subscriber_allowance", Kind: providers.KindSubscribers,
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "subscriber", "balance_id", "unit"},
		Help:   "Allowance left on a plan of a subscriber, in the unit that the provider returns: SMS, KB, MB or GB." + cached,
		Series: "1 per allowance of each subscriber that `series` selects",
	}, func(r reading, send func(float64, ...string)) {
		sendSubscriber(r, send, func(b providers.SubscriberBalance) string { return b.Unit })
	}),
}

// newFleetRow returns the row of a family with a value for each total of a fleet that
// has the unit of its last label; NaN leaves one out.
func newFleetRow(f Family, value func(snapshot.Total) float64) row[reading] {
	f.Kind, f.Fleet, f.Type = providers.KindSubscribers, true, prometheus.GaugeValue
	return newRow(f, func(r reading, send func(float64, ...string)) {
		for _, t := range r.group.Totals {
			unit := t.Currency
			if f.Labels[2] == "unit" {
				unit = t.Unit
			}
			if v := value(t); unit != "" && !math.IsNaN(v) {
				send(v, r.group.Provider, r.group.Account, unit)
			}
		}
	})
}

func low(t snapshot.Total) float64 {
	if !t.HasThreshold {
		return math.NaN()
	}
	return float64(t.Low)
}

// sendSubscriber sends the balances of a subscriber that have the given label.
func sendSubscriber(r reading, send func(float64, ...string), label func(providers.SubscriberBalance) string) {
	for _, b := range r.served.SubscriberBalances {
		if l := label(b); l != "" && (r.group.Part.Series != providers.SeriesLow || r.group.Part.IsLow(b)) {
			send(b.Value, r.group.Provider, r.group.Account, r.served.Subscriber, b.ID, l)
		}
	}
}

// Data collects the values of groups that have not expired. It is a
// [prometheus.Collector].
type Data struct {
	groups func() []*snapshot.Group
	rows   []row[reading]
}

// NewData returns the collector of every data family of the given kinds.
func NewData(groups func() []*snapshot.Group, kinds []providers.Kind) *Data {
	d := &Data{groups: groups}
	for _, kind := range kinds {
		for _, r := range dataRows {
			if r.Kind == kind {
				d.rows = append(d.rows, r)
			}
		}
	}
	return d
}

// NewFamily returns the collector of one data family, by name, for one group. It
// returns nil if there is no such family, or if it does not show the group.
func NewFamily(name string, group *snapshot.Group) *Data {
	for _, r := range dataRows {
		if r.Name == name && r.shows(group) {
			return &Data{groups: func() []*snapshot.Group { return []*snapshot.Group{group} }, rows: []row[reading]{r}}
		}
	}
	return nil
}

// DataFamilies returns the data families of a kind, in the order of the table: those
// that show the totals of a fleet, or the others.
func DataFamilies(kind providers.Kind, fleet bool) []Family {
	var out []Family
	for _, r := range dataRows {
		if r.Kind == kind && r.Fleet == fleet {
			out = append(out, r.Family)
		}
	}
	return out
}

// Describe sends the descriptors of all families.
func (d *Data) Describe(ch chan<- *prometheus.Desc) { describe(d.rows, ch) }

// Collect sends the metrics of all families.
func (d *Data) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	for _, group := range d.groups() {
		for _, r := range d.rows {
			if !r.shows(group) {
				continue
			}
			if r.Fleet {
				r.collect(reading{group: group}, ch)
			}
			for s := range group.All() {
				from := reading{group: group, last: s.Reading}
				if s.Serves(now, group.Part.MaxAge) {
					from.served = s.Reading
				}
				r.collect(from, ch)
			}
		}
	}
}
