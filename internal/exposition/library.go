package exposition

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/balance-exporter/balance_exporter/collector"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// libraryOptions returns the options of promhttp; without a logger it logs nothing.
func libraryOptions(logger log.Logger, registerer prometheus.Registerer) promhttp.HandlerOpts {
	opts := promhttp.HandlerOpts{
		ErrorHandling:     promhttp.ContinueOnError,
		Registry:          registerer,
		EnableOpenMetrics: true,
	}
	if logger != nil {
		opts.ErrorLog = errorLog{logger}
	}
	return opts
}

// serveLibrary answers a scrape by promhttp, one at a time.
func (e *Exposition) serveLibrary(w http.ResponseWriter, r *http.Request, parts Parts) {
	done, ok := e.wait(w, r, e.library)
	if !ok {
		return
	}
	defer done()
	defer limitWriting(w)()
	promhttp.HandlerFor(e.gatherer(parts), libraryOptions(e.opts.Logger, e.opts.Registerer)).ServeHTTP(w, r)
}

// WriteText writes parts in the text format. It leaves out what cannot be gathered or
// encoded, and returns the errors. It ends at the first error of w.
func (e *Exposition) WriteText(w io.Writer, parts Parts) error {
	families, err := e.gatherer(parts).Gather()
	var text bytes.Buffer
	enc := expfmt.NewEncoder(&text, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		err = errors.Join(err, enc.Encode(f))
		if _, writeErr := text.WriteTo(w); writeErr != nil {
			return errors.Join(err, writeErr)
		}
	}
	return err
}

// gatherer gathers parts from the collectors.
func (e *Exposition) gatherer(parts Parts) prometheus.Gatherer {
	data := prometheus.NewRegistry()
	data.MustRegister(collector.NewData(func() []*snapshot.Group {
		return slices.DeleteFunc(slices.Clone(e.opts.Groups()), func(g *snapshot.Group) bool { return !parts.shows(g.Provider, g.Account) })
	}, parts.Kinds))
	if !parts.Own {
		return data
	}
	return prometheus.Gatherers{data, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return e.own(parts) })}
}

// report logs err and counts it in promhttp_metric_handler_errors_total. promhttp
// does both, by gathering the error, so that both paths do it alike.
func (e *Exposition) report(err error) {
	failing := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return nil, err })
	promhttp.HandlerFor(failing, libraryOptions(e.opts.Logger, e.opts.Registerer)).
		ServeHTTP(headerOnly{}, &http.Request{})
}

// errorLog adapts a logger to promhttp.
type errorLog struct{ log.Logger }

// Println logs an error.
func (l errorLog) Println(v ...any) {
	_ = level.Error(l.Logger).Log(append([]any{"msg", "some metrics are missing from a scrape"}, asPairs(v)...)...)
}

// asPairs names the values of promhttp's log lines: a text and an error.
func asPairs(v []any) []any {
	if len(v) == 2 {
		return []any{"at", v[0], "err", v[1]}
	}
	return []any{"err", v}
}

// headerOnly is a [http.ResponseWriter] that drops the body.
type headerOnly http.Header

func (h headerOnly) Header() http.Header         { return http.Header(h) }
func (h headerOnly) Write(p []byte) (int, error) { return len(p), nil }
func (h headerOnly) WriteHeader(int)             {}
