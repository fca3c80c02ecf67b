package exposition

import (
	"errors"
	"io"
	"net/http"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/balance-exporter/balance_exporter/collector"
)

// libraryOptions is how promhttp is used everywhere here; without a logger it is
// silent.
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

// serveLibrary answers a scrape in the ordinary way.
func (e *Exposition) serveLibrary(w http.ResponseWriter, r *http.Request, parts Parts) {
	promhttp.HandlerFor(e.gatherer(parts), libraryOptions(e.opts.Logger, e.opts.Registerer)).ServeHTTP(w, r)
}

// WriteText writes parts in the text format. An error does not keep it from
// writing the rest.
func (e *Exposition) WriteText(w io.Writer, parts Parts) error {
	families, err := e.gatherer(parts).Gather()
	enc := expfmt.NewEncoder(w, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		err = errors.Join(err, enc.Encode(f))
	}
	return err
}

// gatherer gathers parts in the ordinary way.
func (e *Exposition) gatherer(parts Parts) prometheus.Gatherer {
	data := prometheus.NewRegistry()
	data.MustRegister(collector.NewData(e.opts.Groups, parts.Kinds))
	if !parts.Own {
		return data
	}
	return prometheus.Gatherers{data, e.opts.Own}
}

// report logs err and counts it in promhttp_metric_handler_errors_total. It has
// promhttp do both, by gathering the error, so that they are done alike off the
// fast path and on it.
func (e *Exposition) report(err error) {
	failing := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return nil, err })
	promhttp.HandlerFor(failing, libraryOptions(e.opts.Logger, e.opts.Registerer)).
		ServeHTTP(headerOnly{}, &http.Request{})
}

// errorLog is a logger as promhttp wants it.
type errorLog struct{ log.Logger }

// Println logs what and an error.
func (l errorLog) Println(v ...any) {
	_ = level.Error(l.Logger).Log(append([]any{"msg", "cannot show all metrics"}, asPairs(v)...)...)
}

// asPairs names the values of promhttp's log lines, which are a text and an error.
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
