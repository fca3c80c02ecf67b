// Package kit is what provider packages share: settings of a part, lenient JSON
// leaves, the token source, the price set, checks of currencies and countries, and
// compact records for rosters of millions.
package kit

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/balance-exporter/balance_exporter/providers"
)

// Defaults of a part, unless an account sets its own.
const (
	BalanceInterval     = time.Minute
	BalanceMaxAge       = 24 * time.Hour
	PricesInterval      = time.Hour
	PricesMaxAge        = 7 * 24 * time.Hour
	SubscribersInterval = 15 * time.Minute
	SubscribersMaxAge   = 24 * time.Hour
	TopupLead           = 24 * time.Hour
)

const minInterval = time.Second

// Part is the configuration that every part of an account has. Inline it in the
// provider's own struct.
type Part struct {
	Enabled         bool           `yaml:"enabled"`
	RefreshInterval model.Duration `yaml:"refresh_interval"`
	MaxAge          model.Duration `yaml:"max_age"`
}

// NewPart returns the settings of a part that is turned on by default.
func NewPart(interval, maxAge time.Duration) Part {
	return Part{Enabled: true, RefreshInterval: model.Duration(interval), MaxAge: model.Duration(maxAge)}
}

// Check adds the faults of the part at path.
func (p Part) Check(f *Faults, path string) {
	f.If(time.Duration(p.RefreshInterval) < minInterval, path+".refresh_interval", "must be at least %s", minInterval)
	f.If(p.MaxAge < p.RefreshInterval, path+".max_age", "%s is shorter than the refresh_interval of %s; a value would end before the next one arrives",
		p.MaxAge, p.RefreshInterval)
}

// Interval returns the refresh interval.
func (p Part) Interval() time.Duration { return time.Duration(p.RefreshInterval) }

// Domain returns the settings in their checked form.
func (p Part) Domain(kind providers.Kind) providers.Part {
	return providers.Part{Kind: kind, Interval: p.Interval(), MaxAge: time.Duration(p.MaxAge)}
}

// Subscribers is the configuration of a fleet.
type Subscribers struct {
	Part          `yaml:",inline"`
	Series        providers.Series   `yaml:"series"`
	LowThresholds map[string]float64 `yaml:"low_thresholds"` // by currency or unit, in capitals
}

// NewSubscribers returns the default settings of a fleet.
func NewSubscribers() Subscribers {
	return Subscribers{Part: NewPart(SubscribersInterval, SubscribersMaxAge), Series: providers.SeriesAll}
}

// Check adds the faults of the part at path.
func (s Subscribers) Check(f *Faults, path string) {
	s.Part.Check(f, path)
	choices := []providers.Series{providers.SeriesAll, providers.SeriesLow, providers.SeriesNone}
	f.If(!slices.Contains(choices, s.Series), path+".series", "%q must be all, low or none", s.Series)
	f.If(s.Series == providers.SeriesLow && len(s.LowThresholds) == 0, path+".series",
		"low needs low_thresholds, such as low_thresholds: {USD: 2, MB: 50}; add them, or write none")
	for _, unit := range slices.Sorted(maps.Keys(s.LowThresholds)) {
		f.If(unit == "" || unit != strings.ToUpper(unit), path+".low_thresholds",
			"%q must be a currency or a unit in capitals, such as USD or MB", unit)
	}
}

// Domain returns the settings in their checked form.
func (s Subscribers) Domain() providers.Part {
	p := s.Part.Domain(providers.KindSubscribers)
	p.Fleet, p.Series, p.LowThresholds = true, s.Series, s.LowThresholds
	return p
}

// Login is what the key `auth` of an account that logs in has. Inline it in the
// provider's own struct.
type Login struct {
	// ConcurrentLogins says that the provider lets several tokens be valid at a time,
	// so that several replicas may read the account.
	ConcurrentLogins bool `yaml:"concurrent_logins"`
}

// Balance is the configuration of an account's balance.
type Balance struct {
	Part         `yaml:",inline"`
	LowThreshold *float64       `yaml:"low_threshold"` // in the currency of the balance; nil for none
	TopupLead    model.Duration `yaml:"topup_lead"`
}

// NewBalance returns the default settings of a balance.
func NewBalance() Balance {
	return Balance{Part: NewPart(BalanceInterval, BalanceMaxAge), TopupLead: model.Duration(TopupLead)}
}

// Domain returns the settings in their checked form.
func (b Balance) Domain() providers.Part {
	p := b.Part.Domain(providers.KindBalance)
	p.LowThreshold, p.TopupLead = b.LowThreshold, time.Duration(b.TopupLead)
	return p
}
