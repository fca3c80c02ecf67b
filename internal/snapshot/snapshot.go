// Package snapshot is the state of knowledge between the cache, which makes it,
// and the collectors, which show it: immutable readings with their times.
package snapshot

import (
	"iter"
	"slices"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/providers"
)

// Failure is the last try of a source, if it failed.
type Failure struct {
	Reason  providers.Reason
	Message string // for a person; holds no secret
	ID      string // the provider's id of the error
	// Count is the number of failures in a row, this one included.
	Count int
}

// Snapshot is what is known of one source. It is never changed; a new try makes a
// new one. The zero value is a source that was never tried.
type Snapshot struct {
	// Reading is what the last successful try found; empty if HasValue is false.
	Reading providers.Reading
	// FetchedAt is when Reading was asked for; zero before the first success.
	FetchedAt time.Time
	// TriedAt is when the source was last tried; zero for never.
	TriedAt time.Time
	// DueAt is the earliest time of the next try.
	DueAt time.Time
	// Failure is nil if the last try worked, or there was none.
	Failure *Failure
	// Ended says that the provider has taken the value back (see
	// [providers.Error.Gone]).
	Ended bool
}

// Serves reports whether s has a value to serve at now.
func (s *Snapshot) Serves(now time.Time, maxAge time.Duration) bool {
	return !s.FetchedAt.IsZero() && !s.Ended && now.Sub(s.FetchedAt) < maxAge
}

// Group is what one account contributes to the metrics of one kind: all its
// sources of the kind or, for a fleet, one shard of about a thousand. A Group is
// never changed; a change makes a new one.
type Group struct {
	Provider string
	Account  string
	Part     providers.Part
	// Shard numbers the groups of one account and kind, from 0.
	Shard int
	// Fleet, if not nil, returns the snapshots of a fleet, which makes them each time.
	// Other groups have Snapshots.
	Fleet     iter.Seq[*Snapshot]
	Snapshots []*Snapshot
	// Totals is not nil in the one group of a fleet that has no snapshots and stands
	// for all of them.
	Totals []Total
}

// Name names an account of the configuration.
type Name struct{ Provider, Account string }

// Total is what all subscribers of an account that are served have of one currency or
// unit.
type Total struct {
	Currency, Unit string // one of them is empty
	Sum            float64
	Count          int // of balances
	Low            int // of balances below the threshold
	HasThreshold   bool
}

// Subscriber is one subscriber of a fleet that needs attention, or another source
// that has failed.
type Subscriber struct {
	Name      string // the label `subscriber`; empty for a source that is none
	TriedAt   time.Time
	Balance   providers.SubscriberBalance // if it is low
	Threshold float64                     // likewise
	Failure   *Failure                    // if it fails
}

// Point is one reading of an account's balance.
type Point struct {
	At       time.Time
	Balances []providers.Balance
}

// All returns the snapshots of g.
func (g *Group) All() iter.Seq[*Snapshot] {
	if g.Fleet != nil {
		return g.Fleet
	}
	return slices.Values(g.Snapshots)
}

// NextEnd returns the earliest time after now at which a value of g ends; zero if
// none does.
func (g *Group) NextEnd(now time.Time) time.Time {
	var next time.Time
	for s := range g.All() {
		if !s.Serves(now, g.Part.MaxAge) {
			continue
		}
		if end := s.FetchedAt.Add(g.Part.MaxAge); next.IsZero() || end.Before(next) {
			next = end
		}
	}
	return next
}

// Fleet counts subscribers by state.
type Fleet struct {
	Fresh   int // the last try worked
	Stale   int // the last try failed, a value is still served
	Failed  int // tried, and nothing is served
	Pending int // never tried
}

// Total returns the number of subscribers.
func (f Fleet) Total() int { return f.Fresh + f.Stale + f.Failed + f.Pending }

// Source is the state of all sources of one kind of one account.
type Source struct {
	Part providers.Part
	// Up is false before the first success and after a failure; for a fleet, if
	// more than half of the tried ones failed at their last try.
	Up          bool
	LastSuccess time.Time // zero before the first
	LastTry     time.Time // zero for never
	NextDue     time.Time // when the next source falls due; zero if there is none
	Refreshing  bool
	Refreshes   uint64
	Failures    map[providers.Reason]uint64
	// Failure is the newest failure that still stands; nil for none.
	Failure *Failure
	// Fleet and Totals are set for subscribers only.
	Fleet  *Fleet
	Totals []Total
	// Balances are the balances that are served.
	Balances []providers.Balance
	// Prices is how many prices are served.
	Prices int
	// History are the newest readings of the balance since the start, and Past the
	// newest failures; the newest last.
	History []Point
	Past    []Subscriber
}

// Account is the state of one account.
type Account struct {
	Provider string
	Account  string
	Billing  providers.Billing
	Limit    quota.Limit
	// QuotaUsed is how many requests of the burst are spent, 0 to Limit.Burst.
	QuotaUsed float64
	// CooldownUntil is when the account may be asked again; zero when it may.
	CooldownUntil time.Time
	// CooldownReason is why; empty when CooldownUntil is zero.
	CooldownReason quota.Cause
	// PlannedPerSecond is what the configuration demands, in requests per second.
	PlannedPerSecond float64
	Sources          []Source
	Dropped          map[providers.DropReason]uint64
}
