package eightxeight_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers"
)

func outbound(subAccount, country, mcc, mnc, operator string, amount float64, currency string) providers.Price {
	return providers.Price{
		SubAccount: subAccount, Country: country, MCC: mcc, MNC: mnc, Operator: operator,
		Direction: providers.Outbound, Amount: amount, Currency: currency,
	}
}

func inbound(subAccount, country, numberType string, amount float64, currency string) providers.Price {
	return providers.Price{
		SubAccount: subAccount, Country: country, NumberType: numberType,
		Direction: providers.Inbound, Amount: amount, Currency: currency,
	}
}

func TestDocumentedBodies(t *testing.T) {
	for name, tt := range map[string]struct {
		kind providers.Kind
		want providers.Reading
	}{
		"balance": {providers.KindBalance, providers.Reading{
			Billing:  providers.BillingPrepaid,
			Balances: []providers.Balance{{Amount: 149309.7985931, Currency: "USD"}},
		}},
		"prices-examples": {providers.KindPrices, providers.Reading{Prices: []providers.Price{
			outbound("example", "SG", "525", "01", "SingTel", 0.0520648, "SGD"),
			outbound("example", "SG", "525", "02", "SingTel", 0.0520648, "SGD"),
			outbound("example", "SG", "525", "07", "SingTel", 0.0520648, "SGD"),
			outbound("example", "US", "310", "03", "Western Wireless", 0.0161153, "SGD"),
			outbound("example", "US", "310", "12", "Western Wireless", 0.0161153, "SGD"),
		}}},
		"prices-schema": {providers.KindPrices, providers.Reading{Prices: []providers.Price{
			outbound("example", "SG", "525", "03", "MobileOne", 0.0421477, "SGD"),
			inbound("example", "SG", "tollfree", 0.01, "SGD"),
		}}},
		"prices-inbound": {providers.KindPrices, providers.Reading{Prices: []providers.Price{
			inbound("example", "SG", "tollfree", 0.01, "SGD"),
			inbound("example", "SG", "shortCodeP2P", 0.123, "SGD"),
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			reading, err := fetch(t, tt.kind, 200, sample(t, name))
			require.NoError(t, err)
			require.Equal(t, tt.want, reading)
		})
	}
}

func TestBalanceValues(t *testing.T) {
	for body, want := range map[string]providers.Balance{
		`{"balance":0,"currency":"EUR"}`:                              {Amount: 0, Currency: "EUR"},
		`{"balance":-12.5,"currency":"USD"}`:                          {Amount: -12.5, Currency: "USD"},
		`{"balance":1.5E3,"currency":"usd"}`:                          {Amount: 1500, Currency: "USD"},
		` {"currency":"USD","x":[{"balance":2}],"balance":0.1} `:      {Amount: 0.1, Currency: "USD"},
		`{"balance":12345678901234567890.123456789,"currency":"USD"}`: {Amount: 12345678901234567890.123456789, Currency: "USD"},
	} {
		reading, err := fetch(t, providers.KindBalance, 200, body)
		require.NoError(t, err, body)
		require.Equal(t, providers.Reading{Billing: providers.BillingPrepaid, Balances: []providers.Balance{want}}, reading, body)
	}
}

func TestFaultyBalances(t *testing.T) {
	const noBalance, noCurrency = `"balance" is missing or is no number`, `"currency" is missing or is not three letters`
	for body, want := range map[string]string{
		``:                                     "unexpected end of JSON input",
		html:                                   "invalid character '<' looking for beginning of value",
		`{"balance":1,"currency":"USD"`:        "unexpected end of JSON input",
		`{"balance":1,"currency":"USD"}}`:      "invalid character '}' after top-level value",
		`{"balance":NaN,"currency":"USD"}`:     "invalid character 'N' looking for beginning of value",
		`"balance"`:                            "a string instead of an object",
		`null`:                                 "null instead of an object",
		`{}`:                                   noBalance,
		`{"currency":"USD"}`:                   noBalance,
		`{"balance":null,"currency":"USD"}`:    noBalance,
		`{"balance":"1","currency":"USD"}`:     noBalance,
		`{"balance":{"x":1},"currency":"USD"}`: noBalance,
		`{"balance":1e400,"currency":"USD"}`:   noBalance,
		`{"balance":1,"balance":[1],"currency":""}`: noBalance,
		`{"balance":1}`:                        noCurrency,
		`{"balance":1,"currency":""}`:          noCurrency,
		`{"balance":1,"currency":840}`:         noCurrency,
		`{"balance":1,"currency":"US\\u00ff"}`: noCurrency,
		`{"balance":1,"currency":"credits"}`:   noCurrency,
		strings.Repeat("[", 20_000):            "invalid character '[' exceeded max depth",
	} {
		reading, err := fetch(t, providers.KindBalance, 200, body)
		require.EqualError(t, err, "bad_response: reading the answer: "+want, body[:min(len(body), 60)])
		require.Empty(t, reading)
	}
}

// countries wraps the outbound countries of a sub-account as the examples do.
func countries(list string) string {
	return `{"subAccounts":[{"subAccountId":"s","outbound":{"countries":[` + list + `]}}]}`
}

// operators wraps operators of Singapore.
func operators(list string) string {
	return countries(`{"alpha2Code":"SG","operators":[` + list + `]}`)
}

func TestQuirks(t *testing.T) {
	const country = `{"alpha2Code":"SG","operators":[{"operatorName":"o","hni":[{"mcc":"525","mnc":"01"}],"price":{"amount":0.5,"currency":"SGD"}}]}`
	const second = `{"alpha2Code":"US","operators":[{"operatorName":"p","hni":[{"mcc":"310","mnc":"012"}],"price":{"amount":0.25,"currency":"SGD"}}]}`
	const numbers = `{"alpha2Code":"SG","numberTypes":[{"type":"longcode","defaultPrice":{"amount":0.125,"currency":"SGD"}}]}`
	sg, us := outbound("s", "SG", "525", "01", "o", 0.5, "SGD"), outbound("s", "US", "310", "012", "p", 0.25, "SGD")
	in := inbound("s", "SG", "longcode", 0.125, "SGD")
	type drops = map[providers.DropReason]int
	for name, tt := range map[string]struct {
		bodies []string
		want   []providers.Price
		drops  drops
	}{
		"P1: outbound has four forms": {[]string{
			`{"subAccounts":[{"subAccountId":"s","outbound":{"countries":[` + country + `,` + second + `]}}]}`,
			`{"subAccounts":[{"subAccountId":"s","outbound":[{"countries":[` + country + `]},{"countries":[` + second + `]}]}]}`,
			`{"subAccounts":[{"subAccountId":"s","outbound":[` + country + `,` + second + `]}]}`,
			`{"subAccounts":[{"subAccountId":"s","outbound":[{"countries":null},` + country + `,{},{"x":1,"countries":[` + second + `]}]}]}`,
			`{"subAccounts":[{"subAccountId":"s","outbound":null},{"outbound":{"countries":[` + country + `,` + second + `]},"subAccountId":"s","inbound":null}]}`,
		}, []providers.Price{sg, us}, nil},
		"P1: a country may name itself last": {[]string{
			countries(`{"operators":[{"price":{"currency":"SGD","amount":0.5},"hni":[{"mnc":"01","mcc":"525"}],"operatorName":"o"}],"countryName":"Singapore","alpha2Code":"SG"}`),
		}, []providers.Price{sg}, nil},
		"P2: inbound has four forms": {[]string{
			`{"subAccounts":[{"subAccountId":"s","inbound":{"countries":[` + numbers + `]}}]}`,
			`{"subAccounts":[{"subAccountId":"s","inbound":[{"countries":[` + numbers + `]}]}]}`,
			`{"subAccounts":[{"subAccountId":"s","inbound":[` + numbers + `]}]}`,
			`{"subAccounts":[{"inbound":[` + numbers + `],"subAccountId":"s"}]}`,
		}, []providers.Price{in}, nil},
		"P3: mcc and mnc are not swapped back": {[]string{
			operators(`{"operatorName":"o","hni":[{"mcc":"01","mnc":"525"}],"price":{"amount":0.5,"currency":"SGD"}}`),
		}, []providers.Price{outbound("s", "SG", "01", "525", "o", 0.5, "SGD")}, nil},
		"P4: codes keep their zeros and may be numbers": {[]string{
			operators(`{"operatorName":"o","hni":[{"mcc":"001","mnc":"010"},{"mcc":525,"mnc":1}],"price":{"amount":0.5,"currency":"SGD"}}`),
		}, []providers.Price{
			outbound("s", "SG", "001", "010", "o", 0.5, "SGD"),
			outbound("s", "SG", "525", "1", "o", 0.5, "SGD"),
		}, nil},
		"P4: a code that is no whole number": {[]string{
			operators(`{"operatorName":"o","hni":[{"mcc":5.25e2,"mnc":1},{"mcc":-1,"mnc":1},{"mcc":"525","mnc":true},{"mcc":"525","mnc":"01"}],"price":{"amount":0.5,"currency":"SGD"}}`),
		}, []providers.Price{sg}, drops{providers.DropIncomplete: 3}},
		"P5: one series per network, one without": {[]string{
			operators(`{"operatorName":"o","hni":[{"mcc":"525","mnc":"01"},{"mcc":"525","mnc":"02"}],"price":{"amount":0.5,"currency":"SGD"}},` +
				`{"operatorName":"a","hni":[],"price":{"amount":1,"currency":"SGD"}},{"operatorName":"b","hni":null,"price":{"amount":2,"currency":"SGD"}},` +
				`{"operatorName":"c","price":{"amount":3,"currency":"SGD"}},{"operatorName":"","price":{"amount":4,"currency":"SGD"}}`),
		}, []providers.Price{
			sg, outbound("s", "SG", "525", "02", "o", 0.5, "SGD"),
			outbound("s", "SG", "", "", "a", 1, "SGD"), outbound("s", "SG", "", "", "b", 2, "SGD"),
			outbound("s", "SG", "", "", "c", 3, "SGD"), outbound("s", "SG", "", "", "", 4, "SGD"),
		}, nil},
		"P6: the operator's id means nothing": {[]string{
			operators(`{"operatorName":"o","operatorId":310012,"hni":[{"mcc":"525","mnc":"01"}],"price":{"amount":0.5,"currency":"SGD"}}`),
			operators(`{"operatorName":"o","operatorId":{"a":"text"},"hni":[{"mcc":"525","mnc":"01"}],"price":{"amount":0.5,"currency":"SGD"}}`),
		}, []providers.Price{sg}, nil},
		"P7: number types in any case, unknown ones as they are": {[]string{
			`{"subAccounts":[{"subAccountId":"s","inbound":[{"alpha2Code":"SG","numberTypes":[` +
				`{"type":"tollFree","defaultPrice":{"amount":1,"currency":"SGD"}},{"type":"LONGCODE","defaultPrice":{"amount":2,"currency":"SGD"}},` +
				`{"type":"shortcodepremium","defaultPrice":{"amount":3,"currency":"SGD"}},{"type":"shortCodeP2p","defaultPrice":{"amount":4,"currency":"SGD"}},` +
				`{"type":"shortCodeFteu","defaultPrice":{"amount":5,"currency":"SGD"}},{"type":"newType","defaultPrice":{"amount":6,"currency":"SGD"}}]}]}]}`,
		}, []providers.Price{
			inbound("s", "SG", "tollfree", 1, "SGD"), inbound("s", "SG", "longcode", 2, "SGD"), inbound("s", "SG", "shortCodePremium", 3, "SGD"),
			inbound("s", "SG", "shortCodeP2P", 4, "SGD"), inbound("s", "SG", "shortCodeFTEU", 5, "SGD"), inbound("s", "SG", "newType", 6, "SGD"),
		}, nil},
		"P5: an empty mnc is an empty label": {[]string{
			operators(`{"operatorName":"o","hni":[{"mcc":"525","mnc":""}],"price":{"amount":0.5,"currency":"SGD"}}`),
		}, []providers.Price{outbound("s", "SG", "525", "", "o", 0.5, "SGD")}, nil},
		"P8: nothing is no series": {[]string{
			`{"subAccounts":[]}`,
			`{"subAccounts":[{"subAccountId":"s"},{"subAccountId":"t","outbound":null,"inbound":null},{},{"subAccountId":"u","outbound":{},"inbound":[]}]}`,
			countries(``),
			countries(`{"alpha2Code":"SG"},{"alpha2Code":"SG","operators":null},{"alpha2Code":"SG","operators":[],"numberTypes":[{}]}`),
		}, nil, nil},
		"P9: what lacks a part is counted": {[]string{
			operators(`{"operatorName":"o","hni":[{"mcc":"525","mnc":"01"}],"price":{"amount":0.5,"currency":"SGD"}},` +
				`{"operatorName":"a","hni":[{"mcc":"525","mnc":"01"},{"mcc":"525","mnc":"02"},{"mcc":"525","mnc":"03"}]},` + // 3
				`{"operatorName":"b","price":{"currency":"SGD"}},{"operatorName":"c","price":{"amount":1}},` + // 2
				`{"operatorName":"d","price":{"amount":null,"currency":"SGD"}},{"operatorName":"e","price":{"amount":"1","currency":"SGD"}},` + // 2
				`{"operatorName":"f","price":{"amount":1e400,"currency":"SGD"}},{"operatorName":"g","price":{"amount":1,"currency":""}},` + // 2
				`{"operatorName":"h","price":0.5},{"operatorName":"i","price":{"amount":[1],"currency":1}},` + // 2
				`{"price":{"amount":1,"currency":"SGD"}},{"operatorName":7,"price":{"amount":1,"currency":"SGD"}},` + // 2
				`{"operatorName":"j","hni":"525-01","price":{"amount":1,"currency":"SGD"}},` + // 1
				`{"operatorName":"k","hni":[{"mcc":"525"},{"mnc":"01"},{"mcc":"","mnc":"01"},7,null],"price":{"amount":1,"currency":"SGD"}},` + // 5
				`"operator",null,[]`), // 3
		}, []providers.Price{sg}, drops{providers.DropIncomplete: 22}},
		"P9: a country without a code": {[]string{
			countries(country + `,{"operators":[{"operatorName":"o","hni":[{"mcc":"1","mnc":"1"},{"mcc":"1","mnc":"2"}],"price":{"amount":0.5,"currency":"SGD"}},{}]}`),
			countries(country + `,{"alpha2Code":65,"operators":[{"operatorName":"o","hni":[{},{}],"price":{"amount":0.5,"currency":"SGD"}},0]}`),
		}, []providers.Price{sg}, drops{providers.DropIncomplete: 3}},
		"P9: a sub-account without an id": {[]string{
			`{"subAccounts":[{"outbound":[` + country + `,` + second + `,` + country + `]},{"subAccountId":"s","outbound":[` + country + `]}]}`,
			`{"subAccounts":[{"subAccountId":1,"outbound":[` + country + `,` + second + `],"inbound":[` + numbers + `]},{"subAccountId":"s","outbound":[` + country + `]}]}`,
		}, []providers.Price{sg}, drops{providers.DropIncomplete: 3}},
		"P9: a number type that lacks a part": {[]string{
			`{"subAccounts":[{"subAccountId":"s","inbound":[` + numbers + `,{"alpha2Code":"US","numberTypes":[{"type":"longcode"},` +
				`{"defaultPrice":{"amount":1,"currency":"SGD"}},{"type":"longcode","defaultPrice":{"amount":"1","currency":"SGD"}},{"type":"longcode","price":{"amount":1,"currency":"SGD"}},9]}]}]}`,
		}, []providers.Price{in}, drops{providers.DropIncomplete: 5}},
		"P10: the currency is the customer's": {[]string{
			operators(`{"operatorName":"o","hni":[{"mcc":"525","mnc":"01"}],"price":{"amount":0.5,"currency":"SGD"}},` +
				`{"operatorName":"o","hni":[{"mcc":"525","mnc":"01"}],"price":{"amount":0.6,"currency":"usd"}}`),
		}, []providers.Price{sg, outbound("s", "SG", "525", "01", "o", 0.6, "USD")}, nil},
		"P13: amounts are ordinary numbers": {[]string{
			operators(`{"operatorName":"a","price":{"amount":0.0136360,"currency":"SGD"}},{"operatorName":"b","price":{"amount":1E-2,"currency":"SGD"}},` +
				`{"operatorName":"c","price":{"amount":-0.1,"currency":"SGD"}},{"operatorName":"d","price":{"amount":0,"currency":"SGD"}},` +
				`{"operatorName":"e","price":{"amount":0.1000000000000000055511151231257827,"currency":"SGD"}}`),
		}, []providers.Price{
			outbound("s", "SG", "", "", "a", 0.013636, "SGD"), outbound("s", "SG", "", "", "b", 0.01, "SGD"), outbound("s", "SG", "", "", "c", -0.1, "SGD"),
			outbound("s", "SG", "", "", "d", 0, "SGD"), outbound("s", "SG", "", "", "e", 0.1, "SGD"),
		}, nil},
		"the first of duplicates stays": {[]string{
			countries(country + `,{"alpha2Code":"SG","operators":[{"operatorName":"o","hni":[{"mcc":"525","mnc":"01"},{"mcc":"525","mnc":"01"}],"price":{"amount":9,"currency":"SGD"}}]}`),
			`{"subAccounts":[{"subAccountId":"s","outbound":[` + country + `,` + country + `]},{"outbound":[` + country + `],"subAccountId":"s"}]}`,
			`{"subAccounts":[{"outbound":[` + country + `,` + country + `],"subAccountId":"s"},{"outbound":[` + country + `],"subAccountId":"s"}]}`,
		}, []providers.Price{sg}, drops{providers.DropDuplicate: 2}},
		"unknown fields, spelling of keys, escapes": {[]string{
			`{"paging":{"x":[1,[2]]},"SUBACCOUNTS":[{"a":"b","SubAccountID":"\u0073","Outbound":{"z":null,"Countries":[{"ALPHA2CODE":"S\u0047","countryName":1,"numberTypes":"not read here",` +
				`"Operators":[{"x":{"amount":7},"operatorname":"o","hni":[{"mcc":"525","mnc":"01","x":1}],"price":{"amount":0.5,"currency":"SGD","vat":1}}]}]}}],"x":1}` + " \r\n",
		}, []providers.Price{sg}, nil},
		"invalid UTF-8": {[]string{
			operators(`{"operatorName":"o` + "\xff" + `","price":{"amount":1,"currency":"SGD"}},{"operatorName":"\ud800p","price":{"amount":1,"currency":"SGD"}}`),
		}, []providers.Price{outbound("s", "SG", "", "", "o\ufffd", 1, "SGD"), outbound("s", "SG", "", "", "\ufffdp", 1, "SGD")}, nil},
		"a key twice: nothing of the first value is left": {[]string{
			operators(`{"operatorName":"o","hni":[{"mcc":"1","mnc":"01"}],"hni":[{"mcc":"525"}],"price":{"amount":0.5,"currency":"SGD"}},` +
				`{"operatorName":"o","hni":[{"mcc":"525","mnc":"01"}],"price":{"amount":0.5,"currency":"SGD"}},` +
				`{"operatorName":"p","price":{"amount":1,"currency":"SGD"},"price":{"amount":"2","currency":"SGD"}}`),
		}, []providers.Price{sg}, drops{providers.DropIncomplete: 2}},
	} {
		for i, body := range tt.bodies {
			t.Run(fmt.Sprintf("%s/%d", name, i), func(t *testing.T) {
				reading, err := fetch(t, providers.KindPrices, 200, body)
				require.NoError(t, err)
				require.Equal(t, providers.Reading{Prices: tt.want, Dropped: tt.drops}, reading)
			})
		}
	}
}

// P11: the media types of the examples are an artefact. What is decoded once is
// an object; a body that is text in quotes, as the examples look, is none.
func TestQuirkP11BodyIsDecodedOnce(t *testing.T) {
	quoted, err := json.Marshal(sample(t, "prices-examples"))
	require.NoError(t, err)
	_, err = fetch(t, providers.KindPrices, 200, string(quoted))
	require.ErrorContains(t, err, "a string instead of an object")
}

// P12: the examples show the same body under every error. The codes that are to
// be expected for bad filters all mean the same.
func TestQuirkP12BadFilters(t *testing.T) {
	for _, code := range []int{1000, 1001, 1002, 1009, 1010} {
		_, err := fetch(t, providers.KindPrices, 400, fmt.Sprintf(`{"code":%d,"message":"no"}`, code))
		require.Equal(t, providers.ReasonBadRequest, providers.AsError(err).Reason)
		require.ErrorContains(t, err, strconv.Itoa(code))
	}
}

type streamed struct{ body io.Reader }

func (streamed) Mask(string) {}

func (s streamed) Do(_ context.Context, call providers.Call) error { return deliver(call, 200, s.body) }

func TestFaultyPriceLists(t *testing.T) {
	for body, want := range map[string]string{
		``:                                  "unexpected end of JSON input",
		html:                                "invalid character '<' looking for beginning of value",
		`null`:                              "null instead of an object",
		`[]`:                                "a list instead of an object",
		`true`:                              "a boolean instead of an object",
		`{}`:                                "subAccounts is missing",
		`{"subAccounts":null}`:              "subAccounts is null, not a list",
		`{"subAccounts":{}}`:                "subAccounts is an object, not a list",
		`{"subAccounts":[null]}`:            "a sub-account is null, not an object",
		`{"subAccounts":["s"]}`:             "a sub-account is a string, not an object",
		`{"subAccounts":[{"outbound":""}]}`: "outbound is a string, neither a list nor an object",
		`{"subAccounts":[{"inbound":5}]}`:   "inbound is a number, neither a list nor an object",
		`{"subAccounts":[{"inbound":[5]}]}`: "an element of inbound is a number, not an object",
		`{"subAccounts":[{"outbound":{"countries":{}}}]}`:   "countries is an object, not a list",
		`{"subAccounts":[{"outbound":{"countries":[[]]}}]}`: "a country is a list, not an object",
		countries(`null`): "a country is null, not an object",
		countries(`{"alpha2Code":"SG","operators":""}`):      "operators is a string, not a list",
		`{"subAccounts":[{"inbound":[{"numberTypes":{}}]}]}`: "numberTypes is an object, not a list",
		`{"subAccounts":[]`:                    "unexpected end of JSON input",
		`{"subAccounts":[{"subAccountId":"s"`:  "unexpected end of JSON input",
		`{"subAccounts":[]}{"subAccounts":[]}`: "invalid character '{' after top-level value",
		`{"subAccounts":[]} x`:                 "invalid character 'x' after top-level value",
		`{"subAccounts":[}`:                    "invalid character '}' looking for beginning of value",
		`{"subAccounts":[{},]}`:                "invalid character ']' looking for beginning of value",
		`{"subAccounts":[],}`:                  "invalid character '}' looking for beginning of object key string",
		`{1:2}`:                                "invalid character '1' looking for beginning of object key string",
		operators(`{"operatorName":}`):         "invalid character '}' looking for beginning of value",
		`{"x":` + strings.Repeat("[", 20_000):  "invalid character '[' exceeded max depth",
		operators(strings.Repeat("[", 20_000)): "invalid character '[' exceeded max depth",
		`{"subAccounts":[{"outbound":` + strings.Repeat(`[{"countries":`, 20_000): "invalid character '{' exceeded max depth",
	} {
		name := body[:min(len(body), 60)]
		reading, err := fetch(t, providers.KindPrices, 200, body)
		require.EqualError(t, err, "bad_response: reading the answer: price list: "+want, name)
		require.Empty(t, reading, name)
	}
}

// TestExactKeyWins adds keys that differ in case, at every level and on both sides.
func TestExactKeyWins(t *testing.T) {
	reading, err := fetch(t, providers.KindBalance, 200, `{"BALANCE":9,"balance":5,"Balance":0,"currency":"USD","CURRENCY":"EUR"}`)
	require.NoError(t, err)
	require.Equal(t, []providers.Balance{{Amount: 5, Currency: "USD"}}, reading.Balances)

	const list = `{"subAccounts":[{"subAccountId":"s","outbound":{"countries":[{"alpha2Code":"SG","operators":[{"operatorName":"o","hni":[{"mcc":"525","mnc":"01"}],"price":{"amount":0.5,"currency":"SGD"}}]}]},` +
		`"inbound":{"countries":[{"alpha2Code":"SG","numberTypes":[{"type":"longcode","defaultPrice":{"amount":0.125,"currency":"SGD"}}]}]}}]}`
	want := []providers.Price{outbound("s", "SG", "525", "01", "o", 0.5, "SGD"), inbound("s", "SG", "longcode", 0.125, "SGD")}
	keys := []string{"subAccounts", "subAccountId", "outbound", "inbound", "countries", "alpha2Code", "operators", "operatorName", "hni", "mcc", "mnc", "price", "amount", "currency", "numberTypes", "type", "defaultPrice"}
	for _, key := range keys {
		for _, other := range []string{strings.ToUpper(key), strings.ToUpper(key[:1]) + key[1:]} {
			for _, value := range []string{`null`, `"x"`, `7`, `[{"x":1}]`, `{"x":[1]}`} {
				for _, first := range []bool{true, false} {
					body := beside(t, json.RawMessage(list), key, quote(other)+":"+value, first)
					reading, err := fetch(t, providers.KindPrices, 200, body)
					require.NoError(t, err, body)
					require.Empty(t, reading.Dropped, body)
					require.ElementsMatch(t, want, reading.Prices, body)
				}
			}
		}
		// Alone, a key counts in any case.
		reading, err := fetch(t, providers.KindPrices, 200, strings.ReplaceAll(list, quote(key), quote(strings.ToUpper(key))))
		require.NoError(t, err)
		require.Empty(t, reading.Dropped, key)
		require.ElementsMatch(t, want, reading.Prices, key)
	}
}

// beside returns a JSON value with one more member in each object that has a key.
func beside(t *testing.T, value json.RawMessage, key, member string, first bool) string {
	t.Helper()
	switch value[0] {
	case '[':
		var elements []json.RawMessage
		require.NoError(t, json.Unmarshal(value, &elements))
		var list []string
		for _, e := range elements {
			list = append(list, beside(t, e, key, member, first))
		}
		return array(list)
	case '{':
		var object map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(value, &object))
		var members []string
		for _, name := range slices.Sorted(maps.Keys(object)) {
			members = append(members, quote(name)+":"+beside(t, object[name], key, member, first))
		}
		if _, ok := object[key]; ok && first {
			members = append([]string{member}, members...)
		} else if ok {
			members = append(members, member)
		}
		return "{" + strings.Join(members, ",") + "}"
	}
	return string(value)
}

