package eightxeight

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/balance-exporter/balance_exporter/providers"
)

// The structs of this file are those of the documentation's bodies, as far as
// they are needed. No field is marked required there, and one of a wrong type
// must cost no more than its row; so the leaves never fail and say whether they
// are ok.

// text is a JSON string; its invalid UTF-8 is replaced.
type text struct {
	value string
	ok    bool
}

// UnmarshalJSON takes a string and leaves anything else not ok.
func (t *text) UnmarshalJSON(b []byte) error {
	*t = text{}
	if len(b) < 2 || b[0] != '"' {
		return nil
	}
	if bytes.IndexByte(b, '\\') < 0 && utf8.Valid(b) {
		*t = text{value: string(b[1 : len(b)-1]), ok: true}
		return nil
	}
	t.ok = json.Unmarshal(b, &t.value) == nil
	return nil
}

// given reports a text that is there and not empty.
func (t text) given() bool { return t.ok && t.value != "" }

// code is a string of digits that may come as a JSON number. It is never padded
// or trimmed.
type code struct{ text }

// UnmarshalJSON takes a string as it is, and the digits of a whole number.
func (c *code) UnmarshalJSON(b []byte) error {
	if isDigits(string(b)) {
		c.text = text{value: string(b), ok: true}
		return nil
	}
	return c.text.UnmarshalJSON(b)
}

// number is a JSON number that a float64 can hold.
type number struct {
	value float64
	ok    bool
}

// UnmarshalJSON takes a number and leaves anything else, such as 1e400 and a
// number in quotes, not ok.
func (n *number) UnmarshalJSON(b []byte) error {
	*n = number{}
	// Only a number of JSON's grammar gets here that begins like this.
	if len(b) > 0 && (b[0] == '-' || b[0] >= '0' && b[0] <= '9') {
		if value, err := strconv.ParseFloat(string(b), 64); err == nil {
			*n = number{value: value, ok: true}
		}
	}
	return nil
}

// ignored is a value of any kind that is not looked at.
type ignored struct{}

// UnmarshalJSON takes everything.
func (ignored) UnmarshalJSON([]byte) error { return nil }

// balanceBody is https://developer.8x8.com/connect/reference/get-account-balance.
type balanceBody struct {
	Balance  number `json:"balance"`
	Currency text   `json:"currency"`
}

// operator is one of outbound.countries[].operators. Its operatorId cannot be
// derived from its networks and is no label.
type operator struct {
	Name  text     `json:"operatorName"`
	HNI   networks `json:"hni"`
	Price price    `json:"price"`
}

// numberType is one of inbound.countries[].numberTypes.
type numberType struct {
	Type  text  `json:"type"`
	Price price `json:"defaultPrice"`
}

type price struct {
	Amount   number `json:"amount"`
	Currency text   `json:"currency"`
}

func (p price) given() bool { return p.Amount.ok && p.Currency.given() }

// networks is a list of home network identities. They are strings in bodies,
// leading zeros and all, though integers in queries.
type networks struct {
	list  []hni
	wrong bool // there is something, and it is no list
}

type hni struct {
	MCC code `json:"mcc"`
	MNC code `json:"mnc"`
}

// UnmarshalJSON takes a list. One that is missing, null or empty is none.
func (n *networks) UnmarshalJSON(b []byte) error {
	*n = networks{}
	switch {
	case b[0] == '[':
		// An element of a wrong type is an error too, and stays not ok.
		_ = json.Unmarshal(b, &n.list)
	case string(b) != "null":
		n.wrong = true
	}
	return nil
}

// series is how many series the networks make: one each, and one without a
// network if there is none.
func (n networks) series() int { return max(1, len(n.list)) }

// prices calls emit with each price of o, one for each network: the price is the
// same, and mcc and mnc are what people look for. It returns how many series
// lack a part. A name may be empty, as the networks say which operator it is, but
// it must be there.
func (o operator) prices(country text, emit func(providers.Price)) (incomplete int) {
	if !country.given() || !o.Name.ok || o.HNI.wrong || !o.Price.given() {
		return o.HNI.series()
	}
	p := providers.Price{
		Country:   country.value,
		Operator:  o.Name.value,
		Direction: providers.Outbound,
		Amount:    o.Price.Amount.value,
		Currency:  currency(o.Price.Currency),
	}
	if len(o.HNI.list) == 0 {
		emit(p)
		return 0
	}
	for _, n := range o.HNI.list {
		if !n.MCC.given() || !n.MNC.given() {
			incomplete++
			continue
		}
		p.MCC, p.MNC = n.MCC.value, n.MNC.value
		emit(p)
	}
	return incomplete
}

// prices calls emit with the price of t, and returns 1 if it lacks a part.
func (t numberType) prices(country text, emit func(providers.Price)) (incomplete int) {
	if !country.given() || !t.Type.given() || !t.Price.given() {
		return 1
	}
	emit(providers.Price{
		Country:    country.value,
		NumberType: spelled(t.Type.value),
		Direction:  providers.Inbound,
		Amount:     t.Price.Amount.value,
		Currency:   currency(t.Price.Currency),
	})
	return 0
}

// currency returns an ISO 4217 code in upper case, as the domain has it.
func currency(t text) string { return strings.ToUpper(t.value) }

// numberTypes has the documented types as the schema spells them; the examples
// have tollFree.
var numberTypes = []string{"longcode", "shortCodePremium", "shortCodeP2P", "shortCodeFTEU", "tollfree"}

// spelled returns a number type in the documented spelling. An unknown one is
// returned as it is.
func spelled(numberType string) string {
	for _, known := range numberTypes {
		if strings.EqualFold(known, numberType) {
			return known
		}
	}
	return numberType
}
