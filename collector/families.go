// Package collector turns snapshots into metrics. A metric family is a row of a
// table with its name, help, labels and the function that emits it, so that they
// cannot drift apart; docs/metrics.md is generated from the same rows.
//
// Collecting does no I/O and holds no lock.
package collector

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// Family describes a metric family.
type Family struct {
	Name   string
	Type   prometheus.ValueType
	Labels []string
	Help   string
	// Kind is the part of an account that the family shows; empty for the
	// exporter's own metrics.
	Kind providers.Kind
	// Fleet is set if the family shows the totals of a fleet, not its sources.
	Fleet bool
	// Series says how many series to expect.
	Series string
}

// shows reports whether the family shows a group.
func (f Family) shows(g *snapshot.Group) bool {
	return f.Kind == g.Part.Kind && f.Fleet == (g.Totals != nil)
}

// counters returns a vector that counts by the family's labels.
func (f Family) counters() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: f.Name, Help: f.Help}, f.Labels)
}

// row is a family with the function that emits it from a T.
type row[T any] struct {
	Family
	desc *prometheus.Desc
	emit func(from T, send func(value float64, labels ...string))
}

func newRow[T any](f Family, emit func(from T, send func(value float64, labels ...string))) row[T] {
	return row[T]{Family: f, desc: prometheus.NewDesc(f.Name, f.Help, f.Labels, nil), emit: emit}
}

// collect sends the metrics that the row emits from from.
func (r row[T]) collect(from T, ch chan<- prometheus.Metric) {
	r.emit(from, func(value float64, labels ...string) {
		for i, l := range labels {
			labels[i] = providers.Label(l)
		}
		m, err := prometheus.NewConstMetric(r.desc, r.Type, value, labels...)
		if err != nil {
			m = prometheus.NewInvalidMetric(r.desc, err)
		}
		ch <- m
	})
}

func describe[T any](rows []row[T], ch chan<- *prometheus.Desc) {
	for _, r := range rows {
		ch <- r.desc
	}
}

// collectors are described and collected together.
type collectors []prometheus.Collector

// Describe sends the descriptors of all families.
func (cs collectors) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range cs {
		c.Describe(ch)
	}
}

// Collect sends the metrics of all families.
func (cs collectors) Collect(ch chan<- prometheus.Metric) {
	for _, c := range cs {
		c.Collect(ch)
	}
}

// number returns 1 for true and 0 for false.
func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Families returns every family that this package can emit, in the order of the
// tables: balances, prices, subscribers, then the exporter's own.
func Families() []Family {
	var out []Family
	for _, r := range dataRows {
		out = append(out, r.Family)
	}
	for _, r := range accountRows {
		out = append(out, r.Family)
	}
	for _, r := range sourceRows {
		out = append(out, r.Family)
	}
	out = append(out, requestsFamily, durationFamily, stateUpFamily, stateErrorsFamily, claimsFamily, stateDurationFamily)
	for _, r := range processRows {
		out = append(out, r.Family)
	}
	return out
}
