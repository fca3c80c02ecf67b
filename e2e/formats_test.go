package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// formats are the protocols that Prometheus can scrape with, and how it asks
// for each.
var formats = []struct{ protocol, accept, contentType string }{
	{"PrometheusText0.0.4", "text/plain;version=0.0.4", "text/plain"},
	{"OpenMetricsText1.0.0", "application/openmetrics-text;version=1.0.0", "application/openmetrics-text"},
	{"PrometheusProto", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", "application/vnd.google.protobuf"},
}

// changing are the families that no two scrapes have in common: they tell of the
// process, of the scrapes themselves or of their time.
var changing = []string{"go_", "process_", "promhttp_", "scrape_", "balance_exporter_exposition_bytes"}

func changes(name string) bool {
	return slices.ContainsFunc(changing, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// startStill starts an exporter whose values stand still, with labels that need
// escaping and a source that fails.
func startStill(t *testing.T) *exporter {
	sim := startSimulator(t, "812.5067")
	e, _ := startConfigured(t, "accounts:\n"+
		sim.account("messaging", "balance: {refresh_interval: 1h, low_threshold: 500}")+
		strings.Replace(sim.account("refused", "balance: {refresh_interval: 1h}", "prices: {enabled: false}"), simKey, "wrong-key-1234", 1))
	e.readAll(t)
	return e
}

// parse reads an answer with Prometheus's own parser, and returns the values by their
// series, and the types and help texts by their family.
func parse(t *testing.T, body []byte, contentType string) (samples map[string]float64, families map[string][2]string) {
	t.Helper()
	p, err := textparse.New(body, contentType, labels.NewSymbolTable(), textparse.ParserOptions{
		KeepClassicOnClassicAndNativeHistograms: true, // the classic part is compared with the other formats
	})
	require.NoError(t, err)
	samples, families = map[string]float64{}, map[string][2]string{}
	native := map[string]float64{}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			for series, count := range native {
				assert.Equal(t, samples[series], count, series)
			}
			return samples, families
		}
		require.NoError(t, err)
		switch entry {
		case textparse.EntrySeries:
			_, timestamp, value := p.Series()
			assert.Nil(t, timestamp, "no timestamps on samples")
			var l labels.Labels
			p.Labels(&l)
			if !changes(l.Get(model.MetricNameLabel)) {
				assert.NotContains(t, samples, l.String(), "twice")
				samples[l.String()] = value
			}
		case textparse.EntryHelp:
			name, help := p.Help()
			f := families[string(name)]
			f[1] = string(help)
			families[string(name)] = f
		case textparse.EntryType:
			name, kind := p.Type()
			f := families[string(name)]
			f[0] = string(kind)
			families[string(name)] = f
		case textparse.EntryHistogram:
			// The protobuf format has this as well; it must tell of as many observations.
			_, _, whole, _ := p.Histogram()
			var l labels.Labels
			p.Labels(&l)
			builder := labels.NewBuilder(l)
			builder.Set(model.MetricNameLabel, l.Get(model.MetricNameLabel)+"_count")
			require.NotNil(t, whole)
			native[builder.Labels().String()] = float64(whole.Count)
		}
	}
}

func TestPrometheusParsersReadEveryFormat(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]*exporter{"still": startStill(t), "demo": startDemo(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e.readAll(t)
			var first map[string]float64
			var firstFamilies map[string][2]string
			for _, f := range formats {
				body, header, err := get(http.DefaultClient, e.url("/metrics"), http.Header{"Accept": {f.accept}})
				require.NoError(t, err)
				require.Contains(t, header.Get("Content-Type"), f.contentType)
				samples, families := parse(t, body, header.Get("Content-Type"))
				assert.Contains(t, samples, `{__name__="account_balance_low_threshold", account="messaging", currency="USD", provider="8x8"}`, f.protocol)
				if first == nil {
					first, firstFamilies = samples, families
					assert.Greater(t, len(first), 50)
					continue
				}
				// The values of the demo move, its series do not.
				assert.Empty(t, differences(first, samples, name == "still"), f.protocol)
				assert.Equal(t, withoutTotal(firstFamilies), withoutTotal(families), f.protocol)
			}
		})
	}
}

// withoutTotal names counters as OpenMetrics does.
func withoutTotal(families map[string][2]string) map[string][2]string {
	out := map[string][2]string{}
	for name, f := range families {
		out[strings.TrimSuffix(name, "_total")] = f
	}
	return out
}

// differences returns the series that only one of two has or, on demand, that do not
// have the same value.
func differences(a, b map[string]float64, values bool) []string {
	var list []string
	for series, value := range a {
		other, ok := b[series]
		switch {
		case !ok:
			list = append(list, "- "+series)
		case values && value != other:
			list = append(list, fmt.Sprintf("%s: %v and %v", series, value, other))
		}
	}
	for series := range b {
		if _, ok := a[series]; !ok {
			list = append(list, "+ "+series)
		}
	}
	return list
}

// A real Prometheus scrapes with each protocol, compressed and not, and stores the same.
func TestPrometheusStoresTheSameFromEveryFormat(t *testing.T) {
	t.Parallel()
	e := startStill(t)
	var jobs strings.Builder
	var names []string
	for _, f := range formats {
		for _, compressed := range []bool{true, false} {
			name := fmt.Sprintf("%s compressed %t", f.protocol, compressed)
			names = append(names, name)
			fmt.Fprintf(&jobs, "  - {job_name: %q, scrape_protocols: [%s], enable_compression: %t, static_configs: [{targets: [%q]}]}\n",
				name, f.protocol, compressed, e.address)
		}
	}
	prom := startPrometheus(t, prometheusConfig{main: "global: {scrape_interval: 2s, scrape_timeout: 2s}\nscrape_configs:\n" + jobs.String()})
	prom.becomes(30*time.Second, `count(count_over_time(up[1m]) >= 2)`, float64(len(names)))
	prom.mustBe(float64(len(names)), `count(min_over_time(up[1m]) == 1)`)

	var first map[string]float64
	for _, name := range names {
		got := map[string]float64{}
		v, err := prom.query(fmt.Sprintf(`{job=%q}`, name))
		require.NoError(t, err)
		for _, sample := range v {
			if changes(string(sample.Metric[model.MetricNameLabel])) {
				continue
			}
			delete(sample.Metric, "job")
			got[sample.Metric.String()] = float64(sample.Value)
		}
		if first == nil {
			first = got
			assert.Greater(t, len(first), 50)
			continue
		}
		assert.Empty(t, differences(first, got, true), name)
	}
}
