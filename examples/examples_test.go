// Package examples_test checks that the examples follow the conventions and match each other.
// The manifests of kubernetes/ are rendered and tested in e2e/chart.
package examples_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const (
	alertsFile     = "alerts.yml"
	alertTestsFile = "alerts_test.yml"
	dashboardFile  = "grafana-dashboard.json"
	runbookFile    = "../docs/runbook.md"
	runbookURL     = "https://github.com/balance-exporter/balance_exporter/blob/main/docs/runbook.md#"
)

// contract lists the series that rules, dashboard and runbook may use: those of the
// exporter, and those that Prometheus adds to every target and alert.
var contract = []string{
	"account_balance",
	"account_balance_expires_timestamp_seconds",
	"account_balance_low_threshold",
	"account_topup_lead_seconds",
	"sms_price",
	"subscriber_balance",
	"subscriber_allowance",
	"fleet_balances",
	"fleet_allowances",
	"fleet_low_balances",
	"fleet_low_allowances",
	"subscriber_low_threshold",
	"balance_exporter_up",
	"balance_exporter_last_success_timestamp_seconds",
	"balance_exporter_refresh_interval_seconds",
	"balance_exporter_refreshes_total",
	"balance_exporter_refresh_failures_total",
	"balance_exporter_requests_total",
	"balance_exporter_request_duration_seconds_bucket",
	"balance_exporter_request_duration_seconds_count",
	"balance_exporter_request_duration_seconds_sum",
	"balance_exporter_cooldown_until_timestamp_seconds",
	"balance_exporter_planned_requests_per_second",
	"balance_exporter_rate_limit_requests_per_second",
	"balance_exporter_dropped_rows_total",
	"balance_exporter_subscribers",
	"balance_exporter_exposition_bytes",
	"balance_exporter_account_info",
	"balance_exporter_state_up",
	"balance_exporter_state_errors_total",
	"balance_exporter_state_request_duration_seconds_bucket",
	"balance_exporter_state_request_duration_seconds_count",
	"balance_exporter_state_request_duration_seconds_sum",
	"balance_exporter_config_last_reload_successful",
	"balance_exporter_config_last_reload_success_timestamp_seconds",
	"balance_exporter_build_info",
	"go_goroutines",
	"process_cpu_seconds_total",
	"process_resident_memory_bytes",

	"up",
	"scrape_duration_seconds",
	"scrape_samples_scraped",
	"ALERTS",
}

// reasons lists all values of the label reason of failures.
var reasons = []string{
	"auth", "forbidden", "rate_limited", "timeout", "unavailable",
	"bad_request", "bad_response", "tls", "not_found", "internal",
}

type ruleFile struct {
	Groups []ruleGroup `yaml:"groups"`
}

type ruleGroup struct {
	Name     string `yaml:"name"`
	Interval string `yaml:"interval"`
	Rules    []rule `yaml:"rules"`
}

type rule struct {
	Record        string            `yaml:"record"`
	Alert         string            `yaml:"alert"`
	Expr          string            `yaml:"expr"`
	For           string            `yaml:"for"`
	KeepFiringFor string            `yaml:"keep_firing_for"`
	Labels        map[string]string `yaml:"labels"`
	Annotations   map[string]string `yaml:"annotations"`
}

func (f ruleFile) alerts() []rule {
	var alerts []rule
	for _, g := range f.Groups {
		for _, r := range g.Rules {
			if r.Alert != "" {
				alerts = append(alerts, r)
			}
		}
	}
	return alerts
}

func (f ruleFile) records() []string {
	var names []string
	for _, g := range f.Groups {
		for _, r := range g.Rules {
			if r.Record != "" {
				names = append(names, r.Record)
			}
		}
	}
	return names
}

func readAlerts(t *testing.T) ruleFile {
	t.Helper()
	var f ruleFile
	dec := yaml.NewDecoder(bytes.NewReader(read(t, alertsFile)))
	dec.KnownFields(true)
	require.NoError(t, dec.Decode(&f))
	require.NotEmpty(t, f.alerts())
	return f
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return b
}

