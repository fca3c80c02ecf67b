package providers

import (
	"cmp"
	"time"
)

// Kind is the part of an account that a source reads: the label `source`.
type Kind string

// The kinds of source.
const (
	KindBalance     Kind = "balance"
	KindPrices      Kind = "prices"
	KindSubscribers Kind = "subscribers"
)

// Kinds returns every kind, in the order in which they are shown.
func Kinds() []Kind { return []Kind{KindBalance, KindPrices, KindSubscribers} }

// Billing is how an account pays: the label `billing`.
type Billing string

// The ways to pay. An account is BillingUnknown until its provider has answered.
const (
	BillingUnknown  Billing = "unknown"
	BillingPrepaid  Billing = "prepaid"
	BillingPostpaid Billing = "postpaid"
)

// Direction is the direction of a message: the label `direction`.
type Direction string

// The directions of a message, seen from the customer.
const (
	Outbound Direction = "outbound"
	Inbound  Direction = "inbound"
)

// Balance is an amount of money.
type Balance struct {
	// Amount is in units of Currency; it may be negative.
	Amount float64
	// Currency is an ISO 4217 code in upper case.
	Currency string
	// Wallet tells the balances of one account apart; empty if it has only one.
	Wallet string
	// Expires is when the credit lapses; zero if the provider does not say.
	Expires time.Time
}

// Price is the price of one SMS.
type Price struct {
	SubAccount string
	Country    string // ISO 3166-1 alpha-2
	MCC        string // with its leading zeros
	MNC        string // with its leading zeros
	Operator   string
	NumberType string // inbound only
	Direction  Direction
	Amount     float64 // in units of Currency
	Currency   string  // ISO 4217, upper case
}

// SubscriberBalance is what is left of one balance of one subscriber.
type SubscriberBalance struct {
	ID string // as the provider returns it
	// Currency is set for money, Unit for an allowance; never both.
	Currency string
	Unit     string
	Value    float64
}

// Label returns the currency or the unit of b.
func (b SubscriberBalance) Label() string { return cmp.Or(b.Currency, b.Unit) }

// Series says which subscribers of a fleet have series of their own. The zero value is
// SeriesAll.
type Series string

// The choices of series.
const (
	SeriesAll  Series = "all"
	SeriesLow  Series = "low" // those below their threshold
	SeriesNone Series = "none"
)

// DropReason is why a row was left out of a Reading: the label `reason` of
// balance_exporter_dropped_rows_total.
type DropReason string

// The reasons for leaving out a row.
const (
	DropDuplicate  DropReason = "duplicate"
	DropIncomplete DropReason = "incomplete"
	DropMaxSeries  DropReason = "max_series"
)

// DropReasons returns every reason.
func DropReasons() []DropReason {
	return []DropReason{DropDuplicate, DropIncomplete, DropMaxSeries}
}

// Reading is the result of one successful Fetch of one source. It must not be
// changed after it has been returned. Every string is valid UTF-8.
type Reading struct {
	// Billing is empty if the source cannot tell.
	Billing Billing
	// Balances is the balance of the account, one per wallet and currency.
	Balances []Balance
	Prices   []Price
	// Subscriber is the label `subscriber` of SubscriberBalances.
	Subscriber         string
	SubscriberBalances []SubscriberBalance
	// Dropped counts, by reason, the series that were left out.
	Dropped map[DropReason]int
	// AskAfter, if longer than the source's interval, is when to fetch again.
	AskAfter time.Duration
	// Kept is passed to [Description.Restore] before the next Fetch, also after a
	// restart. It holds no secret.
	Kept []byte
	// Roster, if not nil, replaces all sources of the account that came from an
	// earlier Roster of this source. A source that stays (same key) keeps its
	// values.
	Roster Roster
}
