package exposition

import (
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/collector"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// everything is the parts of a scrape without collect[].
var everything = Parts{Kinds: providers.Kinds(), Own: true}

// The Accept headers of Prometheus for each format.
const (
	acceptText        = "text/plain;version=0.0.4"
	acceptOpenMetrics = "application/openmetrics-text;version=1.0.0"
	acceptProtobuf    = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

// known is what a cache knows, for tests to change.
type known struct{ groups []*snapshot.Group }

func (k *known) all() []*snapshot.Group { return slices.Clone(k.groups) }

// ownMetrics is a registry with names before, between and after those of the data.
func ownMetrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	for _, name := range []string{"a_first", "balance_exporter_up", "go_goroutines", "sms_z", "zz_last"} {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: "Help of " + name + ".\nWith \"two\" lines."}, []string{"l"})
		g.WithLabelValues(`quote " and \ and` + "\n").Set(1.5)
		r.MustRegister(g)
	}
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "process_things_total", Help: "Things."})
	c.(prometheus.ExemplarAdder).AddWithExemplar(3, prometheus.Labels{"trace": "x"})
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "durations_seconds", Help: "Durations.", Buckets: prometheus.DefBuckets, NativeHistogramBucketFactor: 1.1,
	})
	h.Observe(0.3)
	r.MustRegister(c, h)
	return r
}

// reference is promhttp over the ordinary collectors.
func reference(groups func() []*snapshot.Group, own prometheus.Gatherer, parts Parts) http.Handler {
	data := prometheus.NewPedanticRegistry()
	data.MustRegister(collector.NewData(groups, parts.Kinds))
	all := prometheus.Gatherers{data}
	if parts.Own {
		all = append(all, own)
	}
	return promhttp.HandlerFor(all, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true})
}

func request(accept, encoding string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	if encoding != "" {
		r.Header.Set("Accept-Encoding", encoding)
	}
	return r
}

// scrape returns the answer to a scrape of everything.
func scrape(e *Exposition, accept, encoding string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	e.Serve(w, request(accept, encoding), everything)
	return w
}

// plain returns the body of an answer, decoded; it must be one gzip member if it
// is gzip.
func plain(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	if w.Header().Get("Content-Encoding") == "" {
		return w.Body.String()
	}
	z, err := gzip.NewReader(w.Body)
	require.NoError(t, err)
	z.Multistream(false)
	b, err := io.ReadAll(z)
	require.NoError(t, err)
	require.Zero(t, w.Body.Len(), "bytes after the gzip member")
	return string(b)
}

// strings that are hard to write or to sort.
var hardStrings = []string{
	"", " ", "plain", "Plain", `quote"`, `back\slash`, "line\nend", "tab\t", "\r", "\x00", "ключ", "日本語", "👩‍👩‍👧", "é", "é",
	"#", "# EOF", "a{b=\"c\"} 1", "\u2028", "\ufffd", "0", "007", "-1", "NaN",
}

// numbers of every shape.
var hardNumbers = []float64{
	0, math.Copysign(0, -1), 1, -1, 0.1, -0.1, 1e21, 1e20, 123456789, 1.0 / 3, 1e-7, 5e-324,
	math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1), math.Inf(-1), math.NaN(), 1 << 53, 42, 0.0075,
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// randomGroups makes groups of some accounts. Only tangled ones have series of
// different groups among each other in a sorted family.
func randomGroups(r *rand.Rand, now time.Time, tangled bool) []*snapshot.Group {
	var groups []*snapshot.Group
	for a := range r.IntN(5) {
		provider := pick(r, []string{"8x8", "yeastar", "flolive"})
		account := fmt.Sprint(pick(r, hardStrings), a)
		if tangled {
			provider, account = fmt.Sprint("p", a), pick(r, []string{"same", "other"})
		}
		for _, kind := range providers.Kinds() {
			shards := 1
			if tangled && kind == providers.KindSubscribers {
				shards += r.IntN(3)
			}
			if r.IntN(4) == 0 {
				continue
			}
			for shard := range shards {
				groups = append(groups, randomGroup(r, now, provider, account, kind, shard))
			}
		}
	}
	return groups
}

