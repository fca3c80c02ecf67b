package config_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
)

// fake is the configuration of a provider with the keys of 8x8.
type fake struct {
	AccountID string         `yaml:"account_id"`
	APIKey    *secret.Value  `yaml:"api_key"`
	Balance   fakeSource     `yaml:"balance"`
	Prices    fakePrices     `yaml:"prices"`
	Extra     map[string]int `yaml:"extra"`
}

type fakeSource struct {
	Enabled         bool           `yaml:"enabled"`
	RefreshInterval model.Duration `yaml:"refresh_interval"`
	MaxAge          model.Duration `yaml:"max_age"`
	LowThreshold    *float64       `yaml:"low_threshold"`
}

type fakePrices struct {
	Source      fakeSource    `yaml:",inline"`
	Direction   string        `yaml:"direction"`
	Countries   []string      `yaml:"countries"`
	Networks    []fakeNetwork `yaml:"networks"`
	SubAccounts []string      `yaml:"sub_accounts"`
	MaxSeries   int           `yaml:"max_series"`
}

type fakeNetwork struct{ MCC, MNC string }

var all = []providers.Provider{
	{
		Name: "8x8", BaseURL: "https://sms.8x8.com", RateLimit: quota.Limit{Requests: 1, Per: time.Second, Burst: 5},
		Hosts: map[string]string{"pricing": "https://pricing.8x8.com/v1/", "auth": "https://auth.8x8.com"},
	},
	{Name: "yeastar", BaseURL: "https://yeastar.example", RateLimit: quota.Limit{Requests: 1, Per: time.Second, Burst: 5}},
	{Name: "flolive"},
}

func defaults() *fake {
	source := fakeSource{Enabled: true, RefreshInterval: model.Duration(time.Minute), MaxAge: model.Duration(time.Hour)}
	return &fake{Balance: source, Prices: fakePrices{Source: source, Direction: "both", MaxSeries: 200000}}
}

// configure is what a provider does with its section.
func configure(s *config.Section) (*fake, error) {
	f := defaults()
	if err := s.Decode(f); err != nil {
		return nil, err
	}
	if f.APIKey == nil {
		return nil, s.Errorf("api_key", "is required: the key of the account; write api_key or api_key_file")
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(f.AccountID) {
		s.Warnf("account_id", "%q is no GUID", f.AccountID)
	}
	if f.Balance.RefreshInterval < model.Duration(time.Second) {
		return nil, s.Errorf("balance.refresh_interval", "%s is too short; write 1s or more", f.Balance.RefreshInterval)
	}
	for i, n := range f.Prices.Networks {
		if n.MCC != "" && n.MNC == "" {
			return nil, s.Errorf(fmt.Sprintf("prices.networks[%d]", i), "needs both mcc and mnc; write the one that is missing")
		}
	}
	return f, nil
}

func configureAll(file *config.File) ([]*fake, error) {
	var all []*fake
	var faults []error
	for _, a := range file.Accounts {
		f, err := configure(a.Section)
		all, faults = append(all, f), append(faults, err)
	}
	return all, config.Join(faults...)
}

func load(t *testing.T, name string) (*config.File, []*fake) {
	t.Helper()
	file, err := config.Load(filepath.Join("testdata", name), config.Only(all...))
	require.NoError(t, err)
	all, err := configureAll(file)
	require.NoError(t, err)
	return file, all
}

// parse reads one account with the lines of text added to what it needs.
func parse(text string, env map[string]string) (*config.File, error) {
	whole := "accounts:\n- name: a\n  provider: 8x8\n  " + strings.ReplaceAll(text, "\n", "\n  ")
	return config.Parse("c.yml", "/etc/exporter", []byte(whole), func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}, config.Only(all...))
}

// section returns the section of such an account.
func section(t *testing.T, text string, env map[string]string) (*config.Section, *config.File) {
	t.Helper()
	file, err := parse(text, env)
	require.NoError(t, err)
	return file.Accounts[0].Section, file
}

func get(t *testing.T, v *secret.Value) string {
	t.Helper()
	text, err := v.Get()
	require.NoError(t, err)
	return text
}