// TestDrift holds that a list whose form has changed ends no price.
func TestDrift(t *testing.T) {
	documented := sample(t, "prices-examples")
	list := operators(`{"operatorName":"o","hni":[{"mcc":"525","mnc":"01"},{"mcc":"525","mnc":"02"}],"price":{"amount":0.5,"currency":"SGD"}}`)
	renamed := func(key string) string { return strings.ReplaceAll(list, quote(key), `"renamed"`) }
	for name, tt := range map[string]struct{ body, want string }{
		"amounts are text":       {regexp.MustCompile(`"amount": *([0-9.]+)`).ReplaceAllString(documented, `"amount":"$1"`), "none of its prices can be used: 5 lack a part or have one of a wrong type"},
		"amounts are missing":    {renamed("amount"), "none of its prices can be used: 2 lack a part or have one of a wrong type"},
		"currencies are numbers": {strings.ReplaceAll(list, `"SGD"`, "702"), "none of its prices can be used: 2 lack a part or have one of a wrong type"},
		"currencies are names":   {strings.ReplaceAll(list, `"SGD"`, `"Dollar"`), "none of its prices can be used: 2 lack a part or have one of a wrong type"},
		"price":                  {renamed("price"), "none of its prices can be used: 2 lack a part or have one of a wrong type"},
		"operatorName":           {renamed("operatorName"), "none of its prices can be used: 2 lack a part or have one of a wrong type"},
		"mcc":                    {renamed("mcc"), "none of its prices can be used: 2 lack a part or have one of a wrong type"},
		"alpha2Code":             {renamed("alpha2Code"), "none of its prices can be used: 2 lack a part or have one of a wrong type"},
		"subAccountId":           {renamed("subAccountId"), "none of its prices can be used: 2 lack a part or have one of a wrong type"},
		"subAccounts":            {renamed("subAccounts"), `the answer has "renamed" instead of subAccounts`},
		"outbound":               {renamed("outbound"), `a sub-account has "renamed" instead of outbound or inbound`},
		"countries":              {renamed("countries"), `outbound has "renamed" instead of countries or operators`},
		"operators":              {renamed("operators"), `a country has "renamed" instead of operators`},
		"an unknown shape":       {`{"subAccounts":[{"subAccountId":"s","outbound":{"SG":{"525":{"01":0.5}}},"inbound":[]}]}`, `outbound has "SG" instead of countries or operators`},
		"an unknown shape in a list": {
			`{"subAccounts":[{"subAccountId":"s","inbound":[{"SG":[0.5]}]}]}`, `inbound has "SG" instead of countries or numberTypes`,
		},
		"a shape in text": {`{"subAccounts":[{"subAccountId":"s","outbound":"[]"}]}`, `outbound is a string, neither a list nor an object`},
		"a secret as key": {`{"subAccounts":[{"subAccountId":"s","the-key":[1]}]}`, `a sub-account has "<secret>" instead of outbound or inbound`},
	} {
		t.Run(name, func(t *testing.T) {
			reading, err := fetch(t, providers.KindPrices, 200, tt.body)
			require.Empty(t, reading)
			require.Equal(t, providers.ReasonBadResponse, providers.AsError(err).Reason)
			require.Regexp(t, `^bad_response: reading the answer: price list: `+regexp.QuoteMeta(tt.want), err.Error())
		})
	}

	// One answer without a usable row is enough, because its prices would end.
	n := 0
	_, err := source(t, providers.KindPrices, server(func(providers.Call) (int, string) {
		n++
		return 200, []string{list, renamed("amount")}[n-1]
	}), `prices: {networks: [{mcc: "525", mnc: "01"}, {mcc: "525", mnc: "02"}]}`).Fetch(t.Context())
	require.ErrorContains(t, err, "none of its prices can be used: 2 lack")
}

