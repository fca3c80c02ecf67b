package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	promapi "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/servertest"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
)

// mayBeEmpty has the queries that answer nothing here, with the reason.
var mayBeEmpty = map[string]string{
	"alert BalanceExporterAbsent":           "it fires without an exporter, and there is one",
	"alert BalanceExporterStateUnreachable": "the state is memory",
	"alert BalanceAccountGone":              "no account leaves",
	"alert BalanceSpendingSudden":           "its history is in alerts_test.yml",

	"alert BalanceRunsOutSoon":                                    "the demo is topped up in time; its cases are in alerts_weeks_test.yml",
	"record job:balance_exporter:complete map[]":                  "one target is down",
	"record account:spent:usual_per_hour map[]":                   "it leaves out six hours",
	"record account:spent:growth map[]":                           "its history is in alerts_weeks_test.yml",
	"record account:balance:hours_left_estimate map[by:day]":      "its history is in alerts_weeks_test.yml",
	"record account:balance:hours_left_estimate map[by:half_day]": "its history is in alerts_weeks_test.yml",
	"record account:balance:hours_left_estimate map[by:hour]":     "its history is in alerts_test.yml",
	"record account:balance:hours_left_estimate map[by:empty]":    "no account is empty",
	"record account:balance:hours_left_estimate map[by:week]":     "its history is in alerts_weeks_test.yml",
	"record account:fleet_low:news map[]":                         "the demo has a larger share of low subscribers",
	"alert BalanceSubscriberMoneyLow":                             "its cases are in alerts_weeks_test.yml",
	"alert BalanceSubscriberAllowanceLow":                         "its cases are in alerts_weeks_test.yml",

	"panel Wallets and expiry B": "no provider of the demo says when credit lapses",
}

// Every query of every panel and variable of the dashboard, and every expression of the
// rules, has an answer on a Prometheus that scraped the demo and an exporter with all
// kinds of trouble.
//
// For what looks back a day or a week, some of the series that were scraped and recorded
// are written into the past, with their labels as they are and other values. Rules are
// evaluated every 10 s, to save the wait for the slow groups.
func TestEveryQueryOfDashboardAndRulesHasAnAnswer(t *testing.T) {
	t.Parallel()
	demo, troubled := startDemo(t), startTroubled(t)
	rules := readRules(t)
	rules.every("10s")
	config := prometheusConfig{
		main: replace(t, readExample(t, "prometheus.yml"),
			`targets: ["localhost:10062"]`, fmt.Sprintf("targets: [%q, %q, %q]", demo.address, troubled.address, servertest.Address(t)),
			"localhost:9093", servertest.Address(t), "scrape_interval: 30s", "scrape_interval: 10s"),
		rules: map[string]string{"alerts.yml": rules.text(t)},
		data:  filepath.Join(t.TempDir(), "data"),
	}

	before := startPrometheus(t, config)
	began := time.Now()
	for _, series := range []string{
		`sms_price{account="messaging"}`, "subscriber_balance", `account:balance:hours_left{account="messaging"}`,
		`account:spent:total{account="messaging"}`,
	} {
		eventually(t, 3*time.Minute, func() error {
			v, err := before.query(series)
			if err == nil && len(v) == 0 {
				err = errors.New("no " + series)
			}
			return err
		}, before.process, demo.process, troubled.process)
	}
	scraped, err := before.query(`{__name__=~".+"}`)
	require.NoError(t, err)
	before.stop(t)
	writePast(t, config.data, scraped, began)
	prom := startPrometheus(t, config)

	pending := append(dashboardQueries(t), ruleQueries(rules)...)
	require.Greater(t, len(pending), 50)
	for _, q := range pending {
		for name := range mayBeEmpty {
			require.True(t, slices.ContainsFunc(pending, func(q query) bool { return q.name == name }), "%s is no longer there", name)
		}
		require.NotContains(t, q.text, "$", q.name)
	}
	var failures map[string]error
	for end := time.Now().Add(5 * time.Minute); len(pending) > 0 && time.Now().Before(end); time.Sleep(5 * time.Second) {
		require.NoError(t, prom.ended())
		failures = map[string]error{}
		pending = slices.DeleteFunc(pending, func(q query) bool {
			err := q.ask(prom)
			if errors.Is(err, errNoAnswer) && mayBeEmpty[q.name] != "" {
				return true
			}
			if err != nil {
				failures[q.name] = fmt.Errorf("%w: %s", err, q.text)
			}
			return err == nil
		})
	}
	for name, err := range failures {
		assert.NoError(t, err, name)
	}
	checkRuleHealth(t, prom)
}

