package recipe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	list := priceList{account: a, country: country, set: set, asked: a.asked(country)}
	b := body{answer: answer}
	// Without other expressions, which need the whole body, a list is read one element
	// at a time: then the memory it takes is that of its body and of its rows.
	stream := answer.OK() && p.Step.Format == "json" && p.value.path != nil && p.Step.errors == nil && p.Step.rateLimited == nil
	read := func() error { return list.stream(answer) }
	if !stream {
		var err error
		if b, err = p.Step.decode(a.recipe, "prices", answer); err != nil {
			return err
		}
		read = func() error { return list.whole(b.root, len(answer.Body)) }
	}
	err := set.Answer(list.asked, read)
	var known *providers.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return b.fault("prices.value", err.Error())
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

	batch     []any // elements that are not evaluated yet
	batchSize int   // their bytes
	decoder   kit.Decoder
}

// maxBatch is how many elements are evaluated together, which takes a fraction of the
// memory and time of one after the other.
const maxBatch = 256

// whole reads a decoded answer.
func (l *priceList) whole(root any, size int) error {
	p := l.Prices.value
	if p.path != nil {
		return l.decoded(root, size, p.path)
	}
	outputs, err := p.outputs(root, size, maxOutputs)
	for _, output := range outputs {
		l.row(output)
	}
	return err
}

// decoded follows a path from a decoded value, and reads the elements at its end. size is
// that of the body.
func (l *priceList) decoded(value any, size int, path []pathStep) error {
	if len(path) == 0 {
		return l.element(value, size)
	}
	object, isObject := value.(map[string]any)
	if key := path[0].key; key != "" {
		if _, ok := object[key]; !ok {
			return missing(key, kindOf(value))
		}
		return l.decoded(object[key], size, path[1:])
	}
	list, isList := value.([]any)
	for _, key := range slices.Sorted(maps.Keys(object)) {
		list = append(list, object[key])
	}
	if !isList && (!isObject || len(list) == 0) {
		return noList(kindOf(value))
	}
	for _, element := range list {
		if err := l.decoded(element, size, path[1:]); err != nil {
			return err
		}
	}
	return nil
}

func missing(key, kind string) error { return fmt.Errorf("%q is missing in %s", key, kind) }

// noList returns the error for a value without a list. An empty object is none: prices
// must not disappear without a clear word.
func noList(kind string) error { return fmt.Errorf("a list is expected instead of %s", kind) }

// stream reads an answer in place.
func (l *priceList) stream(a providers.Answer) error {
	if !json.Valid(a.Body) {
		_, err := decodeJSON(a.Body)
		return fmt.Errorf("the body is not the json that the recipe expects: %w", err)
	}
	if err := kit.Whole(a.Status); err != nil {
		return err
	}
	if err := l.raw(kit.Raw(bytes.TrimSpace(a.Body)), l.Prices.value.path); err != nil {
		return err
	}
	return l.flush()
}

// flush evaluates the batch: at once or, if that fails, one element after the other.
func (l *priceList) flush() error {
	batch, size := l.batch, l.batchSize
	l.batch, l.batchSize = l.batch[:0], 0
	outputs, err := l.Prices.value.each.outputs(batch, size, maxOutputs)
	if err != nil {
		for _, element := range batch {
			if err := l.element(element, size); err != nil {
				return err
			}
		}
		return nil
	}
	for _, output := range outputs {
		l.row(output)
	}
	return nil
}

// raw is decoded for a value that is not decoded yet.
func (l *priceList) raw(value kit.Raw, path []pathStep) error {
	if len(path) == 0 {
		l.batch = append(l.batch, l.decoder.Decode(value))
		l.batchSize += len(value)
		if len(l.batch) < maxBatch {
			return nil
		}
		return l.flush()
	}
	if key := path[0].key; key != "" {
		var found kit.Raw
		for name, member := range value.Members() {
			if name == key {
				found = member
			}
		}
		if found == nil {
			return missing(key, kit.KindOf(value[0]))
		}
		return l.raw(found, path[1:])
	}
	elements, isList := value.Elements()
	if !isList {
		elements = func(yield func(kit.Raw) bool) {
			for _, member := range value.Members() {
				isList = true
				if !yield(member) {
					return
				}
			}
		}
	}
	for element := range elements {
		if err := l.raw(element, path[1:]); err != nil {
			return err
		}
	}
	if !isList {
		return noList(kit.KindOf(value[0]))
	}
	return nil
}

// element reads the prices of an element. One that the expression fails for is a row
// that lacks something, unless the expression would have gone through a list in it: then
// the number of rows that it costs is unknown.
func (l *priceList) element(element any, size int) error {
	one := l.Prices.value.one
	outputs, err := one.outputs(element, size, maxOutputs)
	switch {
	case err != nil && (one.iterates || errors.Is(err, errBounds)):
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
	if country := text("country"); country == "" {
		p.Country = l.country
		complete = complete && (l.country != "" || p.MCC != "") // an mcc names the country, too
	} else {
		p.Country, ok = kit.Country(country)
		complete = complete && ok
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
	if p.Amount, err = amount(object["amount"], l.Prices.Amounts.divisor()); err != nil {
		complete = false
	}
	if p.Currency, err = l.unit(object["currency"], l.Prices.Amounts.Currency); err != nil {
		complete = false
	}
	for key := range object {
		if !slices.Contains(priceKeys, key) {
			complete = false
		}
	}
	if complete && l.country == "" && !l.asked(p) {
		return // the account asks for other countries
	}
	l.set.Add(p, complete)
}

// priceKeys are the keys of a price.
var priceKeys = []string{"country", "mcc", "mnc", "operator", "number_type", "direction", "amount", "currency"}