func TestAlertsFollowTheConventions(t *testing.T) {
	var (
		camelCase = regexp.MustCompile(`^Balance([A-Z][a-z]+)+$`)
		sentence  = regexp.MustCompile(`^[A-Z].*\.$`)
	)
	seen := map[string]bool{}
	for _, a := range readAlerts(t).alerts() {
		t.Run(a.Alert, func(t *testing.T) {
			assert.False(t, seen[a.Alert+a.Labels["severity"]], "two alerts of this name and severity")
			seen[a.Alert+a.Labels["severity"]] = true

			assert.Regexp(t, camelCase, a.Alert)
			assert.Contains(t, []string{"critical", "warning", "info"}, a.Labels["severity"])
			assert.NotEmpty(t, a.For, "for")
			assert.NotEmpty(t, a.KeepFiringFor, "keep_firing_for")
			assert.Regexp(t, sentence, a.Annotations["summary"])
			assert.NotContains(t, a.Annotations["summary"], "{{", "the summary is the same for every series")
			assert.Equal(t, runbookURL+strings.ToLower(a.Alert), a.Annotations["runbook_url"])
			for name, value := range a.Labels {
				assert.NotContains(t, value, "$value", "label %s changes with the value: a new alert each time", name)
			}
			if a.Alert != "BalanceExporterAbsent" {
				assert.Contains(t, a.Annotations["description"], "{{ $labels.")
			}
		})
	}
}

// The scrape job may have any name.
func TestRulesSelectNoJob(t *testing.T) {
	matcher := regexp.MustCompile(`[{,]\s*job\s*(=|!=|=~|!~)`)
	for _, g := range readAlerts(t).Groups {
		for _, r := range g.Rules {
			expr := strings.ReplaceAll(r.Expr, `up{job=~".*balance.?exporter.*"}`, "") // a job that was never scraped
			assert.NotRegexp(t, matcher, expr, r.Record+r.Alert)
		}
	}
}

func TestAlertsFileIsShort(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(string(read(t, alertsFile)), "\n"), "\n")
	assert.LessOrEqual(t, len(lines), 450)
	for i, line := range lines {
		assert.LessOrEqual(t, len(line), 120, "line %d", i+1)
	}
}

func TestThresholdsComeFirst(t *testing.T) {
	const prefix = "balance_exporter:alert_threshold:"
	rules := readAlerts(t)
	var used []string
	for i, g := range rules.Groups {
		first := i == 0
		for _, r := range g.Rules {
			threshold := strings.HasPrefix(r.Record, prefix)
			first = first && threshold
			assert.Equal(t, first, threshold, "%s %s%s", g.Name, r.Record, r.Alert)
			used = append(used, seriesIn(r.Expr)...)
		}
	}
	for _, r := range rules.Groups[0].Rules {
		if strings.HasPrefix(r.Record, prefix) {
			assert.Contains(t, used, r.Record, "no rule uses this threshold")
		}
	}
}

