package collector

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reload is the outcome of the last configuration reload.
type reload struct {
	ok   bool
	last time.Time // of the last successful one
}

// CachedBytes is the size of the cache for answering scrapes in one form.
type CachedBytes struct {
	Format, Encoding string
	Bytes            int
}

// process is the state of the process as a whole.
type process struct {
	reload reload
	cached []CachedBytes
}

var processRows = []row[process]{
	newRow(Family{
		Name: "balance_exporter_config_last_reload_successful",
		Type: prometheus.GaugeValue,
		Help: "Whether the last configuration reload succeeded (1) or failed and the previous one stays active (0).", Series: "1",
	}, func(p process, send func(float64, ...string)) { send(number(p.reload.ok)) }),
	newRow(Family{
		Name: "balance_exporter_config_last_reload_success_timestamp_seconds",
		Type: prometheus.GaugeValue,
		Help: "Unix time of the last successful configuration reload, in seconds.", Series: "1",
	}, func(p process, send func(float64, ...string)) { send(unix(p.reload.last)) }),
	newRow(Family{
		Name: "balance_exporter_exposition_bytes",
		Type: prometheus.GaugeValue, Labels: []string{"format", "encoding"},
		Help: "Bytes cached for answering scrapes, by format and encoding.", Series: "a few",
	}, func(p process, send func(float64, ...string)) {
		for _, k := range p.cached {
			send(float64(k.Bytes), k.Format, k.Encoding)
		}
	}),
}

// Process collects the metrics about the process as a whole. It is a
// [prometheus.Collector].
type Process struct {
	reload atomic.Pointer[reload]
	cached func() []CachedBytes
}

// NewProcess returns a collector; cached returns the sizes of the cache for answering
// scrapes.
func NewProcess(cached func() []CachedBytes) *Process {
	p := &Process{cached: cached}
	p.reload.Store(&reload{})
	return p
}

// Reloaded records the outcome of a configuration reload.
func (p *Process) Reloaded(ok bool) {
	next := reload{ok: ok, last: p.reload.Load().last}
	if ok {
		next.last = time.Now()
	}
	p.reload.Store(&next)
}

// Describe sends the descriptors of all families.
func (p *Process) Describe(ch chan<- *prometheus.Desc) { describe(processRows, ch) }

// Collect sends the metrics of all families.
func (p *Process) Collect(ch chan<- prometheus.Metric) {
	now := process{reload: *p.reload.Load(), cached: p.cached()}
	for _, r := range processRows {
		r.collect(now, ch)
	}
}
