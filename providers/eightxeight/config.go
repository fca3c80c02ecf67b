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
	faults := &kit.Faults{Section: section}
	faults.Add(section.Decode(s))
	s.check(faults)
	if err := faults.Err(); err != nil {
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

// check adds all faults, and turns what may be written in two ways into one.
func (s *settings) check(f *kit.Faults) {
	f.If(s.AccountID == "", "account_id", "is required: the id of the 8x8 account")
	f.If(s.APIKey == nil, "api_key", "is required: the key of the account; write api_key or api_key_file")
	f.If(!s.Balance.Enabled && !s.Prices.Enabled, "prices.enabled", "balance and prices are both turned off; turn one on, or remove the account")
	if s.AccountID != "" && !guid.MatchString(s.AccountID) {
		f.Section.Warnf("account_id", "%q is no GUID, as 8x8 documents account ids", s.AccountID)
	}
	s.Balance.Check(f, "balance")
	s.Prices.Check(f, "prices")
	s.Prices.checkFilters(f)
}

func (p *priceSettings) checkFilters(f *kit.Faults) {
	f.If(p.Direction == providers.Inbound && len(p.Networks) > 0, "prices.networks",
		"inbound prices have no networks; leave networks out, or direction: inbound")
	f.If(p.Direction != "" && p.Direction != providers.Outbound && p.Direction != providers.Inbound, "prices.direction",
		"%q must be %s or %s; leave it out for both", p.Direction, providers.Outbound, providers.Inbound)

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
		f.If(!ok, path, "%q must be the two letters of ISO 3166-1, such as SG", country)
		f.If(ok && again(code), path, "%s is listed twice", code)
		p.Countries[i] = code
	}
	for i, n := range p.Networks {
		path := fmt.Sprintf("prices.networks[%d]", i)
		switch {
		case n.MCC == "" || n.MNC == "":
			f.If(true, path, "needs both mcc and mnc; write the one that is missing")
		case len(n.MCC) != 3 || !kit.IsDigits(n.MCC):
			f.If(true, path+".mcc", "%q must be three digits", n.MCC)
		case len(n.MNC) > 3 || !kit.IsDigits(n.MNC):
			f.If(true, path+".mnc", "%q must be two or three digits", n.MNC)
		default:
			f.If(again(n.query()), path, "mcc %s with mnc %s is listed twice: 8x8 takes them as numbers, without leading zeros", n.MCC, n.MNC)
		}
	}
	for i, id := range p.SubAccounts {
		path := fmt.Sprintf("prices.sub_accounts[%d]", i)
		f.If(id == "", path, "must not be empty")
		f.If(again("sub-account "+id), path, "%q is listed twice", id)
	}
	f.If(p.MaxSeries < 1, "prices.max_series", "must be at least 1")
}

// query returns mcc and mnc as the API takes them in a query: as integers, although
// its bodies have strings.
func (n network) query() [2]string {
	mcc, _ := strconv.Atoi(n.MCC) // checked to be digits
	mnc, _ := strconv.Atoi(n.MNC)
	return [2]string{strconv.Itoa(mcc), strconv.Itoa(mnc)}
}