func TestEveryAlertHasAUnitTest(t *testing.T) {
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, name := range []string{"alerts_test.yml", "alerts_weeks_test.yml"} {
		var f struct {
			GroupEvalOrder []string `yaml:"group_eval_order"`
			Tests          []struct {
				AlertRuleTest []struct {
					Alertname string `yaml:"alertname"`
					ExpAlerts []any  `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			} `yaml:"tests"`
		}
		require.NoError(t, yaml.Unmarshal(read(t, name), &f))
		var groups []string
		for _, g := range readAlerts(t).Groups {
			groups = append(groups, g.Name)
		}
		assert.Equal(t, groups, f.GroupEvalOrder, name)
		for _, test := range f.Tests {
			for _, a := range test.AlertRuleTest {
				if len(a.ExpAlerts) > 0 {
					fires[a.Alertname] = true
				} else {
					silent[a.Alertname] = true
				}
			}
		}
	}
	for _, a := range readAlerts(t).alerts() {
		assert.True(t, fires[a.Alert], "%s: no test in which it fires", a.Alert)
		assert.True(t, silent[a.Alert], "%s: no test in which it does not fire", a.Alert)
	}
}

func TestRunbookAndAlertsHaveEachOther(t *testing.T) {
	book := string(read(t, runbookFile))
	var sections []string
	for _, m := range regexp.MustCompile(`(?m)^### (.+)$`).FindAllStringSubmatch(book, -1) {
		sections = append(sections, m[1])
	}
	var names []string
	for _, a := range readAlerts(t).alerts() {
		if !slices.Contains(names, a.Alert) {
			names = append(names, a.Alert)
		}

		_, section, _ := strings.Cut(book, "\n### "+a.Alert+"\n")
		section, _, _ = strings.Cut(section, "\n### ")
		severity, _, _ := strings.Cut(section, "\n\n**Meaning")
		assert.Contains(t, severity, a.Labels["severity"], a.Alert)
		for _, part := range []string{"**Meaning.**", "**Look.**", "**Do.**"} {
			assert.Contains(t, section, part, a.Alert)
		}
	}
	assert.ElementsMatch(t, names, sections)

	anchors := []string{"reasons"}
	for _, s := range sections {
		anchors = append(anchors, strings.ToLower(s))
	}
	for _, m := range regexp.MustCompile(`\]\(#([^)]+)\)`).FindAllStringSubmatch(book, -1) {
		assert.Contains(t, anchors, m[1], "link to a missing section")
	}
	for _, reason := range reasons {
		assert.Contains(t, book, "\n| `"+reason+"` |", "no row for the reason")
	}
}

func TestEveryReasonHasAnAlert(t *testing.T) {
	matcher := regexp.MustCompile(`\breason=~?"([^"]*)"`)
	var covered []string
	for _, a := range readAlerts(t).alerts() {
		if a.Alert == "BalanceRowsDropped" { // reasons of rows
			continue
		}
		for _, m := range matcher.FindAllStringSubmatch(a.Expr, -1) {
			covered = append(covered, strings.Split(m[1], "|")...)
		}
	}
	assert.ElementsMatch(t, reasons, covered)
}

func TestMetricNamesAreThoseOfTheContract(t *testing.T) {
	rules := readAlerts(t)
	known := append(slices.Clone(contract), rules.records()...)
	check := func(where, expr string) {
		names := seriesIn(expr)
		assert.NotEmpty(t, names, "%s: no series in %s", where, expr)
		for _, name := range names {
			assert.Contains(t, known, name, where)
		}
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if strings.HasPrefix(r.Expr, "vector(") || r.Record == "job:balance_exporter:seen" { // a constant, all names
				continue
			}
			check(alertsFile+" "+r.Record+r.Alert, r.Expr)
		}
	}
	fence := regexp.MustCompile("(?s)```promql\n(.*?)```")
	for _, m := range fence.FindAllStringSubmatch(string(read(t, runbookFile)), -1) {
		check(runbookFile, m[1])
	}
	board := readDashboard(t)
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			check(dashboardFile+" "+p.Title, target.Expr)
		}
	}
	for _, v := range board.Templating.List {
		if m := labelValues.FindStringSubmatch(v.definition()); m != nil {
			check(dashboardFile+" $"+v.Name, m[1])
		}
	}
}

type dashboard struct {
	UID           string   `json:"uid"`
	Title         string   `json:"title"`
	SchemaVersion int      `json:"schemaVersion"`
	Editable      *bool    `json:"editable"`
	Tags          []string `json:"tags"`
	Panels        []panel  `json:"panels"`
	Templating    struct {
		List []variable `json:"list"`
	} `json:"templating"`
}

