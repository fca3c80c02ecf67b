package server

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/version"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

const documentation = "https://github.com/balance-exporter/balance_exporter#readme"

//go:embed statuspage.html
var statusPageText string

var statusPageTemplate = template.Must(template.New("status page").Parse(statusPageText))

// page is the data of the template: finished texts.
type page struct {
	Version       string
	TelemetryPath string
	Documentation string
	Demo          bool
	Now           string
	Accounts      []pageAccount
}

type pageAccount struct {
	Provider, Name, Billing string
	Quota                   string // used and limit
	QuotaPercent            int    // 0 to 100
	Demand                  string
	OverDemand              bool
	Cooldown                string // empty for none
	Sources                 []pageSource
}

type pageSource struct {
	Kind, State, StateClass   string
	Value                     string // the served value; empty for none
	LastSuccess, Next         string
	Interval                  string
	Failure, Reason, ID       string
	Failures                  int
	Fleet                     *snapshot.Fleet
	FleetFresh, FleetProgress int // percent
}

func (s *Server) statusPage(w http.ResponseWriter, _ *http.Request) {
	now := time.Now()
	p := page{
		Version: version.Version, TelemetryPath: s.opts.TelemetryPath, Documentation: documentation,
		Demo: s.opts.Demo, Now: now.UTC().Format("2006-01-02 15:04:05 UTC"),
	}
	if p.Version == "" {
		p.Version = "development build"
	}
	for _, a := range s.opts.Status() {
		p.Accounts = append(p.Accounts, pageOf(a, now))
	}
	var body bytes.Buffer
	if err := statusPageTemplate.Execute(&body, p); err != nil {
		say(w, http.StatusInternalServerError, "cannot render the status page: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body.Bytes()) // the client may have gone
}

func pageOf(a snapshot.Account, now time.Time) pageAccount {
	out := pageAccount{
		Provider: a.Provider, Name: a.Account, Billing: string(a.Billing),
		Quota:        fmt.Sprintf("%.0f of %d used, %s back per second", a.QuotaUsed, a.Limit.Burst, number(a.Limit.PerSecond())),
		QuotaPercent: min(100, int(100*a.QuotaUsed/float64(a.Limit.Burst))),
		Demand:       number(a.PlannedPerSecond*3600) + " per hour",
		OverDemand:   a.PlannedPerSecond > a.Limit.PerSecond(),
	}
	if !a.CooldownUntil.IsZero() {
		out.Cooldown = fmt.Sprintf("no requests for %s (%s)", span(a.CooldownUntil.Sub(now)), a.CooldownReason)
	}
	for _, s := range a.Sources {
		out.Sources = append(out.Sources, pageSourceOf(s, a, now))
	}
	return out
}

func pageSourceOf(s snapshot.Source, a snapshot.Account, now time.Time) pageSource {
	out := pageSource{
		Kind: string(s.Part.Kind), LastSuccess: "never", Next: "at the next scrape",
		Interval: span(s.Part.Interval), Fleet: s.Fleet,
	}
	if !s.LastSuccess.IsZero() {
		out.LastSuccess = span(now.Sub(s.LastSuccess)) + " ago"
	}
	if wait := s.NextDue.Sub(now); wait > 0 {
		out.Next = "at the first scrape in " + span(wait)
	}
	if s.Refreshing {
		out.Next = "in progress"
	}
	switch {
	case len(s.Balances) > 0:
		var values []string
		for _, b := range s.Balances {
			values = append(values, strings.TrimSpace(b.Wallet+" "+strconv.FormatFloat(b.Amount, 'f', -1, 64)+" "+b.Currency))
		}
		out.Value = strings.Join(values, ", ")
	case s.Prices > 0:
		out.Value = fmt.Sprintf("%d prices", s.Prices)
	}
	if s.Failure != nil {
		out.Failure, out.Reason, out.ID, out.Failures = s.Failure.Message, string(s.Failure.Reason), s.Failure.ID, s.Failure.Count
	}
	switch {
	case s.Up && s.Failure == nil:
		out.State, out.StateClass = "up", "good"
	case s.Up:
		out.State, out.StateClass = "partly failing", "warn"
	case s.LastTry.IsZero():
		out.State, out.StateClass = "not read yet", "idle"
	default:
		out.State, out.StateClass = "failing", "bad"
	}
	if s.Part.Kind == providers.KindBalance && a.Billing == providers.BillingPostpaid && s.Up {
		out.State = "up; a postpaid account has no balance"
	}
	if f := s.Fleet; f != nil && f.Total() > 0 {
		out.FleetFresh = 100 * f.Fresh / f.Total()
		out.FleetProgress = 100 * (f.Total() - f.Pending) / f.Total()
	}
	return out
}

// span formats a duration with its two largest units.
func span(d time.Duration) string {
	day := 24 * time.Hour
	switch {
	case d < time.Second:
		return "less than 1s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return units(d, time.Minute, "m", time.Second, "s")
	case d < day:
		return units(d, time.Hour, "h", time.Minute, "m")
	}
	return units(d, day, "d", time.Hour, "h")
}

func units(d, large time.Duration, largeName string, small time.Duration, smallName string) string {
	if rest := d % large / small; rest > 0 {
		return fmt.Sprintf("%d%s %d%s", d/large, largeName, rest, smallName)
	}
	return fmt.Sprintf("%d%s", d/large, largeName)
}

// number formats x with at most two decimals.
func number(x float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", x), "0"), ".")
}
