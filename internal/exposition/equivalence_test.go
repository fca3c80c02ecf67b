package exposition

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// TestEquivalence compares answers with those of promhttp over the same collectors,
// while what is known changes and gets older.
func TestEquivalence(t *testing.T) {
	for seed := range uint64(40) {
		tangled := seed%2 == 1
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 0))
				k := &known{groups: randomGroups(r, time.Now(), tangled)}
				own := ownMetrics()
				e := New(Options{Groups: k.all, Own: own})
				for range 6 {
					compareAll(t, e, k, r, tangled)
					switch r.IntN(3) {
					case 0: // some values end
						time.Sleep(time.Duration(r.IntN(40)) * time.Minute)
					case 1: // one group changes
						if len(k.groups) > 0 {
							i := r.IntN(len(k.groups))
							g := k.groups[i]
							k.groups[i] = randomGroup(r, time.Now(), g.Provider, g.Account, g.Part.Kind, g.Shard)
						}
					case 2: // accounts come and go
						k.groups = randomGroups(r, time.Now(), tangled)
					}
				}
			})
		})
	}
}

// compareAll compares answers in every format and encoding.
func compareAll(t *testing.T, e *Exposition, k *known, r *rand.Rand, tangled bool) {
	t.Helper()
	parts := pick(r, []Parts{everything, {Own: true}, {Kinds: providers.Kinds()}, {Kinds: []providers.Kind{providers.KindPrices}, Own: true}, {}})
	for _, accept := range []string{acceptText, acceptOpenMetrics, acceptProtobuf, "application/openmetrics-text;version=0.0.1"} {
		escaping := pick(r, []string{"", model.AllowUTF8, model.EscapeUnderscores, model.EscapeDots, model.EscapeValues})
		if escaping != "" {
			accept += ";escaping=" + escaping
		}
		for _, encoding := range []string{"identity", "gzip"} {
			want := httptest.NewRecorder()
			reference(k.all, e.opts.Own, parts).ServeHTTP(want, request(accept, encoding))
			got := httptest.NewRecorder()
			e.Serve(got, request(accept, encoding), parts)

			header := got.Header().Clone()
			require.Equal(t, fmt.Sprint(got.Body.Len()), header.Get("Content-Length"))
			header.Del("Content-Length")
			require.Equal(t, want.Header(), header)

			wantBody, gotBody := plain(t, want), plain(t, got)
			if !tangled {
				require.Equal(t, wantBody, gotBody)
			}
			contentType := expfmt.Format(got.Header().Get("Content-Type"))
			require.Equal(t, split(t, wantBody, contentType), split(t, gotBody, contentType))
			require.Equal(t, parse(t, wantBody, contentType), parse(t, gotBody, contentType))
		}
	}
}

// split returns an exposition by families, with the lines or messages of each in
// one order, and the length of each, which a delimited message starts with.
func split(t *testing.T, body string, contentType expfmt.Format) []string {
	t.Helper()
	var families []string
	if contentType.FormatType() == expfmt.TypeProtoDelim {
		for _, f := range decode(t, body, contentType) {
			metrics := make([]string, len(f.Metric))
			for i, m := range f.Metric {
				metrics[i] = m.String()
			}
			slices.Sort(metrics)
			f.Metric = nil
			families = append(families, f.String()+strings.Join(metrics, "\n"))
		}
		return families
	}
	var lines []string
	flush := func() {
		slices.Sort(lines)
		families = append(families, strings.Join(lines, "\n"))
		lines = nil
	}
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "# HELP") || strings.HasPrefix(line, "# EOF") {
			flush()
		}
		lines = append(lines, line)
	}
	flush()
	return families
}

// parse reads an exposition with the parsers of prometheus/common, which has none
// for OpenMetrics; see the module e2e for Prometheus's own.
func parse(t *testing.T, body string, contentType expfmt.Format) map[string][]string {
	t.Helper()
	if contentType.FormatType() == expfmt.TypeOpenMetrics {
		require.Equal(t, 1, strings.Count("\n"+body, "\n# EOF\n"))
		require.True(t, strings.HasSuffix(body, "# EOF\n"))
		return nil
	}
	out := map[string][]string{}
	for _, f := range decode(t, body, contentType) {
		require.NotContains(t, out, f.GetName(), "a family comes twice")
		for _, m := range f.Metric {
			out[f.GetName()] = append(out[f.GetName()], m.String())
		}
		slices.Sort(out[f.GetName()])
	}
	return out
}

func decode(t *testing.T, body string, contentType expfmt.Format) []*dto.MetricFamily {
	t.Helper()
	var families []*dto.MetricFamily
	dec := expfmt.NewDecoder(bytes.NewReader([]byte(body)), contentType)
	for {
		var f dto.MetricFamily
		err := dec.Decode(&f)
		if errors.Is(err, io.EOF) {
			return families
		}
		require.NoError(t, err)
		families = append(families, &f)
	}
}

// TestEquivalenceOfLongLists compares a list that is rendered in pieces, in any order.
func TestEquivalenceOfLongLists(t *testing.T) {
	g := priceGroup("a", 3*pieceSize+7, time.Now())
	prices := g.Snapshots[0].Reading.Prices
	for i := range prices {
		prices[i].SubAccount = fmt.Sprint("s", i%5)
		prices[i].MCC = "525" // many prices differ in their last labels only
	}
	rand.New(rand.NewPCG(1, 0)).Shuffle(len(prices), func(i, j int) { prices[i], prices[j] = prices[j], prices[i] })
	k := &known{groups: []*snapshot.Group{g}}
	e := New(Options{Groups: k.all})
	for _, accept := range []string{acceptText, acceptOpenMetrics, acceptProtobuf} {
		want := httptest.NewRecorder()
		reference(k.all, prometheus.Gatherers{}, everything).ServeHTTP(want, request(accept, "gzip"))
		require.Equal(t, plain(t, want), plain(t, scrape(e, accept, "gzip")))
	}
}