type panel struct {
	ID          int        `json:"id"`
	Type        string     `json:"type"`
	Title       string     `json:"title"`
	Description string     `json:"description"`
	Datasource  datasource `json:"datasource"`
	GridPos     struct {
		X, Y, W, H int
	} `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []struct {
		Expr       string     `json:"expr"`
		RefID      string     `json:"refId"`
		Datasource datasource `json:"datasource"`
	} `json:"targets"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type variable struct {
	Name       string          `json:"name"`
	Label      string          `json:"label"`
	Type       string          `json:"type"`
	Query      json.RawMessage `json:"query"`
	Definition string          `json:"definition"`
	Multi      bool            `json:"multi"`
	IncludeAll bool            `json:"includeAll"`
	AllValue   string          `json:"allValue"`
	Refresh    int             `json:"refresh"`
	Datasource datasource      `json:"datasource"`
}

// definition returns the text of a query variable's query.
func (v variable) definition() string {
	var q struct {
		Query string `json:"query"`
	}
	if json.Unmarshal(v.Query, &q) == nil {
		return q.Query
	}
	return v.Definition
}

var (
	labelValues  = regexp.MustCompile(`^label_values\((.+), *[a-z_]+\)$`)
	prometheusDS = datasource{Type: "prometheus", UID: "${datasource}"}
)

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	require.NoError(t, json.Unmarshal(read(t, dashboardFile), &d))
	require.NotEmpty(t, d.Panels)
	return d
}

func TestDashboardFollowsTheConventions(t *testing.T) {
	d := readDashboard(t)
	assert.Equal(t, "balance-exporter", d.UID, "links and bookmarks break when it changes")
	assert.NotEmpty(t, d.Title)
	assert.Equal(t, 39, d.SchemaVersion)
	assert.Contains(t, d.Tags, "balance_exporter")
	if assert.NotNil(t, d.Editable) {
		assert.False(t, *d.Editable)
	}

	ids := map[int]bool{}
	titles := map[string]bool{}
	for _, p := range d.Panels {
		t.Run(p.Title, func(t *testing.T) {
			assert.False(t, ids[p.ID], "id %d is used twice", p.ID)
			ids[p.ID] = true
			assert.NotEmpty(t, p.Title)
			assert.False(t, titles[p.Title], "title is used twice")
			titles[p.Title] = true
			assert.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, "wider than the page")
			if p.Type == "row" {
				return
			}
			assert.Regexp(t, `^[A-Z].*\.$`, p.Description)
			assert.Contains(t, []string{"none", "short", "h", "s", "percentunit", "reqps", "cps", "bytes"}, p.FieldConfig.Defaults.Unit)
			assert.Equal(t, prometheusDS, p.Datasource)
			assert.NotEmpty(t, p.Targets)
			refs := map[string]bool{}
			for _, target := range p.Targets {
				assert.False(t, refs[target.RefID], "refId %s is used twice", target.RefID)
				refs[target.RefID] = true
				assert.Equal(t, prometheusDS, target.Datasource)
				checkTarget(t, target.Expr)
			}
		})
	}

	for i, p := range d.Panels {
		for _, q := range d.Panels[i+1:] {
			apart := p.GridPos.X+p.GridPos.W <= q.GridPos.X || q.GridPos.X+q.GridPos.W <= p.GridPos.X ||
				p.GridPos.Y+p.GridPos.H <= q.GridPos.Y || q.GridPos.Y+q.GridPos.H <= p.GridPos.Y
			assert.True(t, apart, "%s and %s overlap", p.Title, q.Title)
		}
	}
}

