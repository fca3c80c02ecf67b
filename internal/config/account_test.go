package config_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/secret"
)

func TestHosts(t *testing.T) {
	for name, test := range map[string]struct {
		text     string
		want     map[string]string
		warnings []string
	}{
		"defaults": {"", map[string]string{"auth": "https://auth.8x8.com", "pricing": "https://pricing.8x8.com/v1"}, nil},
		"one replaced, one without a value": {
			"hosts: {auth: 'https://sim.localhost:8080/auth/', pricing: }",
			map[string]string{"auth": "https://sim.localhost:8080/auth", "pricing": "https://pricing.8x8.com/v1"}, nil,
		},
		"unencrypted": {
			"hosts:\n  auth: http://auth.example\n  pricing: http://localhost",
			map[string]string{"auth": "http://auth.example", "pricing": "http://localhost"},
			[]string{"c.yml:5: accounts[0].hosts.auth: http:// sends the credentials unencrypted to another host; use https://"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, file := section(t, test.text, nil)
			got := map[string]string{}
			for name, u := range file.Accounts[0].Hosts {
				got[name] = u.String()
			}
			require.Equal(t, test.want, got)
			require.Equal(t, test.warnings, file.Warnings)
			require.Equal(t, "https://sms.8x8.com", file.Accounts[0].BaseURL.String())
		})
	}
}

func TestHeaders(t *testing.T) {
	_, file := section(t, "headers:\n  x-team: ops\n  User-Agent: ${UA}\n  X-Empty: ''\n  X-Number: 007\n  X-Unset:", map[string]string{"UA": "exporter/1 (ünï)\n"})
	require.Equal(t, http.Header{"X-Team": {"ops"}, "User-Agent": {"exporter/1 (ünï)"}, "X-Empty": {""}, "X-Number": {"007"}}, file.Accounts[0].Header)
	_, file = section(t, "", nil)
	require.Empty(t, file.Accounts[0].Header)
}

func TestRefusedHeaders(t *testing.T) {
	for want, names := range map[string][]string{
		"credentials do not belong here; use the provider's own keys for these": {
			"Authorization", "Proxy-Authorization", "Cookie",
		},
		"this header would break requests or answers; remove it": {
			"Host", "Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
			"Accept-Encoding", "Content-Length", "Content-Type", "Content-Encoding", "Expect",
			"Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since",
		},
		"not the name of a header; write one such as X-Team, without spaces and colons": {"X:Team", "X-Tëam", ""},
	} {
		for _, name := range names {
			for _, spelt := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
				_, err := parse(fmt.Sprintf("headers: {%q: hidden}", spelt), nil)
				require.ErrorContains(t, err, ": "+want, spelt)
				require.NotContains(t, err.Error(), "hidden")
			}
		}
	}
	for _, value := range []string{`a\nb`, `a\rb`, `a\0b`} {
		_, err := parse(`headers: {X-Team: "`+value+`"}`, nil)
		require.EqualError(t, err, "c.yml:4: accounts[0].headers.X-Team: the value must be one line without control characters; correct it")
	}
}

func TestTextFromTheEnvironmentIsTrimmed(t *testing.T) {
	s, file := section(t, "api_key: ${KEY}\naccount_id: 'a ${KEY} b'\nbalance:\n  low_threshold: ${LOW}\n  max_age: ${AGE}s",
		map[string]string{"KEY": "\ufeff k3y\r\n", "LOW": "\t12\n", "AGE": " 90 "})
	f := defaults()
	require.NoError(t, s.Decode(f))
	require.Equal(t, "k3y", get(t, f.APIKey))
	require.Equal(t, "a k3y b", f.AccountID)
	require.InEpsilon(t, 12, *f.Balance.LowThreshold, 0)
	require.Equal(t, "1m30s", f.Balance.MaxAge.String())
	require.Empty(t, file.Warnings)

	s, _ = section(t, "api_key: ${KEY}", map[string]string{"KEY": " \ufeff\n"})
	require.EqualError(t, s.Decode(defaults()), "c.yml:4: accounts[0].api_key: the value is empty; write the secret in api_key or the path of its file in api_key_file")
}

