package server

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// maxSubscribers bounds the lists of low and of failing subscribers of an account.
const maxSubscribers = 20

// manyLow is the share of a fleet's balances that may be below their threshold before
// the account counts as low: one SIM of forty is news, not a fault.
const manyLow = 0.05

// The states of an account, the worst first. An account may have several.
const (
	stateEmpty    = "empty"
	stateLow      = "low"
	stateFailing  = "failing"
	stateCooling  = "cooling_down"
	stateDegraded = "degraded" // some subscribers fail
	stateUntried  = "not_read_yet"
	stateOK       = "ok"
)

var states = []string{stateEmpty, stateLow, stateFailing, stateCooling, stateDegraded, stateUntried, stateOK}

const runbook = "https://github.com/balance-exporter/balance_exporter/blob/main/docs/runbook.md#"

// report is the state of the accounts, as the pages show it and /api/v1/status returns
// it. Times that are not known are null; durations are in seconds.
type report struct {
	Version  string          `json:"version"`
	Now      time.Time       `json:"now"`
	Demo     bool            `json:"demo"`
	Summary  map[string]int  `json:"summary"` // accounts by state, and `accounts` for all
	Accounts []accountReport `json:"accounts"`
}

type accountReport struct {
	Provider       string          `json:"provider"`
	Account        string          `json:"account"`
	States         []string        `json:"states"` // the worst first
	Billing        string          `json:"billing"`
	Balances       []balanceReport `json:"balances"`
	Sources        []sourceReport  `json:"sources"`
	Fleet          *fleetReport    `json:"fleet,omitempty"`
	CooldownUntil  *time.Time      `json:"cooldown_until"`
	CooldownReason string          `json:"cooldown_reason,omitempty"`
	Quota          quotaReport     `json:"quota"`
}

type balanceReport struct {
	Amount       float64        `json:"amount"`
	Currency     string         `json:"currency"`
	Wallet       string         `json:"wallet,omitempty"`
	LowThreshold *float64       `json:"low_threshold"`
	State        string         `json:"state"` // empty, low or ok
	Expires      *time.Time     `json:"expires"`
	History      []historyPoint `json:"history"` // the newest last; since the start
}

type historyPoint struct {
	At     time.Time `json:"at"`
	Amount float64   `json:"amount"`
}

type sourceReport struct {
	Source          string          `json:"source"`
	State           string          `json:"state"`
	LastSuccess     *time.Time      `json:"last_success"`
	LastTry         *time.Time      `json:"last_try"`
	Next            *time.Time      `json:"next"` // it is read at the first scrape after that
	Refreshing      bool            `json:"refreshing"`
	IntervalSeconds float64         `json:"interval_seconds"`
	Prices          int             `json:"prices,omitempty"`
	Failure         *failureReport  `json:"failure"` // that still stands
	LastFailures    []failureReport `json:"last_failures"`
}

type failureReport struct {
	At         *time.Time `json:"at,omitempty"`
	Subscriber string     `json:"subscriber,omitempty"`
	Reason     string     `json:"reason"`
	Message    string     `json:"message"`
	ID         string     `json:"id,omitempty"` // for the provider's support
	Count      int        `json:"count"`        // in a row
	Runbook    string     `json:"runbook"`
}

type fleetReport struct {
	Subscribers int             `json:"subscribers"`
	Fresh       int             `json:"fresh"`
	Stale       int             `json:"stale"`
	Failed      int             `json:"failed"`
	Pending     int             `json:"pending"`
	Totals      []totalReport   `json:"totals"`
	Lowest      []lowReport     `json:"lowest"`  // at most 20
	Failing     []failureReport `json:"failing"` // at most 20
}

type totalReport struct {
	Unit     string  `json:"unit"`
	Sum      float64 `json:"sum"`
	Balances int     `json:"balances"`
	Low      *int    `json:"low"` // null without a threshold
}

type lowReport struct {
	Subscriber string  `json:"subscriber"`
	BalanceID  string  `json:"balance_id"`
	Value      float64 `json:"value"`
	Unit       string  `json:"unit"`
	Threshold  float64 `json:"threshold"`
}

type quotaReport struct {
	Used             float64 `json:"used"` // of burst
	Burst            int     `json:"burst"`
	PerSecond        float64 `json:"requests_per_second"`
	PlannedPerSecond float64 `json:"planned_requests_per_second"`
	AboveLimit       bool    `json:"above_limit"`
}

// report returns the state of the accounts that keep selects, the worst first. The
// summary is that of all accounts.
func (s *Server) report(now time.Time, keep func(accountReport) bool) report {
	r := report{Version: versionText(), Now: now.UTC(), Demo: s.opts.Demo, Summary: map[string]int{"accounts": 0}, Accounts: []accountReport{}}
	for _, state := range states {
		r.Summary[state] = 0
	}
	for _, a := range s.opts.Status() {
		next := accountOf(a)
		r.Summary["accounts"]++
		for _, state := range next.States {
			r.Summary[state]++
		}
		if !keep(next) {
			continue
		}
		if next.Fleet != nil {
			lowest, failing := s.opts.Subscribers(snapshot.Name{Provider: a.Provider, Account: a.Account}, maxSubscribers)
			for _, sub := range lowest {
				next.Fleet.Lowest = append(next.Fleet.Lowest, lowReport{sub.Name, sub.Balance.ID, sub.Balance.Value, sub.Balance.Label(), sub.Threshold})
			}
			next.Fleet.Failing = failuresOf(failing)
		}
		r.Accounts = append(r.Accounts, next)
	}
	slices.SortStableFunc(r.Accounts, func(a, b accountReport) int {
		return cmp.Or(
			slices.Compare(ranks(a.States), ranks(b.States)),
			strings.Compare(a.Account, b.Account), strings.Compare(a.Provider, b.Provider),
		)
	})
	return r
}

