package server

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/exposition"
	"github.com/balance-exporter/balance_exporter/providers"
)

// timeoutHeader carries the time that Prometheus gives a scrape, in seconds:
// https://prometheus.io/docs/instrumenting/writing_exporters/
const (
	timeoutHeader  = "X-Prometheus-Scrape-Timeout-Seconds"
	defaultTimeout = 10 * time.Second
	maxTimeout     = 10 * time.Minute
)

// partExporter is the part of the metrics that is about the exporter itself.
const partExporter = "exporter"

// kindOfPart maps the values of collect[] to kinds of source.
var kindOfPart = map[string]providers.Kind{
	"balances":    providers.KindBalance,
	"prices":      providers.KindPrices,
	"subscribers": providers.KindSubscribers,
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	parts, err := partsOf(r.URL.Query()["collect[]"])
	if err != nil {
		say(w, http.StatusBadRequest, err.Error())
		return
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(r.Context(), scrapeTime(r.Header.Get(timeoutHeader), s.opts.TimeoutOffset))
	defer cancel()
	s.opts.Refresh(ctx, parts.Kinds)
	s.debug("msg", "scrape", "waited", time.Since(start), "remote", r.RemoteAddr)
	s.opts.Serve(w, r, parts)
}

// partsOf returns what the values of collect[] pick; everything if there are none.
func partsOf(names []string) (exposition.Parts, error) {
	if len(names) == 0 {
		return exposition.Parts{Kinds: providers.Kinds(), Own: true}, nil
	}
	var parts exposition.Parts
	for _, name := range names {
		kind, ok := kindOfPart[name]
		switch {
		case name == partExporter:
			parts.Own = true
		case !ok:
			return parts, fmt.Errorf("unknown part %q in collect[]: expected balances, prices, subscribers or exporter", name)
		case !slices.Contains(parts.Kinds, kind):
			parts.Kinds = append(parts.Kinds, kind)
		}
	}
	return parts, nil
}

// scrapeTime returns how long a scrape may take: what Prometheus says less offset,
// and never below 0.
func scrapeTime(header string, offset time.Duration) time.Duration {
	timeout := defaultTimeout
	if s, err := strconv.ParseFloat(strings.TrimSpace(header), 64); err == nil && s > 0 {
		timeout = time.Duration(min(s, maxTimeout.Seconds()) * float64(time.Second))
	}
	return max(timeout-offset, 0)
}
