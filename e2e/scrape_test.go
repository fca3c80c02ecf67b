package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

// scrapeConfig is a Prometheus that scrapes one address often.
func scrapeConfig(address, interval string) string {
	return fmt.Sprintf(`
global: {scrape_interval: %[2]s, scrape_timeout: %[2]s}
scrape_configs:
  - job_name: balance_exporter
    static_configs: [{targets: [%[1]q]}]
`, address, interval)
}

// Two servers scrape every second. The balance is read every 5 s, as the configuration
// says, and the price list once; slow answers make the scrapes meet while a refresh is
// under way.
func TestTwoPrometheusServersCauseNoExtraCall(t *testing.T) {
	t.Parallel()
	const interval, delay, long = 5 * time.Second, 1500 * time.Millisecond, 45 * time.Second
	sim := startSimulator(t, "812.5")
	sim.Faults.Set(simulate.Delay(delay))
	e, _ := startConfigured(t, "accounts:\n"+sim.account("messaging", "balance: {refresh_interval: 5s}", "prices: {refresh_interval: 1h}"))

	one := startPrometheus(t, prometheusConfig{main: scrapeConfig(e.address, "1s")})
	two := startPrometheus(t, prometheusConfig{main: scrapeConfig(e.address, "1s")})
	for _, prom := range []*prometheus{one, two} {
		prom.becomes(30*time.Second, `account_balance{account="messaging"}`, 812.5)
	}
	time.Sleep(long)

	for _, prom := range []*prometheus{one, two} {
		scrapes, err := prom.value(fmt.Sprintf(`sum_over_time(up[%ds])`, int(long.Seconds())))
		require.NoError(t, err)
		assert.Greater(t, scrapes, long.Seconds()/2, "too few scrapes to prove anything")
	}
	var balance, prices []time.Time
	for _, a := range sim.Requests.Arrivals() {
		switch a.Path {
		case "/api/v1/accounts/" + simAccount + "/balance":
			balance = append(balance, a.Time)
		case "/api/v1/accounts/" + simAccount + "/prices":
			prices = append(prices, a.Time)
		}
	}
	assert.Len(t, prices, 1)
	// A value is refreshed at the first scrape after its interval, which begins when it
	// was read.
	assert.GreaterOrEqual(t, len(balance), int(long/(interval+delay+2*time.Second)), "the balance was not kept up to date")
	for i := 1; i < len(balance); i++ {
		// The requests are timed where they arrive, not where they leave.
		assert.Greater(t, balance[i].Sub(balance[i-1]), interval-200*time.Millisecond, "%d was too early", i)
	}

	// What the exporter says of itself is the same.
	for _, prom := range []*prometheus{one, two} {
		eventually(t, 10*time.Second, func() error {
			said, err := prom.value(`sum(balance_exporter_requests_total{provider="8x8", account="messaging"})`)
			if err != nil {
				return err
			}
			if n := sim.Requests.Len(); int(said) != n {
				return fmt.Errorf("the metric says %v requests, %d arrived", said, n)
			}
			return nil
		}, prom.process)
		intervals, err := prom.value(`
			sum(increase(balance_exporter_requests_total{account="messaging"}[40s]))
			/ (40 / max(balance_exporter_refresh_interval_seconds{account="messaging", source="balance"}))`)
		require.NoError(t, err)
		assert.LessOrEqual(t, intervals, 1.1, "requests per refresh interval")
		assert.Greater(t, intervals, 0.5, "requests per refresh interval")
	}
}

// A provider that is away for ten minutes, sped up by ten: it fails in three ways for
// twenty seconds each. The balance is read every second instead of every ten, rules are
// evaluated every 3 s, BalanceLow has a `for` of 6 s, and no `keep_firing_for` at all, so
// that this cannot hide a flapping.
func TestOutageNeitherDropsTheSeriesNorFlapsTheAlert(t *testing.T) {
	t.Parallel()
	sim, hook := startSimulator(t, "432.10"), startHook(t)
	e, _ := startConfigured(t, "accounts:\n"+sim.account("messaging",
		"balance: {refresh_interval: 1s, max_age: 6m, low_threshold: 500}", "prices: {enabled: false}", "timeout: 2s"))
	rules := readRules(t)
	rules.every("3s")
	low := rules.alert(t, "BalanceLow")
	low.For, low.KeepFiringFor = "6s", ""
	prom := startPrometheus(t, prometheusConfig{
		main: replace(t, readExample(t, "prometheus.yml"),
			"localhost:10062", e.address, "localhost:9093", startAlertmanager(t, hook), "scrape_interval: 30s", "scrape_interval: 3s",
			"scrape_timeout: 10s", "scrape_timeout: 3s"),
		rules: map[string]string{"alerts.yml": rules.text(t)},
	})
	statusesBecome := func(atMost time.Duration, want ...string) {
		t.Helper()
		eventually(t, atMost, func() error {
			if got := statuses(hook.about("BalanceLow", "messaging")); !assert.ObjectsAreEqual(want, got) {
				return fmt.Errorf("got %q, expected %q", got, want)
			}
			return nil
		}, prom.process, e.process)
	}
	statusesBecome(90*time.Second, "firing")

	began := time.Now()
	for _, fault := range []simulate.Fault{simulate.HTML(502), simulate.ResetAfter(0), simulate.Hang()} {
		sim.Faults.Set(fault)
		time.Sleep(20 * time.Second)
	}
	prom.mustBe(0, `max_over_time(balance_exporter_up{source="balance"}[40s])`)
	sim.set("431.05")
	sim.Faults.Clear()
	// It is found again when the back-off lets it: at most one and a half minutes after
	// the failures that came before.
	prom.becomes(3*time.Minute, `account_balance`, 431.05)
	prom.mustBe(1, `balance_exporter_up{source="balance"}`)

	over := fmt.Sprintf("[%ds]", int(time.Since(began).Seconds()))
	prom.mustBe(0, `count_over_time(up`+over+`) - on () count_over_time(account_balance`+over+`)`)
	prom.mustBe(0, `max_over_time(account_balance`+over+`) - 432.10`)
	prom.mustBe(0, `min_over_time(account_balance`+over+`) - 431.05`)
	// Without the evaluation that may be going on.
	over = fmt.Sprintf("[%ds] offset 10s", int(time.Since(began).Seconds())-10)
	prom.mustBe(0, `count_over_time(account:balance:held`+over+`)
		- on () count_over_time(ALERTS{alertname="BalanceLow", alertstate="firing"}`+over+`)`)
	assert.Equal(t, []string{"firing"}, statuses(hook.about("BalanceLow", "messaging")), "no flapping")

	sim.set("900")
	statusesBecome(time.Minute, "firing", "resolved")
	for _, a := range hook.all() {
		s := statuses(hook.about(a.labels["alertname"], a.labels["account"]))
		assert.LessOrEqual(t, len(s), 2, "%s flapped: %q", a.labels["alertname"], s)
	}
}
