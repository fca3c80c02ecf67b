package exporter

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
)

func TestConfigurationWarnings(t *testing.T) {
	const threshold = "\n    balance: {low_threshold: 5}"
	one := "\n  - name: one\n    provider: 8x8\n    account_id: " + accountOne + "\n    api_key: key-one-1234" + threshold
	as := func(name, text string) string { return strings.Replace(text, "name: one", "name: "+name, 1) }
	for _, c := range []struct{ name, accounts, want string }{
		{"nothing", one, ""},
		{"same account twice", one + as("two", one),
			"warning: FILE:7: accounts[1]: is the same account at the provider as one: both spend one quota, which their rate_limit does not know; remove one of them\n"},
		{"three times", one + as("two", one) + as("three", one), `warning: FILE:7: accounts[1]: is the same account at the provider as one: both spend one quota, which their rate_limit does not know; remove one of them
warning: FILE:12: accounts[2]: is the same account at the provider as one: both spend one quota, which their rate_limit does not know; remove one of them
`},
		{"another key of the account", one + strings.Replace(as("two", one), "key-one", "key-two", 1),
			"warning: FILE:7: accounts[1]: is the same account at the provider as one: both spend one quota, which their rate_limit does not know; remove one of them\n"},
		{"another account", one + strings.Replace(as("two", one), accountOne, accountTwo, 1), ""},
		{"another region", one + as("two", one) + "\n    base_url: https://sms.us.8x8.com", ""},
		{"no low_threshold", strings.Replace(one, threshold, "\n    balance: {max_age: 1h}", 1),
			"warning: FILE:6: accounts[0].balance: has no low_threshold: no alert fires when the balance is low; set one\n"},
		{"no balance", strings.Replace(one, threshold, "\n    balance: {enabled: false}", 1), ""},
	} {
		_, warnings := check(t, "accounts:"+c.accounts)
		assert.Equal(t, c.want, warnings, c.name)
	}
}

// An account that has not changed is not opened again: its gate, its snapshots and its
// connections stay, and it sends nothing.
func TestReloadKeepsUnchangedAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		opened := map[string]int{}
		before := b.opener.transport
		b.opener.transport = func(name string, c config.HTTP) (http.RoundTripper, error) {
			opened[name]++
			return before(name, c)
		}
		b.scrape()
		groups := b.cache.Groups()
		require.NoError(t, b.reload())
		require.Empty(t, opened)
		require.Equal(t, len(groups), len(b.cache.Groups()))
		for i, g := range b.cache.Groups() {
			require.Same(t, groups[i], g)
		}

		b.configure(strings.Replace(twoAccounts, "max_age: 10m}\n    prices: {enabled: false}", "max_age: 20m}\n    prices: {enabled: false}", 1))
		require.NoError(t, b.reload())
		require.Equal(t, map[string]int{"two": 1}, opened)
		require.Equal(t, bothBalances, b.scrape("account_balance"))
		require.Equal(t, 3, b.asked(""), "both accounts keep their values")
		require.Same(t, groups[0], b.cache.Groups()[0])
	})
}

// If one account cannot be opened, all of them stay as they were.
func TestFailedReloadKeepsTheAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		b.scrape()
		before := b.opener.transport
		b.opener.transport = func(name string, c config.HTTP) (http.RoundTripper, error) {
			if name == "two" {
				return nil, errors.New("no transport with key-new-1234")
			}
			return before(name, c)
		}
		b.configure(strings.NewReplacer("key-two-1234", "key-new-1234", "name: one", "name: other", "low_threshold: 500", "low_threshold: 600").Replace(twoAccounts))
		require.EqualError(t, b.reload(), b.file+":8: accounts[1].http: no transport with <secret>")
		require.Equal(t, bothBalances, b.scrape("account_balance"))
		time.Sleep(61 * time.Second)
		b.balance.Set("99")
		require.Equal(t, strings.Replace(bothBalances, "100.5", "99", 1), b.scrape("account_balance"), "they are refreshed")
		require.NoError(t, b.logger.Log("msg", "the keys key-one-1234 and key-two-1234"))
		require.Contains(t, b.log.String(), `msg="the keys <secret> and <secret>"`)
	})
}

// A configuration that becomes a pipe is refused; the next reload works.
func TestReloadOfAPipe(t *testing.T) {
	b := benchOf(t, twoAccounts, nil).open()
	require.NoError(t, os.Remove(b.file))
	require.NoError(t, syscall.Mkfifo(b.file, 0o600))
	require.EqualError(t, b.reload(), "--config.file "+b.file+": not a regular file; name a YAML file with accounts")
	require.NoError(t, os.Remove(b.file))
	b.configure(twoAccounts)
	require.NoError(t, b.reload())
}

// A key file that becomes unreadable concerns its account only, which keeps the last
// good key.
func TestKeyFileThatBecomesAPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := filepath.Join(t.TempDir(), "key")
		require.NoError(t, os.WriteFile(key, []byte("key-one-1234"), 0o600))
		b := newBench(t, strings.Replace(twoAccounts, "api_key: key-one-1234", "api_key_file: "+key, 1))
		require.Equal(t, bothBalances, b.scrape("account_balance"))
		require.NoError(t, os.Remove(key))
		require.NoError(t, syscall.Mkfifo(key, 0o600))
		time.Sleep(61 * time.Second)
		start := time.Now()
		require.Equal(t, bothBalances, b.scrape("account_balance"))
		require.Zero(t, time.Since(start))
		require.Equal(t, 5, b.asked(""))
	})
}
