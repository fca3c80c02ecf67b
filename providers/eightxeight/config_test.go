package eightxeight_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight"
)

func TestDefaults(t *testing.T) {
	account := configure(t)
	require.Equal(t, []providers.Part{
		{Kind: providers.KindBalance, Interval: time.Minute, MaxAge: 24 * time.Hour, TopupLead: 24 * time.Hour},
		{Kind: providers.KindPrices, Interval: time.Hour, MaxAge: 7 * 24 * time.Hour},
	}, account.Parts)
	require.Equal(t, accountID, account.Identity)
	require.Len(t, account.Secrets, 1)
	key, err := account.Secrets[0].Get()
	require.NoError(t, err)
	require.Equal(t, "the-key", key)
}

func TestSettings(t *testing.T) {
	low := 0.0
	require.Equal(t, []providers.Part{
		{Kind: providers.KindBalance, Interval: time.Second, MaxAge: time.Second, LowThreshold: &low},
	}, configure(t, "balance: {refresh_interval: 1s, max_age: 1s, low_threshold: 0, topup_lead: 0s}", "prices: {enabled: false}").Parts)
	require.Equal(t, []providers.Part{
		{Kind: providers.KindPrices, Interval: 6 * time.Hour, MaxAge: 14 * 24 * time.Hour},
	}, configure(t, "balance: {enabled: false}", "prices: {refresh_interval: 6h, max_age: 2w}").Parts)
	require.Equal(t, []providers.Part{
		{Kind: providers.KindBalance, Interval: time.Minute, MaxAge: 24 * time.Hour, TopupLead: 72 * time.Hour},
	}, configure(t, "balance: {topup_lead: 3d}", "prices: {enabled: false}").Parts)
}

func TestFaultySettings(t *testing.T) {
	const id, key = "account_id: " + accountID, "api_key: the-key"
	for name, tt := range map[string]struct {
		keys []string
		want string
	}{
		"no account id":            {[]string{key}, "2: accounts[0].account_id: is required: the id of the 8x8 account"},
		"empty account id":         {[]string{key, `account_id: ""`}, "5: accounts[0].account_id: is required: the id of the 8x8 account"},
		"no key":                   {[]string{id}, "2: accounts[0].api_key: is required: the key of the account; write api_key or api_key_file"},
		"nothing on":               {[]string{id, key, "balance: {enabled: false}", "prices: {enabled: false}"}, "7: accounts[0].prices.enabled: balance and prices are both turned off; turn one on, or remove the account"},
		"unknown key":              {[]string{id, key, "prices: {country: SG}"}, "6: accounts[0].prices.country: unknown key; did you mean countries?"},
		"quick balance":            {[]string{id, key, "balance: {refresh_interval: 999ms}"}, "6: accounts[0].balance.refresh_interval: must be at least 1s"},
		"quick prices":             {[]string{id, key, "prices: {refresh_interval: 0s}"}, "6: accounts[0].prices.refresh_interval: must be at least 1s"},
		"short-lived balance":      {[]string{id, key, "balance: {refresh_interval: 2d}"}, "6: accounts[0].balance.max_age: 1d is shorter than the refresh_interval of 2d; a value would end before the next one arrives"},
		"short-lived prices":       {[]string{id, key, "prices: {max_age: 59m}"}, "6: accounts[0].prices.max_age: 59m is shorter than the refresh_interval of 1h; a value would end before the next one arrives"},
		"infinite threshold":       {[]string{id, key, "balance: {low_threshold: .inf}"}, "6: accounts[0].balance.low_threshold: expected a finite number, got \".inf\""},
		"threshold that is none":   {[]string{id, key, "balance: {low_threshold: .nan}"}, "6: accounts[0].balance.low_threshold: expected a finite number, got \".nan\""},
		"direction":                {[]string{id, key, "prices: {direction: both}"}, `6: accounts[0].prices.direction: "both" must be outbound or inbound; leave it out for both`},
		"inbound networks":         {[]string{id, key, "prices: {direction: inbound, networks: [{mcc: 525, mnc: 01}]}"}, "6: accounts[0].prices.networks: inbound prices have no networks; leave networks out, or direction: inbound"},
		"country of three letters": {[]string{id, key, "prices: {countries: [SG, USA]}"}, `6: accounts[0].prices.countries[1]: "USA" must be the two letters of ISO 3166-1, such as SG`},
		"country of no letters":    {[]string{id, key, "prices: {countries: ['65']}"}, `6: accounts[0].prices.countries[0]: "65" must be the two letters of ISO 3166-1, such as SG`},
		"country of one character": {[]string{id, key, "prices: {countries: [ß]}"}, `6: accounts[0].prices.countries[0]: "ß" must be the two letters of ISO 3166-1, such as SG`},
		"country twice":            {[]string{id, key, "prices: {countries: [SG, sg]}"}, "6: accounts[0].prices.countries[1]: SG is listed twice"},
		"mcc without mnc":          {[]string{id, key, "prices: {networks: [{mcc: 525}]}"}, "6: accounts[0].prices.networks[0]: needs both mcc and mnc; write the one that is missing"},
		"mnc without mcc":          {[]string{id, key, "prices: {networks: [{mnc: 01}]}"}, "6: accounts[0].prices.networks[0]: needs both mcc and mnc; write the one that is missing"},
		"mcc and mnc swapped":      {[]string{id, key, "prices: {networks: [{mcc: 01, mnc: 525}]}"}, `6: accounts[0].prices.networks[0].mcc: "01" must be three digits`},
		"mnc of letters":           {[]string{id, key, "prices: {networks: [{mcc: 525, mnc: xx}]}"}, `6: accounts[0].prices.networks[0].mnc: "xx" must be two or three digits`},
		"mnc too long":             {[]string{id, key, "prices: {networks: [{mcc: 525, mnc: 0001}]}"}, `6: accounts[0].prices.networks[0].mnc: "0001" must be two or three digits`},
		"network twice":            {[]string{id, key, "prices: {networks: [{mcc: 525, mnc: 01}, {mcc: 525, mnc: 001}]}"}, "6: accounts[0].prices.networks[1]: mcc 525 with mnc 001 is listed twice: 8x8 takes them as numbers, without leading zeros"},
		"empty sub-account":        {[]string{id, key, `prices: {sub_accounts: [""]}`}, "6: accounts[0].prices.sub_accounts[0]: must not be empty"},
		"sub-account twice":        {[]string{id, key, "prices: {sub_accounts: [a, b, a]}"}, `6: accounts[0].prices.sub_accounts[2]: "a" is listed twice`},
		"no series":                {[]string{id, key, "prices: {max_series: 0}"}, "6: accounts[0].prices.max_series: must be at least 1"},
	} {
		t.Run(name, func(t *testing.T) {
			section, _ := parse(t, tt.keys...)
			account, err := eightxeight.Provider.Configure(section)
			require.EqualError(t, err, "balance_exporter.yml:"+tt.want)
			require.Empty(t, account)
		})
	}
}

func TestAccountIDThatIsNoGUIDIsAWarning(t *testing.T) {
	for id, want := range map[string][]string{
		accountID:                          nil,
		"0F0E0D0C000040008000000000000001": nil,
		"bp-xxx":                           {`balance_exporter.yml:4: accounts[0].account_id: "bp-xxx" is no GUID, as 8x8 documents account ids`},
	} {
		section, file := parse(t, "account_id: "+id, "api_key: the-key")
		_, err := eightxeight.Provider.Configure(section)
		require.NoError(t, err)
		require.Equal(t, want, file.Warnings)
	}
}
