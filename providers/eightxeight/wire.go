package eightxeight

import (
	"strings"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// The structs of this file are those of the documentation's bodies, as far as they
// are needed. No field is marked required there, and one of a wrong type must cost
// no more than its row.

// balanceBody is https://developer.8x8.com/connect/reference/get-account-balance.
type balanceBody struct {
	Balance  kit.Number `json:"balance"`
	Currency kit.Text   `json:"currency"`
}

// operator is one of outbound.countries[].operators. Its operatorId cannot be
// derived from its networks and is no label.
type operator struct {
	Name  kit.Text `json:"operatorName"`
	HNI   kit.Raw  `json:"hni"` // a list of hni
	Price price    `json:"price"`
}

// hni is a home network identity. Its parts are strings in bodies, with leading
// zeros, though integers in queries.
type hni struct {
	MCC kit.Digits `json:"mcc"`
	MNC kit.Digits `json:"mnc"`
}

// numberType is one of inbound.countries[].numberTypes.
type numberType struct {
	Type  kit.Text `json:"type"`
	Price price    `json:"defaultPrice"`
}

type price struct {
	Amount   kit.Number `json:"amount"`
	Currency kit.Text   `json:"currency"`
}

// at is what an operator or a number type has in common with others: the place of
// its row in the list.
type at struct {
	subAccount, country kit.Text
	direction           providers.Direction
}

// price returns the price of a row without the labels that its direction adds; ok
// is false if a part is missing.
func (at at) price(p price) (row providers.Price, ok bool) {
	currency, ok := kit.Currency(p.Currency.Value)
	return providers.Price{
		SubAccount: at.subAccount.Value, Country: at.country.Value, Direction: at.direction,
		Amount: p.Amount.Value, Currency: currency,
	}, ok && p.Amount.OK && at.subAccount.Value != "" && at.country.Value != ""
}

// add adds the prices of o to set, one for each network: the price is the same, and
// mcc and mnc are what people look for. The name may be empty, because the networks
// identify the operator, but it must be there.
func (o operator) add(set *kit.PriceSet, at at) {
	p, ok := at.price(o.Price)
	p.Operator = o.Name.Value
	networks, isList := o.HNI.Elements()
	ok = ok && o.Name.OK && (isList || o.HNI.Null())
	alone := true
	for network := range networks {
		alone = false
		var h hni
		_ = kit.Unmarshal(network, &h) // a value that is no object has no parts
		p.MCC, p.MNC = h.MCC.Value, h.MNC.Value
		set.Add(p, ok && p.MCC != "" && h.MNC.OK)
	}
	if alone {
		set.Add(p, ok)
	}
}

// add adds the price of t to set.
func (t numberType) add(set *kit.PriceSet, at at) {
	p, ok := at.price(t.Price)
	p.NumberType = spelled(t.Type.Value)
	set.Add(p, ok && p.NumberType != "")
}

// numberTypes are the documented types as the schema spells them; the examples
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
