package eightxeightsim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// SubAccount is the price list of one sub-account.
type SubAccount struct {
	ID                string
	Outbound, Inbound []Country
}

// Country holds the operators of an outbound list or the number types of an
// inbound one.
type Country struct {
	Alpha2Code    string       `json:"alpha2Code"`
	Name          string       `json:"countryName"`
	DialingPrefix string       `json:"dialingPrefix"` // with its plus
	Operators     []Operator   `json:"operators,omitempty"`
	NumberTypes   []NumberType `json:"numberTypes,omitempty"`
}

// Operator is a network operator, with the price of a message to it.
type Operator struct {
	Name  string `json:"operatorName"`
	ID    int    `json:"operatorId"`
	HNI   []HNI  `json:"hni"`
	Price *Price `json:"price,omitempty"`
}

// HNI is a home network identity, with its leading zeros.
type HNI struct {
	MCC, MNC string

	numeric bool
}

// MarshalJSON implements [json.Marshaler].
func (h HNI) MarshalJSON() ([]byte, error) {
	if h.numeric {
		return fmt.Appendf(nil, `{"mcc":%d,"mnc":%d}`, number(h.MCC), number(h.MNC)), nil
	}
	return fmt.Appendf(nil, `{"mcc":%q,"mnc":%q}`, h.MCC, h.MNC), nil
}

// number returns digits without their leading zeros, as the query has them,
// or -1.
func number(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return -1
	}
	return n
}

// NumberType is a kind of own number, with the price of a message to it.
type NumberType struct {
	Type         string `json:"type"`
	DefaultPrice *Price `json:"defaultPrice,omitempty"`
}

// Price is an amount, sent to the letter, and its currency. What is empty is
// not sent.
type Price struct {
	Amount   json.Number `json:"amount,omitempty"`
	Currency string      `json:"currency,omitempty"`
}

// Prices is an account's price list at a time.
type Prices func(now time.Time) []SubAccount

// FixedPrices is a price list that never changes.
func FixedPrices(list ...SubAccount) Prices {
	return func(time.Time) []SubAccount { return list }
}

// Form is how the lists of countries are wrapped. The schema and the examples
// of the documentation contradict each other.
type Form int

// The forms of a list of countries.
const (
	// FormExample is {"countries":[…]} for both directions.
	FormExample Form = iota
	// FormSchema is [{"countries":[…]}] for outbound, in which every country
	// has an element of its own, and [country,…] for inbound.
	FormSchema
	// FormFlat is [country,…] for both.
	FormFlat
	// FormMixed is all of them, one sub-account after the other.
	FormMixed
)

// Shape is how a price list is put into JSON. The zero value is a sound list
// in the form of the documentation's examples.
type Shape struct {
	Form Form
	// InboundOnly leaves the outbound prices out, if asked for or not.
	InboundOnly bool
	// Tollfree spells the number type as the schema does, not tollFree.
	Tollfree bool
	// NumericHNI sends mcc and mnc as numbers, which costs leading zeros.
	NumericHNI bool
	// MissingPrice takes the price from the first operator or number type of
	// every country, the amount from the second, the currency from the third.
	MissingPrice bool
	// Duplicates sends the first operator and the first number type of every
	// country again, at its end, at the price DuplicateAmount.
	Duplicates bool
}

// DuplicateAmount is the price of what [Shape] sends twice.
const DuplicateAmount = "9.9999999"

// filter is what a query selects. Its zero value selects everything.
type filter struct {
	subAccount, direction, country string
	network                        bool
	mcc, mnc                       int
}

type priceListBody struct {
	SubAccounts []subAccountBody `json:"subAccounts"`
}

type subAccountBody struct {
	ID       string `json:"subAccountId"`
	Outbound any    `json:"outbound,omitempty"`
	Inbound  any    `json:"inbound,omitempty"`
}

