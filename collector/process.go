package collector

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reload is the outcome of the loads of the configuration so far.
type reload struct {
	worked bool
	last   time.Time // the last that worked
}

// KeptBytes is how much is kept for answering scrapes in one form.
type KeptBytes struct {
	Format, Encoding string
	Bytes            int
}

// process is what the process as a whole shows.
type process struct {
	reload reload
	kept   []KeptBytes
}

var processRows = []row[process]{
	newRow(Family{
		Name: "balance_exporter_config_last_reload_successful",
		Type: prometheus.GaugeValue,
		Help: "1 if the last load of the configuration worked, else 0 and the one before is in force.", Series: "1",
	}, func(p process, send func(float64, ...string)) {
		worked := 0.0
		if p.reload.worked {
			worked = 1
		}
		send(worked)
	}),
	newRow(Family{
		Name: "balance_exporter_config_last_reload_success_timestamp_seconds",
		Type: prometheus.GaugeValue,
		Help: "Unix time of the last load of the configuration that worked, in seconds.", Series: "1",
	}, func(p process, send func(float64, ...string)) { send(unix(p.reload.last)) }),
	newRow(Family{
		Name: "balance_exporter_exposition_bytes",
		Type: prometheus.GaugeValue, Labels: []string{"format", "encoding"},
		Help: "Bytes kept for answering scrapes, by format and encoding.", Series: "a few",
	}, func(p process, send func(float64, ...string)) {
		for _, k := range p.kept {
			send(float64(k.Bytes), k.Format, k.Encoding)
		}
	}),
}

// Process collects the metrics about the process as a whole. It is a
// [prometheus.Collector].
type Process struct {
	reload atomic.Pointer[reload]
	kept   func() []KeptBytes
}

// NewProcess returns a collector; kept tells what is kept for answering scrapes,
// and may be nil.
func NewProcess(kept func() []KeptBytes) *Process {
	p := &Process{kept: kept}
	p.reload.Store(&reload{})
	return p
}

// Reloaded notes a load of the configuration.
func (p *Process) Reloaded(worked bool) {
	next := reload{worked: worked, last: p.reload.Load().last}
	if worked {
		next.last = time.Now()
	}
	p.reload.Store(&next)
}

// Describe sends the descriptors of all families.
func (p *Process) Describe(ch chan<- *prometheus.Desc) {
	for _, r := range processRows {
		ch <- r.desc
	}
}

// Collect sends the metrics of all families.
func (p *Process) Collect(ch chan<- prometheus.Metric) {
	now := process{reload: *p.reload.Load()}
	if p.kept != nil {
		now.kept = p.kept()
	}
	for _, r := range processRows {
		r.collect(now, ch)
	}
}