// No query of the dashboard fails with one account, or with thirty. Many panels have
// nothing to show then.
func TestDashboardWithOneAccountAndWithThirty(t *testing.T) {
	t.Parallel()
	for _, accounts := range []int{1, 30} {
		t.Run(fmt.Sprint(accounts), func(t *testing.T) {
			t.Parallel()
			configuration := "accounts:\n"
			for i := range accounts {
				sim := startSimulator(t, fmt.Sprint(100+i))
				configuration += sim.account(fmt.Sprintf("account-%02d", i), "balance: {refresh_interval: 5s, low_threshold: 110}", "prices: {enabled: false}")
			}
			e, _ := startConfigured(t, configuration)
			rules := readRules(t)
			rules.every("5s")
			prom := startPrometheus(t, prometheusConfig{
				main: replace(t, readExample(t, "prometheus.yml"),
					"localhost:10062", e.address, "localhost:9093", servertest.Address(t), "scrape_interval: 30s", "scrape_interval: 5s",
					"scrape_timeout: 10s", "scrape_timeout: 5s"),
				rules: map[string]string{"alerts.yml": rules.text(t)},
			})
			prom.becomes(2*time.Minute, "count(account:balance:hours_left)", float64(accounts))
			answered := 0
			for _, q := range dashboardQueries(t) {
				err := q.ask(prom)
				if err == nil {
					answered++
				} else if !errors.Is(err, errNoAnswer) {
					assert.NoError(t, err, "%s: %s", q.name, q.text)
				}
			}
			assert.Greater(t, answered, 25)
		})
	}
}

