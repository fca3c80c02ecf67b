package eightxeight

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// priceSource reads the SMS price list:
// https://developer.8x8.com/connect/reference/get-price-list
type priceSource struct {
	client    *client
	key       string
	interval  time.Duration
	queries   []string // encoded, one per request
	maxSeries int
}

// queries returns the query of each request. A country and a network are two ways
// to choose destinations, so each is a request of its own; a sub-account narrows
// each of them.
func (p *priceSettings) queries() []string {
	destinations := make([]url.Values, 0, len(p.Countries)+len(p.Networks)+1)
	for _, country := range p.Countries {
		destinations = append(destinations, url.Values{"country": {country}})
	}
	for _, n := range p.Networks {
		code := n.query()
		destinations = append(destinations, url.Values{"mcc": {code[0]}, "mnc": {code[1]}})
	}
	if len(destinations) == 0 {
		destinations = append(destinations, url.Values{})
	}
	subAccounts := p.SubAccounts
	if len(subAccounts) == 0 {
		subAccounts = []string{""}
	}

	queries := make([]string, 0, len(subAccounts)*len(destinations))
	for _, id := range subAccounts {
		for _, query := range destinations {
			if id != "" {
				query.Set("subAccountId", id)
			}
			if p.Direction != "" {
				query.Set("direction", string(p.Direction))
			}
			queries = append(queries, query.Encode())
		}
	}
	return queries
}

// matches returns what reports a price that a query asks for.
func matches(query string) func(providers.Price) bool {
	q, _ := url.ParseQuery(query) // it has been encoded above
	is := func(value, filter string) bool { return filter == "" || strings.EqualFold(value, filter) }
	number := func(code string) string { return strings.TrimLeft(code, "0") } // as in the query
	return func(p providers.Price) bool {
		return is(p.Country, q.Get("country")) && is(p.SubAccount, q.Get("subAccountId")) && is(string(p.Direction), q.Get("direction")) &&
			(p.MCC == "" || is(number(p.MCC), number(q.Get("mcc"))) && is(number(p.MNC), number(q.Get("mnc"))))
	}
}

// hash differs between settings that select different prices. The order of the
// filters does not matter.
func (p *priceSettings) hash() string {
	queries := p.queries()
	slices.Sort(queries)
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %d", queries, p.MaxSeries))
	return hex.EncodeToString(sum[:6])
}

// Describe implements [providers.Source]. Each combination of filters is a request.
func (s *priceSource) Describe() providers.Description {
	return providers.Description{Key: s.key, Kind: providers.KindPrices, Interval: s.interval, Requests: len(s.queries)}
}

// Fetch returns the prices of all requests together, in the order of the answers.
func (s *priceSource) Fetch(ctx context.Context) (providers.Reading, error) {
	set := kit.NewPriceSet(s.maxSeries)
	for _, query := range s.queries {
		call := s.client.call("prices")
		call.Query = query
		call.Large = true
		call.Parse = func(a providers.Answer) error { return parsePrices(a, matches(query), set) }
		if err := s.client.http.Do(ctx, call); err != nil {
			return providers.Reading{}, err
		}
	}
	return set.Reading(), nil
}
