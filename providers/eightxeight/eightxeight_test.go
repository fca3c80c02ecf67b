package eightxeight_test

import (
	"context"
	"errors"
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
func parse(t testing.TB, keys ...string) (providers.Section, *config.File) {
	t.Helper()
	account, file := providertest.Parse(t, eightxeight.Provider, "a", t.TempDir(), keys...)
	return account.Section, file
}

// configure returns the configuration of a sound account with more keys.
func configure(t testing.TB, keys ...string) providers.Account {
	t.Helper()
	keys = append([]string{"account_id: " + accountID}, keys...)
	if !strings.Contains(strings.Join(keys, "\n"), "api_key") {
		keys = append(keys, "api_key: the-key")
	}
	section, _ := parse(t, keys...)
	account, err := eightxeight.Provider.Configure(section)
	require.NoError(t, err)
	return account
}

// source returns the source of one kind, which sends to http.
func source(t testing.TB, kind providers.Kind, h providers.HTTP, keys ...string) providers.Source {
	t.Helper()
	sources, err := configure(t, keys...).Open(providers.Env{Account: "a", HTTP: h})
	require.NoError(t, err)
	for _, s := range sources {
		if s.Describe().Kind == kind {
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
	return deliver(call, status, strings.NewReader(body))
}

// deliver passes an answer to a call. Its secret is "the-key".
func deliver(call providers.Call, status int, body io.Reader) error {
	a := providers.Answer{Status: status, Header: http.Header{}, Quote: func(text string, limit int) string {
		return providers.OneLine(strings.ReplaceAll(text, "the-key", "<secret>"), limit)
	}}
	var err error
	if a.Body, err = io.ReadAll(body); err == nil {
		err = call.Parse(a)
	}
	var failure *providers.Error
	if err == nil || errors.As(err, &failure) {
		return err
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
	account := configure(t, "balance: {refresh_interval: 2m}", "prices: {refresh_interval: 3h, countries: [SG, US], sub_accounts: [a, b, c]}")
	sources, err := account.Open(providers.Env{})
	require.NoError(t, err)
	require.Len(t, sources, 2)
	require.Equal(t, providers.Description{
		Key: "balance", Kind: providers.KindBalance, Interval: 2 * time.Minute, Requests: 1,
	}, sources[0].Describe())
	prices := sources[1].Describe()
	require.Regexp(t, `^prices-[0-9a-f]{12}$`, prices.Key)
	prices.Key = ""
	require.Equal(t, providers.Description{Kind: providers.KindPrices, Interval: 3 * time.Hour, Requests: 6}, prices)
}

func TestKeyFollowsWhatIsAsked(t *testing.T) {
	key := func(prices string) string {
		return source(t, providers.KindPrices, nil, "prices: {"+prices+"}").Describe().Key
	}
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
			section, _ := parse(t, append(keys, "api_key: the-key")...)
			account, err := eightxeight.Provider.Configure(section)
			require.NoError(t, err)
			sources, err := account.Open(providers.Env{HTTP: http})
			require.NoError(t, err)
			planned := 0
			for _, s := range sources {
				_, err := s.Fetch(t.Context())
				require.NoError(t, err)
				planned += s.Describe().Requests
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
		require.EqualError(t, err, "auth: api_key contains a line break or another control character; it must be one line")
	}
}

func TestFetchIsAllOrNothing(t *testing.T) {
	n := 0
	s := source(t, providers.KindPrices, server(func(providers.Call) (int, string) {
		if n++; n == 2 {
			return 500, ""
		}
		return 200, sample(t, "prices-examples")
	}), `prices: {networks: [{mcc: "525", mnc: "01"}, {mcc: "525", mnc: "02"}, {mcc: "525", mnc: "03"}]}`)
	reading, err := s.Fetch(t.Context())
	require.Equal(t, providers.ReasonUnavailable, providers.AsError(err).Reason)
	require.Empty(t, reading)
	require.Equal(t, 2, n, "what comes after a failure is not asked")
}
