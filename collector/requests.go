package collector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var requestsFamily = Family{
	Name: "balance_exporter_requests_total",
	Type: prometheus.CounterValue, Labels: []string{"provider", "account", "code"},
	Help:   "HTTP requests sent since the start, by status code; code is error if there was no answer.",
	Series: "a few per account",
}

var durationFamily = Family{
	Name: "balance_exporter_request_duration_seconds",
	Type: prometheus.UntypedValue, Labels: []string{"provider"},
	Help:   "Time from sending a request to the first byte of its answer, in seconds.",
	Series: "14 per provider",
}

// Requests counts the HTTP requests that are sent. It is a [prometheus.Collector].
type Requests struct {
	collectors
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewRequests returns a collector that has counted nothing.
func NewRequests() *Requests {
	r := &Requests{
		total: requestsFamily.counters(),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: durationFamily.Name, Help: durationFamily.Help, Buckets: prometheus.DefBuckets,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}, durationFamily.Labels),
	}
	r.collectors = collectors{r.total, r.duration}
	return r
}

// Expect makes the series of an account exist before its first request.
func (r *Requests) Expect(provider, account string) {
	r.total.WithLabelValues(provider, account, "200")
	r.total.WithLabelValues(provider, account, "error")
	r.duration.WithLabelValues(provider)
}

// Request counts one request; code is the status of the answer, or "error".
func (r *Requests) Request(provider, account, code string, took time.Duration) {
	r.total.WithLabelValues(provider, account, code).Inc()
	r.duration.WithLabelValues(provider).Observe(took.Seconds())
}
