package providers

import (
	"time"

	"github.com/balance-exporter/balance_exporter/internal/config"
)

const minInterval = time.Second

// Settings is what every part of an account has in the configuration. A provider's
// own struct has it inlined, with its defaults.
type Settings struct {
	Enabled         bool            `yaml:"enabled"`
	RefreshInterval config.Duration `yaml:"refresh_interval"`
	MaxAge          config.Duration `yaml:"max_age"`
}

// Enabled returns the settings of a part that is on unless it is turned off.
func Enabled(interval, maxAge time.Duration) Settings {
	return Settings{Enabled: true, RefreshInterval: config.Duration(interval), MaxAge: config.Duration(maxAge)}
}

// Check returns the first fault of the part called path; nil for none.
func (s Settings) Check(section *config.Section, path string) error {
	if time.Duration(s.RefreshInterval) < minInterval {
		return section.Errorf(path+".refresh_interval", "must be at least %s", minInterval)
	}
	if s.MaxAge < s.RefreshInterval {
		return section.Errorf(path+".max_age", "%s is shorter than the refresh_interval of %s; a value would end before the next one comes",
			s.MaxAge, s.RefreshInterval)
	}
	return nil
}

// Part returns the settings in their checked form.
func (s Settings) Part(kind Kind) Part {
	return Part{Kind: kind, Interval: time.Duration(s.RefreshInterval), MaxAge: time.Duration(s.MaxAge)}
}

// BalanceSettings is what the balance of an account has in the configuration.
type BalanceSettings struct {
	Settings     `yaml:",inline"`
	LowThreshold *float64 `yaml:"low_threshold"` // in the currency of the balance; nil for none
}

// DefaultBalance returns the settings of a balance that says nothing.
func DefaultBalance() BalanceSettings {
	return BalanceSettings{Settings: Enabled(time.Minute, time.Hour)}
}

// Part returns the settings in their checked form.
func (s BalanceSettings) Part() Part {
	p := s.Settings.Part(KindBalance)
	p.LowThreshold = s.LowThreshold
	return p
}
