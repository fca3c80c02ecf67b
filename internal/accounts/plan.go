package accounts

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/balance-exporter/balance_exporter/providers"
)

// WritePlan writes each account with the requests per hour that its configuration
// demands, against its rate limit. It returns a warning for each account that
// demands more than it may send.
func WritePlan(w io.Writer, accounts []Account) []string {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "PROVIDER\tACCOUNT\tSOURCE\tSOURCES\tINTERVAL\tREQUESTS/H\tLIMIT/H")
	var warnings []string
	for _, a := range accounts {
		limit := a.Limit.PerSecond() * 3600
		total := 0.0
		for _, part := range a.Parts {
			n, perHour, lists := plan(a.Sources, part.Kind)
			total += perHour
			count := fmt.Sprint(n)
			if lists {
				count += " and those found by listing"
			}
			_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%.1f\t%.0f\n", a.Provider, a.Name, part.Kind, count, part.Interval, perHour, limit)
		}
		if total > limit {
			warnings = append(warnings, fmt.Sprintf("%s/%s: the configuration demands %.0f requests per hour and the rate limit allows %.0f: values will be older than their refresh_interval; lengthen it, or raise rate_limit if the provider allows it", a.Provider, a.Name, total, limit))
		}
	}
	_ = table.Flush()
	return warnings
}

// plan returns how many sources of a kind there are, the requests per hour that
// they demand, and whether more are found by asking.
func plan(sources []providers.Source, kind providers.Kind) (n int, perHour float64, lists bool) {
	for _, s := range sources {
		if s.Kind() != kind {
			continue
		}
		perHour += float64(s.Requests()) / s.Interval().Hours()
		lister, ok := s.(providers.Lister)
		if !ok {
			n++
			continue
		}
		known := lister.Known()
		lists = lists || len(known) == 0
		n += len(known)
		for _, k := range known {
			perHour += float64(k.Requests()) / k.Interval().Hours()
		}
	}
	return n, perHour, lists
}
