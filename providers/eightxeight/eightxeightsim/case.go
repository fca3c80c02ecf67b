package eightxeightsim

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"regexp"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

const (
	caseID  = "0f0e0d0c-0000-4000-8000-000000000001"
	caseKey = `Ky1+/="&<8x8>%2F-canary-key`
)

// Cases returns the accounts for the tests of all providers.
func Cases() []simulate.Case {
	return []simulate.Case{{
		Provider: "8x8", Name: "account", Dir: "eightxeight",
		Secrets: []string{caseKey}, Open: openCase, Values: 6,
		Endpoints: []simulate.Endpoint{{
			Name: "balance", Path: regexp.MustCompile(`/balance$`), Source: "balance", Metric: "account_balance", Good: simulate.StatusOK,
			Number: func(n string) string { return `{"balance":` + n + `,"currency":"USD"}` },
		}, {
			Name: "prices", Path: regexp.MustCompile(`/prices$`), Source: "prices", Metric: "sms_price", Several: true, Good: simulate.StatusOK,
		}},
		Errors: []simulate.Error{
			{Endpoint: "balance", Status: 401, Body: SampleUnauthorized, Reason: "auth"},
			{Endpoint: "balance", Status: 426, Body: SampleTLSVersion, Reason: "tls"},
			{Endpoint: "balance", Status: 429, Body: SampleQuota, Reason: "rate_limited"},
			{Endpoint: "prices", Status: 500, Body: SampleInternal, Reason: "unavailable"},
		},
		Samples: samples(),
	}}
}

func openCase(rng *rand.Rand) simulate.Account {
	prices := "prices: {refresh_interval: $interval, max_age: $max_age, countries: [" + simulate.Pick(rng, "SG, US", "", "SG", "SG, US, FR") + "]}\n"
	if rng != nil && rng.IntN(5) == 0 {
		prices = "prices: {enabled: false}\n"
	}
	price := func(amount json.Number) *Price { return &Price{Amount: amount, Currency: "SGD"} }
	return simulate.Account{
		Config: "account_id: " + caseID + "\napi_key: '" + caseKey + "'\nbalance: {refresh_interval: $interval, max_age: $max_age}\n" + prices,
		Hosts: map[string]http.Handler{"": New(Options{Accounts: []Account{{
			ID: caseID, APIKey: caseKey, Currency: "USD", Balance: NewBalance("149309.7985931"),
			Prices: FixedPrices(SubAccount{
				ID: "marketing",
				Outbound: []Country{{
					Alpha2Code: "SG", Name: "Singapore", DialingPrefix: "+65",
					Operators: []Operator{
						{Name: "SingTel", ID: 525001, HNI: []HNI{{MCC: "525", MNC: "01"}, {MCC: "525", MNC: "02"}}, Price: price("0.0520648")},
						{Name: "MobileOne", ID: 525003, HNI: []HNI{{MCC: "525", MNC: "03"}}, Price: price("0.0421477")},
					},
				}, {
					Alpha2Code: "US", Name: "United States", DialingPrefix: "+1",
					Operators: []Operator{{Name: "Western Wireless", ID: 310012, HNI: []HNI{{MCC: "310", MNC: "03"}}, Price: price("0.0161153")}},
				}},
				Inbound: []Country{{
					Alpha2Code: "SG", Name: "Singapore", DialingPrefix: "+65",
					NumberTypes: []NumberType{{Type: "tollFree", DefaultPrice: price("0.0100000")}},
				}},
			}),
		}}})},
	}
}

func samples() []simulate.Sample {
	const account = "account_id: " + caseID + "\napi_key: key-one-1234\nbalance: {low_threshold: 500}\n"
	const balanceOnly = account + "prices: {enabled: false}\n" // so that it is certain which source is refused first
	sample := func(name, config string, status int, balance string, pricesStatus int, prices string) simulate.Sample {
		return simulate.Sample{Name: name, Config: config, Answers: map[string]simulate.Answer{
			"/balance": {Status: status, Body: []byte(balance)}, "/prices": {Status: pricesStatus, Body: []byte(prices)},
		}}
	}
	const none = `{"subAccounts":[]}`
	return []simulate.Sample{
		sample("balance-and-prices", account, 200, SampleBalance, 200, SamplePricesExample),
		sample("prices-schema", account, 200, SampleBalance, 200, SamplePricesSchema),
		sample("prices-inbound", account, 200, SampleBalance, 200, SamplePricesInbound),
		sample("postpaid", account, 403, SampleNotPrepaid, 200, none),
		sample("unauthorized", balanceOnly, 401, SampleUnauthorized, 200, none),
		sample("quota", balanceOnly, 429, SampleQuota, 200, none),
		sample("tls", account, 426, SampleTLSVersion, 426, SampleTLSVersion),
		sample("internal", account, 500, SampleInternal, 500, SampleInternal),
	}
}