// TestInvalidFiles holds the exact message of every testdata/invalid-*.yml, which
// is its first line; FILE and DIR stand for where it is, PROVIDERS for known.
func TestInvalidFiles(t *testing.T) {
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	paths, err := filepath.Glob("testdata/invalid-*.yml")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yml"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			first, _, _ := bytes.Cut(text, []byte("\n"))
			want, ok := strings.CutPrefix(string(first), "# error: ")
			require.True(t, ok, "the first line must be the error")
			want = strings.NewReplacer("FILE", path, "DIR", filepath.Dir(path), "PROVIDERS", strings.Join(names, ", ")).Replace(want)

			file, err := config.Load(path, config.Only(all...))
			if file != nil {
				_, more := configureAll(file)
				err = config.Join(err, more)
			}
			require.EqualError(t, err, strings.ReplaceAll(want, " ⏎ ", "\n"))
			require.NotContains(t, err.Error(), "k3y")
		})
	}
}

func TestFullFile(t *testing.T) {
	file, all := load(t, "valid-full.yml")
	require.Equal(t, []string{
		"testdata/valid-full.yml:6: accounts[0].base_url: the path /gateway comes before the path of every request; remove it unless a gateway needs it",
	}, file.Warnings)
	a := file.Accounts[0]
	require.Equal(t, "messaging", a.Name)
	require.Equal(t, "8x8", a.Provider)
	require.Equal(t, "https://sms.8x8.uk/gateway", a.BaseURL.String())
	require.Equal(t, quota.Limit{Requests: 10, Per: time.Minute, Burst: 2}, a.RateLimit)
	require.Equal(t, 5*time.Second, a.Timeout)
	require.Equal(t, "http://proxy:3128", a.HTTP.Proxy.ProxyURL.String())
	require.Equal(t, "localhost", a.HTTP.Proxy.NoProxy)
	require.Equal(t, promconfig.TLSConfig{ServerName: "other", MinVersion: 0x0303}, a.HTTP.TLS)

	require.Equal(t, "k3y-from-a-file", get(t, all[0].APIKey))
	low := 500.0
	want := defaults()
	want.AccountID = "0f0e0d0c-0000-4000-8000-000000000001"
	want.APIKey = all[0].APIKey
	want.Balance = fakeSource{true, model.Duration(90 * time.Second), model.Duration(24 * time.Hour), &low}
	want.Prices = fakePrices{
		Source:    fakeSource{false, model.Duration(2 * time.Hour), model.Duration(time.Hour), nil},
		Direction: "outbound", Countries: []string{"SG", "NO"}, Networks: []fakeNetwork{{"525", "01"}, {"525", "03"}},
		SubAccounts: []string{"marketing"}, MaxSeries: 16,
	}
	require.Equal(t, want, all[0])
}

func TestMinimalFileGetsDefaultsAndWarnings(t *testing.T) {
	file, all := load(t, "valid-minimal.yml")
	require.Equal(t, []string{
		"testdata/valid-minimal.yml:12: accounts[1].base_url: http:// sends the credentials unencrypted to another host; use https://",
		`testdata/valid-minimal.yml:4: accounts[0].account_id: "not-a-guid" is no GUID`,
		`testdata/valid-minimal.yml:9: accounts[1].account_id: "" is no GUID`,
	}, file.Warnings)
	a := file.Accounts[0]
	require.Equal(t, "https://sms.8x8.com", a.BaseURL.String())
	require.Equal(t, quota.Limit{Requests: 1, Per: time.Second, Burst: 9}, a.RateLimit)
	require.Equal(t, 30*time.Second, a.Timeout)
	require.Equal(t, config.HTTP{}, a.HTTP)
	require.Equal(t, "0123456789", get(t, all[0].APIKey))
	require.Equal(t, "kept as it is", get(t, all[1].APIKey))
	require.Equal(t, defaults().Prices, all[0].Prices)
}

func TestEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"TEST_NAME": "ünï", "TEST_PROVIDER": "8x8", "TEST_ID": "000000000001", "TEST_NUMBER": "12",
		"TEST_KEY": "null # ${TEST_ID} 'k3y\"", "TEST_SWITCH": "off", "TEST_STRUCTURE": "]\n- a: *b", "TEST_EMPTY": "",
	} {
		t.Setenv(name, value)
	}
	file, all := load(t, "valid-environment.yml")
	require.Empty(t, file.Warnings)
	require.Equal(t, "ünï ${x}", file.Accounts[0].Name)
	require.Equal(t, `null # ${TEST_ID} 'k3y"`, get(t, all[0].APIKey), "neither structure nor expanded again")
	require.InEpsilon(t, 12, *all[0].Balance.LowThreshold, 0)
	require.Equal(t, model.Duration(12*time.Second), all[0].Balance.RefreshInterval)
	require.False(t, all[0].Prices.Source.Enabled)
	require.Equal(t, []string{"]\n- a: *b", ""}, all[0].Prices.SubAccounts)
}