// render returns the body of a price list. Directions and sub-accounts
// without anything selected are left out.
func render(list []SubAccount, f filter, s Shape) priceListBody {
	body := priceListBody{SubAccounts: []subAccountBody{}}
	for i, sub := range list {
		if f.subAccount != "" && f.subAccount != sub.ID {
			continue
		}
		form := s.Form
		if form == FormMixed {
			form = Form(i % int(FormMixed))
		}
		b := subAccountBody{ID: sub.ID}
		if !s.InboundOnly && f.direction != "inbound" {
			b.Outbound = wrap(s.countries(f.outbound(sub.Outbound)), form, form == FormSchema)
		}
		if f.direction != "outbound" {
			b.Inbound = wrap(s.countries(f.inbound(sub.Inbound)), form, false)
		}
		if b.Outbound != nil || b.Inbound != nil {
			body.SubAccounts = append(body.SubAccounts, b)
		}
	}
	return body
}

func (f filter) outbound(list []Country) []Country {
	var selected []Country
	for _, c := range list {
		if f.country != "" && f.country != c.Alpha2Code {
			continue
		}
		if f.network {
			c.Operators = slices.DeleteFunc(slices.Clone(c.Operators), func(o Operator) bool {
				return !slices.ContainsFunc(o.HNI, func(h HNI) bool {
					return number(h.MCC) == f.mcc && number(h.MNC) == f.mnc
				})
			})
			if len(c.Operators) == 0 {
				continue
			}
		}
		selected = append(selected, c)
	}
	return selected
}

// inbound prices have no network, so a query for one selects none of them.
func (f filter) inbound(list []Country) []Country {
	if f.network {
		return nil
	}
	return f.outbound(list)
}

// wrap returns nil for no countries.
func wrap(countries []Country, form Form, nested bool) any {
	type element struct {
		Countries []Country `json:"countries"`
	}
	switch {
	case len(countries) == 0:
		return nil
	case nested:
		elements := make([]element, len(countries))
		for i, c := range countries {
			elements[i].Countries = []Country{c}
		}
		return elements
	case form == FormExample:
		return element{countries}
	default:
		return countries
	}
}

// countries returns the countries with the shape's oddities. The list itself
// is not changed.
func (s Shape) countries(list []Country) []Country {
	if !s.Tollfree && !s.NumericHNI && !s.MissingPrice && !s.Duplicates {
		return list
	}
	list = slices.Clone(list)
	for i := range list {
		list[i].Operators = slices.Clone(list[i].Operators)
		for j := range list[i].Operators {
			o := &list[i].Operators[j]
			if s.NumericHNI {
				o.HNI = slices.Clone(o.HNI)
				for k := range o.HNI {
					o.HNI[k].numeric = true
				}
			}
			o.Price = s.price(o.Price, j)
		}
		list[i].NumberTypes = slices.Clone(list[i].NumberTypes)
		for j := range list[i].NumberTypes {
			t := &list[i].NumberTypes[j]
			if s.Tollfree && t.Type == "tollFree" {
				t.Type = "tollfree"
			}
			t.DefaultPrice = s.price(t.DefaultPrice, j)
		}
		if s.Duplicates {
			list[i].duplicate()
		}
	}
	return list
}

func (s Shape) price(p *Price, position int) *Price {
	if !s.MissingPrice || p == nil {
		return p
	}
	switch position {
	case 0:
		return nil
	case 1:
		return &Price{Currency: p.Currency}
	case 2:
		return &Price{Amount: p.Amount}
	default:
		return p
	}
}

func (c *Country) duplicate() {
	other := func(p *Price) *Price {
		if p == nil {
			return nil
		}
		return &Price{Amount: DuplicateAmount, Currency: p.Currency}
	}
	if len(c.Operators) > 0 {
		again := c.Operators[0]
		again.Price = other(again.Price)
		c.Operators = append(c.Operators, again)
	}
	if len(c.NumberTypes) > 0 {
		again := c.NumberTypes[0]
		again.DefaultPrice = other(again.DefaultPrice)
		c.NumberTypes = append(c.NumberTypes, again)
	}
}
