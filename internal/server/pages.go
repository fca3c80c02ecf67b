package server

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/version"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

const (
	accountPath = "/account"
	statusPath  = "/api/v1/status"
	// maxRows bounds the table of accounts; a search finds the others.
	maxRows = 500
)

//go:embed pages.html
var pagesText string

var pages = template.Must(template.New("pages").Funcs(template.FuncMap{
	"ago":    since,
	"age":    func(now time.Time, t *time.Time) string { return strings.TrimSuffix(since(now, t), " ago") },
	"deref":  func(n *int) int { return *n },
	"bad":    func(f *fleetReport) int { return f.Stale + f.Failed },
	"plain":  plain,
	"state":  func(state string) string { return strings.ReplaceAll(state, "_", " ") },
	"number": number,
	"spark":  sparkline,
	"change": change,
	"next":   next,
	"query":  func(a accountReport) template.URL { return template.URL(accountQuery(a)) }, //nolint:gosec // escaped
	// about is one account of a page, failures a table of them.
	"about":    func(p page, a accountReport) page { p.Account = a; return p },
	"failures": func(label string, now time.Time, f []failureReport) failureTable { return failureTable{label, now, f} },
	"changes": func(a accountReport) bool {
		return slices.ContainsFunc(a.Balances, func(b balanceReport) bool { return len(b.History) > 1 })
	},
	"fine":      func(a accountReport) bool { return a.States[0] == stateOK && !a.Quota.AboveLimit && a.Fleet == nil },
	"untilText": func(now time.Time, t *time.Time) string { return span(t.Sub(now)) },
	"span":      func(seconds float64) string { return span(time.Duration(seconds * float64(time.Second))) },
}).Parse(pagesText))

// page is the data of a page.
type page struct {
	report
	// Root is what links start with: the external URL with a final slash, or "" for
	// relative links, which work below any path.
	Root          string
	TelemetryPath string // relative to Root
	Query, Show   string
	Chips         []chip
	More          int  // accounts that do not fit
	Reloads       bool // by itself
	Account       accountReport
}

type failureTable struct {
	Label    string
	Now      time.Time
	Failures []failureReport
}

// chip is a part of the summary and the link to its accounts.
type chip struct {
	State, Text string
	On          bool
}

func (s *Server) newPage(r report) page {
	root := s.opts.ExternalURL
	if root != "" {
		root = strings.TrimRight(root, "/") + "/"
	}
	return page{report: r, Root: root, TelemetryPath: strings.TrimPrefix(s.opts.TelemetryPath, "/")}
}

// filter returns what selects accounts by the query of a request: q is a part of the
// name, of the provider or of the reason of a failure, show a state.
func filter(query url.Values) (func(accountReport) bool, error) {
	q, show := strings.ToLower(strings.TrimSpace(query.Get("q"))), query.Get("show")
	if show != "" && !slices.Contains(states, show) {
		return nil, fmt.Errorf("unknown state %.60q in show: expected one of %s", show, strings.Join(states, ", "))
	}
	return func(a accountReport) bool {
		text := a.Provider + "/" + a.Account
		for _, source := range a.Sources {
			if source.Failure != nil {
				text += " " + source.Failure.Reason
			}
		}
		return strings.Contains(strings.ToLower(text), q) && (show == "" || slices.Contains(a.States, show))
	}, nil
}

