package yeastar_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/yeastar"
)

func TestDefaults(t *testing.T) {
	account, file := parse(t, sound...)
	cfg, err := yeastar.Provider.Configure(account.Section)
	require.NoError(t, err)
	require.Empty(t, file.Warnings)
	require.Equal(t, []providers.Part{{Kind: providers.KindBalance, Interval: time.Minute, MaxAge: time.Hour}}, cfg.Parts())
	require.Equal(t, clientID, cfg.Identity())
	require.Len(t, cfg.Secrets(), 1)
	text, err := cfg.Secrets()[0].Get()
	require.NoError(t, err)
	require.Equal(t, clientSecret, text)

	opened, err := cfg.Open(providers.Env{})
	require.NoError(t, err)
	require.Len(t, opened.Sources(), 1)
	s := opened.Sources()[0]
	require.Equal(t, "balance-USD", s.Key())
	require.Equal(t, providers.KindBalance, s.Kind())
	require.Equal(t, time.Minute, s.Interval())
	require.Equal(t, 1, s.Requests())
}

func TestSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("from-a-file\n"), 0o600))
	account, parsed := parse(t, "client_id: 12", "client_secret_file: "+file, "currency: ' credits '",
		"balance: {enabled: true, refresh_interval: 1s, max_age: 1d, low_threshold: -2.5}")
	cfg, err := yeastar.Provider.Configure(account.Section)
	require.NoError(t, err)
	low := -2.5
	require.Equal(t, []providers.Part{{
		Kind: providers.KindBalance, Interval: time.Second, MaxAge: 24 * time.Hour, LowThreshold: &low,
	}}, cfg.Parts())
	text, err := cfg.Secrets()[0].Get()
	require.NoError(t, err)
	require.Equal(t, "from-a-file", text)
	require.Equal(t, []string{
		`balance_exporter.yml:6: accounts[0].currency: "credits" is no currency of ISO 4217, such as USD; it becomes the label as it is`,
	}, parsed.Warnings)
	opened, err := cfg.Open(providers.Env{})
	require.NoError(t, err)
	require.Equal(t, "balance-credits", opened.Sources()[0].Key())
}

func TestFaultySettings(t *testing.T) {
	const id, key, currency = "client_id: abc", "client_secret: " + clientSecret, "currency: USD"
	for name, tt := range map[string]struct {
		keys []string
		want string
	}{
		"no client id":        {[]string{key, currency}, "2: accounts[0].client_id: is required: the Client ID from System > API of the Partner Portal"},
		"no secret":           {[]string{id, currency}, "2: accounts[0].client_secret: the key is missing; write client_secret or client_secret_file"},
		"empty secret":        {[]string{id, `client_secret: ""`, currency}, "5: accounts[0].client_secret: the secret is empty; write it here or name its file in client_secret_file"},
		"no currency":         {[]string{id, key}, "2: accounts[0].currency: is required, because the API does not say it: the currency of the balance, such as USD"},
		"blank currency":      {[]string{id, key, `currency: " "`}, "6: accounts[0].currency: is required, because the API does not say it: the currency of the balance, such as USD"},
		"nothing on":          {[]string{id, key, currency, "balance: {enabled: false}"}, "7: accounts[0].balance.enabled: the balance is turned off, which leaves nothing to read"},
		"quick":               {[]string{id, key, currency, "balance: {refresh_interval: 999ms}"}, "7: accounts[0].balance.refresh_interval: must be at least 1s"},
		"short-lived":         {[]string{id, key, currency, "balance: {refresh_interval: 2h}"}, "7: accounts[0].balance.max_age: 1h is shorter than the refresh_interval of 2h; a value would end before the next one comes"},
		"infinite threshold":  {[]string{id, key, currency, "balance: {low_threshold: .inf}"}, `7: accounts[0].balance.low_threshold: expected a finite number, got ".inf"`},
		"unknown key":         {[]string{id, key, currency, "prices: {}"}, "7: accounts[0].prices: unknown key; known here: name, provider, base_url, rate_limit, timeout, http, client_id, client_secret, client_secret_file, currency, balance"},
		"misspelt key":        {[]string{id, key, "curency: USD"}, "6: accounts[0].curency: unknown key; did you mean currency?"},
		"threshold elsewhere": {[]string{id, key, currency, "balance: {threshold: 5}"}, "7: accounts[0].balance.threshold: unknown key; did you mean low_threshold?"},
	} {
		t.Run(name, func(t *testing.T) {
			account, _ := parse(t, tt.keys...)
			_, err := yeastar.Provider.Configure(account.Section)
			require.EqualError(t, err, "balance_exporter.yml:"+tt.want)
		})
	}
}