func TestBlockTextOfASecretLosesItsLineBreak(t *testing.T) {
	s, _ := section(t, "api_key: |\n  k3y\n", nil)
	f := defaults()
	require.NoError(t, s.Decode(f))
	require.Equal(t, "k3y", get(t, f.APIKey))
}

func TestPastedSecretsWarn(t *testing.T) {
	const quotes = "the secret is in quotes, which are sent as part of it; remove them if the provider did not issue them"
	const assignment = "the secret looks like NAME=value, and all of it is sent; remove the name if the provider did not issue it"
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	for text, want := range map[string]string{
		`"hidden"`: quotes, `'hidden'`: quotes, "API_KEY=hidden": assignment, "export api_key=hidden": assignment, "KEY = hidden": assignment,
		`"hidden`: "", `hidden"`: "", `"`: "", "": "", "aGlkZGVu": "", "aGlkZGV=": "", "aGlkZA==": "", "hidden": "", "=hidden": "", "hid den=x": "", "4hidden=x": "",
	} {
		warnings := func(yaml string) []string {
			file, err := config.Parse("c.yml", dir, []byte("accounts:\n- name: a\n  provider: 8x8\n  "+yaml),
				func(string) (string, bool) { return text, true }, config.Only(all...))
			require.NoError(t, err)
			var dst struct {
				APIKey *secret.Value `yaml:"api_key"`
			}
			if err := file.Accounts[0].Section.Decode(&dst); text != "" {
				require.NoError(t, err)
				require.Equal(t, text, get(t, dst.APIKey), "the secret stays as it is")
			}
			return file.Warnings
		}
		require.NoError(t, os.WriteFile(path, []byte(text+"\n"), 0o600))
		for key, yaml := range map[string]string{
			"api_key":      "api_key: ${KEY}",
			"api_key_file": "api_key_file: key",
		} {
			var expected []string
			if want != "" {
				expected = []string{"c.yml:4: accounts[0]." + key + ": " + want}
			}
			require.Equal(t, expected, warnings(yaml), "%s %s", key, text)
		}
	}
}

func TestFaultsOfAllAccountsAreReported(t *testing.T) {
	var text, want strings.Builder
	text.WriteString("accounts:\n")
	for i := range 23 {
		fmt.Fprintf(&text, "- {name: b%[1]d, provider: 8x8, timeout: 0s}\n- {name: a%[1]d, provider: 8x8}\n", i)
		if i < 20 {
			fmt.Fprintf(&want, "c.yml:%d: accounts[%d].timeout: the timeout must be more than 0; write one such as 30s\n", 2+2*i, 2*i)
		}
	}
	_, err := config.Parse("c.yml", "", []byte(text.String()), os.LookupEnv, config.Only(all...))
	require.EqualError(t, err, want.String()+"and 3 more")
	require.NoError(t, config.Join(nil))
}

// many returns a file of n accounts, each with a secret and an environment variable
// of its own, that give warnings at the base URL and at the account_id.
func many(n int) []byte {
	var text strings.Builder
	text.WriteString("accounts:\n")
	for i := range n {
		fmt.Fprintf(&text, "- {name: a%d, provider: 8x8, api_key: \"${KEY%d}\", account_id: none, base_url: http://example.com}\n", i, i)
	}
	return []byte(text.String())
}

func parseMany(t testing.TB, text []byte) *config.File {
	file, err := config.Parse("c.yml", "", text, func(name string) (string, bool) { return "value-of-" + name, true }, config.Only(all...))
	require.NoError(t, err)
	_, err = configureAll(file)
	require.NoError(t, err)
	return file
}

// TestLoadingIsLinear counts allocations instead of time, which a busy machine
// cannot change: 4 times as many accounts that warn need about 4 times as many.
func TestLoadingIsLinear(t *testing.T) {
	small, large := many(250), many(1000)
	require.Len(t, parseMany(t, small).Warnings, 500)
	few := testing.AllocsPerRun(1, func() { parseMany(t, small) })
	more := testing.AllocsPerRun(1, func() { parseMany(t, large) })
	require.Less(t, more/few, 5.0)
}

func BenchmarkLoad20000Accounts(b *testing.B) {
	text := many(20_000)
	for b.Loop() {
		parseMany(b, text)
	}
}