// ranks returns the places of states from the worst, with a last one for their end, so
// that an account with more states is worse.
func ranks(of []string) (out []int) {
	for _, state := range of {
		out = append(out, slices.Index(states, state))
	}
	return append(out, len(states))
}

func accountOf(a snapshot.Account) accountReport {
	out := accountReport{
		Provider: a.Provider, Account: a.Account, Billing: string(a.Billing), Balances: []balanceReport{},
		CooldownUntil: known(a.CooldownUntil), CooldownReason: string(a.CooldownReason),
		Quota: quotaReport{
			Used: a.QuotaUsed, Burst: a.Limit.Burst, PerSecond: a.Limit.PerSecond(), PlannedPerSecond: a.PlannedPerSecond,
			AboveLimit: a.PlannedPerSecond > a.Limit.PerSecond(),
		},
	}
	has := map[string]bool{stateCooling: out.CooldownUntil != nil}
	for _, s := range a.Sources {
		source := sourceOf(s)
		has[source.State] = true
		out.Sources = append(out.Sources, source)
		for _, b := range s.Balances {
			balance := balanceOf(b, s)
			has[balance.State] = true
			out.Balances = append(out.Balances, balance)
		}
		if s.Fleet != nil {
			out.Fleet = fleetOf(s)
			for _, t := range s.Totals {
				if float64(t.Low) > manyLow*float64(t.Count) {
					has[stateLow] = true
				}
			}
		}
	}
	for _, state := range states {
		if has[state] && state != stateOK {
			out.States = append(out.States, state)
		}
	}
	if len(out.States) == 0 {
		out.States = []string{stateOK}
	}
	return out
}

// balanceOf says how a balance stands. A negative threshold is the floor of a credit
// line, otherwise money ends at 0.
func balanceOf(b providers.Balance, s snapshot.Source) balanceReport {
	out := balanceReport{
		Amount: b.Amount, Currency: b.Currency, Wallet: b.Wallet, LowThreshold: s.Part.LowThreshold, State: stateOK,
		Expires: known(b.Expires), History: []historyPoint{},
	}
	floor := 0.0
	if t := s.Part.LowThreshold; t != nil {
		floor = min(floor, *t)
	}
	if s.Part.IsLowBalance(b) {
		out.State = stateLow
	}
	if b.Amount <= floor {
		out.State = stateEmpty
	}
	for _, point := range s.History {
		for _, then := range point.Balances {
			if then.Wallet == b.Wallet && then.Currency == b.Currency {
				out.History = append(out.History, historyPoint{point.At.UTC(), then.Amount})
			}
		}
	}
	return out
}

func sourceOf(s snapshot.Source) sourceReport {
	out := sourceReport{
		Source: string(s.Part.Kind), State: stateOK, LastSuccess: known(s.LastSuccess), LastTry: known(s.LastTry),
		Next: known(s.NextDue), Refreshing: s.Refreshing, IntervalSeconds: s.Part.Interval.Seconds(), Prices: s.Prices,
		LastFailures: failuresOf(s.Past),
	}
	slices.Reverse(out.LastFailures) // the newest first
	if s.Failure != nil {
		failure := failureOf(snapshot.Subscriber{Failure: s.Failure})
		out.Failure = &failure
	}
	switch {
	case s.Up && s.Failure != nil:
		out.State = stateDegraded
	case s.Up:
	case s.LastTry.IsZero():
		out.State = stateUntried
	default:
		out.State = stateFailing
	}
	return out
}

func fleetOf(s snapshot.Source) *fleetReport {
	f := s.Fleet
	out := &fleetReport{
		Subscribers: f.Total(), Fresh: f.Fresh, Stale: f.Stale, Failed: f.Failed, Pending: f.Pending,
		Totals: []totalReport{}, Lowest: []lowReport{}, Failing: []failureReport{},
	}
	for _, t := range s.Totals {
		next := totalReport{Unit: cmp.Or(t.Currency, t.Unit), Sum: t.Sum, Balances: t.Count}
		if t.HasThreshold {
			next.Low = &t.Low
		}
		out.Totals = append(out.Totals, next)
	}
	return out
}

func failuresOf(all []snapshot.Subscriber) []failureReport {
	out := make([]failureReport, len(all))
	for i, f := range all {
		out[i] = failureOf(f)
	}
	return out
}

func failureOf(s snapshot.Subscriber) failureReport {
	f := s.Failure
	return failureReport{
		At: known(s.TriedAt), Subscriber: s.Name, Reason: string(f.Reason), Message: f.Message, ID: f.ID, Count: f.Count,
		Runbook: runbook + chapters[f.Reason],
	}
}

// chapters are the chapters of the runbook about each reason.
var chapters = map[providers.Reason]string{
	providers.ReasonAuth:        "balancesourcecredentialsrefused",
	providers.ReasonForbidden:   "balancesourcecredentialsrefused",
	providers.ReasonRateLimited: "balanceratelimited",
	providers.ReasonTimeout:     "balancesourceunreachable",
	providers.ReasonUnavailable: "balancesourceunreachable",
	providers.ReasonTLS:         "balancesourceunreachable",
	providers.ReasonBadRequest:  "balancesourcemisconfigured",
	providers.ReasonNotFound:    "balancesourcemisconfigured",
	providers.ReasonBadResponse: "balancesourceanswerunusable",
	providers.ReasonInternal:    "balancesourceanswerunusable",
}

// known returns t in UTC; nil if it is zero.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
