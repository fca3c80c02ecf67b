package kit_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
	"github.com/balance-exporter/balance_exporter/providers/providertest"
)

// parts decodes and checks the parts of an account as a provider does.
func parts(t *testing.T, lines ...string) (all []providers.Part, err error) {
	t.Helper()
	p := providers.Provider{Name: "acme", BaseURL: "https://api.acme.example", RateLimit: quota.Limit{Requests: 1, Per: time.Second, Burst: 1}}
	account, _ := providertest.Parse(t, p, "a", t.TempDir(), lines...)
	s := struct {
		Balance kit.Balance `yaml:"balance"`
		Prices  kit.Part    `yaml:"prices"`
	}{kit.NewBalance(), kit.NewPart(kit.PricesInterval, kit.PricesMaxAge)}
	faults := &kit.Faults{Section: account.Section}
	faults.Add(account.Section.Decode(&s))
	s.Balance.Check(faults, "balance")
	s.Prices.Check(faults, "prices")
	if err := faults.Err(); err != nil {
		return nil, err
	}
	if s.Balance.Enabled {
		require.Equal(t, time.Duration(s.Balance.RefreshInterval), s.Balance.Interval())
		all = append(all, s.Balance.Domain())
	}
	if s.Prices.Enabled {
		all = append(all, s.Prices.Domain(providers.KindPrices))
	}
	return all, nil
}

func TestParts(t *testing.T) {
	const day = 24 * time.Hour
	low, zero := -2.5, 0.0
	balance := providers.Part{Kind: providers.KindBalance, Interval: time.Minute, MaxAge: day, TopupLead: day}
	prices := providers.Part{Kind: providers.KindPrices, Interval: time.Hour, MaxAge: 7 * day}
	changed := func(change func(p *providers.Part)) providers.Part {
		p := balance
		change(&p)
		return p
	}
	for lines, want := range map[string][]providers.Part{
		"balance: {}":                    {balance, prices},
		"prices: {}":                     {balance, prices},
		"balance: {enabled: false}":      {prices},
		"prices: {enabled: false}":       {balance},
		"balance: {topup_lead: 0s}":      {changed(func(p *providers.Part) { p.TopupLead = 0 }), prices},
		"balance: {low_threshold: -2.5}": {changed(func(p *providers.Part) { p.LowThreshold = &low }), prices},
		"balance: {low_threshold: 0}":    {changed(func(p *providers.Part) { p.LowThreshold = &zero }), prices},
		"balance: {refresh_interval: 1s, max_age: 1s}": {
			changed(func(p *providers.Part) { p.Interval, p.MaxAge = time.Second, time.Second }), prices,
		},
		"prices: {refresh_interval: 1d}": {balance, {Kind: providers.KindPrices, Interval: day, MaxAge: 7 * day}},
	} {
		t.Run(lines, func(t *testing.T) {
			got, err := parts(t, lines)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

func TestFaultyParts(t *testing.T) {
	for lines, want := range map[string]string{
		"balance: {refresh_interval: 999ms}": "accounts[0].balance.refresh_interval: must be at least 1s",
		"prices: {refresh_interval: 0s}":     "accounts[0].prices.refresh_interval: must be at least 1s",
		"balance: {refresh_interval: 2h, max_age: 90m}": "accounts[0].balance.max_age: " +
			"1h30m is shorter than the refresh_interval of 2h; a value would end before the next one arrives",
		"prices: {max_age: 59m}": "accounts[0].prices.max_age: " +
			"59m is shorter than the refresh_interval of 1h; a value would end before the next one arrives",
	} {
		t.Run(lines, func(t *testing.T) {
			_, err := parts(t, lines)
			require.EqualError(t, err, "balance_exporter.yml:4: "+want)
		})
	}
}