// TestAnswerToAnotherRequest: prices that were not asked for do not end those that
// were. A server that ignores a filter answers the others as well.
func TestAnswerToAnotherRequest(t *testing.T) {
	const (
		networks = `"hni":[{"mcc":"525","mnc":"01"},{"mcc":"525","mnc":"02"}],`
		list     = `{"subAccounts":[{"subAccountId":"a","outbound":{"countries":[{"alpha2Code":"SG","operators":[` +
			`{"operatorName":"o",` + networks + `"price":{"amount":1,"currency":"SGD"}}]}]}}]}`
	)
	for _, tt := range []struct {
		filter, body string
		other        bool
	}{
		{"countries: [SG]", list, false},
		{"countries: [SG]", strings.Replace(list, "SG", "sg", 1), false},
		{"countries: [US]", list, true},
		{"countries: [US]", `{"subAccounts":[]}`, false},
		{"countries: [US]", `{"subAccounts":[{"subAccountId":"a"}]}`, false},
		{"sub_accounts: [a]", list, false},
		{"sub_accounts: [b]", list, true},
		{"direction: outbound", list, false},
		{"direction: inbound", list, true},
		{`networks: [{mcc: "525", mnc: "01"}]`, list, false},
		{`networks: [{mcc: "525", mnc: "001"}]`, list, false},
		{`networks: [{mcc: "310", mnc: "01"}]`, list, true},
		{`networks: [{mcc: "525", mnc: "03"}]`, list, true},
		{`networks: [{mcc: "525", mnc: "03"}]`, strings.Replace(list, networks, "", 1), false},
	} {
		_, err := fetch(t, providers.KindPrices, 200, tt.body, "prices: {"+tt.filter+"}")
		if !tt.other {
			require.NoError(t, err, tt.filter)
			continue
		}
		require.Equal(t, providers.ReasonBadResponse, providers.AsError(err).Reason, tt.filter)
		require.ErrorContains(t, err, "prices was asked for", tt.filter)
	}
}

