package eightxeight

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
)

// guid is how account ids are documented:
// https://developer.8x8.com/connect/reference/get-account-balance
var guid = regexp.MustCompile(`^[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}$`)

// settings is what an account has for 8x8. It implements [providers.Config].
type settings struct {
	AccountID string                    `yaml:"account_id"`
	APIKey    *secret.Value             `yaml:"api_key"`
	Balance   providers.BalanceSettings `yaml:"balance"`
	Prices    priceSettings             `yaml:"prices"`
}

// priceSettings select a price list. What is empty selects everything.
type priceSettings struct {
	providers.Settings `yaml:",inline"`
	Direction          providers.Direction `yaml:"direction"`
	Countries          []string            `yaml:"countries"` // upper case
	Networks           []network           `yaml:"networks"`
	SubAccounts        []string            `yaml:"sub_accounts"`
	MaxSeries          int                 `yaml:"max_series"`
}

// network is a home network identity, as digits.
type network struct {
	MCC string `yaml:"mcc"`
	MNC string `yaml:"mnc"`
}

func configure(section *config.Section) (providers.Config, error) {
	s := &settings{
		Balance: providers.DefaultBalance(),
		Prices:  priceSettings{Settings: providers.Enabled(time.Hour, 24*time.Hour), MaxSeries: 200_000},
	}
	if err := section.Decode(s); err != nil {
		return nil, err
	}
	if err := s.check(section); err != nil {
		return nil, err
	}
	return s, nil
}

// check returns the first fault, and turns what may be written in two ways into
// one.
func (s *settings) check(section *config.Section) error {
	switch {
	case s.AccountID == "":
		return section.Errorf("account_id", "is required: the id of the 8x8 account")
	case s.APIKey == nil:
		return section.Errorf("api_key", "the key is missing; write api_key or api_key_file")
	case !s.Balance.Enabled && !s.Prices.Enabled:
		return section.Errorf("prices.enabled", "balance and prices are both turned off, which leaves nothing to read")
	}
	if !guid.MatchString(s.AccountID) {
		section.Warnf("account_id", "%q is no GUID, as 8x8 documents account ids", s.AccountID)
	}
	if err := s.Balance.Check(section, "balance"); err != nil {
		return err
	}
	if err := s.Prices.Check(section, "prices"); err != nil {
		return err
	}
	return s.Prices.checkFilters(section)
}

func (p *priceSettings) checkFilters(section *config.Section) error {
	switch p.Direction {
	case "", providers.Outbound:
	case providers.Inbound:
		if len(p.Networks) > 0 {
			return section.Errorf("prices.networks", "inbound prices have no networks; leave networks out, or direction: inbound")
		}
	default:
		return section.Errorf("prices.direction", "%q must be %s or %s; leave it out for both", p.Direction, providers.Outbound, providers.Inbound)
	}

	// What is listed twice would be asked twice, for the same rows.
	asked := map[any]bool{}
	again := func(filter any) bool {
		before := asked[filter]
		asked[filter] = true
		return before
	}
	for i, country := range p.Countries {
		path := fmt.Sprintf("prices.countries[%d]", i)
		if len(country) != 2 || strings.ContainsFunc(country, func(r rune) bool { return (r|0x20) < 'a' || (r|0x20) > 'z' }) {
			return section.Errorf(path, "%q must be the two letters of ISO 3166-1, such as SG", country)
		}
		p.Countries[i] = strings.ToUpper(country)
		if again(p.Countries[i]) {
			return section.Errorf(path, "%s is listed twice", p.Countries[i])
		}
	}
	for i, n := range p.Networks {
		path := fmt.Sprintf("prices.networks[%d]", i)
		switch {
		case n.MCC == "" || n.MNC == "":
			return section.Errorf(path, "needs both mcc and mnc; write the one that is missing")
		case !isCode(n.MCC, 3, 3):
			return section.Errorf(path+".mcc", "%q must be three digits", n.MCC)
		case !isCode(n.MNC, 1, 3):
			return section.Errorf(path+".mnc", "%q must be two or three digits", n.MNC)
		case again(n.query()):
			return section.Errorf(path, "mcc %s with mnc %s is listed twice: 8x8 takes them as numbers, without leading zeros", n.MCC, n.MNC)
		}
	}
	for i, id := range p.SubAccounts {
		path := fmt.Sprintf("prices.sub_accounts[%d]", i)
		if id == "" {
			return section.Errorf(path, "must not be empty")
		}
		if again("sub-account " + id) {
			return section.Errorf(path, "%q is listed twice", id)
		}
	}
	if p.MaxSeries < 1 {
		return section.Errorf("prices.max_series", "must be at least 1")
	}
	return nil
}

func isCode(s string, shortest, longest int) bool {
	return len(s) >= shortest && len(s) <= longest && isDigits(s)
}

func isDigits(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// query returns mcc and mnc as the API takes them in a query: as integers, though
// its bodies have strings.
func (n network) query() [2]string {
	mcc, _ := strconv.Atoi(n.MCC) // checked to be digits
	mnc, _ := strconv.Atoi(n.MNC)
	return [2]string{strconv.Itoa(mcc), strconv.Itoa(mnc)}
}

// Parts implements [providers.Config].
func (s *settings) Parts() []providers.Part {
	var parts []providers.Part
	if s.Balance.Enabled {
		parts = append(parts, s.Balance.Part())
	}
	if s.Prices.Enabled {
		parts = append(parts, s.Prices.Part(providers.KindPrices))
	}
	return parts
}

// Secrets implements [providers.Config].
func (s *settings) Secrets() []*secret.Value { return []*secret.Value{s.APIKey} }

// Identity implements [providers.Config]: it is the account id.
func (s *settings) Identity() string { return s.AccountID }

// Open implements [providers.Config].
func (s *settings) Open(env providers.Env) (providers.Account, error) {
	a := &account{id: s.AccountID, key: s.APIKey, http: env.HTTP}
	if s.Balance.Enabled {
		a.sources = append(a.sources, &balanceSource{account: a, interval: time.Duration(s.Balance.RefreshInterval)})
	}
	if s.Prices.Enabled {
		a.sources = append(a.sources, newPriceSource(a, s.Prices))
	}
	return a, nil
}