// checkTarget checks that every selector filters by job and instance (recorded series and
// alerts have neither), and that counters are used only inside rate or increase.
func checkTarget(t *testing.T, expr string) {
	t.Helper()
	selector := regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}(\[[^\]]*\])?`)
	found := selector.FindAllStringSubmatchIndex(expr, -1)
	assert.Len(t, found, strings.Count(expr, "{"), "this test does not understand a selector: %s", expr)
	var names []string
	for _, m := range found {
		name, matchers := expr[m[2]:m[3]], expr[m[4]:m[5]]
		names = append(names, name)
		if !strings.Contains(name, ":") && name != "ALERTS" {
			assert.Contains(t, matchers, `job=~"$job"`, expr)
			assert.Contains(t, matchers, `instance=~"$instance"`, expr)
		}
		counter := strings.HasSuffix(name, "_total") || strings.HasSuffix(name, "_bucket")
		before := expr[:m[0]]
		inRate := strings.HasSuffix(before, "rate(") || strings.HasSuffix(before, "increase(")
		assert.Equal(t, counter, inRate, "counters and only counters belong into rate or increase: %s", expr)
		if inRate {
			assert.Equal(t, "[$__rate_interval]", expr[m[6]:m[7]], expr)
		}
	}
	for _, name := range seriesIn(expr) {
		assert.Contains(t, names, name, "series without matchers: %s", expr)
	}
}

func TestDashboardVariables(t *testing.T) {
	list := readDashboard(t).Templating.List
	byName := map[string]variable{}
	for _, v := range list {
		byName[v.Name] = v
		if v.Type != "query" {
			continue
		}
		assert.NotEmpty(t, v.Label, v.Name)
		assert.Equal(t, prometheusDS, v.Datasource, v.Name)
		assert.Equal(t, 2, v.Refresh, "%s: refresh when the time range changes", v.Name)
		assert.Regexp(t, labelValues, v.definition(), v.Name)
		assert.Equal(t, v.Definition, v.definition(), v.Name)
	}
	require.NotEmpty(t, list)
	assert.Equal(t, "datasource", list[0].Name)
	assert.Equal(t, "datasource", list[0].Type)
	assert.Equal(t, "Data source", list[0].Label)
	assert.JSONEq(t, `"prometheus"`, string(list[0].Query))
	for _, name := range []string{"job", "instance"} {
		v := byName[name]
		assert.Equal(t, "query", v.Type, name)
		assert.True(t, v.Multi, name)
		assert.True(t, v.IncludeAll, name)
		assert.Equal(t, ".+", v.AllValue, name)
	}
}

func TestDashboardIsPrintedStably(t *testing.T) {
	raw := read(t, dashboardFile)
	var b bytes.Buffer
	require.NoError(t, json.Indent(&b, raw, "", "  "))
	assert.Equal(t, string(bytes.TrimSpace(raw)), strings.TrimSpace(b.String()), "two spaces, one value per line")
}

// The two Prometheus configurations differ only in two addresses.
func TestComposeScrapesAsPrometheusYML(t *testing.T) {
	var alone, composed map[string]any
	text := strings.NewReplacer(
		"localhost:10062", "balance-exporter:10062",
		"localhost:9093", "alertmanager:9093",
	).Replace(string(read(t, "prometheus.yml")))
	require.NoError(t, yaml.Unmarshal([]byte(text), &alone))
	require.NoError(t, yaml.Unmarshal(read(t, "compose/prometheus.yml"), &composed))
	assert.Equal(t, alone, composed)
}

func TestComposeMountsWhatIsThere(t *testing.T) {
	var c struct {
		Services map[string]struct {
			Volumes   []string `yaml:"volumes"`
			DependsOn []string `yaml:"depends_on"`
		} `yaml:"services"`
		Volumes map[string]any `yaml:"volumes"`
	}
	require.NoError(t, yaml.Unmarshal(read(t, "compose.yaml"), &c))
	for name, service := range c.Services {
		for _, mount := range service.Volumes {
			source, _, _ := strings.Cut(mount, ":")
			if strings.HasPrefix(source, ".") {
				assert.True(t, exists(source), "%s mounts %s", name, source)
			} else {
				assert.Contains(t, c.Volumes, source, name)
			}
		}
		for _, other := range service.DependsOn {
			assert.Contains(t, c.Services, other, name)
		}
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// Alertmanager's routes and inhibitions refer to alerts by name.
func TestAlertmanagerNamesAlertsThatExist(t *testing.T) {
	var names []string
	for _, a := range readAlerts(t).alerts() {
		names = append(names, a.Alert)
	}
	matcher := regexp.MustCompile(`alertname(=~?)"([^"]+)"`)
	found := matcher.FindAllStringSubmatch(string(read(t, "alertmanager.yml")), -1)
	require.NotEmpty(t, found)
	for _, m := range found {
		pattern := regexp.QuoteMeta(m[2])
		if m[1] == "=~" {
			pattern = m[2]
		}
		assert.True(t, slices.ContainsFunc(names, regexp.MustCompile("^("+pattern+")$").MatchString), m[0])
	}
}