func (s *Server) statusJSON(w http.ResponseWriter, r *http.Request) {
	keep, err := filter(r.URL.Query())
	if err != nil {
		say(w, http.StatusBadRequest, err.Error())
		return
	}
	body, err := json.Marshal(s.report(time.Now(), keep))
	if err != nil {
		say(w, http.StatusInternalServerError, "cannot encode the status: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n')) // the client may have gone
}

func (s *Server) overview(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	keep, err := filter(query)
	if err != nil {
		say(w, http.StatusBadRequest, err.Error())
		return
	}
	p := s.newPage(s.report(time.Now(), keep))
	p.Query, p.Show = query.Get("q"), query.Get("show")
	// A page that is being searched must not reload under the hands of a person.
	p.Reloads = len(query) == 0
	for _, state := range states {
		if n := p.Summary[state]; n > 0 && state != stateOK {
			p.Chips = append(p.Chips, chip{state, fmt.Sprintf("%d %s", n, strings.ReplaceAll(state, "_", " ")), state == p.Show})
		}
	}
	p.More = max(0, len(p.Accounts)-maxRows)
	p.Accounts = p.Accounts[:len(p.Accounts)-p.More]
	show(w, "overview", p)
}

func (s *Server) accountPage(w http.ResponseWriter, r *http.Request) {
	name := snapshot.Name{Provider: r.URL.Query().Get("provider"), Account: r.URL.Query().Get("name")}
	p := s.newPage(s.report(time.Now(), func(a accountReport) bool {
		return snapshot.Name{Provider: a.Provider, Account: a.Account} == name
	}))
	if len(p.Accounts) == 0 {
		say(w, http.StatusNotFound, fmt.Sprintf("no account %.200q of provider %.60q is configured", name.Account, name.Provider))
		return
	}
	p.Account = p.Accounts[0]
	show(w, "account", p)
}

func show(w http.ResponseWriter, name string, p page) {
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, name, p); err != nil {
		say(w, http.StatusInternalServerError, "cannot render the page: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body.Bytes()) // the client may have gone
}

func versionText() string {
	if version.Version == "" {
		return "development build"
	}
	return version.Version
}

func accountQuery(a accountReport) string {
	return url.Values{"provider": {a.Provider}, "name": {a.Account}}.Encode()
}

// since returns how long ago t was.
func since(now time.Time, t *time.Time) string {
	if t == nil {
		return "never"
	}
	return span(now.Sub(*t)) + " ago"
}

// next returns when a source is read again.
func next(now time.Time, s sourceReport) string {
	switch {
	case s.Refreshing:
		return "in progress"
	case s.Next == nil || s.Next.Sub(now) < time.Second:
		return "next scrape"
	}
	return "in " + span(s.Next.Sub(now))
}

// change returns how an amount has changed over the readings in memory.
func change(b balanceReport) string {
	if len(b.History) < 2 {
		return ""
	}
	first, last := b.History[0], b.History[len(b.History)-1]
	if first.Amount == last.Amount {
		return "no change in " + span(last.At.Sub(first.At))
	}
	return fmt.Sprintf("%+.6g in %s", last.Amount-first.Amount, span(last.At.Sub(first.At)))
}

// Size of a sparkline, in units of its own.
const sparkWidth, sparkHeight = 120, 28

// sparkline returns a small picture of the readings in memory, with the threshold as a
// dashed line. It holds only numbers.
func sparkline(b balanceReport) template.HTML {
	if len(b.History) < 2 {
		return ""
	}
	first, last := b.History[0], b.History[len(b.History)-1]
	low, high := first.Amount, first.Amount
	for _, p := range b.History {
		low, high = min(low, p.Amount), max(high, p.Amount)
	}
	lowest, highest := low, high
	if t := b.LowThreshold; t != nil {
		low, high = min(low, *t), max(high, *t)
	}
	y := func(amount float64) float64 {
		if high == low {
			return sparkHeight / 2
		}
		return 2 + (sparkHeight-4)*(high-amount)/(high-low)
	}
	var points strings.Builder
	for _, p := range b.History {
		x := sparkWidth * p.At.Sub(first.At).Seconds() / last.At.Sub(first.At).Seconds()
		fmt.Fprintf(&points, "%.1f,%.1f ", x, y(p.Amount))
	}
	line := ""
	if t := b.LowThreshold; t != nil {
		line = fmt.Sprintf(`<line x1="0" x2="%d" y1="%.1f" y2="%.1f"/>`, sparkWidth, y(*t), y(*t))
	}
	return template.HTML(fmt.Sprintf( //nolint:gosec // numbers only
		`<svg class="spark" viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" aria-label="from %s to %s in %s, between %s and %s">%s<polyline points="%s"/></svg>`,
		sparkWidth, sparkHeight, plain(first.Amount), plain(last.Amount), span(last.At.Sub(first.At)), plain(lowest), plain(highest), line, points.String(),
	))
}

// plain formats x with all its digits.
func plain(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

// span formats a duration with its two largest units.
func span(d time.Duration) string {
	day := 24 * time.Hour
	switch {
	case d < time.Second:
		return "0s"
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
