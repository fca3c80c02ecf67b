package yeastar_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/providers"
)

func TestDefaults(t *testing.T) {
	account, warnings, err := configure(t, sound...)
	require.NoError(t, err)
	require.Empty(t, warnings)
	require.Equal(t, []providers.Part{{
		Kind: providers.KindBalance, Interval: time.Minute, MaxAge: 24 * time.Hour, TopupLead: 24 * time.Hour,
	}}, account.Parts)
	require.Equal(t, clientID, account.Identity)
	require.Len(t, account.Secrets, 1)
	text, err := account.Secrets[0].Get()
	require.NoError(t, err)
	require.Equal(t, clientSecret, text)

	sources, err := account.Open(providers.Env{})
	require.NoError(t, err)
	require.Len(t, sources, 1)
	require.Equal(t, providers.Description{
		Key: "balance-USD", Kind: providers.KindBalance, Interval: time.Minute, Requests: 1,
	}, sources[0].Describe())
}

func TestSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("from-a-file\n"), 0o600))
	account, warnings, err := configure(t, "client_id: 12", "client_secret_file: "+file, "currency: ' credits '",
		"balance: {enabled: true, refresh_interval: 1s, max_age: 1w, low_threshold: -2.5, topup_lead: 0s}")
	require.NoError(t, err)
	low := -2.5
	require.Equal(t, []providers.Part{{
		Kind: providers.KindBalance, Interval: time.Second, MaxAge: 7 * 24 * time.Hour, LowThreshold: &low,
	}}, account.Parts)
	text, err := account.Secrets[0].Get()
	require.NoError(t, err)
	require.Equal(t, "from-a-file", text)
	require.Equal(t, []string{
		`balance_exporter.yml:6: accounts[0].currency: "credits" is no ISO 4217 code such as USD; the label has it as it is`,
	}, warnings)
	sources, err := account.Open(providers.Env{})
	require.NoError(t, err)
	require.Equal(t, "balance-credits", sources[0].Describe().Key)
}

func TestFaultySettings(t *testing.T) {
	const id, key, currency = "client_id: abc", "client_secret: " + clientSecret, "currency: USD"
	for name, tt := range map[string]struct {
		keys []string
		want string
	}{
		"no client id":        {[]string{key, currency}, "2: accounts[0].client_id: is required: the Client ID from System > API of the Partner Portal"},
		"no secret":           {[]string{id, currency}, "2: accounts[0].client_secret: is required; set client_secret or client_secret_file"},
		"empty secret":        {[]string{id, `client_secret: ""`, currency}, "5: accounts[0].client_secret: the value is empty; write the secret in client_secret or the path of its file in client_secret_file"},
		"no currency":         {[]string{id, key}, "2: accounts[0].currency: is required, because the API does not return it: the currency of the balance, such as USD"},
		"blank currency":      {[]string{id, key, `currency: " "`}, "6: accounts[0].currency: is required, because the API does not return it: the currency of the balance, such as USD"},
		"nothing on":          {[]string{id, key, currency, "balance: {enabled: false}"}, "7: accounts[0].balance.enabled: the balance is turned off, so there is nothing to read"},
		"quick":               {[]string{id, key, currency, "balance: {refresh_interval: 999ms}"}, "7: accounts[0].balance.refresh_interval: must be at least 1s"},
		"short-lived":         {[]string{id, key, currency, "balance: {refresh_interval: 2d}"}, "7: accounts[0].balance.max_age: 1d is shorter than the refresh_interval of 2d; a value would end before the next one arrives"},
		"infinite threshold":  {[]string{id, key, currency, "balance: {low_threshold: .inf}"}, `7: accounts[0].balance.low_threshold: expected a finite number, got ".inf"`},
		"unknown key":         {[]string{id, key, currency, "prices: {}"}, "7: accounts[0].prices: unknown key; known here: name, provider, rate_limit, timeout, http, base_url, hosts, headers, client_id, client_secret, client_secret_file, currency, auth, balance"},
		"misspelt key":        {[]string{id, key, "curency: USD"}, "6: accounts[0].curency: unknown key; did you mean currency?"},
		"threshold elsewhere": {[]string{id, key, currency, "balance: {threshold: 5}"}, "7: accounts[0].balance.threshold: unknown key; did you mean low_threshold?"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := configure(t, tt.keys...)
			require.EqualError(t, config.Join(err), "balance_exporter.yml:"+tt.want)
		})
	}
}
