package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/servertest"
)

// Two replicas on one Redis, which one Prometheus scrapes with the shipped rules. One is
// killed: the value has no gap, no alert fires, and the provider gets no more than the
// quota of one exporter, all the time.
func TestReplicaIsKilled(t *testing.T) {
	t.Parallel()
	const interval, before, after = 2 * time.Second, 20 * time.Second, 60 * time.Second
	redis := servertest.StartRedis(t)
	sim := startSimulator(t, "812.5")
	configuration := writeFile(t, t.TempDir(), "balance_exporter.yml", "accounts:\n"+sim.account("messaging",
		"balance: {refresh_interval: 2s, low_threshold: 500}", "prices: {refresh_interval: 1h}", "rate_limit: {requests: 1, per: 1s, burst: 3}"))
	replica := func() *exporter {
		return startExporter(t, "--config.file="+configuration, "--state.url=redis://"+redis.Address)
	}
	one, other := replica(), replica()
	rules := readRules(t)
	rules.every("5s")
	prom := startPrometheus(t, prometheusConfig{
		main: fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 5s}
rule_files: [alerts.yml]
scrape_configs:
  - job_name: balance_exporter
    static_configs: [{targets: [%q, %q]}]
`, one.address, other.address),
		rules: map[string]string{"alerts.yml": rules.text(t)},
	})
	prom.becomes(2*time.Minute, `count(account_balance{account="messaging"} == 812.5)`, 2)
	prom.becomes(2*time.Minute, `count(sms_price{account="messaging"})`, 4)
	start := time.Now()
	time.Sleep(before)
	one.kill()
	killed := time.Now()
	sim.set("700")
	prom.becomes(25*time.Second, `max without (instance) (account_balance{account="messaging", instance="`+other.address+`"})`, 700)
	time.Sleep(time.Until(killed.Add(after)))

	seconds := int(time.Since(start).Seconds())
	total, err := prom.value(fmt.Sprintf(`count_over_time(max without (instance) (account_balance{account="messaging"})[%ds:1s])`, seconds))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, total, float64(seconds)-2, "there is a gap")
	for _, metric := range []string{"account_balance", "sms_price"} {
		prom.mustBe(0, fmt.Sprintf(`count_over_time(absent(%s{account="messaging"})[%ds:1s]) or vector(0)`, metric, seconds))
	}
	firing, err := prom.query(`ALERTS{alertstate="firing"}`)
	require.NoError(t, err)
	assert.Empty(t, firing)
	if v, found := sim.Requests.Excess(1, time.Second, 3+1); found { // arrivals may be closer than departures
		t.Error(v)
	}
	balance, prices := 0, 0
	for _, a := range sim.Requests.Arrivals() {
		switch a.Path {
		case "/api/v1/accounts/" + simAccount + "/balance":
			balance++
		case "/api/v1/accounts/" + simAccount + "/prices":
			prices++
		}
	}
	assert.Equal(t, 1, prices, "read once by both")
	assert.LessOrEqual(t, balance, int(time.Since(start)/interval)+20, "as often as one exporter reads it")
	assert.Greater(t, balance, int(after/(2*interval)), "the other replica goes on")
}
