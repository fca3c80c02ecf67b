package main

import (
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
	"github.com/balance-exporter/balance_exporter/providers/yeastar/yeastarsim"
)

var update = flag.Bool("update", false, "write the golden files anew")

// reply is an answer as the documentation prints it.
type reply struct {
	status int
	body   string
}

func (r reply) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(r.status)
	_, _ = w.Write([]byte(r.body))
}

// paths answers requests whose path contains one of the keys.
type paths map[string]reply

func (p paths) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for part, reply := range p {
		if strings.Contains(r.URL.Path, part) {
			reply.ServeHTTP(w, r)
			return
		}
	}
	http.NotFound(w, r)
}

const eightxeightAccount = `
accounts:
  - name: documented
    provider: 8x8
    account_id: ` + accountOne + `
    api_key: key-one-1234
    balance: {low_threshold: 500}
`

// balanceOnly has one source, so that it is certain who meets a hold first.
const balanceOnly = eightxeightAccount + "    prices: {enabled: false}\n"

const yeastarAccount = `
accounts:
  - name: partner
    provider: yeastar
    client_id: abc
    client_secret: secret-of-partner
    currency: USD
    balance: {low_threshold: 200}
`

const floliveAccount = `
accounts:
  - name: fleet
    provider: flolive
    username: api@example.com
    password: password-of-fleet
    subscribers:
      list:
        - {type: iccid, value: "8944501234567890123", name: truck-12, balance_ids: [e7fcef24-5c03-41dd-9e33-995b7d6f32b1]}
`

const emptyPrices = `{"subAccounts":[]}`

// Every documented body goes through client, cache and collectors, and the whole
// exposition is compared.
func TestDocumentedBodies(t *testing.T) {
	token := reply{200, yeastarsim.SampleToken}
	login := reply{200, flolivesim.SampleLogin}
	for name, c := range map[string]struct {
		configuration, host string
		answers             paths
	}{
		"8x8-balance-and-prices":   {eightxeightAccount, "sms.8x8.com", paths{"/balance": {200, eightxeightsim.SampleBalance}, "/prices": {200, eightxeightsim.SamplePricesExample}}},
		"8x8-prices-schema":        {eightxeightAccount, "sms.8x8.com", paths{"/balance": {200, eightxeightsim.SampleBalance}, "/prices": {200, eightxeightsim.SamplePricesSchema}}},
		"8x8-prices-inbound":       {eightxeightAccount, "sms.8x8.com", paths{"/balance": {200, eightxeightsim.SampleBalance}, "/prices": {200, eightxeightsim.SamplePricesInbound}}},
		"8x8-postpaid":             {eightxeightAccount, "sms.8x8.com", paths{"/balance": {403, eightxeightsim.SampleNotPrepaid}, "/prices": {200, emptyPrices}}},
		"8x8-unauthorized":         {balanceOnly, "sms.8x8.com", paths{"/balance": {401, eightxeightsim.SampleUnauthorized}}},
		"8x8-quota":                {balanceOnly, "sms.8x8.com", paths{"/balance": {429, eightxeightsim.SampleQuota}}},
		"8x8-tls":                  {eightxeightAccount, "sms.8x8.com", paths{"/balance": {426, eightxeightsim.SampleTLSVersion}, "/prices": {426, eightxeightsim.SampleTLSVersion}}},
		"8x8-internal":             {eightxeightAccount, "sms.8x8.com", paths{"/balance": {500, eightxeightsim.SampleInternal}, "/prices": {500, eightxeightsim.SampleInternal}}},
		"yeastar-balance":          {yeastarAccount, "openapi.partner.yeastar.com", paths{"/token": token, "/account_balance": {200, yeastarsim.SampleBalance}}},
		"yeastar-invalid":          {yeastarAccount, "openapi.partner.yeastar.com", paths{"/token": {400, yeastarsim.SampleInvalid}}},
		"yeastar-expired":          {yeastarAccount, "openapi.partner.yeastar.com", paths{"/token": token, "/account_balance": {401, yeastarsim.SampleExpired}}},
		"yeastar-expired-with-200": {yeastarAccount, "openapi.partner.yeastar.com", paths{"/token": token, "/account_balance": {200, yeastarsim.SampleExpired}}},
		"yeastar-oauth-error":      {yeastarAccount, "openapi.partner.yeastar.com", paths{"/token": token, "/account_balance": {401, yeastarsim.SampleOAuth}}},
		"flolive-balance":          {floliveAccount, "floportal.flolive.net", paths{"/auth/token": login, "/balance/": {200, flolivesim.SampleBalance}}},
		"flolive-mixed":            {floliveAccount, "floportal.flolive.net", paths{"/auth/token": login, "/balance/": {200, flolivesim.SampleMixed}}},
		"flolive-failure":          {floliveAccount, "floportal.flolive.net", paths{"/auth/token": login, "/balance/": {200, flolivesim.SampleFailure}}},
		"flolive-unavailable":      {floliveAccount, "floportal.flolive.net", paths{"/auth/token": login, "/balance/": {200, flolivesim.SampleUnavailable}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := &simulate.Network{}
				network.Handle(c.host, c.answers)
				b := newBenchOn(t, c.configuration, network)
				golden(t, name+".prom", b.exposition())
			})
		})
	}
}

