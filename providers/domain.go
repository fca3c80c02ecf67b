package providers

import "time"

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

// Billing says how an account pays.
type Billing string

// The ways of paying. An account is BillingUnknown until its provider has said.
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
	Amount float64 `json:"amount"`
	// Currency is an ISO 4217 code in upper case.
	Currency string `json:"currency"`
}

// Price is the price of one SMS.
type Price struct {
	SubAccount string    `json:"sub_account"`
	Country    string    `json:"country"` // ISO 3166-1 alpha-2
	MCC        string    `json:"mcc"`     // with its leading zeros
	MNC        string    `json:"mnc"`     // with its leading zeros
	Operator   string    `json:"operator"`
	NumberType string    `json:"number_type"` // inbound only
	Direction  Direction `json:"direction"`
	Amount     float64   `json:"amount"` // in units of Currency
	Currency   string    `json:"currency"`
}

// SubscriberBalance is what is left on one balance of one subscriber.
type SubscriberBalance struct {
	ID string `json:"id"` // as the provider answers it
	// Currency is set for money, Unit for an allowance; never both.
	Currency string  `json:"currency"`
	Unit     string  `json:"unit"`
	Value    float64 `json:"value"`
}

// DropReason says why a row was left out of a Reading.
type DropReason string

// The reasons for leaving out a row: the label `reason` of
// balance_exporter_dropped_rows_total.
const (
	DropDuplicate  DropReason = "duplicate"
	DropIncomplete DropReason = "incomplete"
	DropMaxSeries  DropReason = "max_series"
)

// DropReasons returns every reason.
func DropReasons() []DropReason {
	return []DropReason{DropDuplicate, DropIncomplete, DropMaxSeries}
}

// Reading is what one Fetch of one source found. It must not be changed once it
// has been returned. Every string is valid UTF-8.
type Reading struct {
	// Billing is empty where the source cannot tell.
	Billing Billing `json:"billing,omitempty"`
	// Balance is nil where there is none.
	Balance *Balance `json:"balance,omitempty"`
	Prices  []Price  `json:"prices,omitempty"`
	// Subscriber is the label `subscriber` of Subscribers.
	Subscriber string              `json:"subscriber,omitempty"`
	Balances   []SubscriberBalance `json:"balances,omitempty"`
	// Dropped counts, by reason, series that would have been.
	Dropped map[DropReason]int `json:"dropped,omitempty"`
	// AskAfter, if longer than the source's interval, is when to ask again.
	AskAfter time.Duration `json:"ask_after,omitempty"`
	// Kept is handed to the source's Restore after a restart; see [Keeper]. It
	// holds no secret.
	Kept []byte `json:"kept,omitempty"`
	// Roster, if not nil, replaces all sources of the account that came from an
	// earlier Roster of this source. A source that stays (same key) keeps its
	// values.
	Roster []Source `json:"-"`
}
