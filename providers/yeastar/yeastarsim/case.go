package yeastarsim

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"regexp"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

const caseSecret = `Ys2+/="&<ptn>%2F-canary-secret`

// Cases returns the accounts for the tests of all providers.
func Cases() []simulate.Case {
	return []simulate.Case{{
		Provider: "yeastar", Name: "partner", Dir: "yeastar",
		Secrets: []string{caseSecret}, Open: openCase, Values: 1,
		Endpoints: []simulate.Endpoint{{
			Name: "token", Path: regexp.MustCompile(`/token$`), Source: "balance", Metric: "account_balance", Login: true, Several: true,
			Good: simulate.StatusOK,
		}, {
			Name: "balance", Path: regexp.MustCompile(`/account_balance$`), Source: "balance", Metric: "account_balance",
			Good: func(status int, body []byte) bool {
				return status == http.StatusOK && bytes.Contains(body, []byte(`"accountBalance"`))
			},
			Number: func(n string) string { return `{"code":"success","status":200,"result":{"accountBalance":` + n + `}}` },
		}},
		Errors: []simulate.Error{
			{Endpoint: "balance", Status: 401, Body: SampleExpired, Reason: "auth"},
			{Endpoint: "balance", Status: 401, Body: SampleOAuth, Reason: "auth"},
			{Endpoint: "token", Status: 400, Body: SampleInvalid, Reason: "bad_request"},
		},
		Samples: samples(),
	}}
}

func openCase(rng *rand.Rand) simulate.Account {
	s := New(Options{
		ClientID: "partner-7", ClientSecret: caseSecret, Balance: "675.24",
		AccessLife: simulate.Pick(rng, 0, 2*time.Minute, 5*time.Minute), ExpiresIn: simulate.Pick(rng, ExpiresInString, ExpiresInNumber, ExpiresInUnreadable, ExpiresInSmall),
		KeepRefreshToken: simulate.Pick(rng, false, true), SingleToken: simulate.Pick(rng, false, true),
		ReuseToken: simulate.Pick(rng, false, true), RefuseRefresh: simulate.Pick(rng, false, false, false, true),
		ErrorForm: simulate.Pick(rng, ErrorForm(0), ErrorForm(1)),
	})
	return simulate.Account{
		Config:       "client_id: partner-7\nclient_secret: '" + caseSecret + "'\ncurrency: USD\nbalance: {refresh_interval: $interval, max_age: $max_age}\n",
		Hosts:        map[string]http.Handler{"": s},
		ExpireTokens: s.ExpireTokens,
	}
}

func samples() []simulate.Sample {
	const config = "client_id: abc\nclient_secret: secret-of-partner\ncurrency: USD\nbalance: {low_threshold: 200}\n"
	sample := func(name string, status int, balance string) simulate.Sample {
		return simulate.Sample{Name: name, Config: config, Answers: map[string]simulate.Answer{
			"/token": {Body: []byte(SampleToken)}, "/account_balance": {Status: status, Body: []byte(balance)},
		}}
	}
	return []simulate.Sample{
		sample("balance", 200, SampleBalance),
		{Name: "invalid", Config: config, Answers: map[string]simulate.Answer{"/token": {Status: 400, Body: []byte(SampleInvalid)}}},
		sample("expired", 401, SampleExpired),
		sample("expired-with-200", 200, SampleExpired),
		sample("oauth-error", 401, SampleOAuth),
	}
}