// TestUnfinishedAnswers holds that only a whole answer counts.
func TestUnfinishedAnswers(t *testing.T) {
	for _, status := range []int{202, 204, 205, 206} {
		for kind, body := range map[providers.Kind]string{
			providers.KindBalance: sample(t, "balance"), providers.KindPrices: `{"subAccounts":[]}`,
		} {
			reading, err := fetch(t, kind, status, body)
			require.ErrorContains(t, err, fmt.Sprintf("status %d is not a whole answer", status))
			require.Equal(t, providers.ReasonBadResponse, providers.AsError(err).Reason)
			require.Empty(t, reading)
			_, err = fetch(t, kind, status, "")
			require.Equal(t, providers.ReasonBadResponse, providers.AsError(err).Reason)
		}
	}
}

// TestLongNames holds that a name which repeats with each network of an operator is
// cut, and takes no memory with each of them: a body of 1.2 MB once took 7 GB.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("é", 300_000)
	networks := make([]string, 50_000)
	for i := range networks {
		networks[i] = fmt.Sprintf(`{"mcc":"%05d","mnc":"1"}`, i)
	}
	body := `{"subAccounts":[{"subAccountId":` + quote(long) + `,"outbound":[{"alpha2Code":"SG","operators":[{"operatorName":` + quote(long+"\n") +
		`,"hni":` + array(networks) + `,"price":{"amount":0.5,"currency":"SGD"}}]}]}]}`
	s := source(t, providers.KindPrices, answers(200, body))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	reading, err := s.Fetch(t.Context())
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Len(t, reading.Prices, len(networks))
	require.Equal(t, long[:256], reading.Prices[7].Operator)
	require.Equal(t, long[:256], reading.Prices[7].SubAccount)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(100<<20), "all memory together, garbage included")
}

