package e2e

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What Prometheus's and Alertmanager's own tools say to what users are given.
func TestExamplesPassTheToolsChecks(t *testing.T) {
	t.Parallel()
	for name, command := range map[string][]string{
		"rules":                   {"promtool", "check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"},
		"unit tests of the rules": {"promtool", "test", "rules", "alerts_test.yml"},
		"unit tests over weeks":   {"promtool", "test", "rules", "alerts_weeks_test.yml"},
		"configuration":           {"promtool", "check", "config", "--lint=all", "--lint-fatal", "prometheus.yml"},
		"compose's configuration": {"promtool", "check", "config", "--syntax-only", "compose/prometheus.yml"},
		"Alertmanager":            {"amtool", "check-config", "alertmanager.yml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := command[1:]
			last := &args[len(args)-1]
			*last = filepath.Join(examples, *last)
			out, err := output(t, nil, command[0], args...)
			assert.NoError(t, err, out)
		})
	}
}

// commented finds the lines of prometheus.yml that scrape a fleet apart.
var commented = regexp.MustCompile(`(?m)^( +)# ((?:  )*(?:- job_name:|scrape_\w+:|params:|(?:collect|account)\[\]:|static_configs:|- targets:).*)$`)

// Without their #, the lines that scrape a fleet apart are a valid configuration. Each job
// gets the series that it selects, and together they are all of the exporter.
func TestFleetScrapedApart(t *testing.T) {
	t.Parallel()
	demo := startDemo(t)
	text := commented.ReplaceAllString(readExample(t, "prometheus.yml"), "$1$2")
	dir := t.TempDir()
	writeFile(t, dir, "alerts.yml", readExample(t, "alerts.yml"))
	out, err := output(t, nil, "promtool", "check", "config", "--lint=all", "--lint-fatal", writeFile(t, dir, "prometheus.yml", text))
	require.NoError(t, err, out)

	prom := startPrometheus(t, prometheusConfig{
		main:  replace(t, text, "localhost:9093", "localhost:1", "localhost:10062", demo.address),
		rules: map[string]string{"alerts.yml": readExample(t, "alerts.yml")},
	})
	prom.becomes(4*time.Minute, `min(up) * count(up)`, 2)
	prom.becomes(4*time.Minute, `count(count by (job) (subscriber_balance) and on (job) up{job="balance_exporter_fleet"})`, 1)
	prom.mustBe(1, `count(count by (job) (subscriber_balance))`)
	prom.mustBe(1, `count(count by (job) ({__name__=~"account_balance|sms_price|balance_exporter_.+"}) and on (job) up{job="balance_exporter"})`)
	prom.mustBe(1, `count(count by (job) ({__name__=~"account_balance|sms_price|balance_exporter_.+"}))`)
	prom.becomes(3*time.Minute, `count(account:balance_exporter:known{account="fleet"})`, 1)
}

// promtool parses the demo's metrics and finds nothing to blame in their names, types
// and help texts.
func TestMetricsPassPromtool(t *testing.T) {
	t.Parallel()
	demo := startDemo(t)
	metrics := string(demo.readAll(t))
	require.Contains(t, metrics, "\naccount_balance{")
	few := firstOfEach(metrics, 50)
	out, err := output(t, []byte(few), "promtool", "check", "metrics")
	assert.NoError(t, err, out)
	assert.Empty(t, out)

	out, err = output(t, []byte(few+"# TYPE bad_count gauge\nbad_count 1\n"), "promtool", "check", "metrics")
	assert.Error(t, err, "promtool finds nothing in anything: %s", out)
}

// firstOfEach leaves at most n series of each family. For thousands promtool needs many
// seconds, and names, types and help texts are the same for all.
func firstOfEach(text string, n int) string {
	var out strings.Builder
	left := n
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			left = n
		} else if left--; left < 0 {
			continue
		}
		out.WriteString(line)
	}
	return out.String()
}
