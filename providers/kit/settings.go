// Package kit is what provider packages share: settings of a part, lenient JSON
// leaves, the token source, the price set, checks of currencies and countries.
package kit

import (
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

// Check returns the first fault of the part at path; nil for none.
func (p Part) Check(section providers.Section, path string) error {
	if time.Duration(p.RefreshInterval) < minInterval {
		return section.Errorf(path+".refresh_interval", "must be at least %s", minInterval)
	}
	if p.MaxAge < p.RefreshInterval {
		return section.Errorf(path+".max_age", "%s is shorter than the refresh_interval of %s; a value would end before the next one arrives",
			p.MaxAge, p.RefreshInterval)
	}
	return nil
}

// Interval returns the refresh interval.
func (p Part) Interval() time.Duration { return time.Duration(p.RefreshInterval) }

// Domain returns the settings in their checked form.
func (p Part) Domain(kind providers.Kind) providers.Part {
	return providers.Part{Kind: kind, Interval: p.Interval(), MaxAge: time.Duration(p.MaxAge)}
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
