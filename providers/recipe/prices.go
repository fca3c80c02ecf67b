package recipe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// priceSource reads the price list of an account.
type priceSource struct {
	*client
	key      string
	interval time.Duration
}

// Describe implements [providers.Source].
func (s *priceSource) Describe() providers.Description {
	return providers.Description{Key: s.key, Kind: providers.KindPrices, Interval: s.interval, Requests: len(s.requests())}
}

// requests returns the country of each request; empty for a request for all.
func (s *priceSource) requests() []string {
	if s.perCountry() {
		return s.prices.Countries
	}
	return []string{""}
}

// Fetch implements [providers.Source].
func (s *priceSource) Fetch(ctx context.Context) (providers.Reading, error) {
	set := kit.NewPriceSet(s.prices.MaxSeries)
	for _, country := range s.requests() {
		err := s.send(ctx, &s.Prices.Step, values{countryName: country}, true, func(a providers.Answer) error {
			return s.parsePrices(a, country, set)
		})
		if err != nil {
			return providers.Reading{}, err
		}
	}
	return set.Reading(), nil
}

// parsePrices adds the prices of an answer to set. country is the one that was asked
// for, empty for all.
func (a *account) parsePrices(answer providers.Answer, country string, set *kit.PriceSet) error {
	p := a.Prices
	rest := p.value.rest
	if p.Step.Format != "json" || rest == nil || p.Step.errors != nil || p.Step.rateLimited != nil || !answer.OK() {
		rest = nil
	}
	list := priceList{account: a, country: country, set: set, asked: a.asked(country)}
	if rest != nil {
		return list.add(func() error { return list.stream(answer, rest) }, body{answer: answer})
	}
	body, err := p.Step.decode(a.recipe, "prices", answer)
	if err != nil {
		return err
	}
	return list.add(func() error { return list.whole(body) }, body)
}

// asked returns what reports a price that the request, or the configuration, asks for.
func (a *account) asked(country string) func(providers.Price) bool {
	if country != "" {
		return func(p providers.Price) bool { return p.Country == country }
	}
	if len(a.prices.Countries) == 0 {
		return func(providers.Price) bool { return true }
	}
	return func(p providers.Price) bool { return slices.Contains(a.prices.Countries, p.Country) }
}

// priceList reads one answer.
type priceList struct {
	*account
	country string
	set     *kit.PriceSet
	asked   func(providers.Price) bool
}

// add calls read, and returns its error as one about the expression.
func (l *priceList) add(read func() error, b body) error {
	err := l.set.Answer(l.asked, read)
	var known *providers.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return b.fault("prices.value", err.Error())
}

// whole reads an answer that is evaluated at once.
func (l *priceList) whole(b body) error {
	outputs, err := l.Prices.value.outputs(b.root, maxOutputs)
	if err != nil {
		return err
	}
	for _, output := range outputs {
		l.row(output)
	}
	return nil
}

// stream reads an answer one element at a time, so that the memory it takes is that of
// its body and of its rows.
func (l *priceList) stream(a providers.Answer, rest *program) error {
	if !json.Valid(a.Body) {
		_, err := decodeJSON(a.Body)
		return fmt.Errorf("the body is not the json that the recipe expects: %w", err)
	}
	if err := kit.Whole(a.Status); err != nil {
		return err
	}
	return l.descend(kit.Raw(bytes.TrimSpace(a.Body)), l.Prices.value.first, rest)
}

// descend follows a path from a value, and evaluates rest for each value at its end.
func (l *priceList) descend(value kit.Raw, path []pathStep, rest *program) error {
	if len(path) == 0 {
		return l.element(value, rest)
	}
	if path[0].key != "" {
		if value[0] != '{' {
			return fmt.Errorf("%q is looked for in %s", path[0].key, kit.KindOf(value[0]))
		}
		var found kit.Raw
		for key, member := range value.Members() {
			if key == path[0].key {
				found = member
			}
		}
		if found == nil {
			return fmt.Errorf("%q is missing", path[0].key)
		}
		return l.descend(found, path[1:], rest)
	}
	switch value[0] {
	case '[':
		elements, _ := value.Elements()
		for element := range elements {
			if err := l.descend(element, path[1:], rest); err != nil {
				return err
			}
		}
	case '{':
		for _, member := range value.Members() {
			if err := l.descend(member, path[1:], rest); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("a list is expected instead of %s", kit.KindOf(value[0]))
	}
	return nil
}

// element evaluates rest for an element. One that the expression fails for is a row
// that lacks something, unless the expression would have gone through a list in it: then
// the number of rows that it costs is unknown.
func (l *priceList) element(value kit.Raw, rest *program) error {
	element, err := decodeJSON(value)
	if err != nil {
		return err
	}
	outputs, err := rest.outputs(element, maxOutputs)
	switch {
	case err != nil && (rest.iterates || errors.Is(err, errBounds)):
		return err
	case err != nil:
		l.set.Add(providers.Price{}, false)
	}
	for _, output := range outputs {
		l.row(output)
	}
	return nil
}

// row adds the price that an output of the expression describes.
func (l *priceList) row(output any) {
	object, _ := output.(map[string]any)
	complete := object != nil
	text := func(key string) string {
		value, ok := label(object[key])
		complete = complete && ok
		return value
	}
	p := providers.Price{
		MCC: text("mcc"), MNC: text("mnc"), Operator: text("operator"), NumberType: text("number_type"),
		Direction: providers.Direction(text("direction")),
	}
	var ok bool
	if country := text("country"); country == "" && l.country != "" {
		p.Country = l.country
	} else if p.Country, ok = kit.Country(country); !ok {
		complete = false
	}
	switch p.Direction {
	case "":
		p.Direction = providers.Outbound
	case providers.Outbound, providers.Inbound:
	default:
		complete = false
	}
	for _, code := range []string{p.MCC, p.MNC} {
		complete = complete && (code == "" || kit.IsDigits(code))
	}
	var err error
	if p.Amount, err = amount(object["amount"], divisor(l.Prices.Divide)); err != nil {
		complete = false
	}
	if p.Currency, err = l.unit(object["currency"], l.Prices.Currency); err != nil {
		complete = false
	}
	for key := range object {
		if !slices.Contains(priceKeys, key) {
			complete = false
		}
	}
	if complete && !l.perCountry() && !l.asked(p) {
		return // the account asks for other countries
	}
	l.set.Add(p, complete)
}

// priceKeys are the keys of a price.
var priceKeys = []string{"country", "mcc", "mnc", "operator", "number_type", "direction", "amount", "currency"}