func TestDuplicatesOverRequests(t *testing.T) {
	n := 0
	s := source(t, providers.KindPrices, server(func(providers.Call) (int, string) {
		n++
		return 200, operators(fmt.Sprintf(`{"operatorName":"o","price":{"amount":%d,"currency":"SGD"}},{"operatorName":"o%d","price":{"amount":7,"currency":"SGD"}}`, n, n))
	}), `prices: {networks: [{mcc: "525", mnc: "01"}, {mcc: "525", mnc: "02"}]}`)
	for range 2 {
		n = 0
		reading, err := s.Fetch(t.Context())
		require.NoError(t, err)
		require.Equal(t, providers.Reading{
			Prices: []providers.Price{
				outbound("s", "SG", "", "", "o", 1, "SGD"), outbound("s", "SG", "", "", "o1", 7, "SGD"), outbound("s", "SG", "", "", "o2", 7, "SGD"),
			},
			Dropped: map[providers.DropReason]int{providers.DropDuplicate: 1},
		}, reading, "a source starts afresh each time")
	}
}

func TestMaxSeries(t *testing.T) {
	row := func(operator string) string {
		return `{"alpha2Code":"SG","operators":[{"operatorName":"` + operator + `","price":{"amount":1,"currency":"SGD"}}]}`
	}
	a, b := outbound("s", "SG", "", "", "a", 1, "SGD"), outbound("s", "SG", "", "", "b", 1, "SGD")
	for name, tt := range map[string]struct {
		body string
		want []providers.Price
		drop map[providers.DropReason]int
	}{
		"as many as allowed": {countries(row("a") + "," + row("b")), []providers.Price{a, b}, nil},
		"more": {
			countries(row("a") + "," + row("b") + "," + row("c") + "," + row("a") + "," + row("d")), []providers.Price{a, b},
			map[providers.DropReason]int{providers.DropMaxSeries: 2, providers.DropDuplicate: 1},
		},
		"more, named late": {
			`{"subAccounts":[{"outbound":[` + row("a") + "," + row("b") + "," + row("c") + `],"subAccountId":"s"}]}`, []providers.Price{a, b},
			map[providers.DropReason]int{providers.DropMaxSeries: 1},
		},
		"a duplicate that is named late takes no room": {
			`{"subAccounts":[{"subAccountId":"s","outbound":[` + row("a") + `]},{"outbound":[` + row("a") + "," + row("b") + `],"subAccountId":"s"}]}`, []providers.Price{a, b},
			map[providers.DropReason]int{providers.DropDuplicate: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			reading, err := fetch(t, providers.KindPrices, 200, tt.body, "prices: {max_series: 2}")
			require.NoError(t, err)
			require.Equal(t, providers.Reading{Prices: tt.want, Dropped: tt.drop}, reading)
		})
	}
}