// startTroubled starts an exporter of which nearly everything fails.
func startTroubled(t *testing.T) *exporter {
	fine, garbled, limited := startSimulator(t, "12.5"), startSimulator(t, "1"), startSimulator(t, "1")
	garbled.Faults.Set(simulate.HTML(200))
	limited.Faults.Set(eightxeightsim.TooManyRequests(simulate.HintSeconds, 25*time.Second))
	long := startSimulator(t, "1")
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	const often, noPrices = "balance: {refresh_interval: 5s}", "prices: {enabled: false}"
	changed := func(account string, oldAndNew ...string) string { return replace(t, account, oldAndNew...) }
	e, file := startConfigured(t, "accounts:\n"+
		changed(fine.account("refused", often, noPrices), simKey, "another-key-of-the-tests")+
		changed(fine.account("unknown", often, noPrices), simAccount, "0f0e0d0c-0000-4000-8000-00000000000b")+
		changed(fine.account("unreachable", often, noPrices), fine.url, closed.URL)+
		fine.account("hasty", "balance: {refresh_interval: 1s}", noPrices, "rate_limit: {requests: 1, per: 1h, burst: 5}")+
		garbled.account("garbled", often, noPrices)+
		limited.account("limited", often, noPrices)+
		long.account("long", often, "prices: {refresh_interval: 5s, max_series: 1}")+
		"  - name: lost-fleet\n"+indented([]string{
		"provider: flolive", "base_url: " + closed.URL, "token: a-token-of-the-tests",
		`subscribers: {list: [{type: iccid, value: "8944501234567890123", name: truck-1, balance_ids: [e7fcef24-5c03-41dd-9e33-995b7d6f32b1]}]}`,
	}))
	require.NoError(t, os.WriteFile(file, []byte("accounts: nonsense\n"), 0o600))
	resp, err := http.Post(e.url("/-/reload"), "", nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
	return e
}

// writePast puts samples of a day and a week ago, and of the last hour, into the data
// folder of a Prometheus that does not run.
func writePast(t *testing.T, data string, scraped model.Vector, began time.Time) {
	t.Helper()
	type span struct {
		from, to time.Time
		step     time.Duration
	}
	now := time.Now()
	spans := []span{
		{now.AddDate(0, 0, -7).Add(-20 * time.Minute), now.AddDate(0, 0, -7).Add(20 * time.Minute), 2 * time.Minute},
		{now.Add(-25 * time.Hour), now.Add(-24*time.Hour + 20*time.Minute), 2 * time.Minute},
		{began.Add(-70 * time.Minute), began.Add(-time.Minute), time.Minute},
	}
	path := filepath.Join(t.TempDir(), "past.om")
	file, err := os.Create(path)
	require.NoError(t, err)
	w := bufio.NewWriter(file)
	write := func(metric model.Metric, value float64) {
		text := openMetrics(metric)
		for _, s := range spans {
			for at := s.from; at.Before(s.to); at = at.Add(s.step) {
				_, _ = fmt.Fprintf(w, "%s %g %d\n", text, value, at.Unix()) // Flush returns the error
			}
		}
	}
	prices := 0
	for _, s := range scraped {
		name, value := string(s.Metric[model.MetricNameLabel]), float64(s.Value)
		switch {
		case name == "sms_price":
			if prices++; prices > 200 {
				continue
			}
			write(s.Metric, value*0.9) // it was raised since
			if prices == 1 {           // and one network is gone
				s.Metric["mnc"] = "999"
				write(s.Metric, value)
			}
		case strings.HasSuffix(name, "cooldown:active"):
			// What it happened to be just now says nothing about the last hour.
		case strings.Contains(name, ":spent:"):
			write(s.Metric, value/1000) // it was cheap to live
		case strings.HasPrefix(name, "account"):
			write(s.Metric, value)
		}
	}
	require.Positive(t, prices)
	_, _ = fmt.Fprintln(w, "# EOF")
	require.NoError(t, w.Flush())
	require.NoError(t, file.Close())
	out, err := output(t, nil, "promtool", "tsdb", "create-blocks-from", "openmetrics", path, data)
	require.NoError(t, err, out)
}

// openMetrics writes a series as the OpenMetrics format has it.
func openMetrics(m model.Metric) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace
	var list []string
	for name, value := range m {
		if name != model.MetricNameLabel {
			list = append(list, fmt.Sprintf(`%s="%s"`, name, escape(string(value))))
		}
	}
	slices.Sort(list)
	return string(m[model.MetricNameLabel]) + "{" + strings.Join(list, ",") + "}"
}

// query is something that is asked of Prometheus.
type query struct {
	name, text string
	ask        func(*prometheus) error
}

var errNoAnswer = errors.New("no answer")

// instant asks for a value now.
func instant(name, expr string) query {
	return query{name, expr, func(p *prometheus) error {
		v, err := p.query(expr)
		if err != nil {
			return err
		}
		for _, sample := range v {
			if !math.IsNaN(float64(sample.Value)) {
				return nil
			}
		}
		return errNoAnswer
	}}
}

// overTime asks for the values of the last minutes, as a graph does.
func overTime(name, expr string) query {
	return query{name, expr, func(p *prometheus) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		now := time.Now()
		value, warnings, infos, err := p.QueryRange(ctx, expr, promapi.Range{Start: now.Add(-3 * time.Minute), End: now, Step: 30 * time.Second})
		if err == nil {
			err = remarks(warnings, infos)
		}
		if err != nil {
			return err
		}
		matrix, _ := value.(model.Matrix)
		for _, series := range matrix {
			for _, v := range series.Values {
				if !math.IsNaN(float64(v.Value)) {
					return nil
				}
			}
		}
		return errNoAnswer
	}}
}

