package eightxeight

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
)

// priceSource reads the SMS price list:
// https://developer.8x8.com/connect/reference/get-price-list
type priceSource struct {
	account   *account
	key       string
	interval  time.Duration
	queries   []string // encoded, one per request
	maxSeries int
}

func newPriceSource(a *account, p priceSettings) *priceSource {
	return &priceSource{
		account:   a,
		key:       "prices-" + p.hash(),
		interval:  time.Duration(p.RefreshInterval),
		queries:   p.queries(),
		maxSeries: p.MaxSeries,
	}
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

// hash tells price lists apart that are asked for differently. The order of the
// filters does not matter.
func (p *priceSettings) hash() string {
	queries := p.queries()
	slices.Sort(queries)
	asked, err := json.Marshal(struct {
		Queries   []string
		MaxSeries int
	}{queries, p.MaxSeries})
	if err != nil {
		panic(err) // strings and an int
	}
	sum := sha256.Sum256(asked)
	return hex.EncodeToString(sum[:6])
}

// Key implements [providers.Source].
func (s *priceSource) Key() string { return s.key }

// Kind implements [providers.Source].
func (s *priceSource) Kind() providers.Kind { return providers.KindPrices }

// Interval implements [providers.Source].
func (s *priceSource) Interval() time.Duration { return s.interval }

// Requests implements [providers.Source]: one for each combination of filters.
func (s *priceSource) Requests() int { return len(s.queries) }

// Fetch returns the prices of all requests together. The order is that of the
// answers.
func (s *priceSource) Fetch(ctx context.Context) (providers.Reading, error) {
	list := newPriceList(s.maxSeries)
	for _, query := range s.queries {
		call := s.account.call("prices")
		call.Query = query
		call.Large = true
		call.Decode = func(body io.Reader) error { return decodePrices(body, list) }
		if err := s.account.http.Do(ctx, call); err != nil {
			return providers.Reading{}, err
		}
	}
	return list.reading(), nil
}