// TestFormsMeanTheSame decodes random lists in every form, with every order of
// keys, from pieces of every size.
func TestFormsMeanTheSame(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 0))
		list, want := randomList(r)
		for form := range 4 {
			body := list.render(form, r)
			s := source(t, providers.KindPrices, streamed{iotest.OneByteReader(strings.NewReader(body))})
			if form%2 == 0 {
				s = source(t, providers.KindPrices, answers(200, body))
			}
			reading, err := s.Fetch(t.Context())
			require.NoError(t, err)
			require.Equal(t, providers.Reading{Prices: want}, reading, "seed %d, form %d: %s", seed, form, body)
		}
	}
}

// randomPrices is a list of sub-accounts, each with the countries of its
// directions as JSON texts.
type randomPrices []struct {
	id                string
	outbound, inbound []string
}

// randomList returns a list and the prices in it.
func randomList(r *rand.Rand) (randomPrices, []providers.Price) {
	list := make(randomPrices, r.IntN(4))
	var want []providers.Price
	for i := range list {
		sub := &list[i]
		sub.id = fmt.Sprintf("sub-%d", i)
		for c := range r.IntN(4) {
			var operators []string
			for o := range r.IntN(4) {
				name, amount := fmt.Sprintf("op \"%d\" é", o), float64(r.IntN(1e6))/1e7
				var networks []string
				for n := range r.IntN(4) {
					mcc, mnc := fmt.Sprintf("%03d", r.IntN(1000)), fmt.Sprintf("%d%d", n, r.IntN(10))
					networks = append(networks, object(r, "mcc", quote(mcc), "mnc", quote(mnc)))
					want = append(want, outbound(sub.id, alpha2(c), mcc, mnc, name, amount, "EUR"))
				}
				if networks == nil {
					want = append(want, outbound(sub.id, alpha2(c), "", "", name, amount, "EUR"))
				}
				operators = append(operators, object(r, "operatorName", quote(name), "operatorId", "1", "hni", array(networks), "price", money(r, amount)))
			}
			sub.outbound = append(sub.outbound, object(r, "alpha2Code", quote(alpha2(c)), "countryName", `"x"`, "operators", array(operators)))
		}
		for c := range r.IntN(4) {
			var types []string
			for n := range r.IntN(3) {
				amount := float64(r.IntN(1e6)) / 1e7
				types = append(types, object(r, "type", quote(fmt.Sprintf("type%d", n)), "defaultPrice", money(r, amount)))
				want = append(want, inbound(sub.id, alpha2(c), fmt.Sprintf("type%d", n), amount, "EUR"))
			}
			sub.inbound = append(sub.inbound, object(r, "alpha2Code", quote(alpha2(c)), "dialingPrefix", `"+65"`, "numberTypes", array(types)))
		}
	}
	return list, want
}

