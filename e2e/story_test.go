package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// The demo's balance falls below its threshold, Alertmanager notifies, it is topped up, and
// Alertmanager sends the resolved notification.
//
// The shipped files are changed in their addresses only, except that Alertmanager groups
// for 2 s, and has the test as its receiver. The demo and the rules take their own time:
// the alert fires within five minutes, and resolves about ten minutes after the start.
func TestLowBalanceAndTopUp(t *testing.T) {
	t.Parallel()
	demo, hook := startDemo(t), startHook(t)
	alertmanager := startAlertmanager(t, hook)
	prom := startPrometheus(t, prometheusConfig{
		main: replace(t, readExample(t, "prometheus.yml"),
			"localhost:10062", demo.address, "localhost:9093", alertmanager),
		rules: map[string]string{"alerts.yml": readExample(t, "alerts.yml")},
	})

	const account = `{provider="8x8", account="messaging", currency="USD"}`
	prom.becomes(90*time.Second, `sum without (wallet) (account_balance`+account+`) > bool account_balance_low_threshold`, 1)
	assert.Empty(t, hook.about("BalanceLow", "messaging"), "no notification while the balance is above the threshold")

	states := func(want ...string) func() error {
		return func() error {
			if got := statuses(hook.about("BalanceLow", "messaging")); len(got) < len(want) {
				return fmt.Errorf("got %q, expected %q", got, want)
			}
			return nil
		}
	}
	eventually(t, 5*time.Minute, states("firing"), prom.process, demo.process)
	prom.mustBe(1, `sum without (wallet) (account_balance`+account+`) < bool account_balance_low_threshold`)
	first := hook.about("BalanceLow", "messaging")[0]
	assert.Equal(t, "ticket", first.receiver)
	assert.Equal(t, map[string]string{
		"alertname": "BalanceLow", "severity": "warning",
		"provider": "8x8", "account": "messaging", "currency": "USD",
	}, first.labels)
	assert.Regexp(t, `messaging of 8x8 has 4\d\d\.\d\d USD left`, first.annotations["description"])
	assert.Contains(t, first.annotations["runbook_url"], "#balancelow")

	eventually(t, 12*time.Minute, states("firing", "resolved"), prom.process, demo.process)
	prom.mustBe(1, `sum without (wallet) (account_balance`+account+`) > bool account_balance_low_threshold`)
	assert.Equal(t, []string{"firing", "resolved"}, statuses(hook.about("BalanceLow", "messaging")))
}
