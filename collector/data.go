package collector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// reading is one snapshot of a group at a time.
type reading struct {
	group *snapshot.Group
	*snapshot.Snapshot
	serves bool // the values have not ended
}

// cached is the end of every help text of a value that a provider sent.
const cached = " The value is cached: balance_exporter_refresh_interval_seconds tells how often it is read, balance_exporter_last_success_timestamp_seconds when it was read last."

var dataRows = []row[reading]{
	newRow(Family{
		Name: "account_balance", Kind: providers.KindBalance,
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "currency"},
		Help:   "Balance of the account, in units of the currency." + cached,
		Series: "1 per account",
	}, func(r reading, send func(float64, ...string)) {
		if b := r.Reading.Balance; b != nil && r.serves {
			send(b.Amount, r.group.Provider, r.group.Account, b.Currency)
		}
	}),
	newRow(Family{
		Name: "account_balance_low_threshold", Kind: providers.KindBalance,
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "currency"},
		Help:   "Balance below which an operator wants to know, in units of the currency, as configured by low_threshold. It appears once the currency of the account is known, and stays when the balance has ended.",
		Series: "1 per account with low_threshold",
	}, func(r reading, send func(float64, ...string)) {
		if b, low := r.Reading.Balance, r.group.Part.LowThreshold; b != nil && low != nil {
			send(*low, r.group.Provider, r.group.Account, b.Currency)
		}
	}),
	newRow(Family{
		Name: "sms_price", Kind: providers.KindPrices,
		Type:   prometheus.GaugeValue,
		Labels: []string{"provider", "account", "sub_account", "country", "mcc", "mnc", "operator", "number_type", "direction", "currency"},
		Help:   "Price of one SMS, in units of the currency." + cached,
		Series: "1 per network of each operator, number type and sub-account: thousands; filters and max_series bound it",
	}, func(r reading, send func(float64, ...string)) {
		if !r.serves {
			return
		}
		for _, p := range r.Reading.Prices {
			send(p.Amount, r.group.Provider, r.group.Account, p.SubAccount, p.Country, p.MCC, p.MNC, p.Operator, p.NumberType, string(p.Direction), p.Currency)
		}
	}),
	newRow(Family{
		Name: "subscriber_balance", Kind: providers.KindSubscribers,
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "subscriber", "balance_id", "currency"},
		Help:   "Money left on a balance of a subscriber, in units of the currency." + cached,
		Series: "1 per money balance of each subscriber",
	}, func(r reading, send func(float64, ...string)) {
		sendSubscriber(r, send, func(b providers.SubscriberBalance) string { return b.Currency })
	}),
	newRow(Family{
		Name: "subscriber_allowance", Kind: providers.KindSubscribers,
		Type: prometheus.GaugeValue, Labels: []string{"provider", "account", "subscriber", "balance_id", "unit"},
		Help:   "What is left of a plan of a subscriber, in the unit that the provider names, which is SMS, KB, MB or GB." + cached,
		Series: "1 per allowance of each subscriber",
	}, func(r reading, send func(float64, ...string)) {
		sendSubscriber(r, send, func(b providers.SubscriberBalance) string { return b.Unit })
	}),
}

// sendSubscriber sends the balances of a subscriber that have the given label.
func sendSubscriber(r reading, send func(float64, ...string), label func(providers.SubscriberBalance) string) {
	if !r.serves {
		return
	}
	for _, b := range r.Reading.Balances {
		if l := label(b); l != "" {
			send(b.Value, r.group.Provider, r.group.Account, r.Reading.Subscriber, b.ID, l)
		}
	}
}

// Data collects what groups returns, with the values that have not ended. It is a
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
// returns nil if there is no such family or the group has nothing to do with it.
func NewFamily(name string, group *snapshot.Group) *Data {
	for _, r := range dataRows {
		if r.Name == name && r.Kind == group.Part.Kind {
			return &Data{groups: func() []*snapshot.Group { return []*snapshot.Group{group} }, rows: []row[reading]{r}}
		}
	}
	return nil
}

// DataFamilies returns the data families of a kind, in the order of the table.
func DataFamilies(kind providers.Kind) []Family {
	var out []Family
	for _, r := range dataRows {
		if r.Kind == kind {
			out = append(out, r.Family)
		}
	}
	return out
}

// Describe sends the descriptors of all families.
func (d *Data) Describe(ch chan<- *prometheus.Desc) {
	for _, r := range d.rows {
		ch <- r.desc
	}
}

// Collect sends the metrics of all families.
func (d *Data) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	for _, group := range d.groups() {
		for _, r := range d.rows {
			if r.Kind != group.Part.Kind {
				continue
			}
			for _, s := range group.Snapshots {
				r.collect(reading{group: group, Snapshot: s, serves: s.Serves(now, group.Part.MaxAge)}, ch)
			}
		}
	}
}