func (list randomPrices) render(form int, r *rand.Rand) string {
	wrap := func(countries []string) string {
		switch form {
		case 0:
			return `{"countries":` + array(countries) + `}`
		case 1:
			cut := r.IntN(len(countries) + 1)
			return `[{"countries":` + array(countries[:cut]) + `},{"countries":` + array(countries[cut:]) + `}]`
		case 2:
			return array(countries)
		}
		cut := r.IntN(len(countries) + 1)
		return array(append([]string{`{"countries":` + array(countries[:cut]) + `}`}, countries[cut:]...))
	}
	var subAccounts []string
	for _, sub := range list {
		members := []string{`"outbound":` + wrap(sub.outbound), `"inbound":` + wrap(sub.inbound)}
		if len(sub.outbound) == 0 && r.IntN(2) == 0 {
			members = members[1:]
		}
		at := r.IntN(len(members) + 1)
		members = append(members[:at:at], append([]string{`"subAccountId":` + quote(sub.id)}, members[at:]...)...)
		subAccounts = append(subAccounts, "{"+strings.Join(members, ",")+"}")
	}
	return `{"subAccounts":` + array(subAccounts) + `}`
}

func alpha2(n int) string { return string([]byte{'A', byte('A' + n)}) }

func money(r *rand.Rand, amount float64) string {
	return object(r, "amount", strconv.FormatFloat(amount, 'f', 7, 64), "currency", `"EUR"`)
}

