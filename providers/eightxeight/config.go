package eightxeight

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// guid is how account ids are documented:
// https://developer.8x8.com/connect/reference/get-account-balance
var guid = regexp.MustCompile(`^[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}$`)

// settings is the configuration of an account.
type settings struct {
	AccountID string        `yaml:"account_id"`
	APIKey    *secret.Value `yaml:"api_key"`
	Balance   kit.Balance   `yaml:"balance"`
	Prices    priceSettings `yaml:"prices"`
}

// priceSettings select a price list. What is empty selects everything.
type priceSettings struct {
	kit.Part    `yaml:",inline"`
	Direction   providers.Direction `yaml:"direction"`
	Countries   []string            `yaml:"countries"` // upper case
	Networks    []network           `yaml:"networks"`
	SubAccounts []string            `yaml:"sub_accounts"`
	MaxSeries   int                 `yaml:"max_series"`
}

// network is a home network identity, as digits.
type network struct {
	MCC string `yaml:"mcc"`
	MNC string `yaml:"mnc"`
}

func configure(section providers.Section) (providers.Account, error) {
	s := &settings{
		Balance: kit.NewBalance(),
		Prices:  priceSettings{Part: kit.NewPart(kit.PricesInterval, kit.PricesMaxAge), MaxSeries: 200_000},
	}
	if err := section.Decode(s); err != nil {
		return providers.Account{}, err
	}
	if err := s.check(section); err != nil {
		return providers.Account{}, err
	}
	account := providers.Account{
		Secrets:  []*secret.Value{s.APIKey},
		Identity: s.AccountID,
		Open:     s.open,
	}
	if s.Balance.Enabled {
		account.Parts = append(account.Parts, s.Balance.Domain())
	}
	if s.Prices.Enabled {
		account.Parts = append(account.Parts, s.Prices.Domain(providers.KindPrices))
	}
	return account, nil
}

func (s *settings) open(env providers.Env) ([]providers.Source, error) {
	c := &client{accountID: s.AccountID, key: s.APIKey, http: env.HTTP}
	var sources []providers.Source
	if s.Balance.Enabled {
		sources = append(sources, &balanceSource{client: c, interval: s.Balance.Interval()})
	}
	if s.Prices.Enabled {
		p := s.Prices
		sources = append(sources, &priceSource{
			client: c, key: "prices-" + p.hash(), interval: p.Interval(), queries: p.queries(), maxSeries: p.MaxSeries,
		})
	}
	return sources, nil
}

// check returns the first fault, and turns what may be written in two ways into
// one.
func (s *settings) check(section providers.Section) error {
	switch {
	case s.AccountID == "":
		return section.Errorf("account_id", "is required: the id of the 8x8 account")
	case s.APIKey == nil:
		return section.Errorf("api_key", "is required: the key of the account; write api_key or api_key_file")
	case !s.Balance.Enabled && !s.Prices.Enabled:
		return section.Errorf("prices.enabled", "balance and prices are both turned off; turn one on, or remove the account")
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

func (p *priceSettings) checkFilters(section providers.Section) error {
	switch p.Direction {
	case "", providers.Outbound:
	case providers.Inbound:
		if len(p.Networks) > 0 {
			return section.Errorf("prices.networks", "inbound prices have no networks; leave networks out, or direction: inbound")
		}
	default:
		return section.Errorf("prices.direction", "%q must be %s or %s; leave it out for both", p.Direction, providers.Outbound, providers.Inbound)
	}

	// A filter that is listed twice would cost two requests for the same rows.
	listed := map[any]bool{}
	again := func(filter any) bool {
		before := listed[filter]
		listed[filter] = true
		return before
	}
	for i, country := range p.Countries {
		path := fmt.Sprintf("prices.countries[%d]", i)
		code, ok := kit.Country(country)
		if !ok {
			return section.Errorf(path, "%q must be the two letters of ISO 3166-1, such as SG", country)
		}
		if again(code) {
			return section.Errorf(path, "%s is listed twice", code)
		}
		p.Countries[i] = code
	}
	for i, n := range p.Networks {
		path := fmt.Sprintf("prices.networks[%d]", i)
		switch {
		case n.MCC == "" || n.MNC == "":
			return section.Errorf(path, "needs both mcc and mnc; write the one that is missing")
		case len(n.MCC) != 3 || !kit.IsDigits(n.MCC):
			return section.Errorf(path+".mcc", "%q must be three digits", n.MCC)
		case len(n.MNC) > 3 || !kit.IsDigits(n.MNC):
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

// query returns mcc and mnc as the API takes them in a query: as integers, although
// its bodies have strings.
func (n network) query() [2]string {
	mcc, _ := strconv.Atoi(n.MCC) // checked to be digits
	mnc, _ := strconv.Atoi(n.MNC)
	return [2]string{strconv.Itoa(mcc), strconv.Itoa(mnc)}
}