// Alertmanager sends no resolved notification for an alert that ends while it is
// inhibited. Alerts of one group with the same keep_firing_for end together.
func TestInhibitedAlertsEndWithWhatInhibitsThem(t *testing.T) {
	var config struct {
		InhibitRules []struct {
			SourceMatchers []string `yaml:"source_matchers"`
			TargetMatchers []string `yaml:"target_matchers"`
		} `yaml:"inhibit_rules"`
	}
	require.NoError(t, yaml.Unmarshal(read(t, "alertmanager.yml"), &config))
	require.NotEmpty(t, config.InhibitRules)
	type end struct{ group, keepFiringFor string }
	endsOf := func(matchers []string) map[end]bool {
		name := regexp.MustCompile(`^alertname=~?"([^"]+)"$`).FindStringSubmatch(strings.Join(matchers, " "))
		require.NotNil(t, name, matchers)
		ends := map[end]bool{}
		for _, g := range readAlerts(t).Groups {
			for _, r := range g.Rules {
				if regexp.MustCompile("^(" + name[1] + ")$").MatchString(r.Alert) {
					ends[end{g.Name, r.KeepFiringFor}] = true
				}
			}
		}
		return ends
	}
	for _, rule := range config.InhibitRules {
		ends := endsOf(rule.SourceMatchers)
		assert.Len(t, ends, 1, rule.SourceMatchers)
		assert.Equal(t, ends, endsOf(rule.TargetMatchers), rule.TargetMatchers)
	}
}

func TestYAMLFilesAreYAML(t *testing.T) {
	require.NoError(t, filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if ext := filepath.Ext(name); ext != ".yml" && ext != ".yaml" {
			return nil
		}
		dec := yaml.NewDecoder(bytes.NewReader(read(t, name)))
		for {
			var document any
			err := dec.Decode(&document)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}))
}

var (
	promString   = regexp.MustCompile(`"(\\.|[^"\\])*"|'(\\.|[^'\\])*'`)
	promBraces   = regexp.MustCompile(`\{[^}]*\}|\[[^\]]*\]`)
	promGrouping = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	promName     = regexp.MustCompile(`[0-9]*[a-zA-Z_:][a-zA-Z0-9_:]*\s*\(?`)
	promKeywords = []string{"and", "or", "unless", "bool", "offset", "atan2", "group_left", "group_right"}
)

// seriesIn returns the names of the series in a PromQL expression: what remains
// without strings, matchers, ranges, groupings, functions, keywords and durations.
func seriesIn(expr string) []string {
	expr = promString.ReplaceAllString(expr, `""`)
	expr = promBraces.ReplaceAllString(expr, " ")
	expr = promGrouping.ReplaceAllString(expr, " ")
	var names []string
	for _, word := range promName.FindAllString(expr, -1) {
		name := strings.TrimSpace(word)
		function := strings.HasSuffix(name, "(") && !slices.Contains(promKeywords, strings.TrimSpace(strings.TrimSuffix(name, "(")))
		name = strings.TrimSpace(strings.TrimSuffix(name, "("))
		duration := name[0] >= '0' && name[0] <= '9'
		aggregation := slices.Contains([]string{"sum", "min", "max", "count", "group", "topk", "bottomk", "sort"}, name)
		if function || duration || aggregation || slices.Contains(promKeywords, name) || slices.Contains(names, name) {
			continue
		}
		names = append(names, name)
	}
	return names
}

func TestSeriesIn(t *testing.T) {
	for _, c := range []struct {
		what, expr string
		want       []string
	}{
		{"one", `up`, []string{"up"}},
		{"matchers are no series", `up{job="x", instance=~"y"} == 0`, []string{"up"}},
		{"functions and ranges", `sum by (a, b) (increase(x_total{r="s"}[1h])) > 0`, []string{"x_total"}},
		{"grouping behind", `sum(x) by (a)`, []string{"x"}},
		{"joins and offsets", `a:b:c unless on (job) (d offset 1d) and on () group_left () e`, []string{"a:b:c", "d", "e"}},
		{"keywords before a bracket", `a or (b) and (c) > bool time()`, []string{"a", "b", "c"}},
		{"numbers", `vector(1e9) + 3600 * x`, []string{"x"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			assert.Equal(t, c.want, seriesIn(c.expr))
		})
	}
}
