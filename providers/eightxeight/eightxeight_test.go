package eightxeight_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight"
	"github.com/balance-exporter/balance_exporter/providers/providertest"
)

const accountID = "0f0e0d0c-0000-4000-8000-000000000001"

// parse returns the account of a configuration that has only the provider's keys,
// each on a line, and its warnings.
func parse(t testing.TB, keys ...string) (*config.Account, *config.File) {
	t.Helper()
	return providertest.Parse(t, eightxeight.Provider, "a", t.TempDir(), keys...)
}

// configure returns the configuration of a sound account with more keys.
func configure(t testing.TB, keys ...string) providers.Config {
	t.Helper()
	keys = append([]string{"account_id: " + accountID}, keys...)
	if !strings.Contains(strings.Join(keys, "\n"), "api_key") {
		keys = append(keys, "api_key: the-key")
	}
	account, _ := parse(t, keys...)
	cfg, err := eightxeight.Provider.Configure(account.Section)
	require.NoError(t, err)
	return cfg
}

// source returns the source of one kind, which sends to http.
func source(t testing.TB, kind providers.Kind, h providers.HTTP, keys ...string) providers.Source {
	t.Helper()
	account, err := configure(t, keys...).Open(providers.Env{Account: "a", HTTP: h})
	require.NoError(t, err)
	for _, s := range account.Sources() {
		if s.Kind() == kind {
			return s
		}
	}
	require.Failf(t, "no source", "%s", kind)
	return nil
}

// server answers calls as internal/httpapi would.
type server func(call providers.Call) (status int, body string)

func (s server) Mask(string) {}

func (s server) Do(_ context.Context, call providers.Call) error {
	header, err := call.Authorize()
	if err != nil {
		return err
	}
	call.Header = header
	status, body := s(call)
	good := status >= 200 && status < 300
	if !good || !call.Large {
		if e := call.Check(providers.Answer{Status: status, Header: http.Header{}, Body: []byte(body)}); e != nil {
			return e
		}
	}
	return decode(call, strings.NewReader(body))
}

func decode(call providers.Call, body io.Reader) error {
	err := call.Decode(body)
	if err == nil {
		return nil
	}
	return providers.Errorf(providers.ReasonBadResponse, "reading the answer: %w", err)
}

// answers returns a server with one answer for everything.
func answers(status int, body string) server {
	return func(providers.Call) (int, string) { return status, body }
}

func fetch(t testing.TB, kind providers.Kind, status int, body string, keys ...string) (providers.Reading, error) {
	t.Helper()
	return source(t, kind, answers(status, body), keys...).Fetch(t.Context())
}

// sample returns a body of the documentation.
func sample(t testing.TB, name string) string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	require.NoError(t, err)
	return string(body)
}

func TestSources(t *testing.T) {
	cfg := configure(t, "balance: {refresh_interval: 2m}", "prices: {refresh_interval: 3h}")
	account, err := cfg.Open(providers.Env{})
	require.NoError(t, err)
	sources := account.Sources()
	require.Len(t, sources, 2)

	require.Equal(t, "balance", sources[0].Key())
	require.Equal(t, providers.KindBalance, sources[0].Kind())
	require.Equal(t, 2*time.Minute, sources[0].Interval())
	require.Equal(t, 1, sources[0].Requests())

	require.Regexp(t, `^prices-[0-9a-f]{12}$`, sources[1].Key())
	require.Equal(t, providers.KindPrices, sources[1].Kind())
	require.Equal(t, 3*time.Hour, sources[1].Interval())
	require.Equal(t, 1, sources[1].Requests())
}

func TestKeyFollowsWhatIsAsked(t *testing.T) {
	key := func(prices string) string { return source(t, providers.KindPrices, nil, "prices: {"+prices+"}").Key() }
	for name, same := range map[string][2]string{
		"case":                   {"countries: [sg]", "countries: [SG]"},
		"order":                  {"countries: [SG, US], sub_accounts: [a, b]", "sub_accounts: [b, a], countries: [US, SG]"},
		"times":                  {"refresh_interval: 2h, max_age: 3h", ""},
		"leading zeros":          {`networks: [{mcc: "525", mnc: "01"}]`, "networks: [{mcc: 525, mnc: 1}]"},
		"the default, spelt out": {"max_series: 200000", ""},
	} {
		require.Equal(t, key(same[0]), key(same[1]), name)
	}
	seen := map[string]string{}
	for _, prices := range []string{
		"", "countries: [SG]", "countries: [US]", "countries: [SG, US]", "sub_accounts: [SG]", "sub_accounts: [a, b]", "sub_accounts: ['a,b']",
		"direction: inbound", "direction: outbound", `networks: [{mcc: "525", mnc: "01"}]`, `networks: [{mcc: "525", mnc: "02"}]`, "max_series: 5",
	} {
		k := key(prices)
		require.NotContains(t, seen, k, "%s and %s", prices, seen[k])
		seen[k] = prices
	}
}

