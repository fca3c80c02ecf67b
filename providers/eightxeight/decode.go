package eightxeight

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// parsePrices adds the prices in an answer to set. A fault of the structure is an
// error, because the number of rows that it costs is unknown; a faulty operator,
// network or number type costs only its own series.
//
// An empty list of sub-accounts is an empty price list. One that is missing or null
// is an error: prices must not disappear without a clear word.
// asked reports a price that the request asks for.
func parsePrices(a providers.Answer, asked func(providers.Price) bool, set *kit.PriceSet) error {
	if !a.OK() {
		return readError(a).refusal(a)
	}
	d := priceDecoder{answer: a, prices: set}
	err := set.Answer(asked, d.body)
	var refused *providers.Error
	if err == nil || errors.As(err, &refused) {
		return err
	}
	return fmt.Errorf("price list: %w", err)
}

// priceDecoder walks the lists of an answer in place, without a copy of them.
type priceDecoder struct {
	answer providers.Answer
	prices *kit.PriceSet
}

func (d priceDecoder) body() error {
	var body struct {
		SubAccounts kit.Raw `json:"subAccounts"`
	}
	if err := kit.Unmarshal(d.answer.Body, &body); err != nil {
		return err
	}
	if body.SubAccounts == nil {
		if e := readError(d.answer); e.documented() {
			return e.refusal(d.answer)
		}
	}
	if err := kit.Whole(d.answer.Status); err != nil {
		return err
	}
	if body.SubAccounts == nil {
		return cmp.Or(d.renamed(d.answer.Body, "the answer", "subAccounts"), errors.New("subAccounts is missing"))
	}
	return each(body.SubAccounts, "subAccounts", "a sub-account", d.subAccount)
}

func (d priceDecoder) subAccount(value kit.Raw) error {
	var s struct {
		ID       kit.Text `json:"subAccountId"`
		Outbound kit.Raw  `json:"outbound"`
		Inbound  kit.Raw  `json:"inbound"`
	}
	if err := kit.Unmarshal(value, &s); err != nil {
		return err
	}
	if err := d.countries(s.Outbound, at{subAccount: s.ID, direction: providers.Outbound}); err != nil {
		return err
	}
	if err := d.countries(s.Inbound, at{subAccount: s.ID, direction: providers.Inbound}); err != nil {
		return err
	}
	return d.renamed(value, "a sub-account", "outbound", "inbound")
}

// countries reads the value of outbound or inbound. Schema and examples of the
// documentation contradict each other, so there are four forms, and all mean the
// same: nothing or null, {"countries": […]}, [{"countries": […]}, …] and
// [country, …].
func (d priceDecoder) countries(value kit.Raw, at at) error {
	outer := func(value kit.Raw) error { return d.country(value, at, true) }
	switch {
	case value.Null():
		return nil
	case value[0] == '{':
		return outer(value)
	case value[0] == '[':
		return each(value, string(at.direction), "an element of "+string(at.direction), outer)
	}
	return fmt.Errorf("%s is %s, neither a list nor an object", at.direction, kit.KindOf(value[0]))
}

// country reads a country or, if outer, perhaps an object that wraps a list of
// countries.
func (d priceDecoder) country(value kit.Raw, at at, outer bool) error {
	var c struct {
		Code        kit.Text `json:"alpha2Code"`
		Countries   kit.Raw  `json:"countries"`
		Operators   kit.Raw  `json:"operators"`
		NumberTypes kit.Raw  `json:"numberTypes"`
	}
	if err := kit.Unmarshal(value, &c); err != nil {
		return err
	}
	at.country = c.Code
	name, rows, list, add := "a country", c.Operators, "operators", addRow(d, at, operator.add)
	if at.direction == providers.Inbound {
		rows, list, add = c.NumberTypes, "numberTypes", addRow(d, at, numberType.add)
	}
	known := []string{list}
	if outer {
		name, known = string(at.direction), []string{"countries", list}
		err := each(c.Countries, "countries", "a country", func(value kit.Raw) error { return d.country(value, at, false) })
		if err != nil {
			return err
		}
	}
	if err := each(rows, list, "", add); err != nil {
		return err
	}
	return d.renamed(value, name, known...)
}

// addRow returns what adds the prices of a value as a row.
func addRow[Row any](d priceDecoder, at at, add func(Row, *kit.PriceSet, at)) func(kit.Raw) error {
	return func(value kit.Raw) error {
		var row Row
		_ = kit.Unmarshal(value, &row) // a value that is no object has no parts
		add(row, d.prices, at)
		return nil
	}
}

// each calls read for each element of a list that may be missing: null is none. If
// element names the elements, they must be objects.
func each(list kit.Raw, name, element string, read func(kit.Raw) error) error {
	elements, ok := list.Elements()
	if !ok && (name == "subAccounts" || !list.Null()) {
		return fmt.Errorf("%s is %s, not a list", name, kit.KindOf(list[0]))
	}
	for value := range elements {
		if element != "" && value[0] != '{' {
			return fmt.Errorf("%s is %s, not an object", element, kit.KindOf(value[0]))
		}
		if err := read(value); err != nil {
			return err
		}
	}
	return nil
}

// renamed returns an error for an object that has none of its lists, but content
// under an unknown key: the keys have changed.
func (d priceDecoder) renamed(object kit.Raw, name string, lists ...string) error {
	unknown := ""
	for key, value := range object.Members() {
		for _, list := range lists {
			if strings.EqualFold(key, list) {
				return nil
			}
		}
		if len(value) > 2 && (value[0] == '[' || value[0] == '{') && len(bytes.TrimSpace(value[1:len(value)-1])) > 0 {
			unknown = key
		}
	}
	if unknown == "" {
		return nil
	}
	return fmt.Errorf("%s has %q instead of %s", name, d.answer.Quote(unknown, 64), strings.Join(lists, " or "))
}
