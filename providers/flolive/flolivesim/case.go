package flolivesim

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

const casePassword = `Fp3+/="&é%2F\-canary-fleet`

// Cases returns the accounts for the tests of all providers: fleets that are known
// in different ways.
func Cases() []simulate.Case {
	good := func(status int, body []byte) bool {
		return status == http.StatusOK && bytes.Contains(body, []byte(`"errorCode":""`))
	}
	endpoint := func(name, path string) simulate.Endpoint {
		return simulate.Endpoint{
			Name: name, Path: regexp.MustCompile(path), Source: "subscribers", Metric: "subscriber_balance", Several: true,
			Interval: 24 * time.Hour, Good: good,
		}
	}
	token := endpoint("token", `/auth/token$`)
	token.Login, token.Interval = true, 0
	balance := endpoint("balance", `/balance/`)
	balance.Several, balance.Interval = false, 0
	balance.Number = func(n string) string {
		return `{"errorCode":"","content":[{"balanceId":"b","currency":"USD","value":` + n + `}]}`
	}
	fleet := func(name string, values int, config func([]Subscriber) string, options Options, endpoints ...simulate.Endpoint) simulate.Case {
		return simulate.Case{
			Provider: "flolive", Name: name, Dir: "flolive", Secrets: []string{casePassword}, Values: values, Endpoints: endpoints,
			Open: func(rng *rand.Rand) simulate.Account { return openCase(rng, config, options) },
		}
	}
	const customer = "  customer_id: " + DefaultCustomerID + "\n"
	cursor := endpoint("cursor", `/subscriber-all$`)
	cursor.Missing = "bad_response" // that of the pages, which are not whole
	named := fleet("named", 4, func(all []Subscriber) string { return subscriberLines(all, ", balance_ids: [offer]") }, Options{}, token, balance)
	named.Errors = []simulate.Error{
		{Endpoint: "balance", Status: 200, Body: SampleFailure, Reason: "unavailable"},
		{Endpoint: "balance", Status: 503, Body: SampleUnavailable, Reason: "unavailable"},
	}
	named.Samples = samples()
	return []simulate.Case{
		named,
		fleet("offers", 4, func(all []Subscriber) string { return subscriberLines(all, "") }, Options{}, endpoint("offers", `/offer$`)),
		fleet("listing", 4, func([]Subscriber) string { return customer }, Options{}, endpoint("listing", `/customer/[^/]*/subscriber$`)),
		fleet("cursor", 2, func([]Subscriber) string { return customer }, Options{PageIgnored: true, MaxPageSize: 1}, cursor),
	}
}

// openCase returns a fleet of two, or of any size, with two balances each: one if
// pages cannot be turned, because then no list of several is whole.
func openCase(rng *rand.Rand, config func([]Subscriber) string, o Options) simulate.Account {
	size := 2
	if rng != nil {
		size = 1 + rng.IntN(30)
		o.PageSize = 2 + rng.IntN(10) // the balances of a subscriber fit: see Endpoint.Several
	}
	var fleet Listed
	for i := range size {
		balances := []Balance{
			{ID: fmt.Sprintf("money-%d", i), Unit: "USD", Value: fmt.Sprintf("%d.75", 12+i)},
			{ID: fmt.Sprintf("messages-%d", i), Unit: "SMS", Value: fmt.Sprintf(`"%d"`, 400+i)},
		}
		if o.PageIgnored {
			balances = balances[:1]
		}
		fleet = append(fleet, Subscriber{
			ID: fmt.Sprintf("0f0e0d0c-0000-4000-8000-%012d", i), ICCID: fmt.Sprintf("894450123456789%04d", i),
			Pairs:  []Pair{{IMSI: fmt.Sprintf("23450%010d", i), MSISDN: fmt.Sprintf("447%09d", i)}},
			Offers: []Offer{{ID: "offer", Name: "plan", Type: "MONEY", Balances: balances}},
		})
	}
	o.Subscribers, o.Username, o.Password = fleet, "api@example.com", casePassword
	o.TokenLife = simulate.Pick(rng, 0, 2*time.Minute, 5*time.Minute, 30*time.Minute)
	o.OpaqueToken, o.ErrorsWithOK = simulate.Pick(rng, false, true), simulate.Pick(rng, false, true)
	s := New(o)
	return simulate.Account{
		Config: "username: api@example.com\npassword: '" + casePassword + "'\nsubscribers:\n" +
			"  refresh_interval: $interval\n  max_age: $max_age\n" + config(fleet),
		Hosts:        map[string]http.Handler{"": s},
		ExpireTokens: s.ExpireTokens,
	}
}

// subscriberLines returns the list of a configuration.
func subscriberLines(fleet []Subscriber, balances string) string {
	var b strings.Builder
	b.WriteString("  list:\n")
	for _, s := range fleet {
		fmt.Fprintf(&b, "    - {type: iccid, value: %q%s}\n", s.ICCID, balances)
	}
	return b.String()
}

func samples() []simulate.Sample {
	const config = `username: api@example.com
password: password-of-fleet
subscribers:
  list:
    - {type: iccid, value: "8944501234567890123", name: truck-12, balance_ids: [e7fcef24-5c03-41dd-9e33-995b7d6f32b1]}
`
	var all []simulate.Sample
	for name, body := range map[string]string{
		"balance": SampleBalance, "mixed": SampleMixed, "failure": SampleFailure, "unavailable": SampleUnavailable,
	} {
		all = append(all, simulate.Sample{Name: name, Config: config, Answers: map[string]simulate.Answer{
			"/auth/token": {Body: []byte(SampleLogin)}, "/balance/": {Body: []byte(body)},
		}})
	}
	return all
}
