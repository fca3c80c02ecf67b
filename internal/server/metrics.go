package server

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/exposition"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// timeoutHeader carries the scrape timeout of Prometheus, in seconds:
// https://prometheus.io/docs/instrumenting/writing_exporters/
const (
	timeoutHeader  = "X-Prometheus-Scrape-Timeout-Seconds"
	defaultTimeout = 10 * time.Second
	maxTimeout     = 10 * time.Minute
)

// partExporter selects the metrics about the exporter itself.
const partExporter = "exporter"

// kindOfPart maps the values of collect[] to kinds of source.
var kindOfPart = map[string]providers.Kind{
	"balances":    providers.KindBalance,
	"prices":      providers.KindPrices,
	"subscribers": providers.KindSubscribers,
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	// Query would ignore what it cannot parse, and refresh and show everything.
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		say(w, http.StatusBadRequest, "cannot parse the query: "+err.Error())
		return
	}
	parts, err := partsOf(query["collect[]"])
	if err != nil {
		say(w, http.StatusBadRequest, err.Error())
		return
	}
	if parts.Accounts, err = s.accountsOf(query["account[]"]); err != nil {
		say(w, http.StatusBadRequest, err.Error())
		return
	}
	start := time.Now()
	available := scrapeTime(r.Header.Get(timeoutHeader), s.opts.TimeoutOffset)
	ctx, cancel := context.WithTimeout(r.Context(), available)
	defer cancel()
	reserve := min(time.Duration(s.reserve.Load()), available/2)
	refresh, done := context.WithTimeout(ctx, available-reserve)
	defer done()
	s.opts.Refresh(refresh, parts.Kinds, parts.Accounts)
	refreshed := time.Now()
	s.debug("msg", "scrape", "waited", refreshed.Sub(start), "remote", r.RemoteAddr)
	s.opts.Serve(w, r.WithContext(ctx), parts)
	s.learn(time.Since(refreshed))
}

// learn updates the reserve with the time that a scrape took to render and write. A
// longer time counts at once, a shorter one little by little.
func (s *Server) learn(took time.Duration) {
	s.reserve.Store(int64(max(took, time.Duration(s.reserve.Load())*9/10)))
}

// partsOf returns the parts that the values of collect[] select; all without values.
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

// accountsOf returns the accounts that the values of account[] select: NAME, of any
// provider, or PROVIDER/NAME. It returns nil, for all, without values.
func (s *Server) accountsOf(values []string) (selected []snapshot.Name, err error) {
	if len(values) == 0 {
		return nil, nil
	}
	names := s.opts.Names()
	for _, value := range values {
		before := len(selected)
		for _, n := range names {
			if n.Account == value || n.Provider+"/"+n.Account == value {
				selected = append(selected, n)
			}
		}
		if len(selected) == before {
			return nil, fmt.Errorf("unknown account %.200q in account[]: expected NAME or PROVIDER/NAME of an account in the configuration", value)
		}
	}
	return selected, nil
}

// scrapeTime returns how long a scrape may take: the timeout that Prometheus sends,
// less offset, at least 0.
func scrapeTime(header string, offset time.Duration) time.Duration {
	timeout := defaultTimeout
	if s, err := strconv.ParseFloat(strings.TrimSpace(header), 64); err == nil && s >= 0 {
		timeout = time.Duration(min(s, maxTimeout.Seconds()) * float64(time.Second))
	}
	return max(timeout-offset, 0)
}