func TestAnchorsAndMergeKeys(t *testing.T) {
	file, all := load(t, "valid-anchors.yml")
	for i, name := range []string{"one", "two", "three"} {
		require.Equal(t, name, file.Accounts[i].Name)
		require.Equal(t, "k3y-of-the-account", get(t, all[i].APIKey))
		require.Equal(t, model.Duration(5*time.Minute), all[i].Balance.RefreshInterval)
		require.InEpsilon(t, float64(i+1), *all[i].Balance.LowThreshold, 0)
		require.Equal(t, []fakeNetwork{{"525", "01"}}, all[i].Prices.Networks)
	}
	err := file.Accounts[1].Section.Errorf("prices.networks[0].mnc", "is odd")
	require.EqualError(t, err, "testdata/valid-anchors.yml:8: accounts[1].prices.networks[0].mnc: is odd")
}

func TestLoadSaysWhichFileIsMissing(t *testing.T) {
	_, err := config.Load("testdata/none.yml", config.Only(all...))
	require.EqualError(t, err, "--config.file testdata/none.yml: the file does not exist; create it or correct the path, or try --demo, which needs none")
	_, err = config.Load("testdata", config.Only(all...))
	require.EqualError(t, err, "--config.file testdata: is a directory; name a YAML file with accounts")
}

func TestHostsThatNeedNoEncryption(t *testing.T) {
	for host, warned := range map[string]bool{
		"localhost": false, "LOCALHOST.:80": false, "sim.localhost:1": false, "127.9.9.9": false, "[::1]:80": false,
		"10.0.0.1": true, "example.com": true, "127.0.0.1.example.com": true, "[::2]": true,
	} {
		_, file := section(t, "base_url: http://"+host, nil)
		require.Equal(t, warned, len(file.Warnings) == 1, host)
	}
}

func TestNamesMustBeText(t *testing.T) {
	for value, want := range map[string]string{
		"${BYTES}": "c.yml:2: accounts[0].name: the environment variable BYTES is not UTF-8; set it to a text in this encoding",
		"${SPACE}": "c.yml:2: accounts[0].name: the account has no name; give it one, it becomes the label account",
	} {
		_, err := config.Parse("c.yml", "", []byte("accounts:\n- name: "+value+"\n  provider: 8x8"),
			func(name string) (string, bool) { return map[string]string{"BYTES": "\xff", "SPACE": " "}[name], true }, config.Only(all...))
		require.EqualError(t, err, want)
	}
}

func TestErrorsDoNotShowTheEnvironment(t *testing.T) {
	env := map[string]string{"V": "hidden/ü\"value", "S": "-7"}
	for name, test := range map[string]struct{ text, want string }{
		"duration":     {"timeout: ${V}", `c.yml:4: accounts[0].timeout: expected a duration such as 90s, 1h or 1d, got the value of "${V}"`},
		"number":       {"rate_limit: {burst: 'x${V}'}", `c.yml:4: accounts[0].rate_limit.burst: expected a whole number, got the value of "x${V}"`},
		"short number": {"rate_limit: {burst: '${S}'}", `c.yml:4: accounts[0].rate_limit.burst: expected a whole number, got the value of "${S}"`},
		"unmarshaler":  {"http: {tls_config: {min_version: '${V}'}}", "c.yml:4: accounts[0].http.tls_config.min_version: unknown TLS version: ${V}"},
		"path":         {"http: {tls_config: {ca_file: '/${V}'}}", "c.yml:4: accounts[0].http.tls_config.ca_file: stat /${V}: no such file or directory; name a file in PEM format"},
		"merge":        {"balance: {<<: '${V}'}", `c.yml:4: accounts[0].balance: << takes a mapping or a list of them, got the value of "${V}"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(test.text, env)
			require.EqualError(t, err, test.want)
		})
	}
	for name, test := range map[string]struct{ text, want string }{
		"secret file": {"api_key_file: '/${V}'", "c.yml:4: accounts[0].api_key_file: cannot read the secret file: open //${V}: no such file or directory; correct the path or the permissions"},
		"list":        {"prices: {countries: '${V}'}", `c.yml:4: accounts[0].prices.countries: expected a list, got the value of "${V}"`},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := section(t, test.text, env)
			require.EqualError(t, s.Decode(defaults()), strings.Replace(test.want, "//", "/", 1))
		})
	}
}
