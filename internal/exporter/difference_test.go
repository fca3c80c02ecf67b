package exporter

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/cache"
)

func TestDifferenceOfAccounts(t *testing.T) {
	a := func(name, digest string) cache.Account {
		return cache.Account{Provider: "8x8", Name: name, ID: "id-" + name, Digest: digest}
	}
	old := []cache.Account{a("stays", "1"), a("changes", "1"), a("goes", "1")}
	next := []cache.Account{a("comes", "1"), a("changes", "2"), a("stays", "1")}
	require.Equal(t, "1 added: 8x8/comes; 1 changed: 8x8/changes; 1 removed: 8x8/goes", compare(old, next).String())
	require.Equal(t, "no account changed", compare(next, next).String())
	var many []cache.Account
	for i := range 21 {
		many = append(many, a(fmt.Sprint(i), "1"))
	}
	text := compare(nil, many).String()
	require.Contains(t, text, "21 added: 8x8/0, 8x8/1,")
	require.True(t, strings.HasSuffix(text, "8x8/19, …"), text)
}

// An account that leaves the configuration while it is low is named in a warning.
func TestReloadSaysWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, twoAccounts)
		require.Equal(t, bothBalances, b.scrape("account_balance"))
		one, two := strings.Index(twoAccounts, "  - name:"), strings.LastIndex(twoAccounts, "  - name:")
		b.configure(twoAccounts[:one] + twoAccounts[two:])
		changes, err := b.Reload()
		require.NoError(t, err)
		require.Equal(t, "1 removed: 8x8/one", changes)
		require.Contains(t, b.log.String(), `msg="an account that was low is no longer configured: no alert fires when it is empty" account="8x8/one (100.5 USD)"`)
		require.Contains(t, b.log.String(), `msg="configuration loaded" accounts=1 changes="1 removed: 8x8/one"`)
	})
}