func TestRequests(t *testing.T) {
	for name, tt := range map[string]struct {
		keys []string
		want []string
	}{
		"everything": {nil, []string{
			"/api/v1/accounts/" + accountID + "/balance",
			"/api/v1/accounts/" + accountID + "/prices",
		}},
		"only the balance": {[]string{"prices: {enabled: false}"}, []string{
			"/api/v1/accounts/" + accountID + "/balance",
		}},
		"a direction": {[]string{"balance: {enabled: false}", "prices: {direction: inbound}"}, []string{
			"/api/v1/accounts/" + accountID + "/prices?direction=inbound",
		}},
		"each country and network, for each sub-account": {
			[]string{"balance: {enabled: false}", `prices: {direction: outbound, countries: [sg, US], networks: [{mcc: "525", mnc: "01"}], sub_accounts: [a&b, c]}`},
			[]string{
				"/api/v1/accounts/" + accountID + "/prices?country=SG&direction=outbound&subAccountId=a%26b",
				"/api/v1/accounts/" + accountID + "/prices?country=US&direction=outbound&subAccountId=a%26b",
				"/api/v1/accounts/" + accountID + "/prices?direction=outbound&mcc=525&mnc=1&subAccountId=a%26b",
				"/api/v1/accounts/" + accountID + "/prices?country=SG&direction=outbound&subAccountId=c",
				"/api/v1/accounts/" + accountID + "/prices?country=US&direction=outbound&subAccountId=c",
				"/api/v1/accounts/" + accountID + "/prices?direction=outbound&mcc=525&mnc=1&subAccountId=c",
			},
		},
		"an id that needs escaping": {[]string{"account_id: a/b?c", "prices: {enabled: false}"}, []string{
			"/api/v1/accounts/a%2Fb%3Fc/balance",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			http := server(func(call providers.Call) (int, string) {
				require.Empty(t, call.Method)
				require.Empty(t, call.Body)
				require.Equal(t, []string{"Bearer the-key"}, call.Header["Authorization"])
				require.Equal(t, strings.HasSuffix(call.Path, "/prices"), call.Large)
				url := call.Path
				if call.Query != "" {
					url += "?" + call.Query
				}
				got = append(got, url)
				if call.Large {
					return 200, `{"subAccounts":[]}`
				}
				return 200, `{"balance":1,"currency":"USD"}`
			})
			keys := tt.keys
			if !strings.Contains(strings.Join(keys, "\n"), "account_id") {
				keys = append(keys, "account_id: "+accountID)
			}
			account, _ := parse(t, append(keys, "api_key: the-key")...)
			cfg, err := eightxeight.Provider.Configure(account.Section)
			require.NoError(t, err)
			opened, err := cfg.Open(providers.Env{HTTP: http})
			require.NoError(t, err)
			planned := 0
			for _, s := range opened.Sources() {
				_, err := s.Fetch(t.Context())
				require.NoError(t, err)
				planned += s.Requests()
			}
			require.Equal(t, tt.want, got)
			require.Len(t, got, planned)
		})
	}
}

func TestKeyIsTakenAnewForEachRequest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	write("first\n")
	var sent []string
	s := source(t, providers.KindPrices, server(func(call providers.Call) (int, string) {
		sent = append(sent, call.Header.Get("Authorization"))
		write(fmt.Sprintf("after %d\n", len(sent)))
		return 200, `{"subAccounts":[]}`
	}), "api_key_file: "+path, "prices: {countries: [SG, US]}")
	_, err := s.Fetch(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"Bearer first", "Bearer after 1"}, sent)
}

func TestKeyThatCannotBeSent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(path, []byte("two\nlines"), 0o600))
	for _, kind := range []providers.Kind{providers.KindBalance, providers.KindPrices} {
		_, err := source(t, kind, answers(200, ""), "api_key_file: "+path).Fetch(t.Context())
		require.EqualError(t, err, "auth: api_key holds a line break or another control character; it must be one line")
	}
}

func TestFetchIsAllOrNothing(t *testing.T) {
	n := 0
	s := source(t, providers.KindPrices, server(func(providers.Call) (int, string) {
		if n++; n == 2 {
			return 500, ""
		}
		return 200, sample(t, "prices-examples")
	}), "prices: {countries: [SG, US, DE]}")
	reading, err := s.Fetch(t.Context())
	require.Equal(t, providers.ReasonUnavailable, providers.AsError(err).Reason)
	require.Empty(t, reading)
	require.Equal(t, 2, n, "what comes after a failure is not asked")
}