// labelValues asks for the values of a label, as a variable of the dashboard does.
func labelValues(name, selector, label string) query {
	return query{name, selector + " " + label, func(p *prometheus) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		values, warnings, infos, err := p.LabelValues(ctx, label, []string{selector}, time.Now().Add(-time.Minute), time.Now())
		if err == nil {
			err = remarks(warnings, infos)
		}
		if err == nil && len(values) == 0 {
			err = errNoAnswer
		}
		return err
	}}
}

func ruleQueries(f ruleFile) []query {
	var list []query
	for _, g := range f.Groups {
		for _, r := range g.Rules {
			if r.Alert != "" {
				list = append(list, instant("alert "+r.Alert, r.Expr))
			} else {
				list = append(list, instant(fmt.Sprintf("record %s %v", r.Record, r.Labels), r.Expr))
			}
		}
	}
	return list
}

// dashboardQueries are the queries that Grafana sends when the dashboard is opened: all
// variables at "All".
func dashboardQueries(t *testing.T) []query {
	t.Helper()
	var board struct {
		Panels     []dashboardPanel
		Templating struct {
			List []struct {
				Name, Type, Definition, AllValue string
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(readExample(t, "grafana-dashboard.json")), &board))
	require.NotEmpty(t, board.Panels)

	// A scrape interval of 10 s makes a rate interval of 40 s.
	values := []string{"$__rate_interval", "40s"}
	for _, v := range board.Templating.List {
		if v.Type == "query" {
			require.NotEmpty(t, v.AllValue, v.Name)
			values = append(values, "${"+v.Name+"}", v.AllValue, "$"+v.Name, v.AllValue)
		}
	}
	interpolate := strings.NewReplacer(values...).Replace

	var list []query
	definition := regexp.MustCompile(`^label_values\((.+), *(\w+)\)$`)
	for _, v := range board.Templating.List {
		if v.Type == "query" {
			m := definition.FindStringSubmatch(v.Definition)
			require.NotNil(t, m, "a variable that this test does not understand: %s", v.Definition)
			list = append(list, labelValues("variable "+v.Name, interpolate(m[1]), m[2]))
		}
	}
	for _, p := range allPanels(board.Panels) {
		for _, target := range p.Targets {
			name := fmt.Sprintf("panel %s %s", p.Title, target.RefID)
			if target.Instant {
				list = append(list, instant(name, interpolate(target.Expr)))
			} else {
				list = append(list, overTime(name, interpolate(target.Expr)))
			}
		}
	}
	return list
}

type dashboardPanel struct {
	Title   string
	Panels  []dashboardPanel // of a collapsed row
	Targets []struct {
		RefID, Expr string
		Instant     bool
	}
}

func allPanels(panels []dashboardPanel) []dashboardPanel {
	var list []dashboardPanel
	for _, p := range panels {
		list = append(append(list, p), allPanels(p.Panels)...)
	}
	return list
}

// checkRuleHealth holds that Prometheus evaluates every rule without an error, and that
// the templates of what is firing or pending come out.
func checkRuleHealth(t *testing.T, prom *prometheus) {
	t.Helper()
	result, err := prom.Rules(t.Context(), nil)
	require.NoError(t, err)
	rules, active := 0, 0
	for _, g := range result.Groups {
		for _, r := range g.Rules {
			rules++
			switch r := r.(type) {
			case promapi.RecordingRule:
				assert.Equal(t, promapi.RuleHealth(promapi.RuleHealthGood), r.Health, "%s: %s", r.Name, r.LastError)
			case promapi.AlertingRule:
				assert.Equal(t, promapi.RuleHealth(promapi.RuleHealthGood), r.Health, "%s: %s", r.Name, r.LastError)
				for _, a := range r.Alerts {
					active++
					for _, text := range a.Annotations {
						assert.NotRegexp(t, `error expanding|%!|<no value>|\{\{`, string(text), r.Name)
					}
				}
			}
		}
	}
	assert.Positive(t, rules)
	assert.Positive(t, active)
}