// object returns an object with its members in random order.
func object(r *rand.Rand, keysAndValues ...string) string {
	var members []string
	for i := 0; i < len(keysAndValues); i += 2 {
		members = append(members, quote(keysAndValues[i])+":"+keysAndValues[i+1])
	}
	r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return "{" + strings.Join(members, ",") + "}"
}

func array(elements []string) string { return "[" + strings.Join(elements, ",") + "]" }

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// numbersIn returns every number that stands in a text.
func numbersIn(text string) map[float64]bool {
	found := map[float64]bool{}
	for _, n := range jsonNumber.FindAllString(text, -1) {
		if f, err := strconv.ParseFloat(n, 64); err == nil {
			found[f] = true
		}
	}
	return found
}

var jsonNumber = regexp.MustCompile(`-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?`)

func FuzzDecodePrices(f *testing.F) {
	for _, name := range []string{"prices-examples", "prices-schema", "prices-inbound", "error-500-internal"} {
		f.Add(sample(f, name))
	}
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 0))
		list, _ := randomList(r)
		f.Add(list.render(int(seed), r))
	}
	const most = 20
	var body string
	prices := source(f, providers.KindPrices, server(func(providers.Call) (int, string) { return 200, body }), fmt.Sprintf("prices: {max_series: %d}", most))
	f.Fuzz(func(t *testing.T, b string) {
		body = b
		reading, err := prices.Fetch(t.Context())
		if err != nil {
			if !strings.Contains(strings.ToLower(b), "cod") && !strings.Contains(b, `\u`) { // no error body
				require.Equal(t, providers.ReasonBadResponse, providers.AsError(err).Reason)
			}
			return
		}
		require.True(t, json.Valid([]byte(b)))
		require.LessOrEqual(t, len(reading.Prices), most)
		numbers := numbersIn(b)
		seen := map[providers.Price]bool{}
		for _, p := range reading.Prices {
			require.True(t, numbers[p.Amount], "%v is not in the text", p.Amount)
			require.False(t, math.IsNaN(p.Amount) || math.IsInf(p.Amount, 0))
			p.Amount = 0
			require.False(t, seen[p], "%v twice", p)
			seen[p] = true
			for _, s := range []string{p.SubAccount, p.Country, p.MCC, p.MNC, p.Operator, p.NumberType, p.Currency} {
				require.True(t, utf8.ValidString(s), "%q", s)
			}
			require.NotEmpty(t, p.SubAccount)
			require.NotEmpty(t, p.Country)
			require.NotEmpty(t, p.Currency)
			require.Equal(t, p.Direction == providers.Inbound, p.NumberType != "")
			require.False(t, p.MCC == "" && p.MNC != "")
			require.LessOrEqual(t, len(p.Operator), 256)
		}
		for reason, n := range reading.Dropped {
			require.Positive(t, n, reason)
		}
	})
}

func FuzzDecodeBalance(f *testing.F) {
	f.Add(sample(f, "balance"))
	f.Add(`{"balance":1e400,"currency":null}`)
	f.Add(`{"balance":-0.0,"currency":"\ud800"}x`)
	var body string
	balance := source(f, providers.KindBalance, server(func(providers.Call) (int, string) { return 200, body }))
	f.Fuzz(func(t *testing.T, b string) {
		body = b
		reading, err := balance.Fetch(t.Context())
		if err != nil || reading.Billing == providers.BillingPostpaid {
			if !strings.Contains(strings.ToLower(b), "cod") && !strings.Contains(b, `\u`) { // no error body
				require.Equal(t, providers.ReasonBadResponse, providers.AsError(err).Reason)
			}
			return
		}
		require.True(t, json.Valid([]byte(b)))
		require.True(t, numbersIn(b)[reading.Balances[0].Amount], "%v is not in the text", reading.Balances[0].Amount)
		require.Regexp(t, "^[A-Z]{3}$", reading.Balances[0].Currency)
	})
}
