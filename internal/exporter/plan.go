package exporter

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/prometheus/common/model"

	"github.com/balance-exporter/balance_exporter/internal/cache"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers"
)

// plan is the demand of one account by its configuration, against its rate limit.
// Rates are in requests per hour.
type plan struct {
	provider, account string
	parts             []plannedPart
	total, limit      float64
}

type plannedPart struct {
	providers.Part
	sources  int
	requests float64
	listed   bool // a request will list further sources
}

// planOf returns the plan of an opened account.
func planOf(a cache.Account) plan {
	p := plan{provider: a.Provider, account: a.Name, limit: a.Gate.Limit().PerSecond() * 3600}
	for _, part := range a.Parts {
		planned := plannedPart{Part: part}
		planned.add(providers.List(a.Sources))
		p.total += planned.requests
		p.parts = append(p.parts, planned)
	}
	return p
}

// maxPlanned is how many sources of a list are looked at: of a larger one, each stands for
// as many as it takes, because a look at millions takes seconds.
const maxPlanned = 100_000

func (p *plannedPart) add(sources providers.Roster) {
	size := sources.Len()
	step := 1 + size/maxPlanned
	for i := 0; i < size; i += step {
		d, n := sources.Source(i).Describe(), min(step, size-i)
		if d.Kind != p.Kind {
			continue
		}
		p.requests += float64(n*d.Requests) / d.Interval.Hours()
		if !d.Lists {
			p.sources += n
			continue
		}
		p.listed = p.listed || d.Requests > 0
		if d.Known != nil {
			p.add(d.Known)
		}
	}
}

// warning returns one line if the account demands more than it may send; empty
// otherwise.
func (p plan) warning() string {
	if p.total <= p.limit {
		return ""
	}
	return fmt.Sprintf("%s/%s: the configuration demands %.0f requests per hour and rate_limit allows %.0f: values become older than refresh_interval; lengthen it, or raise rate_limit if the provider allows it",
		p.provider, p.account, p.total, p.limit)
}

// writePlans writes a line for each part of each account, and a total for each
// account.
func writePlans(w io.Writer, plans []plan) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "PROVIDER\tACCOUNT\tSOURCE\tSOURCES\tINTERVAL\tREQUESTS/H\tLIMIT/H")
	for _, p := range plans {
		for _, part := range p.parts {
			count := fmt.Sprint(part.sources)
			if part.listed {
				count += " and those that listing finds"
			}
			_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%.1f\t\n", p.provider, p.account, part.Kind, count, model.Duration(part.Interval), part.requests)
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\ttotal\t\t\t%.1f\t%.0f\n", p.provider, p.account, p.total, p.limit)
	}
	_ = table.Flush()
}

// replicasLine returns one line about several processes with these plans.
func replicasLine(plans []plan, shared bool) string {
	if shared {
		return "Replicas: any number with this --state.url has one quota. The table is the demand of all of them together.\n"
	}
	fit := math.Inf(1)
	for _, p := range plans {
		if p.total > 0 {
			fit = min(fit, math.Floor(p.limit/p.total))
		}
	}
	if math.IsInf(fit, 1) {
		fit = 0
	}
	return fmt.Sprintf("Replicas: one. Each further process has a state and a quota of its own; the limits have room for the demand of %.0f. With --state.url=redis://... any number has one quota.\n", fit)
}

// check validates the configuration and prints its plan. It sends nothing.
func (e *Exporter) check(stdout, stderr io.Writer) error {
	stateURL, err := state.ParseURL(e.opts.StateURL)
	if err != nil {
		return fmt.Errorf("--state.url: %w", err)
	}
	accounts, warnings, err := e.read()
	if err != nil {
		return err
	}
	o := opener{store: state.NewMemory(), logger: e.logger, transport: e.transport, masks: e.masks}
	opened, err := o.open(accounts)
	if err != nil {
		return err
	}
	plans := make([]plan, len(opened))
	for i, a := range opened {
		plans[i] = planOf(a)
	}
	writePlans(stdout, plans)
	_, _ = fmt.Fprint(stdout, replicasLine(plans, stateURL.Shared()))
	for _, warning := range append(warnings, o.warnings...) {
		_, _ = fmt.Fprintln(stderr, "warning:", warning)
	}
	return nil
}