// Each shape of a price list gives the same metrics.
func TestShapesOfAPriceList(t *testing.T) {
	list := eightxeightsim.FixedPrices(eightxeightsim.SubAccount{
		ID: "marketing",
		Outbound: []eightxeightsim.Country{{
			Alpha2Code: "SG", Name: "Singapore", DialingPrefix: "+65",
			Operators: []eightxeightsim.Operator{
				{Name: "SingTel", ID: 525001, HNI: []eightxeightsim.HNI{{MCC: "525", MNC: "01"}, {MCC: "525", MNC: "02"}}, Price: &eightxeightsim.Price{Amount: "0.0520648", Currency: "SGD"}},
				{Name: "No network", ID: 525099, Price: &eightxeightsim.Price{Amount: "0.0136360", Currency: "SGD"}},
			},
		}},
		Inbound: []eightxeightsim.Country{{
			Alpha2Code: "SG", Name: "Singapore", DialingPrefix: "+65",
			NumberTypes: []eightxeightsim.NumberType{{Type: "tollfree", DefaultPrice: &eightxeightsim.Price{Amount: "0.01", Currency: "SGD"}}},
		}},
	}, eightxeightsim.SubAccount{ID: "nothing"})
	for name, form := range map[string]eightxeightsim.Form{
		"example": eightxeightsim.FormExample, "schema": eightxeightsim.FormSchema,
		"flat": eightxeightsim.FormFlat, "mixed": eightxeightsim.FormMixed,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim := eightxeightsim.New(eightxeightsim.Options{
					Accounts: []eightxeightsim.Account{{ID: accountOne, APIKey: "key-one-1234", Currency: "SGD", Balance: eightxeightsim.NewBalance("1"), Prices: list}},
					Shape:    eightxeightsim.Shape{Form: form, Tollfree: true},
				})
				network := &simulate.Network{}
				network.Handle("sms.8x8.com", sim)
				golden(t, "8x8-shapes.prom", newBenchOn(t, eightxeightAccount, network).exposition())
			})
		})
	}
}

// cooldown is the end of a back-off, which is partly chance.
var cooldown = regexp.MustCompile(`(?m)^(balance_exporter_cooldown_until_timestamp_seconds\{.*\}) 9\.4668.*$`)

// exposition returns everything but what is about the process and its build.
func (b *bench) exposition() string {
	var out strings.Builder
	for line := range strings.Lines(b.get("/metrics", "10").Body.String()) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		switch {
		case strings.HasPrefix(name, "go_"), strings.HasPrefix(name, "process_"), strings.HasPrefix(name, "promhttp_"),
			strings.HasPrefix(name, "balance_exporter_build_info"), strings.HasPrefix(name, "balance_exporter_exposition_bytes"):
		default:
			out.WriteString(line)
		}
	}
	return cooldown.ReplaceAllString(out.String(), "$1 <soon>")
}

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o750))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run go test -run %s -update .", t.Name())
	assert.Equal(t, string(want), got)
}