func randomGroup(r *rand.Rand, now time.Time, provider, account string, kind providers.Kind, shard int) *snapshot.Group {
	g := &snapshot.Group{
		Provider: provider, Account: account, Shard: shard,
		Part: providers.Part{Kind: kind, MaxAge: time.Hour},
	}
	if low := pick(r, hardNumbers); r.IntN(2) == 0 {
		g.Part.LowThreshold = &low
	}
	sources := 1
	if kind == providers.KindSubscribers {
		sources = r.IntN(6)
	}
	for i := range sources {
		s := &snapshot.Snapshot{}
		if r.IntN(5) > 0 {
			s.FetchedAt = now.Add(-time.Duration(r.IntN(100)) * time.Minute)
			s.Reading = randomReading(r, kind, fmt.Sprint(pick(r, hardStrings), shard, i))
			s.Ended = r.IntN(8) == 0
		}
		g.Snapshots = append(g.Snapshots, s)
	}
	return g
}

func randomReading(r *rand.Rand, kind providers.Kind, name string) providers.Reading {
	switch kind {
	case providers.KindBalance:
		if r.IntN(4) == 0 {
			return providers.Reading{}
		}
		return providers.Reading{Balances: []providers.Balance{{Amount: pick(r, hardNumbers), Currency: pick(r, hardStrings)}}}
	case providers.KindPrices:
		var prices []providers.Price
		for i := range r.IntN(40) {
			prices = append(prices, providers.Price{
				SubAccount: pick(r, hardStrings), Country: pick(r, hardStrings), MCC: pick(r, hardStrings),
				MNC: fmt.Sprint(i), Operator: pick(r, hardStrings), NumberType: pick(r, hardStrings),
				Direction: providers.Outbound, Amount: pick(r, hardNumbers), Currency: pick(r, hardStrings),
			})
		}
		return providers.Reading{Prices: prices}
	default:
		reading := providers.Reading{Subscriber: name}
		for i := range r.IntN(4) {
			b := providers.SubscriberBalance{ID: fmt.Sprint(pick(r, hardStrings), i), Value: pick(r, hardNumbers)}
			if r.IntN(2) == 0 {
				b.Currency = "EUR"
			} else {
				b.Unit = "MB"
			}
			reading.SubscriberBalances = append(reading.SubscriberBalances, b)
		}
		return reading
	}
}

// priceGroup is an account with count prices, as a provider might have them.
func priceGroup(account string, count int, fetched time.Time) *snapshot.Group {
	prices := make([]providers.Price, count)
	for i := range prices {
		prices[i] = providers.Price{
			Country: string([]byte{'A' + byte(i/26%26), 'A' + byte(i%26)}),
			MCC:     fmt.Sprintf("%03d", 200+i/100%500), MNC: fmt.Sprintf("%02d", i%100),
			Operator:  fmt.Sprintf("Operator %d of %d", i, i%97),
			Direction: providers.Outbound, Amount: float64(i*7919%100000) / 1e6, Currency: "EUR",
		}
	}
	return &snapshot.Group{
		Provider: "8x8", Account: account,
		Part:      providers.Part{Kind: providers.KindPrices, MaxAge: 24 * time.Hour},
		Snapshots: []*snapshot.Snapshot{{FetchedAt: fetched, TriedAt: fetched, Reading: providers.Reading{Prices: prices}}},
	}
}

// fleetGroups is a fleet of count subscribers in shards.
func fleetGroups(account string, count int, fetched time.Time) []*snapshot.Group {
	var groups []*snapshot.Group
	for first := 0; first < count; first += 1000 {
		g := &snapshot.Group{
			Provider: "flolive", Account: account, Shard: len(groups),
			Part: providers.Part{Kind: providers.KindSubscribers, MaxAge: 6 * time.Hour},
		}
		for i := first; i < min(first+1000, count); i++ {
			g.Snapshots = append(g.Snapshots, subscriber(i, 0, fetched))
		}
		groups = append(groups, g)
	}
	return groups
}

func subscriber(i int, value float64, fetched time.Time) *snapshot.Snapshot {
	return &snapshot.Snapshot{FetchedAt: fetched, TriedAt: fetched, Reading: providers.Reading{
		Subscriber: fmt.Sprintf("89445012345%08d", i),
		SubscriberBalances: []providers.SubscriberBalance{
			{ID: fmt.Sprintf("%08x-5c03-41dd-9e33-%012x", i*2654435761%(1<<32), i*40503), Currency: "EUR", Value: value + float64(i%10000)/100},
			{ID: fmt.Sprintf("%08x-5c03-41dd-9e33-%012x", i*2246822519%(1<<32), i*30011), Unit: "MB", Value: float64(i % 5000)},
		},
	}}
}
