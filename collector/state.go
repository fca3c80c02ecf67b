package collector

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	stateUpFamily = Family{
		Name: "balance_exporter_state_up", Type: prometheus.GaugeValue,
		Help:   "Whether the last operation on the state succeeded (1) or failed (0). While it fails, a restart loses what was not persisted, and with a state that replicas share nothing is sent.",
		Series: "1",
	}
	stateErrorsFamily = Family{
		Name: "balance_exporter_state_errors_total", Type: prometheus.CounterValue, Labels: []string{"op"},
		Help:   "Failed operations on the state since the start, by operation.",
		Series: "4",
	}
	claimsFamily = Family{
		Name: "balance_exporter_claims_total", Type: prometheus.CounterValue, Labels: []string{"result"},
		Help:   "Claims of sources before they are fetched, by result: granted; shared (another replica has fetched it); held (another replica is fetching it, so the claim is repeated); lost (it ended before the fetch). With one process all are granted.",
		Series: "4",
	}
	stateDurationFamily = Family{
		Name: "balance_exporter_state_request_duration_seconds", Type: prometheus.UntypedValue, Labels: []string{"op"},
		Help:   "Duration of operations on the state, in seconds.",
		Series: "15 per operation: 60",
	}
)

// State counts the operations on the state. It is a [prometheus.Collector] and a
// state.Observer.
type State struct {
	collectors
	ok       atomic.Bool
	errors   *prometheus.CounterVec
	claims   *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewState returns a collector without operations: the state is up until one fails.
func NewState() *State {
	s := &State{
		errors: stateErrorsFamily.counters(),
		claims: claimsFamily.counters(),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: stateDurationFamily.Name, Help: stateDurationFamily.Help,
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .5, 1},
		}, stateDurationFamily.Labels),
	}
	s.ok.Store(true)
	up := prometheus.GaugeOpts{Name: stateUpFamily.Name, Help: stateUpFamily.Help}
	s.collectors = collectors{
		prometheus.NewGaugeFunc(up, func() float64 { return number(s.ok.Load()) }), s.errors, s.claims, s.duration,
	}
	for _, op := range []string{"update", "load", "claim", "publish"} {
		s.errors.WithLabelValues(op)
		s.duration.WithLabelValues(op)
	}
	for _, result := range []string{"granted", "shared", "held", "lost"} {
		s.claims.WithLabelValues(result)
	}
	return s
}

// Claimed records the answer to one claim: granted, shared, held or lost.
func (s *State) Claimed(result string) { s.claims.WithLabelValues(result).Inc() }

// Operation records one operation and its outcome.
func (s *State) Operation(op string, took time.Duration, err error) {
	s.ok.Store(err == nil)
	s.duration.WithLabelValues(op).Observe(took.Seconds())
	if err != nil {
		s.errors.WithLabelValues(op).Inc()
	}
}
